"""Made-up steps for the pictures of live panels."""

from __future__ import annotations

from sbldlib import StepRecord

NUM_LAYERS = 4


def steps(count: int, start: int = 0, **changes) -> list[StepRecord]:
    """Steps `start` to `start + count`: 2 FLOPs and 0.1 s each, layer 2 skipped, of 1,000 steps."""
    values = {"loss_nats": None, "seconds": 0.1, "flops": 2.0, "layers_run": (0, 1, 3), **changes}
    losses = values.pop("loss_nats")
    return [
        StepRecord(
            step=step,
            progress=step / 999,
            loss_nats=6.0 - step / 1000 if losses is None else losses,
            learning_rate=1e-3,
            gradient_norm=1.0,
            tokens=8,
            flops_full=2.0,
            **values,
        )
        for step in range(start, start + count)
    ]
