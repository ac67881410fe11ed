"""The explorers of the GPT variants in a page: chosen, dragged, drawn, and said in words."""

from __future__ import annotations

import pytest
from browser.lab import wait_until
from browser.notebook import RUN_ALL, PanelInPage

pytestmark = pytest.mark.browser
CELLS = (
    "from sbldlib.panels.context_explorer import ContextExplorer\n"
    "from sbldlib.panels.growth_explorer import GrowthExplorer",
    "context = ContextExplorer()\ncontext.show()",
    "growth = GrowthExplorer()\ngrowth.show()",
)


def test_a_leak_is_chosen_and_a_model_grows_otherwise(open_notebook):
    notebook = open_notebook(*CELLS)
    notebook.command(RUN_ALL)
    context, growth = PanelInPage(notebook.page), PanelInPage(notebook.page, 1)
    growth.picture.wait_for(timeout=180_000)
    context.picture.scroll_into_view_if_needed()
    context.says("It is honest")

    before = context.png()
    context.control("model").select_option(label="leak: groups not shifted")
    context.says("It SEES ITS ANSWER")
    wait_until("another picture", lambda: context.png() != before)
    shown = int(context.drag("position", 60))
    context.says(f"Output {shown} reads")
    assert notebook.run("context")("panel.route.position") == shown

    growth.picture.scroll_into_view_if_needed()
    growth.says("3 → 6 → 12 different blocks")
    growth.control("grow by").select_option(label="copies put on top")
    growth.says("62.7% of the operations")
    assert notebook.run("growth")("panel.share") == pytest.approx(0.627, abs=5e-4)
    assert not context.sticks_out() and not growth.sticks_out()
