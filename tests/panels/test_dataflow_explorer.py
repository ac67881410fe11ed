"""The animation without a browser."""

from __future__ import annotations

import pytest
import torch

from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.panels.dataflow_explorer import DataFlowExplorer
from sbldlib.translation.dataflow import DataFlow, trace_translation

SYMBOLS = tuple("_^$abcdef")


@pytest.fixture
def explorer() -> DataFlowExplorer:
    sizes = {"vocabulary_size": 9, "width": 16, "context_length": 8}
    model = EncoderDecoder.from_preset("tiny", seed=3, **sizes)

    def trace(sentence: str) -> DataFlow:
        if set(sentence) - set(SYMBOLS):
            raise ValueError(f"{sentence!r} holds no symbols of this vocabulary")
        tokens = [SYMBOLS.index(letter) for letter in sentence]
        return trace_translation(model, torch.tensor([tokens]), SYMBOLS, max_tokens=3)

    return DataFlowExplorer(trace, sentence="abc$")


def test_the_slider_and_the_button_move_together_through_all_steps(explorer):
    assert explorer.step.max == explorer.play.max == len(explorer.flow.steps)
    assert (
        explorer.text.startswith("Step 1 of ")
        and explorer.play in explorer.widget.children[1].children
    )
    before = explorer.picture().data
    explorer.play.value = 3
    assert explorer.step.value == 3 and explorer.text.startswith("Step 3 of ")
    assert explorer.picture().data != before
    explorer.step.value = 2
    assert explorer.play.value == 2


def test_another_sentence_is_traced_anew(explorer):
    explorer.step.value = explorer.step.max
    before = explorer.flow
    explorer.sentence.value = "ab$"
    assert explorer.flow is not before and explorer.flow.source == ("a", "b", "$")
    assert explorer.step.max == len(explorer.flow.steps) >= explorer.step.value
    assert f"of {len(explorer.flow.steps)}" in explorer.text


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        (" ", "the sentence is empty"),
        ("xyz", "'xyz' holds no symbols"),
        ("abcabcabc", "9 tokens exceeds context_length=8"),
    ],
)
def test_bad_input_is_said_and_the_last_picture_stays(explorer, sentence, said):
    before = explorer.picture().data
    explorer.sentence.value = sentence
    assert explorer.text.startswith("Not drawn: ") and said in explorer.text
    assert explorer.picture().data == before
