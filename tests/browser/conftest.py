"""One JupyterLab and one Chromium for all browser tests; a notebook and a kernel for each.

SBLD_SHOTS=folder keeps what each page looked like at its test's end.
"""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from browser.lab import REPOSITORY, running_lab
from browser.notebook import OpenNotebook, write_notebook

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
SCREENSHOT = os.environ.get("SBLD_SCREENSHOT")
SHOTS = os.environ.get("SBLD_SHOTS")
SIZE = {"width": 1280, "height": 1600 if SCREENSHOT else 1000}
WARM_UP = "import browser.lesson"


def pytest_terminal_summary(terminalreporter) -> None:
    """A skipped browser test must not look like a passed one."""
    for report in terminalreporter.stats.get("skipped", ()):
        if "browser" in report.keywords:
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
            line = f"!! NOT TESTED in a browser: {report.nodeid} ({reason})"
            terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def browser():
    """A window of Chromium's, without a page."""
    chromium = next((found for name in NAMES if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = FLAGS + ["--no-sandbox"] * is_root
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=flags)
        yield opened.new_context(viewport=SIZE, device_scale_factor=1 + bool(SCREENSHOT))
        opened.close()


@pytest.fixture(scope="session")
def lab(browser, tmp_path_factory):
    """A JupyterLab whose kernels find the library and these tests."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    known = {"PYTHONPATH": path, "SBLD_DATA": str(REPOSITORY / "data" / "cache")}
    with running_lab(tmp_path_factory.mktemp("lab"), OMP_NUM_THREADS="1", **known) as lab:
        yield lab


@pytest.fixture(scope="session")
def names(lab):
    """Names for notebooks whose kernels have imported the library.

    That takes longer than many a test: the next one's kernel does it meanwhile.
    """

    def begin(number: int):
        name = f"notebook_{number}.ipynb"
        return name, lab.begin(name, WARM_UP)

    def begun():
        ahead = begin(0)
        for number in count(1):
            (name, client), ahead = ahead, begin(number)
            yield name
            client.stop_channels()

    return begun()


@pytest.fixture
def open_notebook(browser, lab, names, request):
    """Gives `open_notebook(*cells)`: those cells in a page of its own, before any has run.

    They are put before the cells of `notebook` where one is given.

    At the end, no error may have been written to any page's console.
    """
    opened: list[OpenNotebook] = []

    def open_it(*cells: str, notebook: Any = None) -> OpenNotebook:
        name = next(names)
        write_notebook(lab.root / name, cells, notebook)
        page = browser.new_page()
        opened.append(OpenNotebook(page, lab, name))
        opened[-1].open()
        return opened[-1]

    failed = request.session.testsfailed
    yield open_it
    for each in opened:
        if request.session.testsfailed > failed:
            print(each.state())
        if SHOTS:
            each.page.screenshot(path=Path(SHOTS) / f"{request.node.name}.png")
        each.close()
    assert [error for each in opened for error in each.errors] == []
