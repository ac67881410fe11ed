"""Cells of a Markdown table: what a name holds stays in its cell, as text."""

from __future__ import annotations

import re

import pytest
from hostile import NAMES
from markdown_it import MarkdownIt
from plotted import made_summary

from benchmarks import report
from figures import make
from sbldlib.comparison.tables import markdown_cell, table_rows
from sbldlib.errors import printable

RENDER = MarkdownIt("commonmark").enable("table").render


def cells(markdown: str) -> list[list[str]]:
    """The text of each cell of a page's tables, and that nothing but the tables is on it."""
    html = RENDER(markdown)
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in html.split("</tr>")]
    inside = [cell for row in rows for cell in row]
    assert not [cell for cell in inside if "<" in cell], "a tag of its own"
    unescape = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&"))
    for row in rows:
        for place, cell in enumerate(row):
            for entity, letter in unescape:
                cell = cell.replace(entity, letter)
            row[place] = cell
    return [row for row in rows if row]


def shown(name: str) -> str:
    return " ".join(printable(name).split())


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_cell_holds_its_text_and_no_more(name):
    page = f"| {markdown_cell(name)} | b |\n|---|---|\n| c | {markdown_cell(name)} |\n"
    head, body = cells(page)
    assert (head, body) == ([shown(name), "b"], ["c", shown(name)])


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_arm_in_the_table_of_a_comparison(name):
    lines = table_rows(made_summary(names={"sbld": name}), "steps")
    found = cells(make.markdown(lines))
    assert len({len(row) for row in found}) == 1
    assert shown(name) in [row[0] for row in found]


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 100])
def test_a_setting_in_the_table_of_benchmarks(monkeypatch, name):
    monkeypatch.setattr(
        report, "rows", lambda results: [report.HEADER, (name,) * len(report.HEADER)]
    )
    found = cells(report.markdown([]))
    assert found[1] == [shown(name)] * len(report.HEADER)


def test_what_the_tables_hold_today_is_left_as_it_is():
    for text in (
        "sbld, PWEGD",
        "-0.012 [-0.02, +0.01] ?",
        ">= 95 %",
        "<= 5 %",
        "dont_drop_dropout",
    ):
        assert markdown_cell(text) == text
