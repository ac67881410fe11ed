"""Redraw every figure and table that the README shows, from the records under benchmarks/results.

`make figures` runs this. Nothing is measured here: `sbld demo --out` and `make bench` measure.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import redraw, rows
from benchmarks.results import Result
from sbldlib.demo import DemoRecord
from sbldlib.figures import demo_limits, demo_rows, save_demo_figures
from sbldlib.records import write_atomically

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "benchmarks" / "results" / "demo.json"


def demo_section(record: DemoRecord) -> str:
    """The demonstration's table and its limits, in Markdown."""
    header, *rows = demo_rows(record)
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    found = record.environment
    torch_version = found["packages"]["torch"]
    machine = f"{found['device']}, {found['processor_cores']} cores, torch {torch_version}"
    return "\n".join([*lines, "", f"{demo_limits(record)} Measured {found['date']} on {machine}."])


def benchmark_section(results: list[Result]) -> str:
    """What was measured against a target, in Markdown; benchmarks/README.md has all of it."""
    header, *measured = rows(results)
    chosen = [header, *(row for row in measured if row[header.index("target")])]
    lines = [f"| {' | '.join(row)} |" for row in chosen]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def with_section(text: str, name: str, section: str) -> str:
    """The text with what stands between <!-- name --> and <!-- /name --> replaced."""
    head, _, rest = text.partition(f"<!-- {name} -->")
    _, _, tail = rest.partition(f"<!-- /{name} -->")
    return f"{head}<!-- {name} -->\n{section}\n<!-- /{name} -->{tail}"


def main() -> None:
    """Redraw the figures and rewrite the README's tables."""
    record = DemoRecord.load(DEMO)
    for path in save_demo_figures(record, ROOT / "figures"):
        print(path.relative_to(ROOT))
    readme = ROOT / "README.md"
    text = with_section(readme.read_text(), "demo", demo_section(record))
    text = with_section(text, "benchmarks", benchmark_section(redraw()))
    write_atomically(readme, text.encode())


if __name__ == "__main__":
    main()
