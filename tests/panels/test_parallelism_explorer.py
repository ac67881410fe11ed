"""The two explorers of the first lesson: what their sliders ask for is what is counted and said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sbldlib.measure.scaling import count_parallelism
from sbldlib.models.recurrent import KINDS
from sbldlib.panels.parallelism_explorer import (
    BUDGET_LENGTH,
    FLOPS_PER_SECOND,
    LENGTHS,
    ROWS,
    SECONDS_PER_STEP,
    ParallelismExplorer,
    base_config,
    counts_at,
)
from sbldlib.panels.reach_explorer import ReachExplorer


@pytest.fixture(scope="module")
def parallel() -> ParallelismExplorer:
    return ParallelismExplorer(length=16, width=8)


@pytest.fixture(scope="module")
def reach() -> ReachExplorer:
    return ReachExplorer(length=16, width=8)


def test_counts_are_those_of_the_chosen_length_and_width(parallel):
    with parallel.hold():
        parallel.length.value, parallel.width.value = 32, 8
    assert tuple(parallel.counted) == KINDS
    attention = replace(base_config(BUDGET_LENGTH, 8), context_length=32)
    assert parallel.counted["attention"] == count_parallelism(attention, ROWS)
    narrow = parallel.counted["rnn"].flops
    parallel.width.value = 16
    assert parallel.counted["rnn"].flops > 2 * narrow


@pytest.mark.parametrize("length", LENGTHS[:6])
def test_the_longest_path_does_not_depend_on_the_width(length):
    paths = [
        {kind: found.longest_path for kind, found in counts_at(length, width).items()}
        for width in (4, 16)
    ]
    assert paths[0] == paths[1]


def test_few_processors_are_held_up_by_work_and_many_by_the_chain(parallel):
    with parallel.hold():
        parallel.length.value, parallel.width.value = 128, 64
        parallel.processors.value, parallel.kind.value = 1.0, "rnn"
    counted = parallel.counted["rnn"]
    assert parallel.seconds["rnn"] == pytest.approx(counted.flops / FLOPS_PER_SECOND)
    assert "held up by its work" in parallel.text
    parallel.processors.value = 1e5
    assert parallel.seconds["rnn"] == pytest.approx(counted.longest_path * SECONDS_PER_STEP)
    assert "held up by its chain" in parallel.text and "Fastest: attention" in parallel.text
    assert f"{counted.longest_path:,} nodes" in parallel.text


def test_attentions_weights_grow_with_the_square_of_the_length(parallel):
    parallel.kind.value = "attention"
    said = []
    for length in (64, 128):
        parallel.length.value = length
        said.append(float(parallel.text.partition("written out, take ")[2].split(" MiB")[0]))
    assert said == pytest.approx([0.125, 0.5])  # 2 layers, 2 heads, 2 rows, 4 bytes
    parallel.kind.value = "rnn"
    assert "softmax" not in parallel.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 3}, "length=3 must be one of 2, 4"),
        ({"width": 0}, "width=0 must be one of 8"),
        ({"processors": 0.1}, "processors=0.1"),
    ],
)
def test_values_that_no_slider_has_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParallelismExplorer(**arguments)


def test_the_text_gives_the_gradient_at_the_distance(reach):
    with reach.hold():
        reach.kind.value, reach.distance.value = "rnn", 5
    value = reach.reach.relative[5]
    assert f"at distance 5 the gradient is {value:.2g}" in reach.text
    assert f"a factor of {value**0.2:.3f} a token" in reach.text
    assert f"up to distance {reach.reach.window(1e-3)}." in reach.text


def test_each_setting_measures_another_model(reach):
    with reach.hold():
        reach.kind.value, reach.distance.value = "lstm", 8
        reach.forget_bias.value = 0.0
    forgets = reach.reach.relative[8]
    reach.forget_bias.value = 5.0
    keeps = reach.reach.relative[8]
    assert keeps > 10 * forgets
    reach.kind.value = "rnn"
    plain = reach.reach.relative[8]
    reach.orthogonal.value = True
    assert reach.reach.relative[8] > plain
    reach.orthogonal.value = False
    assert reach.reach.relative[8] == plain, "measured once"


def test_controls_are_shown_where_they_are_of_use(reach):
    for kind, shown in (("lstm", (True, False)), ("rnn", (False, True)), ("gru", (False, False))):
        reach.kind.value = kind
        displayed = [reach.forget_bias.layout.display, reach.orthogonal.layout.display]
        assert tuple(each != "none" for each in displayed) == shown


def test_the_distance_stays_within_the_length(reach):
    with reach.hold():
        reach.kind.value, reach.length.value = "rnn", 32
    reach.distance.value = 31
    reach.length.value = 16
    assert (reach.distance.value, reach.distance.max) == (15, 15)
    assert len(reach.reach.norms) == 16


def test_a_convolutions_distances_are_given_in_binary(reach):
    with reach.hold():
        reach.kind.value, reach.length.value, reach.distance.value = "convolution", 16, 7
    assert "7 is 111 in binary, with 3 one(s)" in reach.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 17}, "length=17 must be one of"),
        ({"length": 16, "distance": 16}, r"distance=16 must be in 1\.\.15"),
    ],
)
def test_a_reach_that_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReachExplorer(**arguments)
