"""Small live sessions for the tests."""

from __future__ import annotations

from small import Source, gpt

from sbldlib.live.arm import Setting
from sbldlib.live.session import LiveSession
from sbldlib.losses import evaluate_loss
from sbldlib.records import SensitivityData
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.optimizer import make_optimizer

NUM_LAYERS = 6
SENSITIVITY = SensitivityData(
    values=(2.0, 0.1, 0.2, 0.3, 0.4, 0.5), standard_errors=(0.01,) * NUM_LAYERS
)
HELD_OUT = [Source(9).batch(step) for step in range(2)]


def make_session(
    steps: int = 12,
    *,
    budget: Budget | None = None,
    every_steps: int = 0,
    evaluate_every: int = 0,
    seed: int = 0,
    data=None,
    sample=None,
    **options,
) -> LiveSession:
    model = gpt(NUM_LAYERS, seed=seed)
    setting = Setting(
        data=data or Source(seed),
        config=TrainConfig(budget=budget or Budget(steps=steps), evaluate_every=evaluate_every),
        evaluations={"validation_loss": lambda model: evaluate_loss(model, HELD_OUT)},
        checkpoints=CheckpointConfig(every_steps=every_steps, keep_last=3),
        sample=sample,
    )
    optimizer = make_optimizer(model, learning_rate=1e-2)
    known = {"sensitivity_data": SENSITIVITY, **options}
    return LiveSession(model, optimizer, setting, **known)


def run(session: LiveSession, at=None) -> LiveSession:
    """To its end; `at`: lead's steps done -> what is done then."""
    for place, record in session.steps():
        if place == 0 and at and (act := at.get(record.step + 1)):
            act()
    return session
