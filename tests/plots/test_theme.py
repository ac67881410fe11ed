from __future__ import annotations

import pytest
from hostile import NAMES

from sbldlib.plots.theme import BLUE, INK, ORANGE, arm_styles


@pytest.mark.parametrize(
    "arms",
    [
        ("sbld", "full depth"),
        ("sbld", "sbld"),
        ("full depth", "none"),
        ("uniform", "shallower"),
        ("pld", "linear"),
        ("one", "another"),
        NAMES[:2],
    ],
)
def test_two_arms_differ_in_colour_and_in_line(arms):
    first, second = arm_styles(arms)
    assert first["color"] != second["color"] and first["linestyle"] != second["linestyle"]


def test_an_arm_looks_like_its_method():
    assert arm_styles(["sbld", "pld"]) == [
        {"color": BLUE, "linestyle": "-"},
        {"color": ORANGE, "linestyle": "--"},
    ]
    assert arm_styles(["sbld", "full depth"])[1] == {"color": INK, "linestyle": "--"}
