"""How the panel looks, on a dark page and on a narrow one too."""

from __future__ import annotations

import pytest
from browser.lab import wait_until

from sbldlib.panels.theming import TURNED

pytestmark = pytest.mark.browser
IMPORT = "from browser.lesson import make_panel"


def test_dark_page_narrow_page_and_tidy_columns(open_notebook):
    notebook = open_notebook(IMPORT, "panel = make_panel(2000).start()\nawait panel.wait()")
    panel = notebook.run_all()
    panel.button("More controls").click()
    panel.control("Block list").wait_for()
    # Two columns: what is below each other begins and ends at one place.
    left = [edges(panel, name) for name in ("Schedule", "Scope", "Learning rate ×")]
    right = [edges(panel, name) for name in ("Asked saving", "Draw", "Rescaling", "Max steps/s")]
    assert apart(left) < 1 and apart(right) < 1 and left[0][1] < right[0][0]
    assert not panel.sticks_out()

    assert panel.picture.evaluate(FILTER) == "none"
    notebook.change_theme("JupyterLab Dark")
    wait_until("the picture is turned", lambda: panel.picture.evaluate(FILTER) == TURNED)
    notebook.change_theme("JupyterLab Light")
    wait_until("it is turned back", lambda: panel.picture.evaluate(FILTER) == "none")

    notebook.page.set_viewport_size({"width": 640, "height": 1000})
    wait_until("no part sticks out", lambda: not panel.sticks_out())
    narrow = [edges(panel, name) for name in ("Schedule", "Draw", "Scope", "Asked saving")]
    assert apart(narrow) < 1  # one column
    panel.control("Schedule").select_option("pwegd")
    panel.control("PWEGD a2").wait_for()
    assert not panel.sticks_out()
    panel.button("Stop").click()
    panel.says("Stopped after")


FILTER = "image => getComputedStyle(image).filter"


def edges(panel, label: str) -> tuple[float, float]:
    """Where a control with its label begins and ends, in pixels."""
    spot = panel.holder(label).bounding_box()
    return spot["x"], spot["x"] + spot["width"]


def apart(places: list[tuple[float, float]]) -> float:
    """The most that these begin, or end, apart."""
    return max(max(ends) - min(ends) for ends in zip(*places, strict=True))
