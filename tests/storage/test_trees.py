"""Trees: the same after a file as before it, and nothing else passes for one."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.storage.trees import TreeError, pack, unpack

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def there_and_back(tree):
    packed, tensors = pack(tree)
    return unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)


@given(trees)
def test_a_tree_comes_back_with_its_types(tree):
    back = there_and_back(tree)
    assert back == tree and repr(back) == repr(tree)


def test_a_number_that_is_not_finite_comes_back():
    back = there_and_back({"a": [math.inf, -math.inf], "b": math.nan})
    assert back["a"] == [math.inf, -math.inf] and math.isnan(back["b"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_bit_for_bit(dtype):
    tensor = (torch.randn(3, 4) > 0).to(dtype)
    back = there_and_back({"a": tensor, "b": (tensor.t(), tensor[:0])})
    assert torch.equal(back["a"], tensor) and back["a"].dtype == dtype
    assert torch.equal(back["b"][0], tensor.t()) and back["b"][1].shape == (0, 4)


def test_a_tied_weight_is_kept_once_and_is_one_again():
    weight = torch.randn(5)
    packed, tensors = pack({"model": {"in": weight, "out": weight}, "part": weight[:2]})
    assert list(tensors) == ["model.in", "part"]
    assert tensors["part"].untyped_storage().nbytes() == 8  # not the whole that it is part of
    back = unpack(packed, tensors)
    assert back["model"]["in"] is back["model"]["out"]


def test_paths_that_read_alike_are_two():
    one, other = torch.zeros(1), torch.ones(1)
    back = there_and_back({"a": {"b": one}, "a.b": other})
    assert back["a"]["b"] == 0 and back["a.b"] == 1


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"optimizer": {"rule": lambda: 0}}, r"optimizer\.rule: function cannot be kept"),
        ({"a": [1, {2}]}, r"a\.1: set cannot be kept"),
        ({"a": Fraction(1, 2)}, "a: Fraction cannot be kept"),
        ({"a": {(1, 2): 3}}, r"a: key \(1, 2\) must be text or a whole number"),
        ({"a": b"bytes"}, "a: bytes cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_named(tree, words):
    with pytest.raises(TreeError, match=words):
        pack(tree)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ({"a": {"$tensor": "gone"}}, "a: the tensor 'gone' is not there"),
        ({"a": {"$tensor": ["x"]}}, "a: .* is nothing that was kept"),
        ({"a": {"$call": "os.system"}}, r"a: '\$call' is not known"),
        ({"a": {"$float": "1e999"}}, "a: '1e999' is no number"),
        ({"a": {"$items": [1]}}, "a: .* is nothing that was kept"),
        ({"a": {"$tuple": 3}}, "a: .* is nothing that was kept"),
        ({"a": {"$tuple": [], "b": 1}}, "a: .* is nothing that was kept"),
    ],
)
def test_what_was_never_packed_is_refused(packed, words):
    with pytest.raises(TreeError, match=words):
        unpack(packed, {})


def test_nesting_has_an_end():
    packed: object = 1
    for _ in range(60):
        packed = [packed]
    with pytest.raises(TreeError, match="nested more than 50 deep"):
        unpack(packed, {})
