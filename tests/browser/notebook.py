"""A notebook open in JupyterLab, its panels as a reader meets them, and what its kernel has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nbformat
from browser.lab import Lab, kernel_of, wait_until
from nbformat import v4

PANEL = ".jp-OutputArea-output > .jupyter-widgets.widget-vbox"
IS_IDLE = "/Idle/.test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')"
STATUS = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
IS_CONNECTED = f"['idle', 'busy'].includes({STATUS})"
# JupyterLab says so of a page that is loaded again before its debugger has had an answer.
OF_A_PAGE_LEFT = "Could not restore the debugger state: Canceled future"
RUN_ALL, RESTART = "notebook:run-all-cells", "kernelmenu:restart"
RESTART_AND_RUN_ALL, SAVE = "notebook:restart-run-all", "docmanager:save"
VIEW = "application/vnd.jupyter.widget-view+json"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(path: Path, cells: Sequence[str], notebook: Any = None) -> None:
    """These code cells; or a notebook with these cells before its own, and without outputs."""
    whole = v4.new_notebook(metadata=PYTHON) if notebook is None else notebook
    for cell in whole.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    whole.cells[:0] = [v4.new_code_cell(source) for source in cells]
    nbformat.write(whole, path)


class OpenNotebook:
    """A page with a notebook.

    Attributes:
        page: playwright's.
        errors: what was written to its console as an error, and what nobody caught.
    """

    def __init__(self, page: Any, lab: Lab, name: str):
        self.page, self.lab, self.name = page, lab, name
        self.errors: list[str] = []
        self._connection = ExitStack()
        self._evaluate: Any = None
        self._was_left = False
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))
        page.on("console", self._note)
        page.on("dialog", lambda dialog: dialog.accept())

    def open(self) -> None:
        """Load the page, and wait for its kernel."""
        self.page.goto(self.lab.page(self.name), wait_until="domcontentloaded")
        self._wait_until_loaded()
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(IS_IDLE, timeout=60_000)

    def is_saved(self) -> bool:
        """Whether the file has the panel that is shown."""
        cells = nbformat.read(self.lab.root / self.name, as_version=4).cells
        outputs = [each for cell in cells for each in cell.get("outputs", ())]
        return any(VIEW in each.get("data", ()) for each in outputs)

    def write_cell(self, source: str) -> None:
        """Put this into the last cell, and run it."""
        editor = self.page.locator(".jp-CodeCell .cm-content").last
        editor.click()
        editor.fill(source)
        editor.press("Shift+Enter")

    def reload(self) -> None:
        """Load the page again, whatever its kernel does."""
        self._was_left = True
        self.page.reload(wait_until="domcontentloaded")
        self._wait_until_loaded()

    def command(self, name: str, **arguments: Any) -> None:
        """Do what a menu of JupyterLab's does; it is not waited for."""
        # void: the promise of some commands comes with the last cell.
        execute = "([name, given]) => void window.jupyterapp.commands.execute(name, given)"
        self.page.evaluate(execute, [name, arguments])

    def accept(self) -> None:
        """Say yes to the question that JupyterLab asks."""
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")

    def change_theme(self, name: str) -> None:
        """Choose a theme, and wait until JupyterLab's own splash has gone: two are one too many."""
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_timeout(300)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def run_all(self) -> PanelInPage:
        """Run every cell; the first panel that is shown."""
        self.command(RUN_ALL)
        return self.panel()

    def panel(self, place: int = 0) -> PanelInPage:
        """A panel, once it has done some steps."""
        panel = PanelInPage(self.page, place)
        panel.box.wait_for(timeout=180_000)
        panel.box.scroll_into_view_if_needed()
        wait_until("training", lambda: panel.step() > 3, 60)
        return panel

    def state(self) -> str:
        """What a test that failed here has to tell: the kernel, the cells, and the server's log."""
        cells = self.page.locator(".jp-CodeCell").all_inner_texts()
        dialogs = self.page.locator(".jp-Dialog").all_inner_texts()
        log = (self.lab.root / ".lab.log").read_text()[-2000:]
        return f"kernel {self.page.evaluate(STATUS)}\n{cells}\n{dialogs}\n{log}"

    def run(self, name: str = "panel") -> RunInKernel:
        """A panel by its name in the kernel."""
        if self._evaluate is None:
            self._evaluate = self._connection.enter_context(kernel_of(self.lab, self.name))
        return RunInKernel(self._evaluate, name)

    def disconnect(self) -> None:
        """End our own connection to a kernel that is about to go."""
        self._connection.close()
        self._evaluate = None

    def output(self, text: str) -> None:
        """Wait until a cell has printed this."""
        self.page.locator(".jp-OutputArea-output", has_text=text).first.wait_for()

    def close(self) -> None:
        """Close the page and end the kernel, so that the next test has the machine."""
        self.disconnect()
        self.page.close()
        self.lab.end(self.name)

    def _wait_until_loaded(self) -> None:
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        # A cell that is run before the page has found its kernel is not run, and nobody says so.
        self.page.wait_for_function(IS_CONNECTED, timeout=60_000)

    def _note(self, message: Any) -> None:
        if self._was_left and message.text.startswith(OF_A_PAGE_LEFT):
            return
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


class PanelInPage:
    """A panel as a reader meets it."""

    def __init__(self, page: Any, place: int = 0):
        self.page = page
        self.box = page.locator(PANEL).nth(place)
        self.picture = self.box.locator("img")
        self.alert = self.box.get_by_role("alert")

    def button(self, text: str) -> Any:
        """By all of its text."""
        return self.box.locator("button", has_text=re.compile(rf"^\s*{re.escape(text)}\s*$"))

    def control(self, label: str, kind: str = "") -> Any:
        """What is labelled so: a slider's handle, a list, or a field for text."""
        return self.holder(label).locator(kind or ".noUi-handle, select, input")

    def holder(self, label: str) -> Any:
        """A control with its label."""
        named = self.page.locator("label", has_text=re.compile(f"^{re.escape(label)}$"))
        return self.box.locator(".widget-inline-hbox", has=named)

    def text(self) -> str:
        """All that can be read on it."""
        return self.box.inner_text()

    def says(self, sentence: str) -> None:
        """Wait until it can be read."""
        wait_until(f"the page says {sentence!r}", lambda: sentence in self.text())

    def step(self) -> int:
        """The steps done, as written."""
        found = re.search(r"step (\d+) of", self.text())
        return int(found[1]) if found else 0

    def goes_on(self) -> None:
        """Wait for a later step."""
        before = self.step()
        wait_until("a later step", lambda: self.step() > before)

    def drag(self, label: str, pixels: int) -> str:
        """Drag a slider's handle; what it shows then."""
        handle = self.control(label)
        handle.scroll_into_view_if_needed()
        spot = handle.bounding_box()
        x, y = spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels, y, steps=6)
        self.page.mouse.up()
        return self.readout(label)

    def readout(self, label: str) -> str:
        """The number beside a slider."""
        return self.control(label, ".widget-readout").inner_text()

    def png(self) -> bytes:
        """The picture's file as the page has it."""
        read = """image => fetch(image.src).then(answer => answer.arrayBuffer())
                     .then(buffer => Array.from(new Uint8Array(buffer)))"""
        return bytes(self.picture.evaluate(read))

    def sticks_out(self) -> bool:
        """Whether a part of it is wider than its place."""
        return self.box.evaluate("box => box.scrollWidth > box.clientWidth + 1")


class RunInKernel:
    """The same panel in the kernel, asked over a connection of our own while it trains."""

    def __init__(self, evaluate: Any, name: str):
        self._evaluate, self._name = evaluate, name

    def __call__(self, expression: str) -> Any:
        """An expression's value, `panel` being this one."""
        return self._evaluate(f"(lambda panel: {expression})({self._name})")

    def num_steps(self) -> list[int]:
        """Of each arm."""
        return self("[len(arm.records) for arm in panel.session.arms]")

    def layers(self, start: int, stop: int | None = None) -> list[list[int]]:
        """The layers that the lead's steps ran."""
        steps = f"panel.session.lead.records[{start}:{stop}]"
        return self(f"[list(step.layers_run) for step in {steps}]")

    def layers_after(self, start: int, count: int) -> list[list[int]]:
        """The same of so many steps, once they are done."""
        wait_until(f"{count} steps", lambda: self.num_steps()[0] >= start + count, 60)
        return self.layers(start, start + count)

    def log(self) -> list[list[Any]]:
        """[step, name, old, new] of every change."""
        return self("panel.controls.log")

    def change(self, name: str, new: Any) -> int:
        """The step at which a control last came to hold a value; waits for it."""

        def steps() -> list[int]:
            return [step for step, which, _, value in self.log() if (which, value) == (name, new)]

        try:
            return wait_until(f"{name} = {new!r} in the log", steps)[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log()}") from None

    def plan(self) -> list[float]:
        """K(t) of what is asked for, at 21 points of the run."""
        schedule = "panel.session.asking.method(panel.controls.wanted).schedule"
        return self(f"[float({schedule}(point / 20)) for point in range(21)]")
