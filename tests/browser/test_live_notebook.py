"""Notebook 08 in a real browser, from its first cell on, steered by a hand.

SBLD_SCREENSHOT=figures/panel_live.png makes the README's pictures on the way: that one, and beside
it panel_controls.png with "More controls" open and panel_dark.png on a dark page.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser.lab import REPOSITORY, wait_until

from sbldlib.panels.theming import TURNED

pytestmark = pytest.mark.browser
SCREENSHOT = os.environ.get("SBLD_SCREENSHOT")
NUM_LAYERS = 8
TIER = f"%env SBLD_TIER={'cpu' if SCREENSHOT else 'smoke'}\n%env SBLD_PANEL=thread"


def long_copy() -> Any:
    """The notebook with a race long enough to be steered, begun anew."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "08_sbld_live.ipynb", as_version=4)
    changes = {
        "by_tier(smoke=40, cpu=600": "by_tier(smoke=3000, cpu=600",
        'resume="auto" if by_hand': 'resume="never" if by_hand',  # no run of an earlier test
    }
    for old, new in changes.items():
        assert any(old in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)
    return notebook


def test_the_lesson_is_steered_in_a_real_browser(open_notebook, lab):
    shutil.copytree(REPOSITORY / "figures", lab.root / "figures")  # which its text shows
    notebook = open_notebook(TIER, notebook=long_copy())
    panel = notebook.run_all()
    run = notebook.run()
    assert run("panel.driver") == "thread"
    panel.says("Race, at ")
    pace(panel, 90)
    panel.button("Dropping is on").click()
    applied = run.change("dropping", False)
    panel.says("Training at full depth.")
    ran = run.layers_after(applied, 5)
    assert all(len(layers) == NUM_LAYERS for layers in ran)
    pace(panel, 180)
    panel.button("Dropping is off").click()
    run.change("dropping", True)
    panel.control("Asked saving").focus()
    panel.control("Asked saving").press("ArrowRight")
    run.change("saving", 0.3)
    panel.says("Training with sbld, asked saving 0.30.")
    pace(panel, 280)
    panel.button("More controls").click()
    panel.control("Schedule").select_option("pwegd")
    run.change("schedule", "pwegd")
    panel.button("3").click()
    blocked = sorted({*run("list(lists.block)"), 3})
    applied = run.change("block", ", ".join(map(str, blocked)))
    assert all(set(blocked) <= set(layers) for layers in run.layers_after(applied, 20))
    pace(panel, 400)
    pictures(notebook, panel)
    stopped_and_read_on(notebook, panel, run)


def pace(panel, step: int) -> None:
    """For the pictures alone: let the run get on before it is steered again."""
    if SCREENSHOT:
        wait_until(f"step {step}", lambda: panel.step() >= step, 240)


def pictures(notebook, panel) -> None:
    """The README's, where they are asked for."""
    shot(panel, "panel_controls")
    panel.button("More controls").click()
    panel.control("Schedule").wait_for(state="hidden")
    shot(panel, None)
    notebook.change_theme("JupyterLab Dark")
    turned = "image => getComputedStyle(image).filter"
    wait_until("a dark page", lambda: panel.picture.evaluate(turned) == TURNED)
    shot(panel, "panel_dark")
    notebook.change_theme("JupyterLab Light")


def shot(panel, name: str | None) -> None:
    if SCREENSHOT:
        path = Path(REPOSITORY, SCREENSHOT)
        panel.page.mouse.move(5, 5)
        panel.page.wait_for_timeout(3000)  # for a picture that has all that was changed
        panel.box.screenshot(path=path if name is None else path.with_stem(name))


def stopped_and_read_on(notebook, panel, run) -> None:
    panel.button("Stop").click()
    panel.says("Stopped after")
    steps, of_rival = run.num_steps()
    assert steps == of_rival
    panel.says(f"Stopped after {steps} steps.")
    notebook.output(f"stopped after {steps} steps with")
    below = notebook.page.locator(".jp-CodeCell").filter(has_text="panel.picture()")
    assert below.locator("img").evaluate("image => image.naturalWidth") > 600
    outputs = notebook.page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="Traceback").count() == 0
