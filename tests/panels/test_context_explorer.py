"""The explorer of contexts: its rules are those of the model, its words those of its picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sbldlib.measure import measure_causality
from sbldlib.models.conv_gpt import ConvGPT
from sbldlib.panels.context_explorer import KINDS, ContextExplorer


@pytest.fixture
def explorer() -> ContextExplorer:
    return ContextExplorer()


def pixels(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.picture().data)).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("merge", "levels"), [(2, 3), (3, 2)])
def test_every_position_sees_what_its_model_measures(kind, merge, levels):
    explorer = ContextExplorer(kind, merge=merge, levels=levels, position=0)
    model = ConvGPT(explorer.config)
    for compressor in model.compressors:
        compressor.shift = explorer.shift
    tokens_BT = torch.zeros(1, explorer.config.context_length, dtype=torch.int64)
    found = measure_causality(model, tokens_BT, offset=explorer.offset)
    leaking = {i for i, _ in found.leaks}
    for position in range(explorer.position.max + 1):
        explorer.position.value = position
        row = found.influence[position]
        assert explorer.route.last_seen == max(j for j, value in enumerate(row) if value)
        assert explorer.route.is_honest == (position not in leaking)
        assert ("SEES ITS ANSWER" in explorer.text) == (position in leaking)


def test_it_begins_with_the_honest_model_and_says_what_it_reads(explorer):
    assert explorer.text == (
        "Output 21 reads vector 21 of level 0 (tokens up to 21), vector 5 of level 1 (tokens up to "
        "20), vector 1 of level 2 (tokens up to 16). So it sees tokens 0 to 21, and predicts token "
        "22. It is honest: the target comes 1 after the last token that is seen."
    )
    assert explorer.text in explorer.line.value


def test_ahead_reads_the_innermost_level_alone_and_its_targets_are_1_to_span_away(explorer):
    explorer.kind.value = "ahead"
    assert "Output 21 reads vector 1 of level 2 (tokens up to 31)." in explorer.text
    distances = []
    for position in range(16):
        explorer.position.value = position
        distances.append(explorer.route.target - explorer.route.last_seen)
    assert distances == list(range(1, 17))


def test_fewer_levels_keep_the_position_within_two_spans(explorer):
    with explorer.hold():
        explorer.levels.value, explorer.position.value = 3, 30
    explorer.levels.value = 2
    assert (explorer.position.max, explorer.position.value) == (7, 7)
    assert explorer.config.widths == (4, 8) and explorer.config.span == 4
    assert "Output 7 reads" in explorer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", "ahead"), ("merge", 3), ("levels", 2), ("position", 5)],
)
def test_every_control_draws_another_picture(explorer, name, value):
    before = pixels(explorer)
    getattr(explorer, name).value = value
    assert (pixels(explorer) != before).any()


@pytest.mark.parametrize(("merge", "levels"), [(2, 2), (4, 4)])
def test_the_ends_of_the_sliders_are_drawn(explorer, merge, levels):
    with explorer.hold():
        explorer.merge.value, explorer.levels.value = merge, levels
    explorer.position.value = explorer.position.max
    assert "Not drawn" not in explorer.text
    assert explorer.position.max == 2 * merge ** (levels - 1) - 1


def test_the_picture_is_small(explorer):
    assert pixels(explorer).shape[1] == 720 and len(explorer.picture().data) < 200_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "nxt"}, "kind='nxt' is not known.*did you mean 'next'"),
        ({"merge": 5}, "merge=5"),
        ({"levels": 1}, "levels=1"),
        ({"position": 32}, "position=32"),
    ],
)
def test_what_no_control_has_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContextExplorer(**arguments)
