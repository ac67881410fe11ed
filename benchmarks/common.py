"""What the questions share: the settings they are asked at, the bare training step, their form."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sbldlib.losses import next_token_loss
from sbldlib.models.gpt import GPT, PRESETS, GPTConfig

from .timing import Spread

Batch = tuple[Tensor, Tensor]
Rounds = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a question is asked: a model, its batch, and the device.

    Attributes:
        preset: of the model, as in `sbldlib.models.gpt.PRESETS`.
        batch_size, num_tokens: of one step.
        device: "cpu" (float32) or "cuda" (bfloat16 autocast).
        compile_blocks: whether every model's blocks are compiled, each by itself.
        effort: which of a question's numbers of rounds holds: "tiny", "cpu", "cuda" or "variants".
        repeats: steps between two looks at the clock.
    """

    name: str
    preset: str
    batch_size: int
    num_tokens: int
    device: str = "cpu"
    compile_blocks: bool = False
    effort: str = "cpu"
    repeats: int = 1

    @property
    def config(self) -> GPTConfig:
        """The model's configuration."""
        return PRESETS[self.preset]

    @property
    def tokens_per_step(self) -> int:
        """Input tokens of one step."""
        return self.batch_size * self.num_tokens

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 on CUDA, nothing on a CPU."""
        on_cuda = self.device == "cuda"
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=on_cuda)

    @property
    def clock_name(self) -> str:
        """Which clock times it: "wall", or the process's own where one thread does all the work.

        On an idle machine the two agree; the process's own does not count other programs.
        """
        return "process" if self.device == "cpu" and torch.get_num_threads() == 1 else "wall"

    def clock(self) -> float:
        """Seconds on that clock."""
        return time.process_time() if self.clock_name == "process" else time.perf_counter()

    def wait(self) -> None:
        """Return when the device has done all its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def describe(self) -> dict[str, Any]:
        """The setting as plain values, the model's configuration among them."""
        precision = "bfloat16 autocast" if self.device == "cuda" else "float32"
        return {
            **asdict(self),
            "precision": precision,
            "clock": self.clock_name,
            "model": asdict(self.config),
        }


TINY = Setting(name="cpu-tiny", preset="tiny", batch_size=8, num_tokens=64, effort="tiny")
SMALL = Setting(name="cpu-small", preset="small", batch_size=1, num_tokens=256)
VARIANTS = replace(SMALL, name="cpu-variants", batch_size=8, effort="variants")
ON_CPU = (SMALL, TINY, VARIANTS)
LARGE = tuple(
    Setting(
        name=f"cuda-{preset}{'-compiled' if compiled else ''}",
        preset=preset,
        batch_size=batch_size,
        num_tokens=num_tokens,
        device="cuda",
        compile_blocks=compiled,
        effort="cuda",
        repeats=3,
    )
    for preset, batch_size, num_tokens in (("gpt2-124m", 16, 1024), ("gpt3-medium", 4, 2048))
    for compiled in (False, True)
)
ON_CUDA = (*LARGE, replace(VARIANTS, name="cuda-variants", device="cuda"))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table.

    Attributes:
        claim: what was measured, in words.
        unit: "x" (a ratio), "%", "us", "ms" or "tokens/s".
        spread: over the rounds; all five equal where nothing was timed.
        at_least, at_most: the target; none where the line informs alone.
    """

    claim: str
    unit: str
    spread: Spread
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """ "met", "within noise" (the median's interval holds the target), "missed", or ""."""
        s = self.spread
        if self.at_least is not None:
            met, near = s.median >= self.at_least, s.high >= self.at_least
        elif self.at_most is not None:
            met, near = s.median <= self.at_most, s.low <= self.at_most
        else:
            return ""
        return "met" if met else "within noise" if near else "missed"

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, its verdict among them."""
        return {**asdict(self), "verdict": self.verdict}


def exactly(value: float) -> Spread:
    """A number that was computed and not timed."""
    return Spread(median=value, p10=value, p90=value, low=value, high=value)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a question times at one setting, and what it knows without timing.

    Attributes:
        arms: name -> one call of it.
        facts: plain values that the findings need beside the seconds.
        close: ends what the arms hold open.
        own_clock: the arms time and warm up themselves; they return name -> values.
    """

    arms: Mapping[str, Callable[[], object]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None
    own_clock: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question, asked at several settings.

    Attributes:
        name: of its script and its results.
        rounds: effort -> rounds; a setting whose effort is not named is not asked.
        prepare: builds the arms.
        findings: from seconds a round and facts to the table's lines; pure.
    """

    name: str
    rounds: Mapping[str, int]
    prepare: Callable[[Setting], Prepared]
    findings: Callable[[Rounds, Mapping[str, Any]], tuple[Finding, ...]]


class UnavailableError(RuntimeError):
    """A question cannot be asked here; the message says what is missing."""


def say(text: str) -> None:
    """Tell the person at the terminal; the table goes to standard output, this does not."""
    print(text, file=sys.stderr, flush=True)


def make_model(setting: Setting) -> GPT:
    """Our model at this setting, in training mode, on its device; nothing is compiled yet."""
    return GPT(setting.config).to(setting.device).train()


def compile_where_asked(blocks: Iterable[nn.Module], setting: Setting) -> None:
    """Compile each block by itself; after FLOPs are counted, for compiled blocks hide theirs."""
    if setting.compile_blocks:
        for block in blocks:
            block.compile()


def make_batch(setting: Setting, seed: int = 0) -> Batch:
    """Random tokens, on the device: speed does not depend on what they say."""
    generator = torch.Generator().manual_seed(seed)
    shape = (setting.batch_size, setting.num_tokens + 1)
    tokens = torch.randint(0, setting.config.vocabulary_size, shape, generator=generator)
    tokens = tokens.to(setting.device)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def bare_step(
    model: nn.Module,
    batch: Batch,
    setting: Setting,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[[nn.Module, Batch], Tensor] = next_token_loss,
) -> Callable[[], None]:
    """One step of the loop that one would write by hand; without an optimiser, up to backward."""

    def backward_only() -> None:
        model.zero_grad(set_to_none=True)
        with setting.autocast():
            value = loss(model, batch)
        value.backward()

    def step() -> None:
        backward_only()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert optimizer is not None
        optimizer.step()

    return step if optimizer is not None else backward_only
