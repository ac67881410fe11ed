from __future__ import annotations

import pytest

from sbldlib.panels.fill_explorer import MAX_CHARACTERS, Filled, FillExplorer

TOKENS = [(" self", 0.6), (" x", 0.3), ("$_<b>", 0.1)]


def fill(text: str, num: int) -> Filled:
    if "refuse" in text:
        raise ValueError("a row of 99 tokens is too long")
    gpt = [] if text.startswith("[MASK]") else TOKENS[::-1][:num]
    return Filled(bert=TOKENS[:num], gpt=gpt)


@pytest.fixture
def explorer():
    return FillExplorer(fill, text="def f([MASK]):")


def test_says_what_it_shows(explorer):
    assert explorer.text.startswith("BERT says ' self' 0.60, ' x' 0.30")
    assert "GPT says '$_<b>' 0.10" in explorer.text
    assert explorer.picture().data[:4] == b"\x89PNG"
    assert "<b>" not in explorer.line.value.replace("&lt;b&gt;", "")


def test_every_bar_is_within_its_axes():
    skewed = Filled(bert=[("a", 0.2)], gpt=[("b", 0.9), ("c", 0.05)])
    explorer = FillExplorer(lambda _text, _num: skewed, text="x = [MASK]")
    for ax in explorer._figure.axes:
        assert ax.get_xlim()[0] == 0 and ax.get_xlim()[1] >= 0.9


def test_draws_anew_as_it_is_typed(explorer):
    before = explorer.picture().data
    explorer.shown.value = 1
    assert len(explorer.filled.bert) == 1 and explorer.picture().data != before
    explorer.text_field.value = "[MASK] = 3"
    assert explorer.filled.gpt == [] and "nothing stands before the hole" in explorer.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no hole", r"the text has 0 \[MASK\]; write it once"),
        ("[MASK] [MASK]", r"the text has 2 \[MASK\]"),
        ("refuse [MASK]", "99 tokens is too long"),
        ("x" * MAX_CHARACTERS + "[MASK]", "are the most"),
    ],
)
def test_a_text_that_cannot_be_filled_is_said_and_the_picture_stays(explorer, text, message):
    before = explorer.picture().data
    explorer.text_field.value = text
    assert explorer.text.startswith("Not drawn: ")
    assert explorer.picture().data == before
    with pytest.raises(ValueError, match=message):
        FillExplorer(fill, text=text)


def test_fill_must_be_a_function():
    with pytest.raises(ValueError, match="fill=3 must be a function"):
        FillExplorer(3, text="[MASK]")
