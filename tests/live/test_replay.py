from __future__ import annotations

import contextlib
import dataclasses
import json
import random

import pytest
import torch
from live.sessions import make_session, run
from typer.testing import CliRunner

from sbldlib import cli
from sbldlib.live.recipe import recipe_of, recipe_parts, values_of
from sbldlib.live.record import LIVE, LiveRecord
from sbldlib.live.replay import first_difference, load_live, replay
from sbldlib.live.session import LiveSession
from sbldlib.pretraining import PretrainConfig
from sbldlib.records import SensitivityData

CONFIG = PretrainConfig(steps=26, evaluate_every=13, batch_size=2, seed=3)
SENSITIVITY = SensitivityData(
    values=(2.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), standard_errors=(0.01,) * 8
)
CHOICES = {
    "dropping": (True, False),
    "method": ("sbld", "uniform", "linear", "pld", "dropbp", "raptr"),
    "saving": (0.1, 0.15, 0.2),
    "schedule": ("own", "constant", "linear_more", "linear_less", "front", "pwegd"),
    "pwegd_shape": (1.5, 3.0),
    "block": ("measured", "0", "0, 7", ""),
    "mode": ("own", "fixed_count"),
    "rescale": ("own", "eval_scale"),
    "learning_rate_scale": (0.5, 1.0, 2.0),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steered_by(draws: random.Random, session: LiveSession):
    """A hand that asks for something at every step, and undoes now and then."""
    for place, _ in session.steps():
        if place:
            continue
        if draws.random() < 0.15:
            session.undo()
        for name in draws.sample(sorted(CHOICES), 2):
            with contextlib.suppress(ValueError):  # refused, and the run goes on
                session.ask(name, draws.choice(CHOICES[name]))


@pytest.fixture(scope="module")
def steered() -> LiveRecord:
    """A race with many changes, made from a configuration."""
    parts, setting = recipe_parts(CONFIG)
    session = LiveSession(
        parts.model,
        parts.optimizer,
        setting,
        values=values_of(CONFIG),
        against="uniform",
        sensitivity_data=SENSITIVITY,
        seed=3,
    )
    steered_by(random.Random(5), session)
    return session.live_record(recipe=recipe_of(CONFIG))


def test_a_race_with_many_changes_replays_bit_for_bit_from_its_file(steered, tmp_path):
    assert len(steered.log) >= 20
    assert {name for _, name, _, _ in steered.log} >= {"method", "block", "saving"}
    path = steered.save(tmp_path / LIVE)
    found = replay(load_live(tmp_path))
    assert found.is_exact, found.difference
    assert found.num_steps == 52 and found.elsewhere == {}
    assert load_live(path) == steered == LiveRecord.from_json(steered.to_json())


def test_the_command_says_so(steered, tmp_path):
    steered.save(tmp_path / LIVE)
    result = CliRunner().invoke(cli.app, ["replay", str(tmp_path)])
    assert result.exit_code == 0, result.output
    said = f"52 steps with {len(steered.log)} changes: equal to the last bit"
    assert said in " ".join(result.output.split())


def test_one_other_bit_is_found_and_named(steered, tmp_path):
    lead = steered.runs[0]
    steps = list(lead.steps)
    steps[17] = dataclasses.replace(steps[17], loss_nats=steps[17].loss_nats * (1 + 1e-7))
    other = dataclasses.replace(lead, steps=tuple(steps))
    changed = dataclasses.replace(steered, runs=(other, steered.runs[1]))
    changed.save(tmp_path / LIVE)
    result = CliRunner().invoke(cli.app, ["replay", str(tmp_path)])
    assert result.exit_code == 1
    assert "not the same run. steered, step 17: loss_nats was" in " ".join(result.output.split())


def test_a_change_left_out_of_the_log_is_found(steered):
    log = [entry for entry in steered.lead.controls_log if entry[1] != "learning_rate_scale"]
    lead = dataclasses.replace(steered.lead, controls_log=tuple(log))
    found = replay(dataclasses.replace(steered, runs=(lead, steered.runs[1])))
    first = next(entry[0] for entry in steered.log if entry[1] == "learning_rate_scale")
    assert not found.is_exact and f"step {first}: learning_rate was" in found.difference


def test_a_stopped_run_stops_again_where_it_did():
    session = make_session(100, against="none")
    run(session, {6: session.stop})
    stopped = session.live_record()
    again = make_session(100, against="none", replay=stopped.log)
    run(again)
    for then, arm in zip(stopped.runs, again.arms, strict=True):
        assert first_difference("", then, arm.record()) is None
        assert len(arm.records) == 6 and arm.record().outcome == "stopped"


def test_runs_of_other_lengths_differ():
    short, long = (run(make_session(steps)).lead.record() for steps in (4, 6))
    cut = dataclasses.replace(long, steps=long.steps[:3])
    assert first_difference("it", long, cut) == "it: 6 steps then, 3 now"
    assert "step 1: learning_rate" in (first_difference("it", short, long) or "")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"has no live\.json that can be read .*: name the folder"),
        (lambda path: path.write_text("{"), r"live\.json"),
        (lambda path: path.write_text(path.read_text().replace("0.2", "0.3", 1)), "damaged"),
    ],
)
def test_a_missing_or_damaged_record_is_said_in_a_sentence(steered, tmp_path, spoil, message):
    spoil(steered.save(tmp_path / LIVE))
    with pytest.raises(ValueError, match=message):
        load_live(tmp_path)
    result = CliRunner().invoke(cli.app, ["replay", str(tmp_path)])
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_a_session_of_one_s_own_model_is_replayed_in_python(steered):
    own = dataclasses.replace(steered, recipe=None)
    with pytest.raises(ValueError, match=r"made by hand: make them again, and give"):
        replay(own)
    assert json.loads(own.to_json())["recipe"] is None
