"""A hand steers a race: each effect is looked for in the page, and in the kernel."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser.lab import wait_until
from browser.lesson import MEASURED_BLOCK, NUM_LAYERS

pytestmark = pytest.mark.browser
ALL = list(range(NUM_LAYERS))
PANEL = (
    "from browser.lesson import make_panel",
    "panel = make_panel(2000)\nawait panel.start().wait()",
)


@pytest.fixture
def panel_and_run(open_notebook):
    """A race that trains: in the page, and in the kernel."""
    notebook = open_notebook(*PANEL)
    return notebook.run_all(), notebook.run()


def test_two_arms_race_and_the_panel_says_who_is_ahead(panel_and_run):
    panel, run = panel_and_run
    panel.says("Race, at 40 steps each, loss on new text, all layers on: steered ")
    panel.button("Pause").click()
    panel.says("Paused before step")
    lead, rival = run.num_steps()
    assert lead == rival > 40  # a step in turn
    wait_until(
        "the kernel's text in the page",
        lambda: all(line in panel.text() for line in run("panel.text").splitlines()),
    )
    for switch, unit in (("FLOPs", "TFLOPs"), ("seconds", "s"), ("steps", "steps")):
        before = panel.png()
        panel.button(switch).click()
        wait_until(f"a picture over {switch}", lambda before=before: panel.png() != before)
        said = wait_until("the standing", lambda unit=unit: standing(panel.text(), unit))
        name, gap, losses = said["ahead"], float(said["gap"]), (said["steered"], said["full"])
        steered, full_depth = map(float, losses)
        assert gap == pytest.approx(abs(steered - full_depth), abs=0.002)
        assert name == ("steered" if steered < full_depth else "full depth")
        assert run("panel.view.against") == switch.lower()
        assert panel.png() == bytes(run("list(panel.board.image.value)"))
    lines = "panel.view.picture.figure.axes[0].lines"
    drawn = run(f"{{line.get_label(): len(line.get_xdata()) for line in {lines}}}")
    assert min(drawn["steered, mean of 20"], drawn["full depth, mean of 20"]) > 20
    saved = run("panel.view.summary.flops_saved")
    assert 0.1 < saved < 0.4 and f"FLOPs saved {saved:.0%}" in panel.text()


def standing(text: str, unit: str) -> re.Match | None:
    """The sentence that says who is ahead."""
    return re.search(
        rf"Race, at \S+ {unit} each, .*: steered (?P<steered>[\d.]+), full depth (?P<full>[\d.]+): "
        r"(?P<ahead>steered|full depth) ahead by (?P<gap>[\d.]+)",
        text,
    )


def test_switch_slider_and_method(panel_and_run):
    panel, run = panel_and_run
    switched_off(panel, run)
    slider_moved_by_keys(panel, run)
    shown = float(panel.drag("Asked saving", -80))
    assert 0 < shown < 0.4 and round(shown / 0.05) * 0.05 == pytest.approx(shown)
    run.change("saving", shown)
    panel.says(f"asked saving {shown:.2f}.")
    panel.control("Method").select_option("uniform")
    applied = run.change("method", "uniform")
    panel.says("Training with uniform")
    keep = run(f"list(panel.session.lead.records[{applied}].keep_probability)")
    assert max(keep) == pytest.approx(min(keep)) and min(keep) < 1
    rivals = "{len(step.layers_run) for step in panel.session.arms[1].records}"
    assert run(f"sorted({rivals})") == [NUM_LAYERS]  # it is not steered


def switched_off(panel, run) -> None:
    before = run.layers_after(0, 20)
    assert any(len(layers) < NUM_LAYERS for layers in before)
    panel.button("Dropping is on").click()
    asked = "[panel.controls.wanted['dropping'], len(panel.session.lead.records)]"
    seen = wait_until("the click in the kernel", lambda: (r := run(asked))[0] is False and r)[1]
    panel.says("Training at full depth.")
    panel.button("Dropping is off").wait_for()
    applied = run.change("dropping", False)
    assert len(before) <= applied <= seen + 1  # in force at the next step
    assert run.layers_after(applied, 20) == [ALL] * 20


def slider_moved_by_keys(panel, run) -> None:
    handle = panel.control("Asked saving")
    handle.focus()
    for _ in range(3):
        handle.press("ArrowRight")
    run.change("saving", 0.4)
    assert panel.readout("Asked saving") == "0.40"
    panel.button("Dropping is off").click()
    applied = run.change("dropping", True)
    panel.says("Training with sbld, asked saving 0.40.")
    ran = run.layers_after(applied, 40)
    assert 3.5 < np.mean(list(map(len, ran))) < 6.2  # 0.6 of 8 layers is 4.8
    assert all(set(MEASURED_BLOCK) <= set(layers) for layers in ran)


def test_block_list_by_click_and_by_typing(panel_and_run):
    panel, run = panel_and_run
    assert any(3 not in layers for layers in run.layers_after(0, 30))
    panel.button("More controls").click()
    field = panel.control("Block list")
    field.wait_for()
    assert pressed(panel) == list(MEASURED_BLOCK) and field.input_value() == "measured"
    panel.button("3").click()
    applied = run.change("block", "0, 3, 7")
    assert all({0, 3, 7} <= set(layers) for layers in run.layers_after(applied, 30))
    wait_until("the list in the field", lambda: field.input_value() == "0, 3, 7")
    assert pressed(panel) == [0, 3, 7]

    field.fill("3 0")
    field.press("Enter")
    applied = run.change("block", "0, 3")
    ran = run.layers_after(applied, 40)
    assert all({0, 3} <= set(layers) for layers in ran) and any(7 not in layers for layers in ran)
    wait_until("the buttons", lambda: pressed(panel) == [0, 3])
    assert field.input_value() == "0, 3"

    log = run.log()
    field.fill(", ".join(map(str, ALL)))
    field.press("Enter")
    panel.alert.wait_for()
    assert "Not changed: block='0, 1, 2, 3, 4, 5, 6, 7' leaves none of 8 layers to drop" in (
        panel.alert.inner_text()
    )
    wait_until("what is in force", lambda: field.input_value() == "0, 3")
    panel.goes_on()
    assert pressed(panel) == [0, 3] and run.log() == log
    panel.button("As measured").click()
    run.change("block", "measured")
    wait_until("no refusal", lambda: not panel.alert.is_visible())
    wait_until("the buttons", lambda: pressed(panel) == list(MEASURED_BLOCK))


def pressed(panel) -> list[int]:
    """The layers whose buttons are down."""
    return [
        layer for layer in ALL if "mod-active" in panel.button(str(layer)).get_attribute("class")
    ]


def test_schedule_drawn_live_and_undone(panel_and_run):
    panel, run = panel_and_run
    panel.button("More controls").click()
    assert np.ptp(run.plan()) == 0  # sbld's own is constant here
    panel.control("Schedule").select_option("pwegd")
    run.change("schedule", "pwegd")
    panel.control("PWEGD b").wait_for()
    curved = run.plan()
    assert np.ptp(curved) > 0.1
    panel.button("Pause").click()
    panel.says("Paused before step")
    wait_until("the plan in the picture", lambda: drawn(run) == pytest.approx(curved, abs=0.02))
    picture = still(panel)
    shown = float(panel.drag("PWEGD b", 60))
    assert shown > 0.3
    wait_until("it is asked for", lambda: run("panel.controls.wanted['pwegd_scale']") == shown)
    wait_until("another curve", lambda: panel.png() != picture, 15)
    assert np.abs(np.subtract(run.plan(), curved)).max() > 0.02
    assert drawn(run) == pytest.approx(run.plan(), abs=0.02)
    panel.button("Undo").click()
    wait_until("it is back", lambda: panel.readout("PWEGD b") == "0.200")
    assert run.plan() == curved
    panel.button("Resume").click()
    panel.goes_on()
    panel.button("Undo").click()
    run.change("schedule", "own")
    panel.control("PWEGD b").wait_for(state="hidden")
    assert panel.control("Schedule").input_value() == "own"
    assert [name for _, name, _, _ in run.log()] == ["schedule"] * 2


def drawn(run) -> list[float]:
    """The planned K(t) in the picture, at 21 points of the run."""
    line = "panel.view.picture.figure.axes[3].lines[0]"
    assert run(f"{line}.get_linestyle()") == "--"
    points = run(f"[[float(x), float(y)] for x, y in zip(*{line}.get_data())]")
    return list(np.interp(np.linspace(0, 100, 21), *np.transpose(points)))


def still(panel) -> bytes:
    """The picture, once two looks at it see the same."""
    seen: list[bytes] = [b""]

    def same() -> bool:
        panel.page.wait_for_timeout(500)
        seen.append(panel.png())
        return seen[-1] == seen[-2]

    wait_until("a picture that stays", same)
    return seen[-1]
