"""Results as files: one a question and setting, with machine, versions and every round."""

from __future__ import annotations

import dataclasses
import gc
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sbldlib.environment import environment, installed_version
from sbldlib.records import Record

from . import overhead, panel, plan_cost, saving, sensitivity_cost, throughput, variants
from .common import Question, Setting, UnavailableError, say
from .timing import interleave, spread

WARMUP = 2  # rounds that do not count
FOLDER = Path(__file__).parent / "results"
QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (saving, overhead, throughput, sensitivity_cost, panel, plan_cost, variants)
}
# What speed depends on; another version of these asks for another measurement.
PACKAGES = ("numpy", "sbldlib", "torch", "transformers")


@dataclass(frozen=True, kw_only=True)
class Result(Record):
    """One question's answer at one setting.

    Attributes:
        question: a key of QUESTIONS.
        setting: as `Setting.describe` gives it.
        machine: what it ran on, as `machine` gives it.
        date: of the measurement.
        seconds_taken: by the whole measurement, preparation included.
        rounds: arm -> seconds a step of every round.
        summary: arm -> its Spread, in seconds.
        facts: what the findings need beside the rounds.
        findings: the table's lines, each with its target and verdict.
    """

    question: str
    setting: dict[str, Any]
    machine: dict[str, Any]
    date: str
    seconds_taken: float
    rounds: dict[str, tuple[float, ...]]
    summary: dict[str, dict[str, float]]
    facts: dict[str, Any]
    findings: tuple[dict[str, Any], ...]

    @property
    def file_name(self) -> str:
        """The result's own."""
        return file_name(self.question, self.setting["name"])

    def to_json(self) -> str:
        """As any record, with each arm's rounds on one line."""
        text = super().to_json()
        for seconds in self.rounds.values():
            tall = ",\n   ".join(map(repr, seconds))
            text = text.replace(f"[\n   {tall}\n  ]", f"[{', '.join(map(repr, seconds))}]")
        return text + "\n"


def file_name(question: str, setting: str) -> str:
    """Where this question's answer at this setting lies, within the folder of results."""
    return f"{question}-{setting}.json"


def machine() -> dict[str, Any]:
    """What speed depends on, as plain values: device, processor, threads and versions."""
    known = environment()
    kept = ("device", "system", "processor_cores", "torch_threads", "python")
    versions = {name: version for name in PACKAGES if (version := installed_version(name))}
    return {**{name: known[name] for name in kept}, "processor": processor(), "packages": versions}


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def result_files(folder: Path = FOLDER) -> list[Path]:
    """Every answer in the folder, the questions in their order; other records may lie there too."""
    return [path for name in QUESTIONS for path in sorted(folder.glob(f"{name}-*.json"))]


def load_results(folder: Path = FOLDER) -> list[Result]:
    """Every result in the folder: the CPU's before the GPU's, then by question and setting."""
    results = [Result.load(path) for path in result_files(folder)]
    return sorted(results, key=lambda result: result.setting["device"])


def is_present(question: Question, setting: Setting, folder: Path = FOLDER) -> bool:
    """Whether this machine, with these versions, has answered this question at this setting."""
    path = folder / file_name(question.name, setting.name)
    if not path.exists():
        return False
    try:
        found = Result.load(path)
    except ValueError:  # another format: measure again
        return False
    same_setting = {**found.setting, "batch_size": setting.batch_size} == setting.describe()
    return same_setting and found.machine == machine()


def answer(question: Question, setting: Setting, *, rounds: int | None = None) -> Result:
    """Measure one question at one setting; on a GPU, with half the batch where it does not fit.

    Args:
        rounds: fewer or more than the question's own number.

    Raises:
        UnavailableError: something that the question needs is missing here.
    """
    began = time.perf_counter()
    try:
        return _measure(question, setting, rounds or question.rounds[setting.effort], began)
    except torch.OutOfMemoryError:
        if setting.batch_size == 1:
            raise
    finally:
        _clean_up(setting)
    half = dataclasses.replace(setting, batch_size=setting.batch_size // 2)
    say(f"!! {setting.name}: out of memory, now with a batch of {half.batch_size}")
    return answer(question, half, rounds=rounds)


def answer_missing(
    settings: tuple[Setting, ...],
    questions: list[Question],
    *,
    force: bool = False,
    folder: Path = FOLDER,
) -> None:
    """Measure what this machine has not answered yet; each result is written as soon as it is."""
    for setting in settings:
        for question in questions:
            if setting.effort not in question.rounds:
                continue
            title = f"{question.name}, {setting.name}"
            if not force and is_present(question, setting, folder):
                say(f"{title}: present, not measured again (--force does)")
                continue
            say(f"{title}: measuring ...")
            try:
                result = answer(question, setting)
            except UnavailableError as reason:
                say(f"!! SKIPPED: {title}: {reason}")
                continue
            result.save(folder / result.file_name)
            say(f"{title}: {result.seconds_taken:.0f} s")


def _measure(question: Question, setting: Setting, rounds: int, began: float) -> Result:
    prepared = question.prepare(setting)
    try:
        seconds = interleave(
            prepared.arms,
            rounds=rounds,
            warmup=0 if prepared.own_clock else WARMUP,
            repeats=setting.repeats,
            clock=setting.clock,
            wait=setting.wait,
            own_clock=prepared.own_clock,
        )
    finally:
        prepared.close()
    known = environment()
    return Result(
        question=question.name,
        setting=setting.describe(),
        machine=machine(),
        date=known["date"],
        seconds_taken=round(time.perf_counter() - began, 1),
        rounds={name: tuple(values) for name, values in seconds.items()},
        summary={name: dataclasses.asdict(spread(values)) for name, values in seconds.items()},
        facts=dict(prepared.facts),
        findings=tuple(f.to_dict() for f in question.findings(seconds, prepared.facts)),
    )


def _clean_up(setting: Setting) -> None:
    """Leave nothing behind: compiled graphs made for other shapes would be specialised worse."""
    gc.collect()
    if setting.compile_blocks:
        torch.compiler.reset()
    if setting.device == "cuda":
        torch.cuda.empty_cache()
