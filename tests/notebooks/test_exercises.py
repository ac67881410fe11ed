"""Every exercise: the worked solution passes its check, the blank stub fails it."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from sbldlib import exercises, lessons

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
CHECKS = {name for name in dir(exercises) if name.startswith("check_")}


def cells(path: Path, tag: str) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    return [c.source for c in notebook.cells if tag in c.metadata.get("tags", [])]


def checks_named(source: str) -> set[str]:
    return {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)} & CHECKS


def verdicts(sources: list[str], monkeypatch) -> dict[str, list[bool]]:
    """Run the cells with every check watched: did it accept what it was given?"""
    seen: dict[str, list[bool]] = {}

    def watched(name, check):
        def run(answer):
            try:
                check(answer)
            except Exception:
                seen.setdefault(name, []).append(False)
                raise
            seen.setdefault(name, []).append(True)

        return run

    for name in CHECKS:
        monkeypatch.setattr(exercises, name, watched(name, getattr(exercises, name)))
    space: dict = {"attempt": lessons.attempt}
    for source in sources:
        exec(compile(source, "cell", "exec"), space)
    return seen


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_blank_stubs_fail_their_checks(path, monkeypatch, capsys):
    stubs = cells(path, "exercise")
    asked = set().union(*map(checks_named, stubs))
    seen = verdicts(stubs, monkeypatch)
    assert stubs and seen.keys() == asked
    assert not any(any(accepted) for accepted in seen.values()), seen
    assert capsys.readouterr().out.count("Not yet.") == sum(map(len, seen.values()))


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_worked_solutions_pass_the_same_checks(path, monkeypatch):
    asked = set().union(*map(checks_named, cells(path, "exercise")))
    seen = verdicts(cells(NOTEBOOKS / "solutions" / path.name, "solution"), monkeypatch)
    assert seen.keys() == asked and all(all(accepted) for accepted in seen.values())


def test_every_check_belongs_to_an_exercise():
    asked = {
        name for p in LESSONS for source in cells(p, "exercise") for name in checks_named(source)
    }
    assert asked == CHECKS


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_solutions_shown_in_the_lesson_are_the_worked_ones(path):
    lesson = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells)
    for source in cells(NOTEBOOKS / "solutions" / path.name, "solution"):
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        for function in functions:
            last = ast.get_source_segment(source, function.body[-1])
            assert last in lesson, f"{path.name} shows another solution of {function.name}"
