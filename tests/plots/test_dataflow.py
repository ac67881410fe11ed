"""The animation's frames show the step they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sbldlib.models.encoder_decoder import EncoderDecoder
from sbldlib.plots.dataflow import (
    draw_filmstrip,
    draw_flow_step,
    flow_in_words,
    plot_flow_map,
    plot_flow_values,
)
from sbldlib.plots.theme import BLUE, ORANGE
from sbldlib.translation.dataflow import DataFlow, trace_translation

SYMBOLS = tuple("_^$abcdef")


def traced(num_layers: int = 2) -> DataFlow:
    sizes = {"vocabulary_size": 9, "width": 16, "context_length": 8, "num_decoder_layers": 2}
    model = EncoderDecoder.from_preset("tiny", num_encoder_layers=num_layers, seed=3, **sizes)
    return trace_translation(model, torch.tensor([[3, 4, 2]]), SYMBOLS, max_tokens=3)


@pytest.fixture(scope="module")
def flow() -> DataFlow:
    return traced()


def new_figure() -> Figure:
    return Figure(figsize=(7, 4.6), layout="constrained")


def place_of(flow: DataFlow, half: str, turn: int, layer: int | None, part: str) -> int:
    names = [(step.half, step.turn, step.layer, step.part) for step in flow.steps]
    return names.index((half, turn, layer, part))


def test_the_steps_box_is_dark_and_what_was_computed_is_tinted(flow):
    place = place_of(flow, "decoder", 2, 0, "cross_attention")
    ax = plot_flow_map(new_figure().subplots(), flow, place)
    colours = [patch.get_facecolor() for patch in ax.patches if isinstance(patch, Rectangle)]
    dark = [i for i, colour in enumerate(colours) if colour == to_rgba(BLUE)]
    names = [text.get_text() for text in ax.texts if text.get_text()]
    assert len(colours) == 6 + 8 and len(dark) == 1
    assert names[dark[0]] == "0 · cross-attention"
    assert colours.count(to_rgba("#cfe3f1")) == 6 + 2, "the encoder, and this turn so far"
    assert names[-1].split() == list(flow.read[:2]), "what the decoder has read"


@pytest.mark.parametrize(
    ("step", "num_read"),
    [
        (("encoder", 0, None, "embedding"), 0),
        (("encoder", 0, 1, "attention"), 1),
        (("decoder", 1, None, "embedding"), 0),
        (("decoder", 2, None, "embedding"), 1),  # what it wrote comes back
        (("decoder", 1, 1, "cross_attention"), 2),  # the memory too
    ],
)
def test_what_the_step_reads_is_orange(flow, step, num_read):
    ax = plot_flow_map(new_figure().subplots(), flow, place_of(flow, *step))
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    orange = [arrow for arrow in arrows if arrow.get_edgecolor() == to_rgba(ORANGE)]
    assert len(arrows) == 5 + 7 + 2 + 1 and len(orange) == num_read


def test_the_values_are_the_steps_own_with_their_tokens(flow):
    place = place_of(flow, "encoder", 0, None, "memory")
    ax = plot_flow_values(new_figure().subplots(), flow, place)
    image = ax.images[0]
    assert np.array_equal(image.get_array(), flow.steps[place].values.numpy())
    low, high = image.get_clim()
    assert low == -high == pytest.approx(-float(flow.steps[place].values.abs().max()))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", r"\$"]
    assert "3 tokens × 16" in ax.get_xlabel()


def test_the_next_token_is_the_longest_bar(flow):
    place = place_of(flow, "decoder", 1, None, "next")
    ax = plot_flow_values(new_figure().subplots(), flow, place)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(widths, reverse=True) and len(widths) == 5
    assert widths[0] == pytest.approx(float(flow.steps[place].values.max()))
    assert ax.get_yticklabels()[0].get_text() == flow.written[0].replace("$", r"\$")


def test_every_step_is_drawn_and_said(flow):
    said = [flow_in_words(flow, place) for place in range(len(flow.steps))]
    assert len(set(said)) == len(said)
    assert said[0].startswith(f"Step 1 of {len(said)}: encoder, embedding + position. ")
    assert said[0].endswith(" plus its position's row: 3 tokens × 16.")
    assert "1 query of the decoder, 3 rows of the memory" in said[8]
    assert "goes back in" in said[place_of(flow, "decoder", 1, None, "next")]
    assert "the sentence ends here" in said[-1]
    for place in (0, len(flow.steps) // 2, len(flow.steps) - 1):
        figure = new_figure()
        draw_flow_step(figure, flow, place)
        figure.draw_without_rendering()


def test_of_a_long_sentence_the_first_tokens_are_named():
    sizes = {"vocabulary_size": 9, "width": 16, "context_length": 30}
    model = EncoderDecoder.from_preset("tiny", **sizes)
    flow = trace_translation(model, torch.full((1, 30), 3), SYMBOLS, max_tokens=1)
    ax = plot_flow_map(new_figure().subplots(), flow, 0)
    assert ["a"] * 20 + ["…"] in [text.get_text().split() for text in ax.texts]


def test_a_filmstrip_has_a_frame_a_step(flow):
    figure = new_figure()
    draw_filmstrip(figure, flow, [0, 3, 6, len(flow.steps) - 1])
    figure.draw_without_rendering()
    titles = [ax.get_title() for ax in figure.axes if ax.axison]
    assert [int(title.split(" · ")[0]) for title in titles] == [1, 4, 7, len(flow.steps)]


def test_what_cannot_be_drawn_is_refused(flow):
    for place in (-1, len(flow.steps)):
        with pytest.raises(ValueError, match=f"place={place} is outside"):
            draw_flow_step(new_figure(), flow, place)
    with pytest.raises(ValueError, match="at least one is needed"):
        draw_filmstrip(new_figure(), flow, [])
    with pytest.raises(ValueError, match=r"num_layers=\(5, 2\): at most 4"):
        draw_flow_step(new_figure(), traced(5), 0)
