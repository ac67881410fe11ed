"""What block and allow lists leave to be dropped: the price of sparing layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import check_range
from ..records import LayerLists, Record
from .allocation import DROP_MAX, lowest_mean_keep

_HALVINGS = 20


@dataclass(frozen=True, kw_only=True)
class DroppingLeft(Record):
    """What one pair of lists leaves to the allow list at one saving.

    Attributes:
        rule: how the block list was cut.
        num_blocked, num_allowed: layers on either list.
        highest_mean_drop: the most mean drop over all layers that the allow list can hold.
        saving: the mean drop asked for.
        drop_each: drop probability of an allowed layer where all share alike; above the cap where
            the lists cannot hold the saving.
        can_hold: whether they can.
    """

    rule: str
    num_blocked: int
    num_allowed: int
    highest_mean_drop: float
    saving: float
    drop_each: float
    can_hold: bool


def dropping_left(
    lists: Mapping[str, LayerLists], saving: float, *, drop_max: float = DROP_MAX
) -> dict[str, DroppingLeft]:
    """For each pair of lists: how much its allow list can hold, and what a saving asks of it.

    Args:
        lists: name -> lists.
        saving: mean drop over all layers, 1 - mean keep probability, in [0, 1).
        drop_max: the most that one layer may be dropped, in (0, 1).

    Raises:
        ValueError: a value out of range.

    Source: reconstruction, METHOD sections 2 and 4 [O].
    """
    saving = check_range("saving", saving, 0, 1, high_open=True)
    found = {}
    for name, each in lists.items():
        highest = 1 - lowest_mean_keep(each, drop_max=drop_max)
        found[name] = DroppingLeft(
            rule=each.rule,
            num_blocked=len(each.block),
            num_allowed=len(each.allow),
            highest_mean_drop=highest,
            saving=saving,
            drop_each=saving * each.num_layers / len(each.allow),
            can_hold=saving <= highest * (1 + 1e-12),
        )
    return found


def last_accepted(attempt: Callable[[float], object], *, good: float, bad: float) -> float:
    """The number nearest to `bad`, to a millionth of the way, that `attempt` takes.

    Args:
        attempt: raises ValueError from some number on, all the way to `bad`.
        good: a number that it takes.
        bad: one that it may refuse.
    """
    for _ in range(_HALVINGS):
        middle = (good + bad) / 2
        try:
            attempt(middle)
        except ValueError:
            bad = middle
        else:
            good = middle
    return good
