from __future__ import annotations

from itertools import pairwise

import pytest

from sbldlib.panels.loss_axes import (
    LETTER,
    MOST_LETTERS,
    change_label,
    share_labels,
)


@pytest.mark.parametrize(
    ("name", "new", "label"),
    [
        ("dropping", True, "on"),
        ("dropping", False, "off"),
        ("saving", 0.4, "0.40"),
        ("method", "pld", "pld"),
        ("stop", True, "stop"),
        ("block", "0, 6", "block 0, 6"),
        ("learning_rate_scale", 0.5, "LR × 0.50"),
        ("schedule", "a very long name", "schedule a very…"),
    ],
)
def test_labels_are_short_and_say_what_changed(name, new, label):
    assert change_label(name, new) == label
    assert len(label) <= MOST_LETTERS


def test_labels_that_would_overlap_become_one():
    far = [(0.1, "dropping", False), (0.6, "saving", 0.3)]
    assert share_labels(far) == [(0.1, "off"), (0.6, "0.30")]
    close = [(0.1, "dropping", False), (0.12, "saving", 0.3)]
    assert share_labels(close) == [(pytest.approx(0.11), "off, 0.30")]
    again = [*close, (0.13, "dropping", True)]
    assert share_labels(again)[0][1] == "on, 0.30", "the newest value of each"
    many = [*again, (0.14, "block", "0, 1"), (0.15, "schedule", "linear")]
    assert [text for _, text in share_labels(many)] == ["4 changes"]


@pytest.mark.parametrize("gap", [0.01, 0.03, 0.1])
def test_no_two_labels_overlap_however_many_there_are(gap):
    names = ("saving", "method", "block", "learning_rate_scale")
    changes = [(gap * i, names[i % 4], "0, 1, 2, 3") for i in range(int(1 / gap))]
    labels = share_labels(changes)
    for (left, first), (right, second) in pairwise(labels):
        assert right - left >= LETTER * (len(first) + len(second)) / 2
