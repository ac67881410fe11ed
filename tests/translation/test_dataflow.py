"""What was seen is what the model computes, in the order in which it computes it."""

from __future__ import annotations

import pytest
import torch

from sbldlib.models.beam import greedy_decode
from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.translation.dataflow import trace_translation

SYMBOLS = tuple("_^$abcdef")
SOURCE = torch.tensor([[3, 4, 5, 2]])


@pytest.fixture
def model() -> EncoderDecoder:
    sizes = {"vocabulary_size": len(SYMBOLS), "width": 16, "context_length": 8}
    return EncoderDecoder.from_preset("tiny", num_decoder_layers=1, seed=3, **sizes)


def test_the_order_is_that_of_the_model(model):
    flow = trace_translation(model.train(), SOURCE, SYMBOLS, max_tokens=2)
    assert model.training and flow.source == ("a", "b", "c", "$") and flow.num_layers == (2, 1)
    names = [(step.half, step.turn, step.layer, step.part) for step in flow.steps]
    encoder = [("encoder", 0, None, "embedding")]
    encoder += [("encoder", 0, layer, p) for layer in (0, 1) for p in ("attention", "feed_forward")]
    encoder += [("encoder", 0, None, "memory")]
    decoder = [
        ("decoder", turn, layer, part)
        for turn in range(1, len(flow.written) + 1)
        for layer, part in (
            (None, "embedding"),
            (0, "attention"),
            (0, "cross_attention"),
            (0, "feed_forward"),
            (None, "next"),
        )
    ]
    assert names == encoder + decoder


def test_the_values_are_those_of_a_plain_run(model):
    flow = trace_translation(model, SOURCE, SYMBOLS, max_tokens=3)
    found = {(step.turn, step.layer, step.part): step for step in flow.steps}
    with torch.no_grad():
        memory, mask = model.eval().encode(SOURCE)
    torch.testing.assert_close(found[0, None, "memory"].values, memory[0])
    block = model.encoder.blocks[0]
    x = found[0, None, "embedding"].values
    with torch.no_grad():
        x = x + found[0, 0, "attention"].values
        torch.testing.assert_close(
            found[0, 0, "feed_forward"].values, block.feed_forward(block.norm2(x))
        )
    written = torch.tensor([[1]])
    for turn in range(1, len(flow.written) + 1):
        step = found[turn, None, "next"]
        with torch.no_grad():
            chances = model.decode(written, memory, mask)[0, -1].softmax(-1)
        torch.testing.assert_close(step.values[0], chances)
        assert found[turn, 0, "cross_attention"].values.shape == (turn, 16)
        assert found[turn, 0, "cross_attention"].rows == flow.read[:turn]
        written = torch.cat((written, chances.argmax()[None, None]), 1)


def test_it_writes_what_greedy_decoding_writes_and_leaves_no_hook(model):
    flow = trace_translation(model, SOURCE, SYMBOLS)
    (expected,) = greedy_decode(model, SOURCE)
    tokens = tuple(SYMBOLS.index(symbol) for symbol in flow.written)
    assert tokens == expected.tokens + (2,) * expected.ended
    assert flow.read == ("^", *flow.written[:-1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (SOURCE[0], {}, r"shape \(4,\) must be \[1, tokens\]"),
        (SOURCE.repeat(2, 1), {}, r"shape \(2, 4\) must be \[1, tokens\]"),
        (SOURCE, {"max_tokens": 9}, "max_tokens=9"),
        (SOURCE, {"symbols": SYMBOLS[:-1]}, "symbols: 8 of them; the model's vocabulary_size=9"),
        (SOURCE + 9, {}, "outside vocabulary_size=9"),
        (SOURCE * 0, {}, "empty sentence"),
        (SOURCE.repeat(1, 3), {}, "12 tokens exceeds context_length=8"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_hook(model, source, settings, message):
    with pytest.raises(ValueError, match=message):
        trace_translation(model, source, **{"symbols": SYMBOLS, **settings})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
