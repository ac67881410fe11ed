"""What one output of an hourglass model sees, by rule: the vectors that it passes.

Legend: M merge; k a level, 0 the tokens' own; g a place on its level; i a position.

Source: [O] these rules; a test holds them to `measure_causality`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import check_positive_int
from .levels import Hourglass


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
    known = tuple(last_token(M, shift, level, place) for level, place in enumerate(places))
    return Route(
        position=position,
        places=places,
        known=known,
        last_seen=max(known) if config.skip_connections else known[-1],
        target=position + offset,
    )


def last_token(merge: int, shift: int, level: int, place: int) -> int:
    """The last token that goes into vector `place` of a level."""
    for _ in range(level):
        place = place * merge + merge - 1 - shift
    return place
