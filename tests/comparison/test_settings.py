"""What a comparison refuses before it trains anything."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from sbldlib.comparison import ARMS, COMPARISONS, Comparison, Table

TABLE = Table(budget="steps", arms=(ARMS["full depth"], ARMS["sbld"]))
GOOD = Comparison(name="x", tables=(TABLE,))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("preset", "tinny", r"preset='tinny'.*'tiny'"),
        ("mode", "fixed", r"mode='fixed'.*'fixed_count'"),
        ("device", "gpu", r"device='gpu'"),
        ("tables", (), r"tables=\(\)"),
        ("seeds", (), r"seeds=\(\)"),
        ("seeds", (1, 1), r"seeds=\(1, 1\)"),
        ("seeds", (-1,), r"seeds=-1"),
        ("saving", 0.0, r"saving=0.0.*\(0, 0.5\]"),
        ("saving", 0.6, r"saving=0.6"),
        ("learning_rate", 0.0, r"learning_rate=0.0"),
        ("steps", 0, r"steps=0"),
        ("steps", 10.5, r"steps=10.5"),
        ("batch_size", 0, r"batch_size=0"),
        ("warmup_steps", 0, r"warmup_steps=0"),
        ("sensitivity_batches", 1, r"sensitivity_batches=1.*at least 2"),
        ("pilot_steps", 19, r"pilot_steps=19.*at least 20"),
        ("pilot_pairs", 0, r"pilot_pairs=0"),
        ("threads", 0, r"threads=0"),
        ("text_vocabulary", 1000, r"text_vocabulary=1000 is outside 256\.\.512"),
        ("model", {"num_layers": 0}, r"num_layers=0"),
    ],
)
def test_bad_settings_are_named(field, value, named):
    with pytest.raises(ValueError, match=named):
        replace(GOOD, **{field: value})


def test_a_table_needs_two_different_arms_and_a_known_budget():
    with pytest.raises(ValueError, match="two or more"):
        Table(budget="steps", arms=(ARMS["sbld"],))
    with pytest.raises(ValueError, match="different names"):
        Table(budget="steps", arms=(ARMS["sbld"], ARMS["sbld"]))
    with pytest.raises(ValueError, match=r"budget='time'.*flops"):
        Table(budget="time", arms=(ARMS["full depth"], ARMS["sbld"]))
    with pytest.raises(ValueError, match=r"arm='full dept'.*'full depth'"):
        Table(budget="steps", arms=("full dept", "sbld"))


def test_the_depth_control_fits_the_start():
    pruned = Table(budget="flops", arms=(ARMS["full depth"], ARMS["pruned"]))
    with pytest.raises(ValueError, match=r"pretrain_steps=0: 'pruned'"):
        replace(GOOD, tables=(pruned,))
    shallower = Table(budget="flops", arms=(ARMS["full depth"], ARMS["shallower"]))
    with pytest.raises(ValueError, match=r"pretrain_steps=5.*'pruned'"):
        replace(GOOD, tables=(shallower,), pretrain_steps=5)
    replace(GOOD, tables=(pruned,), pretrain_steps=5, warmup_steps=0)


@pytest.mark.parametrize("saving", [0.1, 0.25, 0.4, 0.5])
def test_the_shallower_control_has_as_many_layers_as_dropping_runs(saving):
    known = replace(GOOD, saving=saving, model={"num_layers": 20})
    assert known.layers_at("shallower") == known.layers_at("pruned") == round(20 * (1 - saving))
    assert (known.layers_at("full"), known.layers_at("half")) == (20, 10)


def test_what_is_shared_is_all_but_name_tables_and_seeds():
    names = {field.name for field in fields(Comparison)}
    assert GOOD.shared().keys() == names - {"name", "tables", "seeds"}


@pytest.mark.parametrize("known", COMPARISONS.values(), ids=lambda known: known.name)
def test_every_preset_has_full_depth_and_a_depth_control(known):
    for table in known.tables:
        assert any((arm.method, arm.depth) == ("none", "full") for arm in table.arms)
    assert COMPARISONS[known.name] is known
    depths = {arm.depth for table in known.tables for arm in table.arms}
    assert depths - {"full"}


def test_the_search_uses_seeds_of_its_own():
    searched = {name for name in COMPARISONS if name.startswith("search")}
    evidence = {seed for name in COMPARISONS.keys() - searched for seed in COMPARISONS[name].seeds}
    assert searched and not any(evidence & set(COMPARISONS[name].seeds) for name in searched)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("tables", [None], "tables=None must be a Table"),
        ("tables", "steps", "tables='steps' must be a list"),
        ("seeds", (0, 0), r"seeds=\(0, 0\) must be one or more different"),
        ("saving", "0.25", "saving='0.25' must be a number"),
        ("model", {"widht": 8}, "model='widht' is not known.*did you mean 'width'"),
        ("model", [], r"model=\[\] must be a dict"),
        ("arithmetic_rows", 16, "arithmetic_rows=16 leaves no row of text"),
        ("text_vocabulary", "300", "text_vocabulary='300' must be a whole number"),
        ("compile_blocks", "no", "compile_blocks='no' must be True or False"),
        ("precision", "half", "precision='half' is not known"),
        ("threads", 10**9, "threads=1000000000 must be at most 1024"),
        ("name", 3, "name=3 must be text"),
    ],
)
def test_what_would_fail_in_the_midst_of_a_comparison_is_refused_at_its_door(field, value, named):
    with pytest.raises(ValueError, match=named):
        replace(COMPARISONS["cpu"], **{field: value})


def test_numbers_of_any_kind_become_plain_ones_for_the_records():
    settings = replace(COMPARISONS["cpu"], saving=np.float32(0.25), steps=np.int64(7))
    assert json.loads(json.dumps(settings.shared()))["saving"] == 0.25
    assert type(settings.steps) is int
