"""The attention viewer without a browser: what each control shows, and bad input in words."""

from __future__ import annotations

import pytest
import torch

from sbldlib.measure.attention import AttentionMaps
from sbldlib.panels.attention_viewer import AttentionViewer


def made(queries: list[str], keys: list[str], num_layers: int = 2, num_heads: int = 3):
    """Maps in which layer l, head h looks l + h places on; the rest is shared by all."""
    weights = torch.full((num_layers, num_heads, len(queries), len(keys)), 0.2 / len(keys))
    for layer in range(num_layers):
        for head in range(num_heads):
            for query in range(len(queries)):
                weights[layer, head, query, (query + layer + head) % len(keys)] += 0.8
    return AttentionMaps(weights_LHTS=weights, queries=tuple(queries), keys=tuple(keys))


def attend(sentence: str):
    words = sentence.split()
    if "zzz" in words:
        raise ValueError("'zzz' is no symbol of this vocabulary")
    return {
        "encoder": made(words, words),
        "cross": made([w.upper() for w in words], words, 1, 8),
    }


@pytest.fixture
def viewer() -> AttentionViewer:
    return AttentionViewer(attend, sentence="one two three")


def test_it_says_and_draws_the_strongest_links(viewer):
    assert viewer.text.startswith("encoder, layer 0, head ")
    viewer.heads.value = (1,)
    assert "head 1: 'one' looks at 'two' (0.87)" in viewer.text
    before = viewer.picture().data
    viewer.layer.value = 1
    assert "encoder, layer 1, head 1: " in viewer.text and "'one' looks at 'three'" in viewer.text
    assert viewer.picture().data != before and viewer.text in viewer.line.value.replace(
        "&#x27;", "'"
    )


def test_one_token_is_enough(viewer):
    viewer.heads.value = (0,)
    viewer.token.value = "2"
    assert viewer.text.startswith("encoder, layer 0, head 0: 'three' looks at 'three' (0.87); ")
    assert "'one' looks" not in viewer.text
    assert [label for label, _ in viewer.token.options] == [
        "all tokens",
        "0: one",
        "1: two",
        "2: three",
    ]


@pytest.mark.parametrize("view", ["head", "model", "map"])
def test_every_view_is_another_picture_with_the_controls_it_uses(view):
    viewer = AttentionViewer(attend, sentence="one two three", view=view)
    shown = {
        name
        for name in ("attention", "layer", "heads", "token")
        if getattr(viewer, name).layout.display == ""
    }
    used = {"head": {"layer", "heads", "token"}, "model": set(), "map": {"layer", "heads"}}
    assert shown == {"attention"} | used[view]
    assert "Not drawn" not in viewer.text and viewer.picture().data[:4] == b"\x89PNG"
    others = {v: AttentionViewer(attend, sentence="one two three", view=v) for v in used}
    assert len({other.picture().data for other in others.values()}) == 3


def test_another_attention_offers_its_own_layers_heads_and_tokens(viewer):
    viewer.layer.value = 1
    viewer.attention.value = "cross"
    assert viewer.layer.max == 0 and viewer.layer.value == 0
    assert [head for _, head in viewer.heads.options] == list(range(8))
    assert viewer.token.options[1] == ("0: ONE", "0")
    assert viewer.text.startswith("cross, layer 0, head ")


def test_another_sentence_is_attended_once_and_what_was_chosen_stays(viewer):
    viewer.heads.value = (2,)
    asked = []
    viewer._attend = lambda sentence: asked.append(sentence) or attend(sentence)
    viewer.sentence.value = "four five six seven"
    viewer.view.value = "map"
    viewer.layer.value = 1
    assert asked == ["four five six seven"] and tuple(viewer.heads.value) == (2,)
    assert viewer.maps["encoder"].keys == ("four", "five", "six", "seven")
    assert viewer.text.startswith("encoder, layer 1, head 2: ")


def test_one_attention_without_a_name_needs_no_choice():
    viewer = AttentionViewer(lambda s: made(s.split(), s.split()), sentence="one two")
    assert list(viewer.maps) == ["self-attention"]
    assert viewer.attention.layout.display == "none"


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("", "the sentence is empty"),
        ("   ", "the sentence is empty"),
        ("one zzz", "'zzz' is no symbol of this vocabulary"),
        ("a " * 41, "41 tokens are more than the 40"),
        ("a" * 2001, "2001 characters; 2000 are the most"),
    ],
)
def test_bad_input_is_said_and_the_last_picture_stays(viewer, sentence, said):
    before = viewer.picture().data
    viewer.sentence.value = sentence
    assert viewer.text.startswith("Not drawn: ") and said in viewer.text
    assert viewer.picture().data == before
    viewer.layer.value = 1
    assert viewer.text.startswith("Not drawn: "), "the sentence is still bad"
    viewer.sentence.value = "one two three"
    assert viewer.text.startswith("encoder, layer 1")


def test_too_many_heads_or_none_are_refused_in_words(viewer):
    viewer.attention.value = "cross"
    viewer.heads.value = tuple(range(7))
    assert "must be 1 to 6" in viewer.text
    viewer.heads.value = ()
    assert "no head is marked" in viewer.text
    viewer.heads.value = (7,)
    assert viewer.text.startswith("cross, layer 0, head 7: ")


def test_the_model_view_names_the_sharpest_map():
    def one_is_sharp(sentence):
        weights = torch.full((2, 2, 2, 2), 0.5)
        weights[1, 0] = torch.eye(2)
        return AttentionMaps(weights_LHTS=weights, queries=("p", "q"), keys=("r", "s"))

    viewer = AttentionViewer(one_is_sharp, sentence="p q", view="model")
    assert viewer.text.startswith(
        "self-attention: the sharpest map is layer 1, head 0: 'q' looks at 's' (1.00); "
    )


def test_no_maps_are_refused():
    with pytest.raises(ValueError, match="no attention for this sentence"):
        AttentionViewer(lambda _: {}, sentence="one")


def test_long_sentences_are_shown_by_the_model_view(viewer):
    viewer.view.value = "model"
    viewer.sentence.value = "a " * 200
    assert "Not drawn" not in viewer.text


def test_a_first_sentence_that_cannot_be_shown_is_refused_at_the_door():
    with pytest.raises(ValueError, match="is empty"):
        AttentionViewer(attend, sentence=" ")
    with pytest.raises(ValueError, match="attend=7 must be a function"):
        AttentionViewer(7, sentence="one")
