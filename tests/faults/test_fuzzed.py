"""That every function and every command is fuzzed, with every argument; and a short run of it."""

from __future__ import annotations

import inspect

import pytest
from faults import fuzzed
from faults.commands import COMMANDS, tree
from faults.commands_work import replaced_work, tiny_demo, within
from faults.strategies import Field, Made, Target, one_of
from faults.world import COMPARISON, World
from typer.testing import CliRunner

import sbldlib
from sbldlib import cli, data
from sbldlib.comparison import COMPARISONS
from sbldlib.demo import run_demo
from sbldlib.demo.record import DemoRecord

SHORT = 200  # configurations: some four for each function
NO_FUNCTION = {"__version__"}
NOT_DRAWN = {"draws", "options", "changes", "unknown"}  # what gathers the arguments named in `more`
MODELS_OWN = {"chance_level", "exact_match", "exact_match_by_kind"}  # of a trained model's answers
READ_LATER = {
    "cached_tokenizer",
    "default_cache_folder",
    "prepare_tokens",
}  # by prepare_lesson_data
KINDS_OF_DATA = {"KINDS", "BatchSource", "Corpus", "Document", "LessonData", "Problem", "TokenFile"}
NOT_FUZZED = MODELS_OWN | READ_LATER | KINDS_OF_DATA | {"Tokenizer", "answered"}


def test_every_public_function_is_fuzzed():
    assert set(sbldlib.__all__) - NO_FUNCTION <= fuzzed.TARGETS.keys()
    assert set(data.__all__) - NOT_FUZZED <= fuzzed.TARGETS.keys()
    assert fuzzed.TARGETS.keys() & NOT_FUZZED == set()


@pytest.mark.parametrize("name", fuzzed.TARGETS)
def test_every_argument_is_drawn(name):
    target = fuzzed.TARGETS[name]
    named = {} if target.sees_world else inspect.signature(target.call).parameters
    taken = {n for n in named if n not in NOT_DRAWN and not n.startswith("given")}
    assert target.fields.keys() == taken | set(target.more)
    for field in target.fields.values():
        assert not field.right.is_empty and not field.wrong.is_empty


def test_every_command_and_flag_is_fuzzed():
    assert {name: set(flags) for name, flags in COMMANDS.items()} == tree()


def test_a_few_configurations_of_each_work_or_are_refused_in_words(tmp_path):
    found = fuzzed.run(SHORT, seed=0, folder=tmp_path)
    assert found.failures == ()
    assert found.kept == found.tried == SHORT
    assert {name for name, counts in found.figures.items() if not sum(counts.values())} == set()


def test_the_same_seed_draws_the_same_configurations(tmp_path):
    one, same, *others = (fuzzed.Tally() for _ in range(5))
    for tally, seed in zip((one, same, *others), (3, 3, 4, 5, 6), strict=True):
        folder = tmp_path / str(id(tally))
        fuzzed.draw("GPTConfig", 40, seed=seed, folder=folder, tally=tally)
    assert (one.worked, one.refused) == (same.worked, same.refused)
    assert any((one.worked, one.refused) != (other.worked, other.refused) for other in others)


# ---- the fuzzer finds what it looks for


def try_one(monkeypatch, tmp_path, call, value, *, wrong=True, **more):
    fields = {"saving": Field(right=one_of(0.5), wrong=one_of(value), needed=True)}
    monkeypatch.setitem(fuzzed.TARGETS, "toy", Target(call=call, fields=fields, **more))
    asked = fuzzed.Configuration({"saving": value}, ("saving",) if wrong else (), False)
    return fuzzed.try_call("toy", asked, tmp_path).failure


def raise_(error: Exception):
    raise error


@pytest.mark.parametrize(
    ("call", "value", "words"),
    [
        (lambda saving: saving, "much", "accepted, though"),
        (lambda saving: saving + 1, "much", "TypeError"),
        (lambda saving: raise_(ValueError("bad value 'much'")), "much", "names no argument"),
        (lambda saving: raise_(ValueError("saving is bad")), "much", "names no argument"),
        (lambda saving: raise_(ValueError("saving='much' is bad")), "much", None),
        (lambda saving: raise_(KeyError("saving='much'")), "much", "KeyError"),
        (lambda saving: raise_(ValueError("saving=None is bad")), None, None),
    ],
)
def test_a_door_that_does_not_hold_is_seen(monkeypatch, tmp_path, call, value, words):
    failure = try_one(monkeypatch, tmp_path, call, value)
    assert failure is None if words is None else words in str(failure)


def test_what_a_refused_call_lost_is_seen(monkeypatch, tmp_path):
    import torch

    def spoil(world, saving):
        with torch.no_grad():
            world.model.blocks[0].norm1.weight.add_(1)
        torch.rand(1)
        raise ValueError("saving='much' is bad")

    state = torch.get_rng_state()
    failure = try_one(monkeypatch, tmp_path, spoil, "much", sees_world=True)
    torch.set_rng_state(state)
    assert "it changed weights, torch's random state" in str(failure)


def test_a_random_state_that_a_working_call_moved_is_seen(monkeypatch, tmp_path):
    import random

    state = random.getstate()
    failure = try_one(monkeypatch, tmp_path, lambda saving: random.random(), 0.5, wrong=False)
    random.setstate(state)
    assert "it changed Python's random state" in str(failure)


def test_a_hanging_call_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzzed, "SECONDS_A_CALL", 1)

    def hang(saving):
        while True:
            pass

    assert "TimeoutError" in str(try_one(monkeypatch, tmp_path, hang, "much"))


def test_a_value_is_made_anew_for_each_call(tmp_path):
    made = Made("a list", lambda world: [])
    assert made.make(World(tmp_path)) is not made.make(World(tmp_path))


# ---- commands, really


def test_the_commands_really_work_once_at_a_tiny_size(monkeypatch, tmp_path):
    monkeypatch.setattr(
        cli,
        "run_demo",
        lambda config, **told: run_demo(tiny_demo(steps=config.steps, saving=0.2), **told),
    )
    monkeypatch.setitem(COMPARISONS, "cpu", COMPARISON)
    world = World(tmp_path)
    monkeypatch.setattr(
        cli,
        "compare",
        lambda comparison, **given: sbldlib.compare(
            comparison, subject=world.subject, prices=world.prices, **given
        ),
    )
    with within(tmp_path):
        for line in (["demo", "--steps", "4"], ["compare", "--out", "compared"], ["doctor"]):
            result = CliRunner().invoke(cli.app, line)
            assert result.exit_code == 0, result.output
    assert DemoRecord.load(tmp_path / "data/runs/demo/demo.json").settings["steps"] == 4
    assert (tmp_path / "compared" / "summary.json").is_file()


def test_a_refused_line_starts_no_work(tmp_path):
    with replaced_work() as asked, within(tmp_path):
        result = CliRunner().invoke(cli.app, ["demo", "--seed", "-1"])
    assert result.exit_code == 2 and asked == []
