"""The command line: each command calls one public function and prints what it returns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .demo import DemoConfig, DemoRecord, run_demo
from .doctor import examine
from .figures import demo_limits, demo_rows, save_demo_figures

app = typer.Typer(
    help="Sensitivity-Based Layer Dropping: measure it, train with it, see it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def sbld() -> None:
    """Sensitivity-Based Layer Dropping: measure it, train with it, see it."""


@app.command()
def demo(
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = DemoConfig.steps,
    saving: Annotated[float, typer.Option(help="Mean drop asked, in (0, 0.4].")] = 0.25,
    seed: Annotated[int, typer.Option(help="Of weights, data order and draws.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of torch.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the record.")] = Path("data/runs/demo"),
    figures: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("figures"),
) -> None:
    """The whole method once: sensitivities, lists, fit; then full depth, PLD and SBLD."""
    config = _at_the_door(DemoConfig, steps=steps, saving=saving, seed=seed)
    torch.set_num_threads(threads)  # at this size a second thread waits more than it helps
    with _progress() as progress:
        task = progress.add_task("text and problems", total=None)
        record = run_demo(
            config,
            on_stage=lambda name, total: progress.reset(
                task, description=name, total=total or None
            ),
            on_step=lambda _: progress.advance(task),
        )
    path = record.save(out / "demo.json")
    drawn = save_demo_figures(record, figures)
    _print_table(record)
    console.print(f"record {path}; figures {', '.join(str(p) for p in drawn)}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what this machine can run, what it cannot, and how to mend it."""
    findings = examine()
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        table = Table("part", "", "found", "how to mend it")
        mark = {"ok": "[green]ok[/]", "limited": "[yellow]limited[/]", "missing": "[red]missing[/]"}
        for finding in findings:
            table.add_row(finding.part, mark[finding.state], finding.found, finding.mend)
        console.print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The `sbld` program."""
    app()


def _at_the_door(kind: type, **values: Any) -> Any:
    """A configuration, or a usage error that says which value is wrong."""
    try:
        return kind(**values)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _print_table(record: DemoRecord) -> None:
    header, *rows = demo_rows(record)
    table = Table(*header, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(demo_limits(record), style="dim")


if __name__ == "__main__":
    main()
