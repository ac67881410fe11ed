"""What one step is to do, set on the model before it and held against what was counted after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..dropping.skipping import Skipping
from ..records import StepRecord

_GRADIENT = {"skip_backward": "identity", "freeze": "none"}
_CLOSE = 1e-9  # shares that differ by less are equal


class PlanMismatchError(RuntimeError):
    """What the blocks were seen to do is not what the plan named."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One step's plan.

    Attributes:
        num_layers: of the model.
        dropped: layers that run neither forward nor backward.
        forward_only: layers that run forward alone.
        gradient: what passes below those, see `Skipping.set_forward_only`.
        rows: layer -> the rows that run it, where that is some and not all.
        num_rows: of the batch, where there are rows.
    """

    num_layers: int = 0
    dropped: tuple[int, ...] = ()
    forward_only: tuple[int, ...] = ()
    gradient: str = "identity"
    rows: dict[int, tuple[int, ...]] = field(default_factory=dict)
    num_rows: int | None = None

    @classmethod
    def of_layers(cls, num_layers: int, dropped: Iterable[int], *, effect: str) -> Planned:
        """These layers dropped for the whole batch, with this effect."""
        if effect == "skip":
            return cls(num_layers=num_layers, dropped=tuple(dropped))
        return cls(num_layers=num_layers, forward_only=tuple(dropped), gradient=_GRADIENT[effect])

    @classmethod
    def of_rows(cls, rows: Sequence[tuple[int, ...]], num_rows: int) -> Planned:
        """Each layer run for its own rows, one entry a layer."""
        return cls(
            num_layers=len(rows),
            dropped=tuple(layer for layer, some in enumerate(rows) if not some),
            rows={layer: some for layer, some in enumerate(rows) if 0 < len(some) < num_rows},
            num_rows=num_rows,
        )

    def set_on(self, skipping: Skipping) -> None:
        """Let the model's next training steps do this."""
        if self.dropped:
            skipping.set_dropped(self.dropped)
        if self.forward_only:
            skipping.set_forward_only(self.forward_only, gradient=self.gradient)
        if self.rows:
            skipping.set_rows(self.rows, num_rows=self.num_rows)

    def check(self, record: StepRecord, skipped: frozenset[int]) -> None:
        """Hold the step's record against this plan.

        Args:
            record: what was counted.
            skipped: layers that were skipped by an explicit wish, whatever was planned.

        Raises:
            PlanMismatchError: other layers ran, or for other rows, or with another backward.
        """
        expected = set(range(self.num_layers)).difference(self.dropped, skipped)
        if set(record.layers_run) != expected:
            raise PlanMismatchError(
                f"step {record.step}: planned layers {sorted(expected)}, seen to run "
                f"{sorted(record.layers_run)}; was the model's forward bypassed?"
            )
        if not (self.rows or self.forward_only or record.forward_share or record.backward_share):
            return
        forward, backward = self.shares(skipped)
        counted = record.forward_share or [float(layer in expected) for layer in self._layers]
        _compare(record.step, "forward", forward, counted)
        _compare(record.step, "backward", backward, record.backward_share or counted)

    def shares(
        self, skipped: frozenset[int] = frozenset()
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Share of the batch's rows for which each layer is to run, forward and backward."""
        running = set(self._layers).difference(self.dropped, skipped)
        forward = tuple(self._forward(layer) if layer in running else 0.0 for layer in self._layers)
        lowest = -1
        if self.gradient == "none":
            lowest = max((layer for layer in self.forward_only if layer in running), default=-1)
        backward = (
            0.0 if layer in self.forward_only or layer < lowest else share
            for layer, share in enumerate(forward)
        )
        return forward, tuple(backward)

    @property
    def _layers(self) -> range:
        return range(self.num_layers)

    def _forward(self, layer: int) -> float:
        rows = self.rows.get(layer)
        return 1.0 if rows is None else len(rows) / (self.num_rows or 1)


def _compare(step: int, what: str, planned: Sequence[float], counted: Sequence[float]) -> None:
    for layer, (share, found) in enumerate(zip(planned, counted, strict=True)):
        if abs(share - found) > _CLOSE:
            raise PlanMismatchError(
                f"step {step}: layer {layer} was planned to run {what} for {share:.4g} of the "
                f"rows, and was counted for {found:.4g}; did something else set what is dropped?"
            )
