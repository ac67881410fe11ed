"""The notebooks as files: executed, whole, small, and with the parts that every lesson has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
PARTS = (
    "**You will be able to**",
    "Predict first",
    "## Exercises",
    "<details><summary>Hint 1",
    "<details><summary>Solution",
    "When this does not hold",
    "## Recap",
    "### Quiz",
    "### References",
)


@pytest.fixture(params=LESSONS, ids=lambda p: p.stem)
def lesson(request):
    return request.param, nbformat.read(request.param, as_version=4)


def test_there_are_lessons():
    assert {p.stem for p in LESSONS} >= {"00_start_here", "08_sbld_live"}


def test_has_the_parts_of_a_lesson(lesson):
    path, notebook = lesson
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    missing = [part for part in PARTS if part not in text]
    assert not missing
    assert len(re.findall(r"<summary>\d\. ", text)) >= 5, "five quiz questions with answers"
    assert re.search(r"\*Reading \d+ minutes · running: .*before this: ", text)
    assert re.match(rf"# {path.stem[:2]} · ", text)


def test_was_executed_from_top_to_bottom(lesson):
    _, notebook = lesson
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    kinds = [o.output_type for c in code for o in c.outputs]
    assert "error" not in kinds
    assert sum("image/png" in o.get("data", {}) for c in code for o in c.outputs) >= 2


def test_holds_no_widget_state_and_is_small(lesson):
    path, notebook = lesson
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_500_000


def test_names_no_folder_of_the_machine_it_ran_on(lesson):
    path, _ = lesson
    text = json.dumps(nbformat.read(path, as_version=4))
    assert not re.search(r"/(home|root|Users|tmp|work|private)/", text)


def test_bootstrap_is_short_and_replaces_nothing(lesson):
    _, notebook = lesson
    first = next(c.source for c in notebook.cells if c.cell_type == "code")
    assert "import sbldlib" in first and len(first.splitlines()) <= 6
    assert "--upgrade " not in first and "torch" not in first.replace("torch and numpy", "")


def test_last_cell_leaves_an_artefact_and_checks_it(lesson):
    _, notebook = lesson
    last = [c.source for c in notebook.cells if c.cell_type == "code"][-1]
    assert "save_artefact(" in last and "assert" in last


def test_links_lead_to_files(lesson):
    path, notebook = lesson
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                if "://" not in target:
                    assert (path.parent / target).exists(), target
