"""The attention viewer and the data flow in a page: typed, chosen, dragged, told what is wrong."""

from __future__ import annotations

import pytest
from browser.lab import wait_until
from browser.notebook import RUN_ALL, PanelInPage

from sbldlib.panels.attention_viewer import VIEWS

pytestmark = pytest.mark.browser
CELLS = (
    "from browser.lesson import translator\n"
    "from sbldlib.panels.attention_viewer import AttentionViewer\n"
    "from sbldlib.panels.dataflow_explorer import DataFlowExplorer",
    "viewer = AttentionViewer(translator().attend, sentence='twenty-one')\nviewer.show()",
    "flow = DataFlowExplorer(translator().trace, sentence='twenty-one')\nflow.show()",
)


def test_a_typed_sentence_is_attended_and_its_data_flow(open_notebook):
    notebook = open_notebook(*CELLS)
    notebook.command(RUN_ALL)
    viewer, flow = PanelInPage(notebook.page), PanelInPage(notebook.page, 1)
    flow.picture.wait_for(timeout=180_000)
    viewer.picture.scroll_into_view_if_needed()
    kernel = notebook.run("viewer")
    assert "twenty" in kernel("list(panel.maps['cross'].keys)")

    before = viewer.png()
    type_sentence(viewer, "forty-two")
    wait_until("another picture", lambda: viewer.png() != before)
    assert {"forty", "two"} <= set(kernel("list(panel.maps['cross'].keys)"))
    viewer.control("view").select_option(label=VIEWS["model"])
    viewer.says("the sharpest map is layer")
    viewer.control("attention").select_option(label="encoder")
    viewer.says("encoder: the sharpest map is layer")

    kept = viewer.png()
    type_sentence(viewer, "twenty-wun")
    viewer.says("Not drawn: text='twenty-wun': 'wun' starts with no symbol")
    assert viewer.png() == kept
    type_sentence(viewer, "")
    viewer.says("Not drawn: the sentence is empty")
    assert viewer.png() == kept

    flow.says("Step 1 of")
    shown = flow.drag("step", 60)
    assert int(shown) > 1
    flow.says(f"Step {shown} of")
    assert notebook.run("flow")("panel.step.value") == int(shown)


def type_sentence(panel: PanelInPage, text: str) -> None:
    """As a reader does, with Enter at the end."""
    field = panel.control("sentence", "input")
    field.fill(text)
    field.press("Enter")
