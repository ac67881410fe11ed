"""Values for the fuzzer: what is right in a field, and what never is.

A value that has to be new for each call, or that needs the small world of the call (its model, its
data), is a `Made`: a name, and a function of that world.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, repr=False)
class Made:
    """A value that is made for one call from that call's world."""

    name: str
    make: Callable[[Any], Any]

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One argument.

    Attributes:
        right: values that it takes, alone; two right values may still not go together.
        wrong: values that it never takes, whatever the others are.
        needed: whether the call cannot do without it.
        says: other names that a message may call it by.
        unread: whether some calls do not look at it, so that a wrong value may pass.
    """

    right: SearchStrategy[Any]
    wrong: SearchStrategy[Any]
    needed: bool = False
    says: tuple[str, ...] = ()
    unread: bool = False


@dataclass(frozen=True, kw_only=True)
class Target:
    """One function, and its arguments by name.

    Attributes:
        call: takes the arguments by name; sees the world where `sees_world` is set.
        more: arguments that `call` passes on and that its signature does not name.
        rarity: one in so many optional arguments is given.
        belongs: whether an argument goes with the others, where some do not.
        is_note: a record of what happened, which holds whatever it is told.
    """

    call: Callable[..., Any]
    fields: dict[str, Field]
    sees_world: bool = False
    more: tuple[str, ...] = ()
    rarity: int = 2
    belongs: Callable[[str, dict[str, Any]], bool] | None = None
    is_note: bool = False


def needed(kind: dict[str, Any], **more: Any) -> Field:
    """A field that the call cannot do without."""
    return Field(**kind, needed=True, **more)


class Unprintable:
    """An object whose own repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


TEXTS = (
    "", " ", "nope", "0.5", "½",
    "SBLD", "sbld ", "\uff53bld", "None", "\x1b[2J", "[red]x[/]", "a\0b",
    "<script>alert(1)</script>", "$x_", "\ud800", "x" * 5000,
)  # fmt: skip
# What is no number, no name, no list, no function, no model and no record.
ALIENS = (
    b"bytes", object(), type, 1j, Ellipsis, NotImplemented,
    Made("what cannot be shown", lambda world: Unprintable()),
    Made("an exception", lambda world: ValueError("mine")),
)  # fmt: skip
ARRAYS = (
    Made("two numbers", lambda world: torch.tensor([0.25, 0.5])),
    Made("a matrix", lambda world: np.ones((2, 2))),
    Made("an empty array", lambda world: np.array([])),
    Made("a weight without data", lambda world: torch.empty((), device="meta")),
)
NOT_NUMBERS = (None, True, False, np.True_, [], [0.5], {}, set(), math.nan, *TEXTS[:4], *ALIENS)
NOT_WHOLE = (*NOT_NUMBERS, 0.5, 1.0, 2.5, np.float64(2), math.inf, Fraction(1, 2), "3")
NOT_LISTS = (None, 0, 3, 0.5, True, "01", b"01", object(), type)
NOT_FUNCTIONS = (3, 0.5, "loss", [], {}, (), object(), math.nan)
HUGE = (2**31, 2**63, 2**64, 10**30, 10**400)


def one_of(*values: Any) -> SearchStrategy[Any]:
    return st.sampled_from(values)


def number(
    low: float,
    high: float,
    *,
    low_open: bool = False,
    high_open: bool = False,
    or_none: bool = False,
    often: tuple[float, ...] = (),
) -> dict[str, SearchStrategy[Any]]:
    """A real number in a range, of any numeric type; `often` are those that go with others."""
    top = min(high, 1e6)
    inside = st.floats(low, top, exclude_min=low_open, exclude_max=high_open and top == high)
    inside = inside.filter(lambda value: value == 0 or abs(value) > 1e-6)
    kinds = (float, float, float, np.float64, np.float32, torch.tensor)
    right = st.builds(lambda kind, value: kind(value), st.sampled_from(kinds), inside)
    right = right.filter(lambda value: low < float(value) < high)  # float32 may round to an end
    right = st.one_of(*[one_of(*often)] * 3, right) if often else right
    outside = [-math.inf, -1e30, low - 1]
    outside += [low] if low_open else []
    outside += [high] if high_open else []
    outside += [math.inf, high + 1, 10**400] if high < math.inf else []
    return _may_be_none(right, one_of(*NOT_NUMBERS, *ARRAYS, *outside), or_none)


def whole(
    minimum: int, right: Iterable[int], *, too_large: Iterable[int] = (), or_none=False
) -> dict[str, SearchStrategy[Any]]:
    """A whole number, of any integer type; `right` are small enough to be worked with."""
    chosen = list(right)
    kinds = (int, int, int, np.int64, np.uint64, torch.tensor)
    given = st.builds(lambda kind, value: kind(value), st.sampled_from(kinds), one_of(*chosen))
    below = (minimum - 1, -(10**30), np.int64(minimum - 1), torch.tensor(minimum - 1))
    wrong = one_of(*NOT_WHOLE, *ARRAYS, *below, *too_large)
    return _may_be_none(given, wrong, or_none)


def seed() -> dict[str, SearchStrategy[Any]]:
    """A seed of any random draw."""
    return whole(0, (0, 1, 7, 2**31, 2**63 - 1), too_large=(2**64, 10**30))


def choice(known: Iterable[str], *, or_none=False) -> dict[str, SearchStrategy[Any]]:
    """One of some names."""
    names = tuple(known)
    wrong = (3, 0.5, True, [names[0]], {names[0]: 1}, names[0].upper() + "!", *TEXTS, *ALIENS)
    wrong += () if or_none else (None,)
    return _may_be_none(one_of(*names), one_of(*(w for w in wrong if w not in names)), or_none)


def flag() -> dict[str, SearchStrategy[Any]]:
    """True or False."""
    return {
        "right": one_of(True, False, np.True_),
        "wrong": one_of(None, 0, 1, 2, "no", "", [], {}, math.nan, *ALIENS, *ARRAYS),
    }


def function(*right: Any, or_none=False) -> dict[str, SearchStrategy[Any]]:
    """Something to call."""
    wrong = NOT_FUNCTIONS if or_none else (*NOT_FUNCTIONS, None)
    return _may_be_none(one_of(*right), one_of(*wrong), or_none)


def record(*right: Any, or_none=False) -> dict[str, SearchStrategy[Any]]:
    """A record of one kind; never another kind, its class, its JSON or its fields."""
    wrong = (
        3, 0.5, "x", [], {}, {"values": [1.0]}, dict, *ALIENS, *ARRAYS,
        Made("another record", lambda world: world.step_record),
        Made("a class of record", lambda world: type(world.sensitivity_data)),
    )  # fmt: skip
    return _may_be_none(one_of(*right), one_of(*wrong, *(() if or_none else (None,))), or_none)


def layers(num_layers: int) -> dict[str, SearchStrategy[Any]]:
    """A few layers of a model, each once."""
    few = st.lists(st.integers(0, num_layers - 1), unique=True, max_size=num_layers - 1)
    kinds = (list, tuple, set, iter, np.array, torch.tensor)
    right = st.builds(
        lambda kind, some: Made(f"{kind.__name__} of {some}", lambda _: _as(kind, some)),
        st.sampled_from(kinds),
        few,
    )
    none_such = (
        [num_layers], [-1], [0, 0], [0, num_layers], [1.0], [0.5], [True], [None], ["0"], [[0]],
        {"a"}, [math.nan], [10**400], [2**63], *NOT_LISTS,
        Made("all whole numbers", lambda world: itertools.count()),
    )  # fmt: skip
    return {"right": right, "wrong": one_of(*none_such)}


def _as(kind: Callable, some: list[int]) -> Any:
    return kind(some) if some else []  # an empty array is one of floats


def model(name: str = "model") -> dict[str, SearchStrategy[Any]]:
    """A model with residual blocks."""
    wrong = (
        None, 3, "gpt", [], {}, *ALIENS, *ARRAYS,
        Made("no blocks", lambda world: torch.nn.Linear(2, 2)),
        Made("one block", lambda world: world.gpt(num_layers=1)),
        Made("a class", lambda world: type(world.model)),
        Made("a configuration", lambda world: world.model.config),
        Made("a list of models", lambda world: [world.model]),
    )  # fmt: skip
    return {
        "right": one_of(Made(name, lambda world: world.model)),
        "wrong": one_of(*wrong),
    }


def batches() -> dict[str, SearchStrategy[Any]]:
    """Batches to measure on; what is wrong is so for the kit's own loss."""
    wrong = (
        [], (), None, 3, "ab", [3, 4], [None, None], ["a", "b"], [(), ()],
        Made("one batch", lambda world: world.batches[:1]),
        Made("targets missing", lambda world: [(tokens,) for tokens, _ in world.batches]),
        Made("three parts", lambda world: [(*batch, 0) for batch in world.batches]),
        Made("broken tokens", lambda world: [(i / 2, t) for i, t in world.batches]),
        Made("unknown tokens", lambda world: [(i + 99, t) for i, t in world.batches]),
        Made("unknown targets", lambda world: [(i, t + 99) for i, t in world.batches]),
        Made("negative tokens", lambda world: [(i - 99, t) for i, t in world.batches]),
        Made("other lengths", lambda world: [(i, t[:, 1:]) for i, t in world.batches]),
        Made("too long", lambda world: [(i.repeat(1, 9),) * 2 for i, _ in world.batches]),
        Made("one dimension", lambda world: [(i[0], t[0]) for i, t in world.batches]),
        Made("no rows", lambda world: [(i[:0], t[:0]) for i, t in world.batches]),
        Made("nothing to learn", lambda world: [(i, t * 0 - 100) for i, t in world.batches]),
    )  # fmt: skip
    right = (
        Made("batches", lambda world: world.batches),
        Made("batches", lambda world: tuple(world.batches)),
        Made("batches of lists", lambda world: [list(batch) for batch in world.batches]),
    )
    return {"right": one_of(*right), "wrong": one_of(*wrong)}


def path() -> dict[str, SearchStrategy[Any]]:
    """A folder to write in."""
    right = (
        Made("a folder", lambda world: world.folder / "new" / "deeper"),
        Made("a folder, as text", lambda world: str(world.folder / "ünï ¢ode [red] $x_")),
    )
    wrong = (
        3,
        0.5,
        True,
        [],
        {},
        b"x",
        object(),
        "",
        "a\0b",
        Made("a file", lambda w: w.file),
        "x" * 3000,
    )
    return {"right": one_of(*right), "wrong": one_of(*wrong)}


def _may_be_none(right, wrong, or_none: bool) -> dict[str, SearchStrategy[Any]]:
    if not or_none:
        return {"right": right, "wrong": wrong}
    return {
        "right": st.one_of(st.none(), right),
        "wrong": wrong.filter(lambda value: value is not None),
    }
