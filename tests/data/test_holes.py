from __future__ import annotations

import pytest
import torch
from lined import SYMBOLS, made_files

from sbldlib.data.holes import draw_holes

SETTINGS = {"symbols": SYMBOLS, "context_length": 43, "num": 30, "place": 8}


def test_all_rows_ask_for_the_same_tokens():
    holes = draw_holes(made_files(), **SETTINGS)
    assert holes.left_BT.shape == (30, 8) and holes.targets_B.shape == (30,)
    for rows in (holes.both, holes.left_only):
        tokens = rows["input_ids"]
        assert (tokens == SYMBOLS.mask).sum(1).eq(1).all()
        assert (tokens[:, 9] == SYMBOLS.mask).all()  # [CLS] stands before the 8
        assert torch.equal(tokens[:, 1:9], holes.left_BT)
    assert holes.left_only["attention_mask"].sum(1).eq(11).all()
    assert (holes.both["attention_mask"].sum(1) > 30).all()


def test_with_the_target_put_back_it_is_the_files_text():
    files = made_files()
    holes = draw_holes(files, **SETTINGS)
    for row, file in enumerate(holes.files):
        tokens = holes.both["input_ids"][row].clone()
        tokens[9] = holes.targets_B[row]
        text = tokens[tokens < 256].tolist()
        whole = files[file].tokens.tolist()
        assert any(whole[i : i + len(text)] == text for i in range(len(whole)))


def test_draws_are_a_function_of_the_seed():
    one, same = draw_holes(made_files(), **SETTINGS), draw_holes(made_files(), **SETTINGS)
    assert torch.equal(one.targets_B, same.targets_B)
    assert not torch.equal(one.targets_B, draw_holes(made_files(), **SETTINGS, seed=1).targets_B)


def test_bad_places():
    with pytest.raises(ValueError, match="place=15 must be at most 14"):
        draw_holes(made_files(), **{**SETTINGS, "place": 15})
    with pytest.raises(ValueError, match="num=0 must be at least 1"):
        draw_holes(made_files(), **{**SETTINGS, "num": 0})
