"""A run is held, stopped, taken up and shown again: in the page, and in the kernel."""

from __future__ import annotations

import time

import pytest
from browser.lab import wait_until
from browser.notebook import RESTART, RESTART_AND_RUN_ALL, SAVE, PanelInPage

pytestmark = pytest.mark.browser
IMPORT = "from browser.lesson import make_panel"
PRINT = 'run = panel.record()\nprint(f"{run.outcome} after {len(run)} steps, from {run.resumes}")'


def test_pause_single_steps_speed_back_and_stop(open_notebook):
    cell = 'panel = make_panel(2000, folder="held", every_steps=10)\nawait panel.start().wait()'
    notebook = open_notebook(IMPORT, cell, PRINT)
    panel = notebook.run_all()
    run = notebook.run()
    panel.button("Pause").click()
    panel.says("Paused before step")
    held = wait_until("the end of the step", lambda: (s := run.num_steps())[0] == s[1] and s[0])
    time.sleep(0.5)
    assert run.num_steps() == [held, held]
    for done in (held + 1, held + 2):
        panel.button("One step").click()
        panel.says(f"Paused before step {done + 1}.")
        panel.says(f"step {done} of 2000")
        wait_until("a step of each arm", lambda done=done: run.num_steps() == [done, done])
    time.sleep(0.3)
    assert run.num_steps() == [held + 2, held + 2]
    panel.button("Resume").click()
    panel.says("Training with sbld")
    panel.goes_on()
    speed_limited(panel, run)
    back_to_a_checkpoint(panel, run)
    stopped(notebook, panel, run)


def speed_limited(panel, run) -> None:
    panel.button("More controls").click()
    limit = float(panel.drag("Max steps/s", -70))
    assert 1 <= limit < 25
    applied = run.change("steps_per_second", limit)
    at, began = run.num_steps()[0], time.monotonic()
    time.sleep(1.0)
    taken = run.num_steps()[0] - at
    assert 0 < taken <= limit * (time.monotonic() - began) + 1
    assert applied <= at


def back_to_a_checkpoint(panel, run) -> None:
    before = run("panel.session.return_points()")[-1]
    assert before % 10 == 0
    panel.button("Back").click()
    is_back = "panel.session.num_returns == 1 and not panel.session.is_stopped"
    wait_until("the session went back", lambda: run(is_back))
    wait_until("it goes on", lambda: run.num_steps()[0] > before)
    assert run("all(s.step == at for at, s in enumerate(panel.session.lead.records))")
    assert not panel.alert.is_visible()
    panel.goes_on()


def stopped(notebook, panel, run) -> None:
    panel.button("Stop").click()
    panel.says("Stopped after")
    lead, rival = run.num_steps()
    assert lead == rival
    panel.says(f"Stopped after {lead} steps. They are saved: run it again to go on.")
    assert run("panel._driver.is_running") is False
    rest = [panel.button(name) for name in ("Dropping is on", "Pause", "One step", "Stop", "Back")]
    wait_until("the controls rest", lambda: all(button.is_disabled() for button in rest))
    notebook.output(f"stopped after {lead} steps")
    before = panel.png()
    panel.button("seconds").click()  # looking is not steering
    wait_until("another picture", lambda: panel.png() != before)
    panel.says(" s each, loss on new text")


def test_restarted_kernels_go_on_from_the_folder(open_notebook):
    cell = 'panel = make_panel(160, folder="restarted", every_steps=10)\nawait panel.start().wait()'
    notebook = open_notebook(IMPORT, cell, PRINT)
    panel = notebook.run_all()
    wait_until("a checkpoint", lambda: panel.step() > 20)
    notebook.disconnect()
    notebook.command(RESTART)
    notebook.accept()
    notebook.wait_until_idle()
    dead = panel.box.is_visible() and panel.step()
    if dead:  # it shows what it showed, and a click on it does no harm
        panel.button("Dropping is on").click()
        time.sleep(0.5)
        assert panel.step() == dead

    panel = notebook.run_all()
    run = notebook.run()
    taken_up = run("panel.session.lead.records[-1].step")
    assert taken_up >= 10
    wait_until("a later step", lambda: panel.step() > taken_up + 10)
    notebook.disconnect()
    notebook.command(RESTART_AND_RUN_ALL)
    notebook.accept()
    notebook.output("completed after 160 steps")
    run = notebook.run()
    assert run.num_steps() == [160, 160]
    assert run("all(s.step == at for at, s in enumerate(panel.session.lead.records))")
    resumes = run("[each['step'] for each in panel.record().resumes]")
    assert len(resumes) == 2 and 10 <= resumes[0] < resumes[1] and resumes[1] >= taken_up
    PanelInPage(notebook.page).says("Finished after 160 steps.")


def test_two_panels_in_one_notebook_are_steered_apart(open_notebook):
    both = "await first.wait()\nawait second.wait()\nprint('both are over')"
    notebook = open_notebook(
        IMPORT,
        "first = make_panel(2000, steps_per_second=25.0).start()",
        "second = make_panel(2000, seed=1, against=None, steps_per_second=25.0).start()",
        both,
    )
    left = notebook.run_all()
    right = notebook.panel(1)
    first, second = notebook.run("first"), notebook.run("second")
    left.button("Dropping is on").click()
    first.change("dropping", False)
    right.control("Method").select_option("uniform")
    second.change("method", "uniform")
    left.says("Training at full depth.")
    right.says("Training with uniform, asked saving 0.25.")
    assert [entry[1] for entry in first.log()] == ["dropping"]
    assert [entry[1] for entry in second.log()] == ["method"]
    assert "Race" in left.text() and "Race" not in right.text()
    left.button("Stop").click()
    left.says("Stopped after")
    right.goes_on()
    right.button("Stop").click()
    right.says("Stopped after")
    notebook.output("both are over")


def test_a_page_loaded_again_shows_the_run_that_goes_on(open_notebook):
    notebook = open_notebook(IMPORT, "panel = make_panel(2000).start()", "# panel.show()")
    notebook.run_all()
    run = notebook.run()
    notebook.reload()  # never saved: the page has forgotten the panel, the kernel has not
    seen = run.num_steps()[0]
    wait_until("it trains on", lambda: run.num_steps()[0] > seen)
    assert PanelInPage(notebook.page).box.count() == 0
    notebook.write_cell("panel.show()\nawait panel.wait()\nprint('it is over')")
    panel = notebook.panel()
    panel.button("Dropping is on").click()
    run.change("dropping", False)
    panel.says("Training at full depth.")

    notebook.command(SAVE)
    wait_until("it is saved", notebook.is_saved)
    notebook.reload()  # saved: the panel is there by itself, while its cell still awaits
    panel = notebook.panel()
    panel.says("Training at full depth.")
    seen = run.num_steps()[0]
    wait_until("the page follows", lambda: panel.step() > seen)
    before = panel.png()
    panel.button("FLOPs").click()
    wait_until("another picture", lambda: panel.png() != before)
    panel.button("Dropping is off").click()
    run.change("dropping", True)
    panel.says("Training with sbld")
    panel.button("Stop").click()
    panel.says("Stopped after")
    wait_until("the cell has ended", lambda: run("panel._task.done()"))
