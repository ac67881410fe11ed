"""The command line for the fuzzer: every command with every flag, right and wrong.

The work behind a command is replaced by a record of what it was asked for; `really` runs each once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import typer
from faults.commands_work import LIVE_RUN, replaced_work, within
from faults.world import World
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from typer.testing import CliRunner

from sbldlib import cli
from sbldlib.comparison import COMPARISONS
from sbldlib.live.record import LIVE
from sbldlib.methods import METHODS
from sbldlib.sensitivity import ESTIMATORS

FRAME = dict.fromkeys(map(ord, "│─╭╮╰╯"))  # of the box that typer writes a refusal in
FILE, FOLDER, DEEP = "{a file}", "{a folder}", "{a file}/below"
MODEL, FOLDER_OF_TEXT, RACE = "{a model}", "{texts}", "{a race}"
ROWS = "{rows}"
HOSTILE = ("", " ", "x", "\x1b[2J", "[red]x[/]", "½", "\u0661", "caf\udce9", "--", "-", "x" * 3000)
NOT_WHOLE = ("0.5", "1e3", "nan", "inf", "None", "True", "0x10", "1_", *HOSTILE)
NOT_NUMBERS = ("None", "nan", "much", "1,5", "0x1p-2", *HOSTILE)


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag: texts that it takes, texts that it never takes; None has no value at all."""

    right: SearchStrategy[str | None]
    wrong: SearchStrategy[str | None]
    often: bool = False  # may be given again and again
    needed: bool = False


def texts(right: tuple, wrong: tuple, **more: Any) -> Flag:
    """A flag of some right and some wrong texts."""
    taken = st.sampled_from(right) if right else st.nothing()
    return Flag(right=taken, wrong=st.sampled_from(wrong), **more)


def whole(right: tuple, *wrong: str, **more: Any) -> Flag:
    """A flag that takes whole numbers."""
    return texts(right, (*NOT_WHOLE, *wrong), **more)


SEED = whole(("0", "7", str(2**64 - 1)), "-1", str(2**64), "9" * 30)
STEPS = whole(("1", "500"), "0", "-1", "9" * 30)
TO = texts((FOLDER, f"{FOLDER}/caf\udce9", f"{FOLDER}/[red]x[/] $y_"), (FILE, DEEP, "x" * 3000))
ALSO = {
    "--save-every": ("every_minutes=",),
    "--batches": ("num_batches=",),
    "--corpus": ("root=",),
    "--data": ("dataset=", "files:"),
    "--columns": ("template=",),
}
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
    "sbld train": {
        "--model": texts(("gpt", "conv", "diverging"), ("nope", "GPT", *HOSTILE)),
        "--preset": texts(("tiny",), ("nope", "TINY", *HOSTILE)),
        "--steps": STEPS,
        "--method": texts(tuple(METHODS), ("nope", "SBLD", *HOSTILE)),
        "--saving": texts(("0.1", "0"), ("1", "-0.1", "inf", *NOT_NUMBERS)),
        "--seed": SEED,
        "--learning-rate": texts(("0.001", "1"), ("0", "-1", "inf", *NOT_NUMBERS)),
        "--batch-size": whole(("2", "16"), "0", "-1"),
        "--accumulate": whole(("2", "4"), "0", "-1"),
        "--evaluate-every": whole(("0", "10"), "-1"),
        "--save-every": texts(("0.5", "2.5"), ("-1", "0", *NOT_NUMBERS)),
        "--keep-last": whole(("1", "3"), "0", "-1"),
        "--resume": texts(("auto", "always", "never", "5"), ("nope", "-1", "0.5", *HOSTILE)),
        "--corpus": texts((FOLDER_OF_TEXT,), (FILE, "no such folder", DEEP, "x" * 3000)),
        "--data": texts((ROWS, "open-web-math"), (FILE, "no.json", FOLDER_OF_TEXT, DEEP, *HOSTILE)),
        "--columns": texts(("text", "[red]x[/]", "caf\udce9"), ("{", "}x"), often=True),
        "--max-bytes": whole(("1", "100000"), "0", "-1"),
        "--device": texts(("cpu",), ("cuda0", "gpu", *HOSTILE)),
        "--threads": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
        "--processes": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
        "--out": TO,
    },
    "sbld sensitivity": {
        "folder": texts(
            (MODEL,), (FILE, "no such folder", FOLDER_OF_TEXT, "x" * 3000), needed=True
        ),
        "--step": texts((), ("5", "best", "nope", "-1", *HOSTILE)),
        "--method": texts(tuple(ESTIMATORS), ("nope", *HOSTILE)),
        "--batches": whole(("2", "8"), "1", "0", "-1"),
        "--corpus": texts((FOLDER_OF_TEXT,), (FILE, "no such folder", DEEP, "x" * 3000)),
        "--threads": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
        "--out": texts((f"{FOLDER}/found.json",), (DEEP, "x" * 3000)),
    },
    "sbld replay": {
        "run": texts(
            (RACE,), (FILE, "no such folder", FOLDER_OF_TEXT, DEEP, "x" * 3000), needed=True
        ),
        "--threads": whole(("1", "2"), "0", "-1", "9" * 9, "9" * 30),
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
        least, most = int(one.needed), 2 if one.often else 1
        times = 0 if one.right.is_empty else draw(st.integers(least, most))
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
    (folder / "rows.jsonl").write_text('{"text": "a row"}')
    world = World(folder)
    places = {FILE: folder / "a file", FOLDER: folder / "new", FOLDER_OF_TEXT: world.texts}
    places[ROWS] = folder / "rows.jsonl"
    if name == "sbld sensitivity":
        places[MODEL] = world.model.save(folder / "model")
    if name == "sbld replay":
        places[RACE] = LIVE_RUN.save(folder / "race" / LIVE).parent
    told: dict[str, list[str]] = {}
    arguments = [name.removeprefix("sbld ")]
    for flag, value in line.given:
        for place, path in places.items():
            value = value and value.replace(place, str(path))
        told.setdefault(flag, []).append(value or "")
        arguments += [flag] if flag.startswith("--") else []
        arguments += [] if value is None else [value]
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
    for flag, _ in line.given:  # two right values may not go together
        names = (
            flag,
            f"{flag[2:]}=",
            f"{flag[2:].replace('-', '_')}=",
            f"{flag}=",
            *ALSO.get(flag, ()),
            f"{flag[2:]}s=",
            f"{flag[2:]}s[",
        )
        values = [form for value in told[flag] for form in (value, ascii(value)[1:-1])]
        is_shown = any("".join(value.split())[:20] in shown for value in values)
        if any(word in shown for word in names) and is_shown:
            return None
    return f"the message names no flag and value: {spoken!r}"


def tree() -> dict[str, set[str]]:
    """Every command with its flags, as typer knows them."""
    group: Any = typer.main.get_command(cli.app)
    return {
        f"sbld {name}": {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }
