"""The commands for one model: `sbld train`, `sbld sensitivity` and `sbld replay`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from .data.hub import DATASETS
from .data.hub.asked import MAX_BYTES
from .live.replay import Replay, load_live
from .live.replay import replay as replay_live
from .methods import METHODS
from .pretraining import PretrainConfig, measure_sensitivities, prepare, pretrain
from .pretraining.config import ACCURACY, DEVICES, MODELS, VALIDATION_LOSS
from .records import RunRecord, SensitivityData
from .sensitivity import ESTIMATORS
from .terminal import (
    MOST_THREADS,
    WENT_WRONG,
    is_first,
    print_rows,
    progress_bar,
    say,
    told,
    writable,
    writable_file,
)
from .training.checkpoints import CheckpointConfig
from .training.launch import launch, workers_here

FEW = PretrainConfig()  # the options' defaults
SAVED = CheckpointConfig(keep_best=VALIDATION_LOSS)
RUNS = Path("data/runs")
T = TypeVar("T")


def _presets() -> str:
    return "; ".join(f"{name}: {', '.join(kind.presets)}" for name, kind in MODELS.items())


Model = Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")]
Preset = Annotated[str, typer.Option(help=f"Of the model: {_presets()}.")]
Steps = Annotated[int, typer.Option(help="Of the run.")]
Method = Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")]
Estimator = Annotated[str, typer.Option(help=f"One of {', '.join(ESTIMATORS)}.")]
Saving = Annotated[float, typer.Option(help="Mean drop asked, in [0, 1).")]
Seed = Annotated[int, typer.Option(help="Of weights, data order and draws.")]
LearningRate = Annotated[float | None, typer.Option(help="Base rate; default the preset's.")]
BatchSize = Annotated[int, typer.Option(help="Rows of a micro-batch.")]
Accumulate = Annotated[int, typer.Option(help="Micro-batches a step.")]
EvaluateEvery = Annotated[int, typer.Option(help="Steps; 0 evaluates at the end alone.")]
SaveEvery = Annotated[float, typer.Option(help="Minutes between checkpoints.")]
KeepLast = Annotated[int, typer.Option(help="Newest checkpoints that stay, beside the best.")]
Resume = Annotated[
    str, typer.Option(help="auto; always; never, which removes the run that is there; or a STEP.")
]
Corpus = Annotated[Path | None, typer.Option(help="Folder of your own text.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help=f"{' or '.join(DATASETS)}; or a Parquet or JSON file or folder, again and again."
    ),
]
Columns = Annotated[
    list[str] | None, typer.Option(help="Of --data, again and again; default text in files.")
]
MaxBytes = Annotated[
    int | None, typer.Option(help=f"Of the text of --data; default {MAX_BYTES:_}.")
]
Device = Annotated[str, typer.Option(help=f"One of {', '.join(DEVICES)}.")]
Threads = Annotated[
    int, typer.Option(min=1, max=MOST_THREADS, help="Of torch; large models want more.")
]
Processes = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="That share each step out.")]
RunOut = Annotated[
    Path | None,
    typer.Option(callback=writable, help="The run's folder; default in data/runs/train."),
]
FileOut = Annotated[
    Path | None,
    typer.Option(callback=writable_file, help="File; default in data/runs/sensitivity."),
]
Folder = Annotated[Path, typer.Argument(help="Of a run of `sbld train`, or of GPT.save.")]
Checkpoint = Annotated[str | None, typer.Option(help="A STEP, or best; default the newest.")]
LiveRun = Annotated[Path, typer.Argument(help="Folder, or live.json, of a live session.")]
ReplayThreads = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_THREADS, help="Of torch; default as the run had them."),
]
Batches = Annotated[int, typer.Option(help="To measure on, at least 2.")]


def train(
    model: Model = FEW.model,
    preset: Preset = FEW.preset,
    steps: Steps = FEW.steps,
    method: Method = FEW.method,
    saving: Saving = FEW.saving,
    seed: Seed = FEW.seed,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = FEW.batch_size,
    accumulate: Accumulate = FEW.accumulate,
    evaluate_every: EvaluateEvery = FEW.evaluate_every,
    save_every: SaveEvery = SAVED.every_minutes,
    keep_last: KeepLast = SAVED.keep_last,
    resume: Resume = "auto",
    corpus: Corpus = None,
    data: Data = None,
    columns: Columns = None,
    max_bytes: MaxBytes = None,
    device: Device = "cpu",
    threads: Threads = 1,
    processes: Processes = 1,
    out: RunOut = None,
) -> None:
    """Train a GPT in a folder that keeps it; stopped or killed, it goes on where it was."""
    torch.set_num_threads(threads)
    with told():
        config = PretrainConfig(
            model=model,
            preset=preset,
            steps=steps,
            method=method,
            saving=saving,
            seed=seed,
            learning_rate=learning_rate,
            batch_size=batch_size,
            accumulate=accumulate,
            evaluate_every=evaluate_every,
            corpus=None if corpus is None else str(corpus),
            dataset=tuple(data or ()),
            columns=tuple(columns) if columns else None,
            max_bytes=max_bytes,
        )
        checkpoints = CheckpointConfig(
            every_minutes=save_every, keep_last=keep_last, keep_best=SAVED.keep_best
        )
        if accumulate % processes:
            raise ValueError(
                f"accumulate={accumulate} cannot be shared out by processes={processes}: give a "
                "multiple of it"
            )
        folder = out or RUNS / "train" / f"{config.named}-{method}-seed{seed}"
        asked: dict[str, Any] = {
            "config": config,
            "folder": folder,
            "checkpoints": checkpoints,
            "resume": _number_or_word(resume),
            "device": device,
        }
        if processes > 1 and "WORLD_SIZE" not in os.environ:
            if resume != "never":  # here, what is refused is one sentence
                _with_bar(prepare, asked)
            raise typer.Exit(launch(["sbldlib.cli", *sys.argv[1:]], num_processes=processes))
        record = _with_bar(pretrain, {**asked, "workers": workers_here(device)})
    if is_first():
        _print_run(record, folder)


def sensitivity(
    folder: Folder,
    step: Checkpoint = None,
    method: Estimator = "loss_delta",
    batches: Batches = 32,
    corpus: Corpus = None,
    threads: Threads = 1,
    out: FileOut = None,
) -> None:
    """Measure how sensitive a trained model's layers are, and write it as JSON."""
    torch.set_num_threads(threads)
    with told():
        measured = measure_sensitivities(
            folder,
            step=None if step is None else _number_or_word(step),
            method=method,
            num_batches=batches,
            corpus=corpus,
        )
        name = f"{folder.resolve().name}-{method}.json"
        path = measured.save(out or RUNS / "sensitivity" / name)
    _print_sensitivity(measured)
    say(f"sensitivities in {path}", style="dim")


def replay(
    run: LiveRun,
    threads: ReplayThreads = None,
) -> None:
    """Train a live run once more from its record, and hold every step against it."""
    with told():
        record = load_live(run)
        torch.set_num_threads(threads or record.lead.environment.get("torch_threads") or 1)
        names, changes = " and ".join(record.names), len(record.log)
        total = sum(map(len, record.runs))
        with progress_bar() as progress:
            task = progress.add_task(f"{names}, {changes} changes", total=total)
            found = replay_live(record, on_step=lambda _: progress.advance(task))
    _print_replay(found, changes)
    if not found.is_exact:
        raise typer.Exit(WENT_WRONG)


def _with_bar(work: Callable[..., T], asked: dict[str, Any]) -> T:
    """What the work gives, under a bar that says what runs and how its loss stands."""
    with progress_bar() as progress:
        task = progress.add_task("", total=None)
        name = ""

        def begin(stage: str, total: int) -> None:
            nonlocal name
            name = stage
            progress.reset(task, description=name, total=total or None, in_bytes=False)

        def prepared(rows: int, num_bytes: int) -> None:
            progress.update(
                task,
                completed=num_bytes,
                total=asked["config"].max_bytes or MAX_BYTES,
                description=f"preparing text · {rows:,} rows",
                in_bytes=True,
            )

        return work(
            **asked,
            on_stage=begin,
            on_progress=prepared,
            on_step=lambda record: progress.update(
                task,
                completed=record.step + 1,
                description=f"{name} · loss {record.loss_nats:.2f}",
            ),
        )


def _number_or_word(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _print_run(record: RunRecord, folder: Path) -> None:
    columns = {
        "steps": f"{len(record)}",
        "loss on new text": f"{record.final[VALIDATION_LOSS]:.3f}",
        "exact answers": f"{record.final[ACCURACY]:.1%}" if ACCURACY in record.final else "-",
        "layers not run": f"{record.realised_drop:.1%}",
        "FLOPs saved": f"{record.flops_saved:.1%}",
        "seconds": f"{record.seconds:.0f}",
    }
    print_rows([tuple(columns), tuple(columns.values())], record.name)
    for taken_up in record.resumes:
        how = "exactly as it was" if taken_up["exact"] else f"not exactly: {taken_up['why_not']}"
        say(f"taken up at step {taken_up['step']}, {how}", style="dim")
    if record.configuration["callbacks"][-1]["method"] == "sbld":
        say("what was measured before it is not in the table", style="dim")
    say(f"run, checkpoints and ledger in {folder}", style="dim")


def _print_replay(found: Replay, changes: int) -> None:
    if found.is_exact:
        say(f"{found.num_steps} steps with {changes} changes: equal to the last bit")
        return
    say(f"not the same run. {found.difference}", style="bold")
    for name, (then, now) in found.elsewhere.items():
        say(f"{name} was {then}, and is {now}", style="dim")


def _print_sensitivity(measured: SensitivityData) -> None:
    rank = {layer: place for place, layer in enumerate(measured.ranking(), start=1)}
    rows = [("layer", "sensitivity", "standard error", "rank")]
    for layer, (value, error) in enumerate(
        zip(measured.values, measured.standard_errors, strict=True)
    ):
        rows.append((f"{layer}", f"{value:+.4g}", f"{error:.2g}", f"{rank[layer]}"))
    after = "" if measured.iteration is None else f", after {measured.iteration} steps"
    title = f"{measured.method} ({measured.unit}), {measured.num_batches} batches{after}"
    print_rows(rows, title)
