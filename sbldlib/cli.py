"""The command line: each command calls one public function and prints what it returns."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table as RichTable

from .cli_training import replay, sensitivity, train
from .comparison import COMPARISONS, Comparison, ComparisonSummary, Table, compare
from .comparison.engine import Begun
from .comparison.tables import answer_rows, table_rows
from .demo import DemoConfig, DemoRecord, run_demo
from .doctor import examine
from .errors import printable, unknown_name
from .figures import demo_limits, demo_rows, save_demo_figures
from .terminal import MOST_THREADS, console, plain, print_rows, progress_bar, say, writable
from .training.launch import launch

app = typer.Typer(
    help="Sensitivity-Based Layer Dropping: measure it, train with it, see it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# What a terminal of 80 columns has room for; summary.json holds the rest.
COMPARED = ("arm", "steps", "loss on new text", "to the reference", "exact answers")


@app.callback()
def sbld() -> None:
    """Sensitivity-Based Layer Dropping: measure it, train with it, see it."""


@app.command()
def demo(
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = DemoConfig.steps,
    saving: Annotated[float, typer.Option(help="Mean drop asked, in (0, 0.4].")] = 0.25,
    seed: Annotated[int, typer.Option(help="Of weights, data order and draws.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Processor threads of torch.")
    ] = 1,
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for the record.")] = Path(
        "data/runs/demo"
    ),
    figures: Annotated[Path, typer.Option(callback=writable, help="Folder for figures.")] = Path(
        "figures"
    ),
) -> None:
    """The whole method once; stopped, it goes on where it was."""
    config = _at_the_door(DemoConfig, steps=steps, saving=saving, seed=seed)
    torch.set_num_threads(threads)  # at this size a second thread waits more than it helps
    with progress_bar() as progress:
        task = progress.add_task("text and problems", total=None)
        record = run_demo(
            config,
            folder=out / "running",
            on_stage=lambda name, total: progress.reset(
                task, description=name, total=total or None
            ),
            on_step=lambda _: progress.advance(task),
        )
    path = record.save(out / "demo.json")
    drawn = save_demo_figures(record, figures)
    _print_table(record)
    say(f"record {path}; figures {', '.join(str(p) for p in drawn)}")


app.command()(train)
app.command()(sensitivity)
app.command()(replay)


@app.command("compare")
def compare_(
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(COMPARISONS)}.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(callback=writable, help="Folder; default data/runs/compare/PRESET."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Again and again; default the preset's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Default the preset's.")] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="Keep these arms alone, again and again.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="That share the runs out.")
    ] = 1,
    stop_after: Annotated[
        float | None, typer.Option(min=0, help="Seconds; begin no run that would end later.")
    ] = None,
) -> None:
    """Methods and controls at equal steps, FLOPs and time; stopped, it goes on where it was."""
    comparison = _comparison(preset, tuple(seed or ()), steps, tuple(arm or ()))
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        raise typer.Exit(launch(["sbldlib.cli", *sys.argv[1:]], num_processes=processes))
    folder = out or Path("data/runs/compare") / preset
    try:
        summary = _compare(comparison, folder, stop_after)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if int(os.environ.get("RANK", "0")):
        return
    for table in summary.tables:
        rows = table_rows(summary, table["budget"], columns=COMPARED)
        print_rows(rows, f"equal {table['budget']}")
    print_rows(answer_rows(summary), "answers")
    if summary.missing:
        say(f"{len(summary.missing)} runs are still to be done: call it again")
    say(f"runs and summary in {folder}", style="dim")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine can run, what it cannot, and how to mend it."""
    findings = examine()
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        table = RichTable("part", "", "found", "how to mend it")
        mark = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "missing": "[red]missing[/]"}
        for finding in findings:
            found, mend = plain(finding.found), plain(finding.mend)  # "[lab]" is no markup here
            table.add_row(finding.part, mark[finding.state], found, mend)
        console.print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The `sbld` program."""
    app()


def _comparison(
    preset: str, seeds: tuple[int, ...], steps: int | None, arms: tuple[str, ...]
) -> Comparison:
    """The preset with what was asked otherwise, or a usage error that says what is wrong."""
    try:
        if preset not in COMPARISONS:
            raise unknown_name("preset", preset, COMPARISONS)
        known = COMPARISONS[preset]
        return dataclasses.replace(
            known,
            steps=steps or known.steps,
            seeds=seeds or known.seeds,
            tables=_only(known, arms) if arms else known.tables,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _only(known: Comparison, names: tuple[str, ...]) -> tuple[Table, ...]:
    """The tables with these arms alone; one that keeps fewer than two falls away."""
    there = {arm.name for table in known.tables for arm in table.arms}
    for name in names:
        if name not in there:
            raise unknown_name("arm", name, there)
    kept = [
        (table.budget, tuple(arm for arm in table.arms if arm.name in names))
        for table in known.tables
    ]
    tables = tuple(Table(budget=budget, arms=few) for budget, few in kept if len(few) > 1)
    if not tables:
        raise ValueError(f"arm={names} leaves no table of two arms or more; name another as well")
    return tables


def _compare(comparison: Comparison, folder: Path, stop_after: float | None) -> ComparisonSummary:
    """The comparison under a progress bar that says what runs and how long it will take."""
    with progress_bar() as progress:
        task = progress.add_task("", total=None)

        def begin(what: Begun) -> None:
            place = f" · {what.done + 1} of {what.total}" if what.total else ""
            left = f" · {what.seconds_left / 60:.0f} min left" if what.seconds_left else ""
            said = printable(f"{what.title}{place}{left}")
            progress.reset(task, description=said, total=what.steps or None)

        return compare(
            comparison,
            folder=folder,
            stop_after=stop_after,
            on_begin=begin,
            on_step=lambda _: progress.advance(task),
        )


def _at_the_door(kind: type, **values: Any) -> Any:
    """A configuration, or a usage error that says which value is wrong."""
    try:
        return kind(**values)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _print_table(record: DemoRecord) -> None:
    print_rows(demo_rows(record))
    say(demo_limits(record), style="dim")


if __name__ == "__main__":
    main()
