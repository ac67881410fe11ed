"""A summary in words: rows for a terminal or a page, each budget's table and the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import printable
from .summary import UNRESOLVED, ComparisonSummary

Show = Callable[[Mapping[str, Any]], str]
DIFFERENCE = {"validation_loss": "{:+.3f}", "accuracy": "{:+.1%}"}
UNITS = {"steps": "steps", "flops": "FLOPs", "seconds": "seconds"}


def table_rows(
    summary: ComparisonSummary, budget: str, *, columns: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """One budget's table as text, its header first; differences are to the reference arm.

    Args:
        columns: titles of those to show, in this order; the default is all.
    """
    table = summary.table(budget)
    shows: dict[str, Show] = {
        "arm": lambda row: row["arm"],
        "layers": lambda row: f"{row['num_layers']:.0f}",
        "steps": lambda row: f"{row['num_steps']:.0f}",
        "loss on new text": lambda row: _value(row, "validation_loss", "{:.3f}"),
        "to the reference": lambda row: _difference(row, "validation_loss"),
        "exact answers": lambda row: _value(row, "accuracy", "{:.1%}"),
        "to it": lambda row: _difference(row, "accuracy"),
        "layers not run": lambda row: f"{_left_out(row):.1%}",
        "FLOPs saved": lambda row: f"{row['saved_flops']:.1%}",
        "seconds": lambda row: f"{row['priced_seconds']:.1f}",
        "pre-analysis": lambda row: _share(row["owed"], table["amount"], budget),
    }
    chosen = columns or tuple(shows)
    return [tuple(chosen), *(tuple(shows[name](row) for name in chosen) for row in table["rows"])]


def answer_rows(summary: ComparisonSummary) -> list[tuple[str, ...]]:
    """Each question with its answer as text, the header first; differences in nats per token."""
    header = ("question", "at equal", "answer", "difference in loss [95 %]")
    rows = [
        (
            found["question"],
            UNITS[found["budget"]],
            found["answer"],
            interval(found["difference"], DIFFERENCE["validation_loss"]),
        )
        for found in summary.answers
    ]
    return [header, *rows]


def answer_table(summary: ComparisonSummary) -> list[tuple[str, ...]]:
    """One row a question, one column a budget, the header first; differences in nats per token."""
    budgets = [table["budget"] for table in summary.tables]
    cells: dict[str, dict[str, str]] = {}
    for found in summary.answers:
        gap = interval(found["difference"], DIFFERENCE["validation_loss"])
        cells.setdefault(found["question"], {})[found["budget"]] = f"{found['answer']}: {gap}"
    rows = [
        (question, *(answers.get(budget, "") for budget in budgets))
        for question, answers in cells.items()
    ]
    return [("is its loss lower?", *(f"equal {UNITS[budget]}" for budget in budgets)), *rows]


def study_differences(
    summaries: Mapping[str, ComparisonSummary], first: str, controls: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Comparison -> control -> its loss less the first arm's, at equal FLOPs, as plain values.

    Args:
        summaries: by the name to be shown.
        first: the arm that the controls are held against.
        controls: arms; one that a comparison lacks is left out there.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, summary in summaries.items():
        there = {row["arm"] for row in summary.table("flops")["rows"]}
        found[name] = {
            control: summary.difference("flops", control, first).to_dict()
            for control in controls
            if control in there
        }
    return found


def markdown_cell(text: str) -> str:
    """The text as it is, for a cell of a Markdown table: no new cell, tag, link or emphasis."""
    plain = re.sub(r"([\\`*|])", r"\\\1", printable(text))
    plain = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\_", plain)
    plain = re.sub(r"&(?=#?\w+;)", "&amp;", plain)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain).replace("](", "]\\(")


def interval(difference: Mapping[str, Any], form: str) -> str:
    """A paired difference with its 95 % interval, or without one where one seed gives none."""
    if difference["mean"] is None:
        return "no pair"
    mean = form.format(difference["mean"])
    if difference["low"] is None:
        return f"{mean} (one seed: no interval)"
    return f"{mean} [{form.format(difference['low'])}, {form.format(difference['high'])}]"


def _value(row: Mapping[str, Any], metric: str, form: str) -> str:
    return form.format(row[metric]) if metric in row else "budget spent"


def _difference(row: Mapping[str, Any], metric: str) -> str:
    """The difference with its interval; an unresolved one is marked."""
    found = row.get(f"{metric}_difference")
    if found is None or not any(found["values"]):
        return ""
    text = interval(found, DIFFERENCE[metric])
    return f"{text} ?" if found["verdict"] == UNRESOLVED and found["low"] is not None else text


def _left_out(row: Mapping[str, Any]) -> float:
    return max(row["realised_drop"], row["realised_backward_drop"])


def _share(owed: float, amount: float, budget: str) -> str:
    return f"{owed / amount:.0%}" if owed and budget != "steps" else ""
