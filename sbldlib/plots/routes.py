"""What one output of an hourglass model sees, drawn: the vectors that it passes on its way.

Source: [O] the picture; the rules are `measure.routes`'s.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..errors import check_positive_int
from ..measure.levels import Hourglass
from ..measure.routes import Route, last_token
from .theme import BLUE, INK, ORANGE, PINK

MOST_SHOWN = 192  # tokens: more boxes cannot be told apart
_PALE, _SEEN = "#efece5", "#cfe3f1"


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


def _draw_level(
    ax: Axes, config: Hourglass, route: Route, level: int, *, shift: int, num_tokens: int
) -> None:
    """Its vectors on the way in, each over the tokens that it merges; and on the way out."""
    length, innermost = config.merge**level, len(config.widths) - 1
    for place in range(-(-num_tokens // length)):
        end, is_own = last_token(config.merge, shift, level, place), place == route.places[level]
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
