"""What all arms of a comparison share, and at which budgets they meet."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from ..dropping.plan import MODES
from ..dropping.schedules import MAX_ITERATIONS
from ..errors import (
    check_choice,
    check_flag,
    check_kind,
    check_positive_int,
    check_range,
    check_seeds,
    items,
)
from ..models.gpt import PRESETS, GPTConfig
from ..training.config import PRECISIONS
from .arms import ARMS, Arm

BUDGETS = ("steps", "flops", "seconds")
CHOICES = {"preset": PRESETS, "mode": MODES, "device": ("cpu", "cuda"), "precision": PRECISIONS}
LEAST = {"sensitivity_batches": 2, "pilot_steps": 20, "pretrain_steps": 0, "arithmetic_rows": 0}
LEAST |= dict.fromkeys(
    ("steps", "batch_size", "pilot_pairs", "validation_batches", "num_problems", "threads"), 1
)
MOST = {"steps": MAX_ITERATIONS, "threads": 1024}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Arms that meet at one budget; tables of different budgets are never mixed.

    Attributes:
        budget: "steps": as many steps as full depth. "flops" and "seconds": what `steps` steps cost
            at the asked saving, with each arm's pre-analysis paid from it; full depth then is the
            shorter full-depth run.
        arms: names in `ARMS`, or arms of your own; the first is the reference.
    """

    budget: str
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        check_choice("budget", self.budget, BUDGETS)
        arms = tuple(_arm(arm) for arm in items("arms", self.arms))
        names = [arm.name for arm in arms]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(f"arms={tuple(names)} must be two or more with different names")
        object.__setattr__(self, "arms", arms)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The settings that every arm has in common; a variant is `dataclasses.replace`.

    Attributes:
        name: of the comparison and of its folder.
        tables: which arms, at which budgets.
        seeds: one a pair: weights, data order and draws; all arms share them.
        steps: of full depth.
        saving: mean drop asked of every method, in (0, 0.5].
        mode: of the draws, in `sbldlib.dropping.plan.MODES`.
        preset: of the model; `model` replaces fields of it, such as {"num_layers": 24}.
        batch_size: rows a step; `arithmetic_rows` of them hold problems.
        text_bytes: how much text there is; little gives many epochs.
        text_vocabulary: of the tokenizer, at most the model's; None is the model's.
        learning_rate: base rate of every arm.
        warmup_steps: of training before the sensitivities are measured.
        sensitivity_batches: that they are means over.
        pilot_pairs, pilot_steps: number and length of the paired pilot runs.
        pretrain_steps: full-depth steps on text alone that every arm starts from; 0 is from
            scratch. They belong to what is given, so no arm pays for them.
        validation_batches, num_problems: for the final loss and accuracy.
        device, precision, compile_blocks: as in `TrainConfig`; device "cpu" or "cuda".
        threads: of torch on a CPU.
    """

    name: str
    tables: tuple[Table, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 500
    saving: float = 0.25
    mode: str = "fixed_count"
    preset: str = "tiny"
    model: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    arithmetic_rows: int = 8
    text_bytes: int | None = 4_000_000
    text_vocabulary: int | None = None
    learning_rate: float = 6e-3
    warmup_steps: int = 50
    sensitivity_batches: int = 8
    pilot_pairs: int = 2
    pilot_steps: int = 100
    pretrain_steps: int = 0
    validation_batches: int = 64
    num_problems: int = 500
    device: str = "cpu"
    precision: str = "auto"
    compile_blocks: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        check_kind("name", self.name, str, "text")
        for name, known in CHOICES.items():
            check_choice(name, getattr(self, name), known)
        checked = {
            "tables": tuple(_table(table) for table in items("tables", self.tables)),
            "seeds": check_seeds("seeds", self.seeds),
            "saving": check_range("saving", self.saving, 0, 0.5, low_open=True),
            "learning_rate": check_range(
                "learning_rate", self.learning_rate, 0, math.inf, low_open=True, high_open=True
            ),
            "compile_blocks": check_flag("compile_blocks", self.compile_blocks),
        }
        least = {**LEAST, "warmup_steps": 0 if self.pretrain_steps else 1}
        for name, minimum in least.items():
            value, most = getattr(self, name), MOST.get(name)
            checked[name] = check_positive_int(name, value, minimum=minimum, maximum=most)
        for name, value in checked.items():  # plain numbers, for the runs' records
            object.__setattr__(self, name, value)
        self._check_what_goes_together()

    def _check_what_goes_together(self) -> None:
        if not self.tables:
            raise ValueError("tables=() holds no table")
        if self.arithmetic_rows >= self.batch_size:
            raise ValueError(
                f"arithmetic_rows={self.arithmetic_rows} leaves no row of text; "
                f"batch_size={self.batch_size} has room for 0..{self.batch_size - 1}"
            )
        depths = {arm.depth for table in self.tables for arm in table.arms}
        if self.pretrain_steps and depths & {"shallower", "half"}:
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps}: a shallower model has no pre-trained "
                "weights; the control is 'pruned'"
            )
        if not self.pretrain_steps and "pruned" in depths:
            raise ValueError("pretrain_steps=0: 'pruned' needs a pre-trained model to remove from")
        if self.text_bytes is not None:
            given = check_positive_int("text_bytes", self.text_bytes)
            object.__setattr__(self, "text_bytes", given)
        most = self.model_config.vocabulary_size  # a model that cannot be built is refused here
        if self.text_vocabulary is not None:
            words = check_positive_int("text_vocabulary", self.text_vocabulary, minimum=256)
            if words > most:
                raise ValueError(
                    f"text_vocabulary={words!r} is outside 256..{most}, the model's vocabulary"
                )
            object.__setattr__(self, "text_vocabulary", words)

    @property
    def model_config(self) -> GPTConfig:
        """The full-depth model."""
        known = [f.name for f in dataclasses.fields(GPTConfig)]
        for name in check_kind("model", self.model, dict, "a dict of GPTConfig's fields"):
            check_choice("model", name, known)
        return dataclasses.replace(PRESETS[self.preset], **self.model)

    @property
    def num_layers(self) -> int:
        """Of the full-depth model."""
        return self.model_config.num_layers

    @property
    def shallower_layers(self) -> int:
        """Layers of the shallower control: as many as dropping runs on average."""
        return max(1, round((1 - self.saving) * self.num_layers))

    def layers_at(self, depth: str) -> int:
        """Layers of an arm's model, by its `Arm.depth`."""
        if depth == "half":
            return max(1, self.num_layers // 2)
        return self.num_layers if depth == "full" else self.shallower_layers

    def shared(self) -> dict[str, Any]:
        """What two runs must have in common to be compared, as plain values."""
        own = {"name", "tables", "seeds"}
        return {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in own
        }


def _arm(arm: Arm | str) -> Arm:
    return arm if isinstance(arm, Arm) else ARMS[check_choice("arm", arm, ARMS)]


def _table(table: Table) -> Table:
    return check_kind("tables", table, Table, "a Table, such as Table(budget='steps', arms=...)")
