"""What steps cost, in operations or in seconds, known before they run because their plan is.

The seconds are priced: what a block's forward and backward and all the rest take is measured once,
in turns, on the machine that compares. So two runs that do the same work are charged the same,
whatever else the machine was doing, and a comparison that was stopped goes on as if it had not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dropping.skipping import attach
from ..measure import FlopCount
from ..methods import LayerDropping
from ..records import Record, StepRecord
from ..training.callbacks import StepContext


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one step of one model costs, part by part, in one unit.

    Attributes:
        forward, backward: of each block.
        outside: of everything else.
    """

    forward: tuple[float, ...]
    backward: tuple[float, ...]
    outside: float

    @property
    def full(self) -> float:
        """Of a step at full depth."""
        return self.of([1.0] * len(self.forward), [1.0] * len(self.forward))

    def of(self, forward_share: Sequence[float], backward_share: Sequence[float]) -> float:
        """Of a step in which each block ran for these shares of the batch."""
        forward = sum(map(float.__mul__, self.forward, map(float, forward_share)))
        backward = sum(map(float.__mul__, self.backward, map(float, backward_share)))
        return self.outside + forward + backward

    def of_step(self, step: StepRecord) -> float:
        """Of a step that was taken."""
        return self.of(*shares(step, len(self.forward)))

    def forward_pass(self, num_blocks: float) -> float:
        """Of a forward pass alone through so many blocks; outside, forward is a third."""
        return self.outside / 3 + num_blocks * sum(self.forward) / len(self.forward)

    def sensitivities(self, num_batches: int) -> float:
        """Of all layers' loss differences: full depth, then what follows each skipped layer."""
        num_layers = len(self.forward)
        full = self.forward_pass(num_layers)
        return num_batches * (full + sum(self.forward_pass(after) for after in range(num_layers)))


def flop_cost(count: FlopCount) -> Cost:
    """Operations of a step."""
    backward = zip(count.blocks, count.blocks_forward, strict=True)
    return Cost(
        forward=count.blocks_forward,
        backward=tuple(both - forward for both, forward in backward),
        outside=count.outside,
    )


@dataclass(frozen=True, kw_only=True)
class Prices(Record):
    """Seconds that parts of a step take on one machine, for models of one width.

    Attributes:
        block_forward, block_backward: of one block; the optimiser's share of its weights is in
            the backward.
        outside: of the rest of a step.
        fit: of the variance's fit.
        clock: "process" (one thread on a CPU) or "wall".
        rounds: how many interleaved steps of each kind the medians are over.
        machine: versions and machine that were measured.
    """

    block_forward: float
    block_backward: float
    outside: float
    fit: float
    clock: str
    rounds: int
    machine: dict

    def cost(self, num_layers: int) -> Cost:
        """Seconds of a step of a model of this depth."""
        return Cost(
            forward=(self.block_forward,) * num_layers,
            backward=(self.block_backward,) * num_layers,
            outside=self.outside,
        )


def shares(step: StepRecord, num_layers: int) -> tuple[Sequence[float], Sequence[float]]:
    """Share of the batch for which each layer ran, forward and backward."""
    forward = step.forward_share
    if not forward:
        forward = [float(layer in step.layers_run) for layer in range(num_layers)]
    return forward, step.backward_share or forward


def planned_cost(method: LayerDropping, cost: Cost, num_steps: int, num_rows: int) -> float:
    """What a run of so many steps will cost; nothing is trained, the plan is drawn."""
    total, model = 0.0, method.model
    for step in range(num_steps):
        context = StepContext(
            step=step,
            num_steps=num_steps,
            progress=step / max(1, num_steps - 1),
            model=model,
            num_rows=num_rows,
        )
        method.before_step(context)
        total += cost.of(*method.planned.shares())
    attach(model).clear_draw()
    return total


def steps_within(amount: float, cost_of: Callable[[int], float], *, guess: int) -> int:
    """The most steps whose cost is at most `amount`; 0 where not even one is.

    Args:
        amount: the budget, in the unit of `cost_of`.
        cost_of: number of steps to what they cost together; rising, but for the plan's chance.
        guess: where to begin, >= 1.
    """
    num_steps = max(1, guess)
    for _ in range(8):
        better = int(amount / (cost_of(num_steps) / num_steps))
        if better == num_steps or better < 1:
            num_steps = max(0, better)
            break
        num_steps = better
    while num_steps > 0 and cost_of(num_steps) > amount:
        num_steps -= 1
    return num_steps
