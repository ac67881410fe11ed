"""A race on the panel: what is asked by hand, shown, kept and handed back."""

from __future__ import annotations

import asyncio
import re

import pytest
from live.sessions import HELD_OUT, SENSITIVITY
from panels.test_live import SlowBatches, make_panel, num_steps, steered, until
from small import Source

from sbldlib.live.record import LIVE, LiveRecord
from sbldlib.live.replay import replay
from sbldlib.losses import evaluate_loss
from sbldlib.panels import LiveTraining
from sbldlib.pretraining import PretrainConfig
from sbldlib.records import SensitivityData
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.config import Budget, TrainConfig

EVALUATIONS = {"validation_loss": lambda model: evaluate_loss(model, HELD_OUT)}
CONFIG = PretrainConfig(steps=10, evaluate_every=5, batch_size=2)


def race(**options) -> LiveTraining:
    return make_panel(**{"against": "none", "evaluations": EVALUATIONS, **options})


def pressed(panel) -> list[int]:
    return [layer for layer, button in enumerate(panel.board.steering.layers) if button.value]


# ---- what is shown


def test_the_text_says_who_is_ahead_and_what_was_saved():
    panel = race(steps=10, data=Source()).start("inline")
    lead, rival = panel.records().values()
    text = panel.text
    assert "Finished after 10 steps." in text
    assert f"FLOPs saved {lead.flops_saved:.0%}, the ceiling of the time saved" in text
    assert re.search(r"time saved -?\d+%, measured beside full depth", text)
    losses = [run.final["validation_loss"] for run in (lead, rival)]
    ahead = "steered" if losses[0] < losses[1] else "full depth"
    said = f"Race, at 10 steps each, loss on new text, all layers on: steered {losses[0]:.3f}"
    assert said in text and f"{ahead} ahead by {abs(losses[0] - losses[1]):.3f}" in text
    for run, name in ((lead, "steered"), (rival, "full depth")):
        assert f"{name} {run.final['validation_loss']:.3f}" in text
    assert all(line in panel.board.numbers.value for line in text.splitlines()[1:])


def test_the_axis_of_the_losses_is_a_switch_and_the_text_goes_with_it():
    panel = race(steps=10, data=Source()).start("inline")
    by_steps = panel.board.image.value
    panel.board.against.value = "seconds"
    assert panel.view.against == "seconds" and panel.board.image.value != by_steps
    assert re.search(r"Race, at \d+\.\d s each", panel.text)
    assert re.search(r"Race, at \d+\.\d s each", panel.board.numbers.value)


def test_a_race_against_another_method_estimates_the_time_saved():
    panel = race(steps=10, against="uniform").start("inline")
    assert list(panel.records()) == ["steered", "uniform"]
    assert "measured beside" not in panel.text


def test_going_back_draws_and_counts_from_the_checkpoint_on(tmp_path):
    async def scenario(panel):
        await until(lambda: num_steps(panel) > 8)
        panel.board.method.value = "uniform"
        await until(lambda: panel.controls["method"] == "uniform")
        panel.board.back.click()
        await until(lambda: panel.session.num_returns == 1)
        await until(lambda: num_steps(panel) > 9)
        await until(lambda: panel.board.method.value == "sbld")
        assert panel.controls.log == []

    panel = steered(
        scenario,
        steps=60,
        against="none",
        folder=tmp_path,
        checkpoints=CheckpointConfig(every_steps=4, keep_last=3),
    )
    steps = [record.step for record in panel.session.lead.records]
    assert steps == list(range(len(steps))) and len(panel.view.summary.course) == len(steps)
    assert "uniform" not in {s.controls["method"] for s in panel.record()}


# ---- what is asked by hand


def test_layers_are_put_on_the_block_list_by_a_click_or_by_typing():
    panel = make_panel(steps=3, saving=0.2)
    assert pressed(panel) == [0, 5] == sorted(panel.view.measured_block)
    panel.board.steering.layers[2].value = True
    assert panel.controls.wanted["block"] == "0, 2, 5"
    panel.board.steering.bound["block"].value = " 3 1"
    assert panel.controls.wanted["block"] == "1, 3" and pressed(panel) == [1, 3]
    assert panel.board.steering.bound["block"].value == "1, 3"
    panel.board.steering.measured.click()
    assert panel.controls.wanted["block"] == "measured" and pressed(panel) == [0, 5]
    panel.board.steering.layers[0].value = False
    run = panel.start("inline").record()
    assert run.steps[0].controls["block"] == "5" and run.steps[0].keep_probability[5] == 1


@pytest.mark.parametrize("typed", ["9", "0 1 2 3 4 5", "first"])
def test_a_block_list_that_cannot_be_is_said_and_nothing_changes(typed):
    panel = make_panel(steps=3)
    before = panel.controls.wanted
    panel.board.steering.bound["block"].value = typed
    assert panel.controls.wanted == before and pressed(panel) == [0, 5]
    assert panel.board.steering.bound["block"].value == "measured"
    assert 'role="alert"' in panel.board.refusal.value and "block=" in panel.board.refusal.value
    panel.board.saving.value = 0.1
    assert panel.board.refusal.value == ""


def test_the_saving_falls_with_a_block_list_that_holds_less_and_undo_brings_it_back():
    panel = make_panel(steps=3, saving=0.4)
    panel.board.steering.bound["block"].value = "0 1 2 3"
    assert panel.board.saving.value == 0.3
    panel.board.undo.click()
    assert panel.board.saving.value == 0.4 and pressed(panel) == [0, 5]


def test_the_parameters_of_a_pwegd_are_there_where_it_is_chosen_and_move_the_plan():
    panel = make_panel(steps=30)
    steering, drawn = panel.board.steering, []
    panel.view.picture.show_schedule = drawn.append
    assert steering.bound["pwegd_shape"].layout.display == "none"
    steering.bound["schedule"].value = "pwegd"
    assert steering.bound["pwegd_shape"].layout.display == ""
    panel.view.read()
    steering.bound["pwegd_scale"].value = 1.0
    panel.view.read()
    panel.view.read()
    first, second = drawn
    assert first.mean() == pytest.approx(0.75) == second.mean()
    assert abs(first - second).max() > 0.05
    run = panel.start("inline").record()
    assert [s.controls["schedule"] for s in run] == ["pwegd"] * 30
    assert len({s.keep_probability for s in run}) > 20


def test_every_control_asks_for_its_own_value():
    panel = make_panel(steps=3)
    for name, value in {
        "mode": "fixed_count",
        "scope": "per_sequence",
        "rescale": "train_inverse",
        "learning_rate_scale": 2.0,
        "steps_per_second": 20.0,
    }.items():
        panel.board.steering.bound[name].value = value
        found = panel.controls.wanted[name]
        assert found == value or found == pytest.approx(value, rel=1e-3), name


def test_one_step_is_one_step_of_each_arm():
    async def scenario(panel):
        panel.board.pause.value = True
        await until(lambda: panel.session.is_paused)
        await asyncio.sleep(0.3)
        before = [arm.num_steps for arm in panel.session.arms]
        panel.board.step.click()
        await until(lambda: panel.session.arms[1].num_steps == before[0] + 1)
        await asyncio.sleep(0.3)
        assert [arm.num_steps for arm in panel.session.arms] == [before[0] + 1] * 2
        assert panel.session.is_paused and panel.board.pause.value is True

    steered(scenario, against="none")


def test_a_replay_cannot_be_steered_at_all():
    panel = make_panel(replay=())
    board = panel.board
    every = [board.dropping, board.method, board.saving, *board.steering.controls, board.undo]
    assert all(control.disabled for control in every) and not board.stop.disabled


# ---- by clicks


def test_a_run_by_clicks_goes_on_with_each_and_is_over_at_its_end():
    panel = race(steps=70, data=SlowBatches(0)).start("chunked")
    assert panel.board.chunk.layout.display == "" and panel.board.pause.layout.display == "none"
    assert "chunked" in panel.board.driver.value
    panel.board.chunk.click()
    assert [arm.num_steps for arm in panel.session.arms] == [50, 50]
    assert "Paused before step 51." in panel.text
    with pytest.raises(RuntimeError, match="no record yet"):
        panel.record()
    panel.board.saving.value = 0.1
    panel.board.step.click()
    assert panel.session.lead.num_steps == 51
    panel.board.chunk.click()
    panel.board.chunk.click()
    assert "Finished after 70 steps." in panel.text
    assert panel.record().steps[50].controls["saving"] == 0.1


def test_a_run_by_clicks_can_be_stopped():
    panel = race(steps=200).start("chunked")
    panel.board.chunk.click()
    panel.board.stop.click()
    assert "Stopped after 50 steps." in panel.text and len(panel.record()) == 50


# ---- what it leaves


def test_a_race_from_a_configuration_leaves_files_that_replay_it(tmp_path):
    known = SensitivityData(values=tuple(range(8)), standard_errors=(0.1,) * 8)
    panel = LiveTraining.from_config(
        CONFIG,
        sensitivity_data=known,
        against="none",
        folder=tmp_path,
        replay=[(3, "saving", 0.25, 0.4), (6, "method", "sbld", "uniform")],
    ).start("inline")
    record = LiveRecord.load(tmp_path / LIVE)
    assert record == panel.live_record() and record.lead == panel.record()
    assert (tmp_path / "live.png").read_bytes() == panel.picture().data
    assert set(record.samples[0]) == {"0", "10"} and record.samples[0]["0"].startswith("def ")
    assert "What the model writes" in panel.board.samples.value
    assert replay(record).is_exact


def test_the_configuration_s_method_and_saving_come_first():
    panel = LiveTraining.from_config(PretrainConfig(method="linear", saving=0.1, seed=4, steps=3))
    start = panel.session.start
    assert (start["method"], start["saving"], panel.session.seed) == ("linear", 0.1, 4)
    off = LiveTraining.from_config(PretrainConfig(method="none", steps=3))
    assert off.session.start["dropping"] is False


def test_a_variant_races_where_it_does_not_grow():
    config = PretrainConfig(model="conv", preset="tiny-ahead", method="uniform", steps=2)
    panel = LiveTraining.from_config(config)
    panel.start("inline")
    assert len(panel.record()) == 2 and panel.live_record().samples == ({},)
    with pytest.raises(ValueError, match="model='diverging' grows while it trains"):
        LiveTraining.from_config(PretrainConfig(model="diverging", steps=2))


def test_a_budget_without_a_known_length_is_shown_too():
    panel = make_panel(config=TrainConfig(budget=Budget(seconds=0.5)), against="none")
    panel.start("inline")
    assert panel.record().outcome == "completed" and "Race" in panel.text
    assert SENSITIVITY.num_layers == len(panel.board.steering.layers)
