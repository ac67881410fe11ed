"""What one output of an hourglass model sees, by rule: the vectors that it passes, drawn.

Legend: M merge; k a level, 0 the tokens' own; g a place on its level; i a position.

Source: [O] these rules and pictures; a test holds the rules to `measure_causality`.
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..errors import check_positive_int
from .architecture import Hourglass
from .theme import BLUE, INK, ORANGE, PINK

MOST_SHOWN = 192  # tokens: more boxes cannot be told apart
_PALE, _SEEN = "#efece5", "#cfe3f1"


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where one output has what it knows from.

    Attributes:
        position: i.
        places: g of the vector that it reads on each level.
        known: the last token that each of these vectors knows; all before it are known too.
        last_seen: the last token that the output depends on.
        target: the token that it predicts.
    """

    position: int
    places: tuple[int, ...]
    known: tuple[int, ...]
    last_seen: int
    target: int

    @property
    def is_honest(self) -> bool:
        """Whether the target comes after all that is seen."""
        return self.last_seen < self.target


def route_of(config: Hourglass, position: int, *, shift: int, offset: int) -> Route:
    """The route of one output, by whole numbers alone.

    Vector g of a level merges the M vectors below it that end at place g M + M - 1 - shift, and is
    read by the M vectors g M to g M + M - 1. Attention hands on all that is earlier on a level.

    Args:
        position: i, >= 0.
        shift: places by which groups are cut earlier, in 0..M-1.
        offset: the target is token i + offset, >= 1.

    Raises:
        ValueError: a value out of range.
    """
    M, num_levels = config.merge, len(config.widths)
    check_positive_int("position", position, minimum=0)
    check_positive_int("shift", shift, minimum=0, maximum=M - 1)
    check_positive_int("offset", offset)
    places = tuple(position // M**level for level in range(num_levels))
    known = tuple(_last_token(M, shift, level, place) for level, place in enumerate(places))
    return Route(
        position=position,
        places=places,
        known=known,
        last_seen=max(known) if config.skip_connections else known[-1],
        target=position + offset,
    )


def plot_route(ax: Axes, config: Hourglass, route: Route, *, shift: int, num_tokens: int) -> Axes:
    """Way in below, way out above: which vectors an output passes, what it sees, what it predicts.

    Args:
        route: as `route_of` gives it for this configuration and shift.
        shift: places by which groups are cut earlier.
        num_tokens: shown, 1 to 192.

    Raises:
        ValueError: more tokens than can be shown.
    """
    check_positive_int("num_tokens", num_tokens, maximum=MOST_SHOWN)
    num_levels = len(config.widths)
    for level in range(num_levels):
        _draw_level(ax, config, route, level, shift=shift, num_tokens=num_tokens)
    for token in range(num_tokens):
        leak = token >= route.target and token <= route.last_seen
        colour = PINK if leak else BLUE if token <= route.last_seen else _PALE
        hatch = "////" if leak else ""
        _add_box(ax, token, token, 0, colour, num_tokens=num_tokens, hatch=hatch)
        colour = ORANGE if token == route.target else _PALE
        _add_box(ax, token, token, 2 * num_levels, colour, num_tokens=num_tokens)
    names = ["it sees", *(f"in, level {level}" for level in range(num_levels - 1))]
    names += [f"level {num_levels - 1}"]
    names += [f"out, level {level}" for level in reversed(range(num_levels - 1))]
    ax.set_yticks(range(2 * num_levels + 1), labels=[*names, "it predicts"])
    ax.set(xlim=(-0.7, num_tokens - 0.3), ylim=(-0.6, 2 * num_levels + 0.6), xlabel="token")
    ax.axvline(route.position, color=INK, linewidth=1, linestyle=":")
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    return ax


def _last_token(merge: int, shift: int, level: int, place: int) -> int:
    """The last token that goes into vector `place` of a level."""
    for _ in range(level):
        place = place * merge + merge - 1 - shift
    return place


def _draw_level(
    ax: Axes, config: Hourglass, route: Route, level: int, *, shift: int, num_tokens: int
) -> None:
    """Its vectors on the way in, each over the tokens that it merges; and on the way out."""
    length, innermost = config.merge**level, len(config.widths) - 1
    for place in range(-(-num_tokens // length)):
        end, is_own = _last_token(config.merge, shift, level, place), place == route.places[level]
        is_read = is_own and (config.skip_connections or level == innermost)
        colour = BLUE if is_read else _SEEN if end <= route.last_seen else _PALE
        _add_box(ax, end - length + 1, end, level + 1, colour, num_tokens=num_tokens)
        if level < innermost:
            row, colour = 2 * innermost - level + 1, BLUE if is_own else _PALE
            last = (place + 1) * length - 1
            _add_box(ax, place * length, last, row, colour, num_tokens=num_tokens)


def _add_box(
    ax: Axes, first: int, last: int, row: int, colour: str, *, num_tokens: int, hatch: str = ""
) -> None:
    length = last - first + 1
    gap = min(0.2 * length, num_tokens / 400)  # seen as white between boxes, however many
    ax.add_patch(
        Rectangle(
            (first - 0.5 + gap, row - 0.34), length - 2 * gap, 0.68, facecolor=colour,
            hatch=hatch, edgecolor="white" if hatch else colour, linewidth=0.5 if hatch else 0,
        )
    )  # fmt: skip
