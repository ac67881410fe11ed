"""Random configurations of every public function: each works, or is refused in words at the door.

A configuration mixes what is right with what is not. A call that is refused must name the argument
and its value in a ValueError, and lose nothing: weights, the method on the model, random states.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from faults.commands import COMMANDS, command_lines, try_command
from faults.outcome import Outcome
from faults.strategies import Made, Target
from faults.strategies_data import DATA
from faults.strategies_face import FACE
from faults.strategies_methods import METHODS_FACE
from faults.strategies_records import RECORDS
from faults.strategies_runs import RUNS
from faults.time_limit import time_limit
from faults.world import World, lost, random_states
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.training.finite import NotFiniteError

TARGETS: dict[str, Target] = {**FACE, **METHODS_FACE, **RECORDS, **RUNS, **DATA}
WORDS = 600  # characters of a failure
SECONDS_A_CALL = 60  # the longest takes about one
EXTRA = "no_such_argument"


class Try(NamedTuple):
    """What one configuration came to."""

    name: str
    refused: bool
    failure: str | None = None


@dataclass
class Tally:
    """Counts by function, and the failures by number."""

    worked: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    tried: int = 0

    def note(self, tried: Try) -> None:
        """Count one more."""
        (self.refused if tried.refused else self.worked)[tried.name] += 1
        if tried.failure is not None:
            self.failures[self.tried] = f"{tried.name}: {tried.failure[:WORDS]}"
        self.tried += 1


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """`num` configurations shared out over all functions and commands."""
    began, tally = time.perf_counter(), Tally()
    names = [*TARGETS, *COMMANDS]
    for place, name in enumerate(names):
        share = num * (place + 1) // len(names) - num * place // len(names)
        draw(name, share, seed=seed + place, folder=folder / f"{place}", tally=tally)
    # A command of one flag has fewer lines than its share.
    left, more = num - tally.tried, folder / f"{len(names)}"
    draw(names[0], left, seed=seed + len(names), folder=more, tally=tally)
    return Outcome.of(
        "random configurations of every function and command, right and wrong",
        "work, or refuse in words that name argument and value, and lose nothing",
        tally.failures,
        tally.tried,
        seconds=time.perf_counter() - began,
        figures={
            name: {"worked": tally.worked[name], "refused": tally.refused[name]} for name in names
        },
    )


def draw(name: str, num: int, *, seed: int, folder: Path, tally: Tally) -> None:
    """`num` configurations of one function or command."""
    if num == 0:
        return
    is_command = name in COMMANDS
    strategy = command_lines(name) if is_command else configurations(TARGETS[name])

    @seeded(seed)
    @settings(
        max_examples=num,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(configuration: Any) -> None:
        if tally.tried - start < num:
            here = folder / str(tally.tried)
            here.mkdir(parents=True, exist_ok=True)
            if is_command:
                tally.note(Try(name, *try_command(name, configuration, here)))
            else:
                tally.note(try_call(name, configuration, here))

    start = tally.tried
    each()


# ---- functions


class Configuration(NamedTuple):
    """Arguments by name, those of them that are wrong, and whether a method is on the model."""

    given: dict[str, Any]
    wrong: tuple[str, ...]
    has_method: bool


@st.composite
def configurations(draw: Callable, target: Target) -> Configuration:
    """One configuration: nothing wrong, one thing, or several; now and then an unknown argument."""
    names = list(target.fields)
    wrong = draw(
        st.one_of(
            st.just([]),
            st.sampled_from(names).map(lambda name: [name]),
            st.lists(st.sampled_from(names), unique=True, max_size=3),
        )
    )
    given: dict[str, Any] = {}
    for name, one in target.fields.items():
        if name in wrong:
            given[name] = draw(one.wrong)
        elif one.needed or draw(st.integers(1, target.rarity)) == 1:
            given[name] = draw(one.right)
    if target.belongs is not None and draw(st.integers(0, 7)):
        given = {name: value for name, value in given.items() if target.belongs(name, given)}
    if draw(st.integers(0, 30)) == 0:
        given[EXTRA] = 1
    wrong = [name for name in wrong if name in given]
    return Configuration(given, tuple(wrong), draw(st.booleans()))


def try_call(name: str, configuration: Configuration, folder: Path) -> Try:
    """Call one function with one configuration, and judge what comes of it."""
    target, world = TARGETS[name], World(folder, has_method=configuration.has_method)
    given = {
        field: value.make(world) if isinstance(value, Made) else value
        for field, value in configuration.given.items()
    }
    before = world.held()
    error: BaseException | None = None
    with quiet(), warnings.catch_warnings(), time_limit(SECONDS_A_CALL):
        warnings.simplefilter("ignore")
        try:
            target.call(**({"world": world} if target.sees_world else {}), **given)
        except Exception as raised:
            error = raised
    after = world.held() if error is not None else {**before, **random_states()}
    gone = [what for what in lost(before, after) if name != "compare" or what != "torch's threads"]
    failure = judge(target, configuration, given, error)
    if failure is None and gone:
        failure = f"it changed {', '.join(gone)}"
    if failure is not None:
        failure = f"{failure}; given {configuration.given}"
    return Try(name, error is not None, failure)


def judge(
    target: Target, configuration: Configuration, given: dict[str, Any], error: BaseException | None
) -> str | None:
    """Why this is not as promised, or None."""
    strict = [name for name in configuration.wrong if not target.fields[name].unread]
    strict = [] if target.is_note else strict
    if error is None:
        return f"accepted, though {strict} cannot be right" if strict else None
    if EXTRA in given and isinstance(error, (TypeError, ValueError)) and EXTRA in str(error):
        return None
    if not isinstance(error, (ValueError, CheckpointError, NotFiniteError)):
        return f"{type(error).__name__}: {error}"
    message = str(error)
    if message.startswith("option=") and any(f"option={name!r}" in message for name in given):
        return None  # another method's
    absent = target.fields.keys() - given.keys()
    if any(f"{name}=" in message or (not given and name in message) for name in absent):
        return None  # the default does not go with what was given
    for name in given:  # two right values that do not go together may be met before a wrong one
        one = target.fields.get(name, None)
        names = (name, *(one.says if one else ()))
        is_absent = given[name] is None and name not in configuration.wrong
        is_named = any(word in message for word in names)
        if is_named and (is_absent or shows(message, given[name])):
            return None
    return f"the message names no argument with its value: {message!r}"


def shows(message: str, value: Any) -> bool:
    """Whether a message holds the value, or a part of it that one recognises it by."""
    spoken = "".join(message.split())
    return any("".join(part.split()) in spoken for part in parts(value))


def parts(value: Any) -> list[str]:
    """What a value may be recognised by."""
    found = [type(value).__name__]
    if isinstance(value, (str, bytes, bool, type(None))):
        found = []
    try:
        found += [repr(value)[:30], *([f"{value:g}"] if isinstance(value, float) else [])]
        if isinstance(value, str) and not value.isprintable():
            found = [ascii(value)[1:8]]
    except Exception:  # a value that cannot show itself is known by its type
        return [type(value).__name__]
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and not getattr(value, "ndim", 0):
        with contextlib.suppress(Exception):
            found += [f"{value.item():g}", repr(value.item())]
    if isinstance(value, torch.Tensor) and value.ndim > 0 and value.numel() < 100:
        found += [str(tuple(value.shape)), str(value.dtype), *map(str, value.flatten().tolist())]
    if isinstance(value, Path):
        found.append(str(value))
    if isinstance(value, (list, tuple, set, dict)):
        found += [] if value else ["()", "[]", "{}"]
        found += [str(len(value)), *(part for item in value for part in parts(item))]
        found += (
            [part for item in dict(value).values() for part in parts(item)]
            if isinstance(value, dict)
            else []
        )
    # A function, and what is gone through but once, are known by the argument's name.
    return [*found, ""] if callable(value) or hasattr(value, "__next__") else found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
