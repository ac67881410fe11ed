"""The demonstration end to end, on sizes that take seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sbldlib.demo import ARMS, DemoConfig, DemoRecord, run_demo
from sbldlib.dropping.allocation import mean_keep_of
from sbldlib.figures import COLUMNS, demo_limits, demo_rows, save_demo_figures
from sbldlib.records import PilotData

SMALL = DemoConfig(
    warmup_steps=12, pilot_steps=20, num_pilot_pairs=1, steps=20, batch_size=4,
    arithmetic_rows=1, num_validation_batches=2, num_problems=20, seed=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def told():
    stages, steps = [], []
    record = run_demo(SMALL, on_stage=lambda *stage: stages.append(stage), on_step=steps.append)
    return record, stages, steps


def test_goes_through_every_part_in_order(told):
    record, stages, steps = told
    names = [name for name, _ in stages]
    assert names[0] == "warm-up" and names[1] == "sensitivities" and names[-2] == "PWEGD fit"
    assert "pilot baseline, seed 4" in names and "pilot dropping, seed 4" in names
    assert sum(total for _, total in stages) == len(steps) == 12 + 2 * 20 + 4 * 20
    assert record.preanalysis_seconds.keys() == {"warm-up", "sensitivities", "pilot", "fit"}


def test_stopped_anywhere_it_goes_on_to_the_same_record(told, tmp_path):
    record, _, steps = told
    for done in (5, 30, 70):  # in the warm-up, the pilot, the arms
        left = iter(range(done))

        def stop(_, left=left):
            if next(left, None) is None:
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            run_demo(SMALL, folder=tmp_path, on_step=stop)
    more: list = []
    again = run_demo(SMALL, folder=tmp_path, on_step=more.append)
    assert 0 < len(more) < len(steps) and not any(tmp_path.iterdir())
    for name in ("sensitivity", "fit", "losses", "keep_probability", "layers_run"):
        assert getattr(again, name) == getattr(record, name), name
    assert again.preanalysis_seconds["pilot"] == again.pilot["seconds"] > 0


def test_arms_of_equal_steps_learn(told):
    record, *_ = told
    assert [row["arm"] for row in record.table] == list(ARMS)
    for losses in record.losses.values():
        assert len(losses) == SMALL.steps and losses[-1] < losses[0] - 0.5
    # one seed: the first batch meets the same weights, before anything was dropped by PLD
    assert record.losses["pld"][0] == record.losses["full depth"][0]


def test_table_holds_what_was_realised(told):
    record, *_ = told
    rows = {row["arm"]: row for row in record.table}
    assert rows["full depth"]["layers_not_run"] == rows["full depth"]["flops_saved"] == 0
    ran = [len(layers) for layers in record.layers_run]
    assert rows["sbld"]["layers_not_run"] == pytest.approx(1 - sum(ran) / (8 * SMALL.steps))
    assert rows["shallower"]["layers_not_run"] == 0.25  # 6 layers where the others have 8
    for row in record.table:
        assert row["flops_saved"] == pytest.approx(row["ceiling"], abs=1e-9)
        assert 0 <= row["accuracy"] <= 1


def test_sbld_spares_the_block_list_and_drops_what_was_asked(told):
    record, *_ = told
    block = record.lists["block"]
    assert all(set(block) <= set(layers) for layers in record.layers_run)
    means = [mean_keep_of(keep) for keep in record.keep_probability]
    assert sum(means) / len(means) == pytest.approx(1 - SMALL.saving, abs=1e-9)


def test_pilot_has_its_own_seed(told):
    record, *_ = told
    pilot = PilotData.from_dict(record.pilot)
    assert pilot.seeds == (4,) and pilot.baseline_losses[0] != record.losses["full depth"]


def test_record_survives_json_and_draws_its_figures(told, tmp_path):
    record, *_ = told
    record = DemoRecord.load(record.save(tmp_path / "demo.json"))
    assert record == told[0]
    files = save_demo_figures(record, tmp_path / "figures")
    assert [f.stem for f in files] == ["sensitivity", "variance_fit", "keep_probability", "losses"]
    assert all(f.read_bytes().startswith(b"\x89PNG") and f.stat().st_size > 8000 for f in files)


def test_table_as_text_and_its_limits(told):
    record, *_ = told
    header, *rows = demo_rows(record)
    assert len(header) == len(COLUMNS) and [row[0] for row in rows] == list(ARMS)
    assert rows[0][4] == "0.0%"
    assert "One seed" in demo_limits(record) and "25%" in demo_limits(record)


def test_time_saved_is_against_the_first_arm(told):
    record, *_ = told
    first, *others = record.table
    assert first["time_saved"] == 0
    for row in others:
        assert row["time_saved"] == pytest.approx(1 - row["seconds"] / first["seconds"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"saving": 0.5}, r"saving=0.5 is outside \(0, 0.4\]"),
        ({"saving": 0.0}, r"saving=0.0 is outside"),
        ({"steps": 0}, r"steps=0 must be at least 1"),
        ({"pilot_steps": 5}, r"pilot_steps=5 must be at least 20"),
        ({"num_problems": 2.5}, r"num_problems=2.5 must be a whole number"),
        ({"preset": "tinny"}, r"preset='tinny'.*'tiny'"),
    ],
)
def test_bad_settings_are_named_before_any_work(values, message):
    with pytest.raises(ValueError, match=message):
        DemoConfig(**values)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("seed", -1, "seed=-1"),
        ("seed", 2**64, "seed=18446744073709551616 must be below"),
        ("learning_rate", "fast", "learning_rate='fast'"),
        ("arithmetic_rows", 4, "arithmetic_rows=4 leaves no row of text"),
        ("steps", 10**9, "steps=1000000000 must be at most"),
        ("saving", "0.25", "saving='0.25' must be a number"),
        ("preset", ["tiny"], r"preset=\['tiny'\] is not known"),
    ],
)
def test_settings_that_cannot_be_are_named(field, value, named):
    with pytest.raises(ValueError, match=named):
        replace(SMALL, **{field: value})


def test_what_the_arms_cannot_hold_is_refused_before_the_warm_up():
    with pytest.raises(ValueError, match=r"saving=0.25 is not below 0.2188, the most that PLD"):
        run_demo(replace(SMALL, steps=2), on_stage=lambda *_: pytest.fail("work began"))
