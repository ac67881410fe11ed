from __future__ import annotations

from small import Source, gpt

from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train, train_steps
from sbldlib.training.optimizer import make_optimizer
from sbldlib.training.race import race


def test_runs_take_turns_and_each_is_what_it_is_alone():
    lengths = {"short": 2, "long": 4}

    def arguments(name: str):
        model = gpt()
        config = TrainConfig(budget=Budget(steps=lengths[name]), name=name)
        return (model, Source(), make_optimizer(model)), config

    running = {}
    for name in lengths:
        parts, config = arguments(name)
        running[name] = train_steps(*parts, config=config)
    taken = list(race(running))
    order = ["short", "long", "short", "long", "long", "long"]
    assert [name for name, _ in taken] == order
    for name in lengths:
        parts, config = arguments(name)
        alone = train(*parts, config=config)
        assert tuple(record.loss_nats for n, record in taken if n == name) == alone.losses


def test_no_runs_end_at_once():
    assert list(race({})) == []
