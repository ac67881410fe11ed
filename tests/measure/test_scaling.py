"""Laws of length against counts of the whole, Brent's bounds, and bytes that are kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.measure import measure_parallelism
from sbldlib.measure.graph import written_out
from sbldlib.measure.scaling import count_kept_bytes, count_parallelism, time_bounds
from sbldlib.models.recurrent import KINDS, SequenceConfig, SequenceModel


def config_of(kind: str, num_tokens: int) -> SequenceConfig:
    return SequenceConfig(kind=kind, vocabulary_size=11, context_length=num_tokens, width=8)


def batch_of(num_tokens: int, rows: int = 2):
    tokens_BT = torch.zeros(rows, num_tokens, dtype=torch.long)
    return tokens_BT, tokens_BT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_tokens", [1, 2, 9, 33])
def test_foretold_counts_are_those_of_the_whole(kind, num_tokens):
    config = config_of(kind, num_tokens)
    assert count_parallelism(config, 3) == measure_parallelism(
        SequenceModel(config), batch_of(num_tokens, 3)
    )


def test_a_long_context_costs_a_recurrent_model_nothing():
    counted = count_parallelism(config_of("rnn", 2**15))
    assert counted.longest_path > 3 * 2**15


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6), st.floats(1, 1e6))
def test_bounds_hold_what_brent_says(work, span, processors):
    low, high = time_bounds(work, span, processors)
    assert low >= work / processors and low >= span
    assert low <= high <= 2 * low  # a sum is at most twice the larger
    assert time_bounds(work, span, 2 * processors)[0] <= low


def test_a_chain_is_not_shortened_by_processors():
    assert time_bounds(100.0, 7.0, 1)[0] == 100
    assert time_bounds(100.0, 7.0, 10) == (10, 17)
    assert time_bounds(100.0, 7.0, 1e9)[0] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0, 1.0, 2), "work=0"), ((1.0, -1.0, 2), "span=-1"), ((1.0, 1.0, 0.5), "processors=0.5")],
)
def test_bounds_of_nonsense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        time_bounds(*arguments)


def test_written_out_weights_grow_with_the_square_of_the_length():
    kept = {}
    for num_tokens in (64, 128):
        model = SequenceModel(config_of("attention", num_tokens))
        with written_out():
            kept[num_tokens] = count_kept_bytes(model, batch_of(num_tokens))
    weights = 2 * 2 * 2 * 4  # layers, rows, heads, bytes
    squares = weights * (128**2 - 2 * 64**2)  # what is left where lines over the length cancel
    assert kept[128] - 2 * kept[64] == pytest.approx(squares, rel=1e-3)


def test_a_recurrent_model_keeps_as_much_for_each_token():
    kept = [count_kept_bytes(SequenceModel(config_of("rnn", n)), batch_of(n)) for n in (16, 32, 48)]
    assert kept[2] - kept[1] == kept[1] - kept[0] > 0


def test_weights_are_not_counted_and_inputs_once():
    model = torch.nn.Linear(4, 4)
    x_BD = torch.ones(3, 4)

    def loss(model, batch):
        return (model(batch) + model(batch)).sum()

    assert count_kept_bytes(model, x_BD, loss=loss) == x_BD.numel() * 4
