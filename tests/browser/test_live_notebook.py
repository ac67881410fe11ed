"""Notebook 08 in a real JupyterLab in a real Chromium, steered by real clicks, keys and a drag.

Each effect is looked for twice: in the page, and in the kernel over a connection of our own.
SBLD_SCREENSHOT=figures/panel_live.png makes the README's picture on the way.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import nbformat
import pytest
from browser.lab import REPOSITORY, kernel_of, running_lab, wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
NOTEBOOK = "08_sbld_live.ipynb"
SCREENSHOT = os.environ.get("SBLD_SCREENSHOT")
NUM_LAYERS = 8

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no browser here: none of {', '.join(NAMES)}"),
]


def long_copy(folder: Path) -> None:
    """The notebook with a run long enough to be steered, begun anew."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("STEPS = by_tier(smoke=40", "STEPS = by_tier(smoke=3000")
        cell.source = cell.source.replace('resume="auto" if by_hand', 'resume="never" if by_hand')
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for changed in ("smoke=3000", 'resume="never" if by_hand'):  # no run of an earlier test
        assert any(changed in cell.source for cell in notebook.cells)
    nbformat.write(notebook, folder / NOTEBOOK)


@pytest.fixture
def opened(tmp_path):
    """The notebook's page and its kernel, before anything has run."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    long_copy(tmp_path)
    data = {"SBLD_DATA": str(REPOSITORY / "data" / "cache")}  # nothing is tokenised twice
    tier = {"SBLD_TIER": "cpu" if SCREENSHOT else "smoke", "SBLD_PANEL": "thread"}
    flags = ["--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(tmp_path, OMP_NUM_THREADS="1", **data, **tier))
        driver = stack.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        stack.callback(browser.close)
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, device_scale_factor=2)
        page.set_default_timeout(30_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(lab.page(NOTEBOOK), wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        is_idle = "/Idle/.test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')"
        page.wait_for_function(f"window.jupyterapp && {is_idle}", timeout=60_000)
        yield page, stack.enter_context(kernel_of(lab))
        assert errors == []


class PanelInPage:
    """The panel as a reader meets it."""

    def __init__(self, page):
        self.page = page
        self.box = page.locator(".jp-OutputArea-output .jupyter-widgets.widget-vbox").first
        self.slider = self.box.locator(".widget-slider .noUi-handle")
        self.method = self.box.locator("select")

    def button(self, text: str):
        return self.box.locator("button", has_text=text)

    def text(self) -> str:
        return self.box.inner_text()

    def says(self, sentence: str):
        wait_until(f"the page says {sentence!r}", lambda: sentence in self.text())

    def step(self) -> int:
        found = re.search(r"step (\d+) of", self.text())
        return int(found[1]) if found else 0

    def goes_on(self) -> int:
        before = self.step()
        return wait_until("a later step", lambda: self.step() > before and self.step())

    def drag(self, pixels: int) -> None:
        spot = self.slider.bounding_box()
        x, y = spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels, y, steps=6)
        self.page.mouse.up()


def in_force(kernel, name: str):
    return kernel(f"panel.controls[{name!r}]")


def layers_run(kernel, start: int) -> list[list[int]]:
    """The layers that each step ran, from a step on."""
    return kernel(f"[list(s.layers_run) for s in panel._driver.records[{start}:]]")


def change(kernel, name: str, new) -> int:
    """The step at which a control last came to hold a value; waits for it."""
    entry = f"[s for s, n, _, new in panel.controls.log if n == {name!r} and new == {new!r}]"
    try:
        return wait_until(f"{name} = {new!r} in the log", lambda: kernel(entry))[-1]
    except AssertionError as error:
        raise AssertionError(f"{error}: {kernel('panel.controls.log')}") from None


def steps_after(kernel, start: int, count: int) -> list[list[int]]:
    wait_until(f"{count} steps", lambda: len(layers_run(kernel, start)) >= count, 60)
    return layers_run(kernel, start)


def pace(panel: PanelInPage, step: int) -> None:
    """For the picture alone: let the run get on before it is steered again."""
    if SCREENSHOT:
        wait_until(f"step {step}", lambda: panel.step() >= step, 120)


def toggle_off(panel, kernel) -> None:
    before = layers_run(kernel, 0)
    assert any(len(layers) < NUM_LAYERS for layers in before)
    panel.button("Dropping is on").click()
    arrived = "[len(panel._driver.records), panel.board.dropping.value is False]"
    seen = wait_until("the click in the kernel", lambda: (r := kernel(arrived))[1] and r)[0]
    panel.says("Training at full depth.")
    panel.button("Dropping is off").wait_for()
    applied = change(kernel, "dropping", False)
    assert len(before) <= applied <= seen + 1  # in force at the next step
    assert all(len(layers) == NUM_LAYERS for layers in steps_after(kernel, applied, 10))


def slider_by_keys_and_toggle_on(panel, kernel) -> None:
    panel.slider.focus()
    for _ in range(3):
        panel.slider.press("ArrowRight")
    change(kernel, "saving", 0.4)
    assert "0.40" in panel.text()
    panel.button("Dropping is off").click()
    applied = change(kernel, "dropping", True)
    panel.says("Training with sbld, asked saving 0.40.")
    ran = steps_after(kernel, applied, 40)
    assert 3.5 < sum(map(len, ran)) / len(ran) < 6.2  # 0.6 of 8 layers is 4.8
    blocked = set(kernel("list(lists.block)"))
    assert len(blocked) == 2 and all(blocked <= set(layers) for layers in ran)


def slider_by_drag(panel, kernel) -> None:
    panel.drag(-60)
    shown = float(panel.box.locator(".widget-readout").inner_text())
    assert 0 < shown < 0.4 and round(shown / 0.05) * 0.05 == pytest.approx(shown)
    wait_until("the drag in force", lambda: in_force(kernel, "saving") == shown)
    panel.says(f"asked saving {shown:.2f}.")


def change_method(panel, kernel) -> None:
    panel.method.select_option("uniform")
    applied = change(kernel, "method", "uniform")
    panel.says("Training with uniform")
    keep = kernel(f"list(panel._driver.records[{applied}].keep_probability)")
    assert max(keep) == pytest.approx(min(keep)) and min(keep) < 1


def pause_and_resume(panel, kernel) -> None:
    panel.button("Pause").click()
    panel.says("Paused before step")
    held = kernel("len(panel._driver.records)")
    time.sleep(0.7)
    assert kernel("len(panel._driver.records)") == held
    panel.button("Resume").click()
    panel.says("Training with uniform")
    panel.goes_on()


def fits_at_half_width(panel) -> None:
    panel.page.set_viewport_size({"width": 640, "height": 1000})
    wide = "e => e.scrollWidth > e.clientWidth + 1"
    wait_until("no part sticks out", lambda: not panel.box.evaluate(wide))
    panel.page.set_viewport_size({"width": 1280, "height": 1000})


def stop_and_read_on(panel, kernel) -> None:
    panel.button("Stop").click()
    panel.says("Stopped after")
    steps = kernel("len(panel._driver.records)")
    panel.says(f"Stopped after {steps} steps.")
    assert kernel("panel._driver.is_running") is False
    rest = [panel.button(name) for name in ("Dropping is on", "Pause", "Stop")]
    wait_until("the controls rest", lambda: all(button.is_disabled() for button in rest))
    outputs = panel.page.locator(".jp-OutputArea-output")
    outputs.filter(has_text=f"stopped after {steps} steps with").wait_for()
    below = panel.page.locator(".jp-CodeCell").filter(has_text="panel.picture()")
    assert below.locator("img").evaluate("image => image.naturalWidth") > 600
    assert outputs.filter(has_text="Traceback").count() == 0


def test_the_panel_steers_a_run_in_a_real_browser(opened):
    page, kernel = opened
    # void: the promise of this command comes with the last cell.
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    panel = PanelInPage(page)
    panel.box.wait_for(timeout=90_000)
    panel.box.scroll_into_view_if_needed()
    wait_until("training", lambda: panel.step() > 5, 60)
    assert kernel("panel.mode") == "thread"
    pictures = panel.box.locator("img").get_attribute("src")
    pace(panel, 100)
    toggle_off(panel, kernel)
    pace(panel, 190)
    slider_by_keys_and_toggle_on(panel, kernel)
    pace(panel, 290)
    slider_by_drag(panel, kernel)
    pace(panel, 370)
    change_method(panel, kernel)
    assert panel.box.locator("img").get_attribute("src") != pictures
    if SCREENSHOT:
        pace(panel, 460)
        panel.box.screenshot(path=REPOSITORY / SCREENSHOT)
    pause_and_resume(panel, kernel)
    fits_at_half_width(panel)
    stop_and_read_on(panel, kernel)
