"""The command line for the fuzzer: every command with every flag, right and wrong.

The work behind a command is replaced by a record of what it was asked for; `really` runs each once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest import mock

import typer
from faults.world import COMPARISON, World
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from typer.testing import CliRunner

import sbldlib
from sbldlib import cli
from sbldlib.comparison import COMPARISONS, ComparisonSummary
from sbldlib.demo import DemoConfig, DemoRecord, run_demo

FRAME = dict.fromkeys(map(ord, "│─╭╮╰╯"))  # of the box that typer writes a refusal in
FILE, FOLDER, DEEP = "{a file}", "{a folder}", "{a file}/below"
HOSTILE = ("", " ", "x", "\x1b[2J", "[red]x[/]", "½", "\u0661", "caf\udce9", "--", "-", "x" * 3000)
NOT_WHOLE = ("0.5", "1e3", "nan", "inf", "None", "True", "0x10", "1_", *HOSTILE)
NOT_NUMBERS = ("None", "nan", "much", "1,5", "0x1p-2", *HOSTILE)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag: texts that it takes, texts that it never takes; None has no value at all."""

    right: SearchStrategy[str | None]
    wrong: SearchStrategy[str | None]
    often: bool = False  # may be given again and again


def texts(right: tuple, wrong: tuple, **more: Any) -> Flag:
    """A flag of some right and some wrong texts."""
    return Flag(right=st.sampled_from(right), wrong=st.sampled_from(wrong), **more)


def whole(right: tuple, *wrong: str, **more: Any) -> Flag:
    """A flag that takes whole numbers."""
    return texts(right, (*NOT_WHOLE, *wrong), **more)


SEED = whole(("0", "7", str(2**64 - 1)), "-1", str(2**64), "9" * 30)
STEPS = whole(("1", "500"), "0", "-1", "9" * 30)
TO = texts((FOLDER, f"{FOLDER}/caf\udce9", f"{FOLDER}/[red]x[/] $y_"), (FILE, DEEP, "x" * 3000))
COMMANDS: dict[str, dict[str, Flag]] = {
    "sbld demo": {
        "--steps": STEPS,
        "--saving": texts(("0.25", "0.4", "1e-3"), ("0", "0.41", "-0.1", "inf", *NOT_NUMBERS)),
        "--seed": SEED,
        "--threads": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
        "--out": TO,
        "--figures": TO,
    },
    "sbld compare": {
        "--preset": texts(("cpu", *COMPARISONS), ("nope", "CPU", *HOSTILE)),
        "--out": TO,
        "--seed": replace(SEED, often=True),
        "--steps": STEPS,
        "--arm": texts(("sbld", "uniform"), ("nope", *HOSTILE), often=True),
        "--processes": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
        "--stop-after": texts(("0", "2.5", "1e6"), ("-1", *NOT_NUMBERS)),
    },
    "sbld doctor": {"--json": Flag(right=st.none(), wrong=st.nothing())},
}


class Line(NamedTuple):
    """One command line: its flags with their values, and which of them are wrong."""

    given: tuple[tuple[str, str | None], ...]
    wrong: tuple[str, ...]


@st.composite
def command_lines(draw: Callable, name: str) -> Line:
    """A line with nothing wrong, one thing, or several; now and then a flag that does not exist."""
    flags = COMMANDS[name]
    may_be_wrong = [flag for flag, one in flags.items() if not one.wrong.is_empty]
    wrong = draw(
        st.one_of(
            st.just([]),
            st.sampled_from(may_be_wrong).map(lambda flag: [flag]),
            st.lists(st.sampled_from(may_be_wrong), unique=True, max_size=3),
        )
        if may_be_wrong
        else st.just([])
    )
    given: list[tuple[str, str | None]] = []
    for flag, one in flags.items():
        times = draw(st.integers(0, 2 if one.often else 1))
        if flag in wrong:
            given.append((flag, draw(one.wrong)))
        else:
            given += [(flag, draw(one.right)) for _ in range(times)]
    if draw(st.integers(0, 20)) == 0:
        given.append(("--no-such-flag", "1"))
        wrong = [*wrong, "--no-such-flag"]
    return Line(tuple(given), tuple(wrong))


def try_command(name: str, line: Line, folder: Path) -> tuple[bool, str | None]:
    """Whether this line was refused, and why that is not as promised, or None."""
    (folder / "a file").write_text("not a folder")
    told = {
        flag: value
        and value.replace(FILE, str(folder / "a file")).replace(FOLDER, str(folder / "new"))
        for flag, value in line.given
    }
    arguments = [name.removeprefix("sbld ")]
    for flag, value in line.given:
        arguments += [flag] if value is None else [flag, told[flag] or value]
    with replaced_work() as asked, within(folder):
        result = CliRunner().invoke(cli.app, arguments)
    failure = judge(line, told, result.exit_code, result.output, result.exception, asked)
    return result.exit_code != 0, failure and f"{failure}; given {list(line.given)}"


def judge(
    line: Line, told: dict, code: int, output: str, error: BaseException | None, asked: list
) -> str | None:
    """Why this is not as promised, or None."""
    spoken = " ".join(output.partition("Error")[2].translate(FRAME).split())
    if error is not None and not isinstance(error, SystemExit):
        return f"{type(error).__name__}: {error}"
    if "Traceback" in output or "\x1b" in output:
        return f"a trace, or a terminal's escape, in {output!r}"
    if code == 0:
        return f"accepted, though {line.wrong} cannot be right" if line.wrong else None
    if code != 2:
        return f"exit code {code}"
    if asked:
        return f"refused after {asked} had begun: {spoken}"
    if "--no-such-flag" in output or any(
        f"value for '{f}': Input should" in spoken for f in line.wrong
    ):
        return None  # typer's own words for what it cannot read name the flag alone
    shown = "".join(spoken.split())
    blamed = line.wrong or tuple(flag for flag, _ in line.given)
    for flag in blamed:
        names = (
            flag,
            f"{flag[2:]}=",
            f"{flag[2:].replace('-', '_')}=",
            f"{flag[2:]}s=",
            f"{flag[2:]}s[",
        )
        value = "".join(ascii(told[flag] or "")[1:-1].split())[:20]
        bare = "".join((told[flag] or "").split())[:20]
        if any(word in shown for word in names) and (value in shown or bare in shown):
            return None
    return f"the message names no flag and value: {spoken!r}"


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """In this folder, with the kit's cache there."""
    before = Path.cwd()
    os.chdir(folder)
    with mock.patch.dict(os.environ, {"SBLD_DATA": str(folder)}):
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def replaced_work() -> Iterator[list[str]]:
    """The commands' work as a note of what was asked for, and records of a run made before."""
    asked: list[str] = []
    demo, compared = small_demo(), small_comparison()

    def note(name: str, result: Any) -> Callable[..., Any]:
        return lambda *args, **given: (asked.append(name), result)[1]

    with (
        mock.patch.object(cli, "run_demo", note("the demonstration", demo)),
        mock.patch.object(cli, "save_demo_figures", note("figures", [Path("x.png")])),
        mock.patch.object(cli, "compare", note("the comparison", compared)),
        mock.patch.object(cli, "launch", note("processes", 0)),
        mock.patch.object(cli.torch, "set_num_threads", note("threads", None)),
    ):
        yield asked


@cache
def small_demo() -> DemoRecord:
    """A demonstration's record, of a real one cut to a second."""
    with TemporaryDirectory() as folder, within(Path(folder)):
        return run_demo(tiny_demo(steps=4, saving=0.2))


def tiny_demo(**changes: Any) -> DemoConfig:
    """The demonstration with everything cut to a second."""
    settings = {"warmup_steps": 2, "pilot_steps": 20, "num_pilot_pairs": 1, "batch_size": 2}
    settings |= {"arithmetic_rows": 1, "num_validation_batches": 2, "num_problems": 4}
    return DemoConfig(**{**settings, **changes})


@cache
def small_comparison() -> ComparisonSummary:
    """A comparison's summary, of a real one of the smallest models."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        return sbldlib.compare(
            COMPARISON, folder=folder, subject=world.subject, prices=world.prices
        )


def tree() -> dict[str, set[str]]:
    """Every command with its flags, as typer knows them."""
    group: Any = typer.main.get_command(cli.app)
    return {
        f"sbld {name}": {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }
