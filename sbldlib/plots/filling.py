"""Pictures of what encoders and decoders see, and of how they fill a hole in a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from .theme import BLUE, GREY, ORANGE, PROBABILITY, literal

FILL_STYLE: dict[str, dict[str, Any]] = {
    "BERT": {"color": BLUE},
    "GPT": {"color": ORANGE, "hatch": "//", "edgecolor": "white"},
}
FLOOR = 1e-2  # of an influence, relative to the map's largest: below it one shade


def plot_influence(ax: Axes, influence_TT: np.ndarray) -> Axes:
    """A measured map of which output depends on which token; what is exactly 0 stays white."""
    values = np.asarray(influence_TT, dtype=float)
    relative = np.ma.masked_less_equal(values / values.max(), 0)
    image = ax.imshow(
        np.ma.maximum(relative, FLOOR), norm=LogNorm(FLOOR, 1), cmap=f"{PROBABILITY}_r",
        interpolation="none",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="gradient norm / largest")
    ax.set(xlabel="token j that is changed", ylabel="output i")
    return ax


def plot_guesses(
    ax: Axes, guesses: Sequence[tuple[str, float]], *, name: str, right: str | None = None
) -> Axes:
    """Bars of the likeliest fillings, likeliest on top.

    Args:
        guesses: (text, probability), likeliest first.
        name: whose they are, a key of `FILL_STYLE`.
        right: the text that stood there; its name is marked.
    """
    places = np.arange(len(guesses))[::-1]
    ax.barh(places, [share for _, share in guesses], **FILL_STYLE.get(name, {"color": GREY}))
    labels = [f"{'→ ' if text == right else ''}{literal(repr(text))}" for text, _ in guesses]
    ax.set_yticks(places, labels=labels, family="monospace")
    ax.set_xlabel("probability")
    return ax


def plot_shares(
    ax: Axes, shares: Mapping[str, tuple[float, float, float]], *, baselines: Mapping[str, float]
) -> Axes:
    """Shares with their intervals as points in rows, and baselines as dashed lines.

    Args:
        shares: name -> (share, low, high), in [0, 1].
        baselines: name -> share; two at the most are told apart.
    """
    for place, (share, low, high) in enumerate(shares.values()):
        ax.errorbar(
            share, -place, xerr=[[share - low], [high - share]], color=BLUE, marker="o",
            capsize=4, linestyle="none",
        )  # fmt: skip
    for (name, share), line in zip(baselines.items(), ("--", ":"), strict=False):
        ax.axvline(share, color=GREY, linestyle=line, label=literal(name))
    ax.set_yticks([-place for place in range(len(shares))], labels=[literal(n) for n in shares])
    ax.set(xlim=(0, None), ylim=(-len(shares) + 0.4, 0.6), xlabel="share")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2)
    return ax
