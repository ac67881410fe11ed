from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import gpt, random_batches

from sbldlib import (
    Budget,
    Controls,
    RunRecord,
    SensitivityData,
    TrainConfig,
    make_optimizer,
    train,
)
from sbldlib.live.dropping import LiveDropping
from sbldlib.methods import METHODS
from sbldlib.panels import LiveTraining
from sbldlib.training.folder import RunMismatchError
from sbldlib.training.ledger import read_ledger

NUM_LAYERS = 6
SENSITIVITY = SensitivityData(
    values=(2.0, 0.1, 0.2, 0.3, 0.4, 0.5), standard_errors=(0.01,) * NUM_LAYERS
)
ALL = tuple(range(NUM_LAYERS))
SCRIPT = (
    (2, "dropping", True, False),
    (4, "saving", 0.25, 0.4),
    (5, "dropping", False, True),
    (8, "method", "sbld", "uniform"),
)


def make_panel(steps: int = 12, num_layers: int = NUM_LAYERS, **options) -> LiveTraining:
    model = gpt(num_layers)
    known = {"sensitivity_data": SENSITIVITY} if num_layers == NUM_LAYERS else {}
    return LiveTraining(
        model,
        options.pop("data", None) or random_batches(5),
        make_optimizer(model, learning_rate=1e-2),
        **{"config": TrainConfig(budget=Budget(steps=steps)), **known, **options},
    )


class SlowBatches:
    """Batches that take a while, so that a test can steer between steps."""

    def __init__(self, seconds: float = 0.02, until: int | None = None):
        self.batches, self.seconds, self.until = random_batches(5), seconds, until

    def batch(self, step: int, micro_batch: int = 0):
        if self.until is not None and step >= self.until:
            raise OSError("the disk went away")
        time.sleep(self.seconds if step else 0)
        return self.batches[step % len(self.batches)]


async def until(holds, seconds: float = 20.0) -> None:
    """Let the kernel's loop run until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "not seen in time"
        await asyncio.sleep(0.005)


def steered(scenario, **options):
    """Run a scenario on a panel that trains in its thread; returns the panel."""

    async def run():
        panel = make_panel(**{"steps": 400, "data": SlowBatches(), **options}).start("thread")
        try:
            await scenario(panel)
        finally:
            panel.controls.stop()
        await panel.wait()
        return panel

    return asyncio.run(run())


def num_steps(panel) -> int:
    return panel.session.lead.num_steps


def test_sync_run_is_the_plain_training_loop():
    panel = make_panel(replay=SCRIPT).start("inline")
    model = gpt(NUM_LAYERS)
    run = train(
        model,
        random_batches(5),
        make_optimizer(model, learning_rate=1e-2),
        config=TrainConfig(budget=Budget(steps=12)),
        callbacks=[LiveDropping(model, sensitivity_data=SENSITIVITY)],
        controls=Controls({"dropping": True, "method": "sbld", "saving": 0.25}, replay=SCRIPT),
    )
    record = panel.record()
    assert record.losses == run.losses
    assert [s.layers_run for s in record] == [s.layers_run for s in run]
    assert record.controls_log == run.controls_log == SCRIPT
    assert record.outcome == "completed" and len(record) == 12


def test_what_a_control_says_is_what_runs():
    steps = make_panel(replay=SCRIPT, steps=40).start("inline").record().steps
    assert [s.layers_run for s in steps[2:5]] == [ALL] * 3
    assert all(s.controls["saving"] == 0.4 for s in steps[4:])
    sbld, uniform = steps[5].keep_probability, steps[8].keep_probability
    assert sbld[0] == 1 and np.mean(sbld) == pytest.approx(0.6)
    assert uniform == pytest.approx((0.6,) * NUM_LAYERS)
    assert np.mean([len(s.layers_run) for s in steps[8:]]) < NUM_LAYERS - 1


def test_a_steered_run_replays_bit_for_bit():
    async def scenario(panel):
        board = panel.board
        await until(lambda: num_steps(panel) > 3)
        board.dropping.value = False
        await until(lambda: panel.controls["dropping"] is False)
        for saving in (0.3, 0.35, 0.4):
            board.saving.value = saving
        board.method.value = "linear"
        await until(lambda: panel.controls["method"] == "linear")
        board.dropping.value = True
        seen = num_steps(panel)
        await until(lambda: num_steps(panel) > seen + 3)
        board.stop.click()

    live = steered(scenario).record()
    assert live.outcome == "stopped" and len(live.controls_log) >= 4
    replayed = make_panel(steps=400, replay=live.controls_log).start("inline").record()
    assert replayed.losses == live.losses
    assert [s.layers_run for s in replayed] == [s.layers_run for s in live]
    assert replayed.controls_log == live.controls_log and replayed.outcome == "stopped"


def test_a_toggle_is_in_force_at_the_next_step():
    asked_at = []

    async def scenario(panel):
        await until(lambda: num_steps(panel) > 2)
        panel.board.dropping.value = False
        asked_at.append(num_steps(panel))  # records so far: the step in progress has this number
        await until(lambda: num_steps(panel) > asked_at[0] + 3)

    run = steered(scenario, saving=0.4).record()
    ((applied, name, old, new),) = [entry for entry in run.controls_log if entry[1] == "dropping"]
    assert (name, old, new) == ("dropping", True, False)
    assert asked_at[0] <= applied <= asked_at[0] + 1
    assert all(s.layers_run == ALL for s in run.steps[applied:])
    assert any(s.layers_run != ALL for s in run.steps[:applied])


def test_pause_holds_a_step_boundary_and_resume_goes_on():
    async def scenario(panel):
        await until(lambda: num_steps(panel) > 2)
        panel.board.pause.value = True
        await asyncio.sleep(0.2)
        held = num_steps(panel)
        await asyncio.sleep(0.2)
        assert num_steps(panel) == held
        panel._refresh()
        assert f"Paused before step {held + 1}." in panel.board.state.value
        assert panel.board.pause.description == "Resume"
        panel.board.saving.value = 0.1
        panel.board.pause.value = False
        await until(lambda: num_steps(panel) > held)
        assert panel.session.lead.records[held].controls["saving"] == 0.1

    assert "Stopped after" in steered(scenario).text


def test_stop_ends_a_paused_run():
    async def scenario(panel):
        panel.board.pause.value = True
        await asyncio.sleep(0.1)
        panel.board.stop.click()
        await panel.wait()

    assert steered(scenario).record().outcome == "stopped"


def test_what_training_raised_is_raised_by_check_and_shown():
    async def scenario(panel):
        with pytest.raises(OSError, match="the disk went away"):
            await panel.wait()
        with pytest.raises(OSError, match="the disk went away"):
            panel.check()
        with pytest.raises(OSError):
            panel.record()
        assert "Failed after 3 steps: OSError: the disk went away" in panel.board.state.value
        panel._driver.error = None  # so that the harness can end

    steered(scenario, data=SlowBatches(until=3))


def test_sync_run_raises_at_once():
    with pytest.raises(OSError, match="the disk went away"):
        make_panel(data=SlowBatches(seconds=0, until=3)).start("inline")


def test_two_panels_at_once_do_not_touch_each_other():
    async def run():
        first = make_panel(steps=30, data=SlowBatches(0.002)).start("thread")
        second = make_panel(steps=30, data=SlowBatches(0.002)).start("thread")
        first.board.dropping.value = False
        await until(lambda: first.controls["dropping"] is False)
        assert second.controls["dropping"] is True
        await first.wait()
        await second.wait()
        return first.record(), second.record()

    first, second = asyncio.run(run())
    assert len(first) == len(second) == 30
    assert second.losses == make_panel(steps=30).start("inline").record().losses
    assert first.losses != second.losses


def test_refresh_draws_and_says_what_the_records_say():
    async def scenario(panel):
        await until(
            lambda: panel.view.summary.last is not None and panel.view.summary.last.step >= 2
        )
        first = panel.board.image.value
        await until(lambda: panel.board.image.value != first)
        assert (
            Image.open(io.BytesIO(first)).size
            == Image.open(io.BytesIO(panel.board.image.value)).size
        )

    panel = steered(scenario, steps=200)
    run = panel.record()
    last = run.steps[-1]
    numbers = panel.board.numbers.value
    assert f"step {len(run)} of 200" in numbers
    assert f"loss {last.loss_nats:.3f} nats/token" in numbers
    assert f"layers run {len(last.layers_run)} of {NUM_LAYERS}" in numbers
    assert "mean keep 0.75" in numbers
    assert f"FLOPs saved {run.flops_saved:.0%}" in numbers
    assert panel.board.progress.value == last.progress


def test_drawing_takes_its_share_of_the_time_and_no_more(monkeypatch):
    panel = make_panel().start("inline")
    now, cpu, draws = 0.0, 0.0, 0

    def png() -> bytes:
        nonlocal cpu, draws
        cpu, draws = cpu + 0.1, draws + 1  # a slow machine: a tenth of a second a drawing
        return b""

    monkeypatch.setattr(panel.view.picture, "png", png)
    monkeypatch.setattr("sbldlib.panels.screen.time.thread_time", lambda: cpu)
    monkeypatch.setattr("sbldlib.panels.screen.time.monotonic", lambda: now)
    panel._screen.begin()
    while now < 100:
        now += panel._screen.refresh(is_over=False)
    assert 0.015 * 100 <= 0.1 * draws <= 0.015 * 100 + 0.15 + 2 * 0.1


@pytest.mark.parametrize(("often", "longest_wait", "most"), [(50, 2.5, 0.03), (1, 60.0, 0.03)])
def test_a_costly_drawing_does_not_stop_the_next_for_long(monkeypatch, often, longest_wait, most):
    panel = make_panel().start("inline")
    now, cpu, drawn_at = 0.0, 0.0, []

    def png() -> bytes:
        nonlocal cpu
        drawn_at.append(now)
        cpu += 0.2 if len(drawn_at) % often == 0 and len(drawn_at) > 3 else 0.015  # new axes
        return b""

    monkeypatch.setattr(panel.view.picture, "png", png)
    monkeypatch.setattr("sbldlib.panels.screen.time.thread_time", lambda: cpu)
    monkeypatch.setattr("sbldlib.panels.screen.time.monotonic", lambda: now)
    panel._screen.begin()
    while now < 120:
        now += panel._screen.refresh(is_over=False)
    waits = [later - sooner for sooner, later in pairwise(drawn_at)]
    assert max(waits) < longest_wait and cpu < most * 120


def test_every_control_has_a_name_and_the_state_is_announced():
    board = make_panel(steps=2).board
    for control in (board.dropping, board.method, board.saving, board.pause, board.stop):
        assert re.fullmatch(r"[A-Z][a-z ]+", control.description)
    assert board.dropping.description == "Dropping is on"
    panel = make_panel(steps=2)
    assert panel.text == "Not started.\nNo step yet."
    panel.start("inline")
    assert 'role="status"' in panel.board.state.value
    assert "Finished after 2 steps." in panel.text and "step 2 of 2" in panel.text


def test_text_from_outside_is_escaped():
    panel = make_panel(data=SlowBatches(seconds=0, until=1))
    panel._driver.error = ValueError("<img src=x>")
    panel._refresh()
    assert "<img" not in panel.board.state.value and "&lt;img" in panel.board.state.value


def test_controls_rest_when_the_run_is_over():
    board = make_panel(steps=2).start("inline").board
    assert all(
        c.disabled for c in (board.dropping, board.method, board.saving, board.pause, board.stop)
    )


def test_all_methods_are_offered_where_sensitivities_are_known():
    assert set(make_panel().board.method.options) == set(METHODS) - {"none"}
    without = make_panel(sensitivity_data=None)
    assert set(without.board.method.options) == set(METHODS) - {"none", "sbld"}
    assert without.controls["method"] == "uniform"


def test_slider_falls_to_what_a_method_can_hold_before_the_method_changes():
    panel = make_panel(num_layers=4, method="uniform", saving=0.4, steps=3)
    panel.board.method.value = "pld"  # 4 layers and 3 steps: it holds less than 0.25
    assert panel.board.saving.max == panel.board.saving.value == 0.2
    run = panel.start("inline").record()
    first = run.steps[0].controls
    assert (first["dropping"], first["method"], first["saving"]) == (True, "pld", 0.2)


def test_slider_values_are_rounded_as_the_browser_sends_them():
    panel = make_panel(steps=2)
    panel.board.saving.value = 0.30000000000000004
    assert panel.start("inline").record().steps[0].controls["saving"] == 0.3


def test_a_replay_shows_its_values_and_cannot_be_steered():
    panel = make_panel(replay=SCRIPT)
    assert panel.board.dropping.disabled and panel.board.saving.disabled
    panel.start("inline")
    board = panel.board
    assert (board.method.value, board.saving.value, board.dropping.value) == ("uniform", 0.4, True)


def test_a_replay_without_changes_is_a_replay():
    assert make_panel(replay=()).board.dropping.disabled
    assert not make_panel(replay=None).board.dropping.disabled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "unifrom"}, "did you mean 'uniform'"),
        ({"method": "none"}, "method='none' is not known"),
        ({"saving": 0.5}, r"saving=0.5 is outside \[0, 0.4\]"),
        ({"saving": -0.1}, "saving=-0.1 is outside"),
        ({"refresh_seconds": 0}, "refresh_seconds=0 is outside"),
        ({"method": "sbld", "sensitivity_data": None}, "needs sensitivity_data"),
        ({"replay": [(3, "speed", 1, 2)]}, "replay='speed' is not known"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, message):
    with pytest.raises(ValueError, match=message):
        make_panel(**options)


def test_a_panel_starts_once_and_has_a_record_at_its_end():
    panel = make_panel(steps=2)
    with pytest.raises(RuntimeError, match="no record yet"):
        panel.record()
    panel.start("inline")
    with pytest.raises(RuntimeError, match="started before"):
        panel.start("inline")


# ---- a run that is kept


def test_a_panel_that_was_stopped_goes_on_with_all_it_had(tmp_path):
    async def scenario(panel):
        await until(lambda: num_steps(panel) > 3)
        panel.board.saving.value = 0.4
        panel.board.method.value = "uniform"
        await until(lambda: panel.controls["method"] == "uniform")
        seen = num_steps(panel)
        await until(lambda: num_steps(panel) > seen + 3)

    first = steered(scenario, steps=60, folder=tmp_path)
    stopped = first.record()
    assert stopped.outcome == "stopped" and "saved: run it again to go on" in first.text
    second = make_panel(steps=60, folder=tmp_path, data=SlowBatches(0))
    second.start("inline")
    run = second.record()
    assert (run.outcome, len(run)) == ("completed", 60)
    assert run.steps[: len(stopped)] == stopped.steps
    assert [(r["step"], r["exact"]) for r in run.resumes] == [(len(stopped), True)]
    assert run.steps[-1].controls == {**second.session.start, "method": "uniform", "saving": 0.4}
    board = second.board
    assert (board.method.value, board.saving.value) == ("uniform", 0.4)
    assert "step 60 of 60" in second.text and f"{run.flops_saved:.0%}" in second.text
    assert len(second.view.summary.course) == 60
    replayed = make_panel(steps=60, replay=run.controls_log).start("inline").record()
    assert replayed.losses == run.losses and replayed.controls_log == run.controls_log


def test_a_panel_s_finished_run_is_shown_and_not_trained_again(tmp_path):
    run = make_panel(folder=tmp_path, replay=SCRIPT).start("inline").record()
    assert run.losses == make_panel(replay=SCRIPT).start("inline").record().losses
    again = make_panel(folder=tmp_path, replay=SCRIPT, data=random_batches(5))
    again.start("inline")
    assert again.record() == run
    assert "Finished after 12 steps." in again.text and "step 12 of 12" in again.text
    anew = make_panel(folder=tmp_path, replay=SCRIPT, resume="never").start("inline").record()
    assert anew.losses == run.losses and anew != run


def test_an_interrupted_wait_ends_the_run_at_a_step_and_it_goes_on(tmp_path):
    async def interrupted():
        panel = make_panel(steps=50, data=SlowBatches(), folder=tmp_path).start("thread")
        waiting = asyncio.create_task(panel.wait())
        await until(lambda: num_steps(panel) > 3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError, match="saved: run it again to go on"):
            await waiting
        assert not panel._driver.is_running
        return panel.record()

    stopped = asyncio.run(interrupted())
    assert stopped.outcome == "stopped" and 4 <= len(stopped) < 50
    panel = make_panel(steps=50, data=SlowBatches(0), folder=tmp_path)
    run = panel.start("inline").record()
    assert run.losses == make_panel(steps=50).start("inline").record().losses
    assert run.resumes[0]["step"] == len(stopped) and run.controls_log == ()


def test_a_signal_ends_an_inline_run_at_a_step(tmp_path):
    class Interrupting:
        def batch(self, step: int, micro_batch: int = 0):
            if step == 5:
                signal.raise_signal(signal.SIGINT)
            return SlowBatches(0).batch(step)

    with pytest.raises(KeyboardInterrupt, match="interrupted after 6 steps, saved in"):
        make_panel(data=Interrupting(), folder=tmp_path).start("inline")
    assert len(RunRecord.load(tmp_path / "run.json")) == 6


def test_a_step_that_takes_long_is_not_waited_for_for_ever(monkeypatch):
    panel = make_panel()
    monkeypatch.setattr(panel._driver, "stop", lambda: False)
    with pytest.warns(RuntimeWarning, match="the step in progress takes long"):
        panel.stop()


def test_the_end_of_the_program_ends_the_run_at_a_step(tmp_path):
    program = f"""
import asyncio
from panels.test_live import SlowBatches, make_panel, num_steps, until

async def begin():
    panel = make_panel(steps=100_000, data=SlowBatches(), folder={str(tmp_path)!r}).start("thread")
    await until(lambda: num_steps(panel) > 3)

asyncio.run(begin())
"""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = RunRecord.load(tmp_path / "run.json")
    assert run.outcome == "stopped" and len(run) > 3
    assert len(read_ledger(tmp_path)) == len(run)


def test_another_run_s_folder_is_refused(tmp_path):
    make_panel(folder=tmp_path, steps=2).start("inline")
    with pytest.raises(RunMismatchError, match=r"budget\.steps=3 is asked for"):
        make_panel(folder=tmp_path, steps=3).start("inline")


def test_the_board_shows_what_others_asked_for_and_asks_for_nothing_itself():
    panel = make_panel(num_layers=4, method="uniform", saving=0.4, steps=3)
    panel.controls.set("method", "pld")
    panel.controls.set("saving", 0.2)
    asked = panel.controls.wanted
    panel.board.follow()
    assert (panel.board.method.value, panel.board.saving.value) == ("pld", 0.2)
    assert panel.board.saving.max == 0.2 and panel.controls.wanted == asked
    panel.board.saving.value = 0.10000000000000003
    panel.board.follow()
    assert panel.board.saving.value == 0.10000000000000003
    assert panel.controls.wanted["saving"] == 0.1
