"""One look for every figure: a colour-blind-safe palette, line styles, sizes read at half width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.colors import ListedColormap

from ..errors import printable

NAME_CHARACTERS = 60
# Okabe & Ito 2008, told apart in all common forms of colour blindness; ink for text-like marks.
INK, GREY = "#222222", "#8a8a8a"
BLUE, ORANGE, GREEN, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"

METHOD_STYLE = {
    "full depth": (INK, "-"),
    "none": (INK, "-"),
    "sbld": (BLUE, "-"),
    "pld": (ORANGE, "--"),
    "uniform": (GREEN, ":"),
    "linear": (PINK, "-."),
    "shallower": (GREEN, ":"),
}
ARM_COLOURS, ARM_LINES = (BLUE, INK, GREEN, PINK), ("-", "--", "-.", ":")  # where two share one
RAN_OR_SKIPPED = ListedColormap(["#e9e4da", BLUE])  # skipped, ran
PROBABILITY = "cividis"  # made for colour-blind readers, monotone in grey

_SETTINGS: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def use_theme() -> None:
    """Set the look for the rest of a notebook."""
    sns.set_theme(style="ticks", rc=_SETTINGS)


@contextmanager
def themed() -> Iterator[None]:
    """The look within a `with`, and the reader's own again after it."""
    with mpl.rc_context(), sns.axes_style("ticks"):
        mpl.rcParams.update(_SETTINGS)
        yield


def literal(text: str) -> str:
    """A name as it is, for any text of a figure: matplotlib reads `$` and a first `_` as its own.

    Cut where it is so long that no figure would have room beside it.
    """
    plain = printable(text)
    if len(plain) > NAME_CHARACTERS:
        plain = f"{plain[:NAME_CHARACTERS]}…"
    return f"{' ' if plain.startswith('_') else ''}{plain}".replace("$", r"\$")


def method_style(name: str) -> dict[str, Any]:
    """Colour and line style of a method, the same in every figure."""
    colour, line = METHOD_STYLE.get(name, (GREY, "-"))
    return {"color": colour, "linestyle": line}


def arm_styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Colour and line of each arm: its method's, but no two arms share a colour or a line."""
    styles: list[tuple[str, str]] = []
    for name in names:
        own = METHOD_STYLE.get(name, (ARM_COLOURS[0], ARM_LINES[0]))
        choices = ((own[0], *ARM_COLOURS), (own[1], *ARM_LINES))
        taken = [{style[part] for style in styles} for part in (0, 1)]
        free = [[c for c in choices[part] if c not in taken[part]] for part in (0, 1)]
        styles.append((free[0][0], free[1][0]))
    return [{"color": colour, "linestyle": line} for colour, line in styles]
