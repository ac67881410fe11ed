"""Cells of the variants' comparison are read by arm and seed, and paired by seed."""

from __future__ import annotations

import numpy as np
import pytest
from variant_cells import RAW, everything

from sbldlib.comparison.cells import (
    arms_of,
    by_seed,
    change_of,
    difference_to,
    kind_of,
    mean_over_seeds,
    of_arm,
    padding_by_share,
    times_as_long,
)

CELLS = everything()


def test_cells_are_read_by_arm_and_seed_and_the_gpt_stands_in_both_budgets():
    assert arms_of(CELLS, "raw") == ["gpt", "conv", "conv-ahead", "conv-leak", "diverging"]
    assert arms_of(CELLS, "compute") == ["gpt", "gpt-64", "conv", "stack"]
    assert of_arm(CELLS, "compute", "gpt") == of_arm(CELLS, "raw", "gpt")
    assert by_seed(CELLS, "raw", "conv") == dict(enumerate(RAW["conv"]))
    assert by_seed(CELLS, "raw", "gpt", "offset") == {0: 1, 1: 1, 2: 1}
    assert arms_of(CELLS, "longer_compute") == ["gpt", "conv"]
    assert of_arm(CELLS, "longer_compute", "gpt") == of_arm(CELLS, "longer", "gpt")
    assert arms_of(CELLS, "longer") == ["gpt", "diverging", "gru"], "others come last"
    assert arms_of({}, "compute") == []


def test_differences_are_paired_with_students_interval():
    gap = difference_to(CELLS, "compute", "conv")
    assert gap.values == pytest.approx((-0.1, -0.2, -0.1))
    spread = np.std([-0.1, -0.2, -0.1], ddof=1) / 3**0.5 * 4.302653
    assert (gap.low, gap.high) == pytest.approx((-0.4 / 3 - spread, -0.4 / 3 + spread), rel=1e-5)
    assert difference_to(CELLS, "raw", "conv").low == pytest.approx(0.3), "levels cancel"
    mean = mean_over_seeds(CELLS, "raw", "gpt")
    assert mean.mean == pytest.approx(2.4) and mean.high - mean.mean == pytest.approx(
        0.4 / 3**0.5 * 4.302653, rel=1e-5
    )


def test_a_change_of_distance_is_paired_by_seed():
    grown = change_of(CELLS, ("raw", "longer"), "diverging")
    # 0.1, 0.1, 0.1 above the GPT at first, then 0.1, 0.2, 0.1
    assert grown.values == pytest.approx((0.0, 0.1, 0.0))
    spread = np.std([0.0, 0.1, 0.0], ddof=1) / 3**0.5 * 4.302653
    assert (grown.low, grown.high) == pytest.approx((0.1 / 3 - spread, 0.1 / 3 + spread), rel=1e-5)
    against = change_of(CELLS, ("raw", "longer"), "diverging", reference="diverging")
    assert against.values == pytest.approx((0.0, 0.0, 0.0))
    assert change_of(CELLS, ("raw", "longer"), "conv").values == (), "trained in one of them"


def test_longer_trainings_are_told_by_their_tokens():
    assert times_as_long(CELLS) == pytest.approx(3.0)
    assert times_as_long({name: CELLS[name] for name in CELLS if "longer" not in name}) is None
    assert times_as_long({}) is None


def test_padding_is_read_by_its_share_and_by_what_was_done_with_it():
    assert padding_by_share(CELLS)[0.5] == pytest.approx((2.0, 4.0))
    assert padding_by_share(CELLS, "ignored")[0.5] == pytest.approx((4.0, 4.0))
    assert padding_by_share({}) == {}


def test_a_gpt_with_a_context_of_its_own_is_of_one_kind():
    assert [kind_of(arm) for arm in ("gpt", "gpt-64", "gpt-512", "gpt-ahead")] == [
        "gpt", "gpt-short", "gpt-short", "gpt-ahead",
    ]  # fmt: skip
