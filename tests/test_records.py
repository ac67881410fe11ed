"""Records: the same after a file as before it, whole on disk or absent, refused where they lie."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.records import (
    FORMAT,
    LayerLists,
    PilotData,
    RunRecord,
    SensitivityData,
    StepRecord,
    check_num_layers,
)

finite = st.floats(allow_nan=False, allow_infinity=False)


def step(number: int = 0, **changes) -> StepRecord:
    values = {
        "step": number,
        "progress": 0.5,
        "loss_nats": 2.25,
        "learning_rate": 1e-3,
        "gradient_norm": 0.7,
        "seconds": 0.125,
        "tokens": 64,
        "flops": 75.0,
        "flops_full": 100.0,
        "keep_probability": (1.0, 0.5),
        "layers_run": (0,),
    }
    return StepRecord(**{**values, **changes})


def run_record(*steps: StepRecord, **changes) -> RunRecord:
    values = {
        "name": "sbld",
        "configuration": {"budget": {"steps": 2}, "betas": (0.9, 0.95), "callbacks": ()},
        "environment": {"torch": "2.13"},
        "num_layers": 2,
        "num_parameters": 1000,
        "steps": steps,
        "controls_log": ((1, "saving", 0.2, 0.3), (1, "method", "none", "sbld")),
    }
    return RunRecord(**{**values, **changes})


SENSITIVITY = SensitivityData(values=(0.5, -0.1, 0.5), standard_errors=(0.1, 0.0, 0.2))
RECORDS = [
    SENSITIVITY,
    dataclasses.replace(SENSITIVITY, num_batches=8, iteration=200),
    LayerLists(block=(2, 0), allow=(1,), rule="count 2"),
    PilotData(
        baseline_losses=((3.0, 2.0), (3.1, 2.1)),
        dropping_losses=((3.5, 2.5), (3.2, 2.2)),
        seeds=(0, 1),
        mean_keep=0.8,
        seconds=1.5,
    ),
    step(evaluations={"loss": 2.0}, controls={"method": "sbld", "saving": 0.25}),
    run_record(step(0), step(1, evaluations={"loss": 2.0, "accuracy": 0.5})),
    run_record(),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_the_same_after_json_and_after_a_file(record, tmp_path):
    kind = type(record)
    assert kind.from_json(record.to_json()) == record
    assert kind.from_dict(record.to_dict()) == record
    path = record.save(tmp_path / "deep" / "er" / "record.json")
    assert kind.load(str(path)) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_every_float_survives_bit_for_bit(pairs):
    values, errors = zip(*pairs, strict=True)
    record = SensitivityData(values=values, standard_errors=errors)
    assert SensitivityData.from_json(record.to_json()) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_json_says_its_kind_and_format_and_is_strict(record):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    body = json.loads(record.to_json(), parse_constant=refuse)
    assert body["kind"] == type(record).__name__ and body["format"] == FORMAT


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_digit_changed_on_disk_is_found_and_the_file_named(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    text = path.read_text()
    place = max(text.rfind(digit) for digit in "123456789")
    path.write_text(text[:place] + ("2" if text[place] == "1" else "1") + text[place + 1 :])
    with pytest.raises(ValueError, match=r"record\.json: damaged: its SHA-256"):
        type(record).load(path)


def test_a_record_from_before_there_were_digests_is_read(tmp_path):
    body = json.loads(SENSITIVITY.to_json())
    del body["sha256"]
    (tmp_path / "old.json").write_text(json.dumps(body))
    assert SensitivityData.load(tmp_path / "old.json") == SENSITIVITY


def test_a_number_that_is_not_finite_is_written_as_null():
    record = step(loss_nats=math.nan, evaluations={"loss": math.inf, "accuracy": 0.5})
    read = StepRecord.from_json(record.to_json())
    assert read.loss_nats is None
    assert read.evaluations == {"loss": None, "accuracy": 0.5}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, None)


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"kind": "RunRecord"}, "kind='RunRecord' in this file, 'SensitivityData' was asked"),
        ({"kind": None}, "kind=None in this file"),
        ({"format": FORMAT + 1}, f"format={FORMAT + 1} of SensitivityData is not .*{FORMAT}"),
        ({"format": None}, "format=None"),
        ({"colour": 1}, r"SensitivityData: fields \['colour'\] are missing or unknown"),
        ({"values": [0.5, None, 0.5]}, r"values\[1\]=None must be a number"),
    ],
)
def test_a_file_of_another_kind_format_or_shape_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        SensitivityData.from_dict({**SENSITIVITY.to_dict(), **change})


def test_a_file_with_a_field_missing_or_cut_short_is_refused():
    body = SENSITIVITY.to_dict()
    del body["values"]
    with pytest.raises(ValueError, match=r"fields \['values'\] are missing or unknown"):
        SensitivityData.from_dict(body)
    with pytest.raises(ValueError):
        SensitivityData.from_json(SENSITIVITY.to_json()[:-20])
    with pytest.raises(ValueError, match="kind='SensitivityData'"):
        RunRecord.from_json(SENSITIVITY.to_json())


# ---- what records refuse and compute


def test_ranking_is_by_sensitivity_and_ties_keep_layer_order():
    assert SENSITIVITY.ranking() == (0, 2, 1)
    assert SENSITIVITY.num_layers == 3


def test_sensitivities_may_be_arrays_and_become_plain_floats():
    record = SensitivityData(values=np.array([1, 2]), standard_errors=[0, 0])
    assert record.values == (1.0, 2.0)
    assert all(type(value) is float for value in record.values + record.standard_errors)
    assert SensitivityData.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "values, errors, problem",
    [
        ((), (), "holds no layer"),
        ((1.0,), (0.1, 0.2), "standard_errors has 2 entries, values has 1"),
        ((1.0, math.nan), (0.0, 0.0), r"values\[1\]=nan must be finite"),
        ((1.0,), (math.inf,), r"standard_errors\[0\]=inf must be finite"),
    ],
)
def test_sensitivities_that_are_none_are_refused(values, errors, problem):
    with pytest.raises(ValueError, match=problem):
        SensitivityData(values=values, standard_errors=errors)


@pytest.mark.parametrize(
    "block, allow, problem",
    [
        ((0,), (0, 1), r"block \+ allow: layer 0 is named twice"),
        ((0,), (2,), r"allow: layer 2 is outside 0\.\.1"),
        ((-1,), (0,), "block=-1 must be at least 0"),
    ],
)
def test_lists_that_are_no_partition_are_refused(block, allow, problem):
    with pytest.raises(ValueError, match=problem):
        LayerLists(block=block, allow=allow, rule="by hand")


def test_lists_know_their_depth():
    assert LayerLists(block=(1,), allow=(0, 2), rule="by hand").num_layers == 3


@pytest.mark.parametrize(
    "baseline, dropping, seeds, problem",
    [
        ((), (), (), "baseline_losses has 0 runs"),
        (((1.0,),), (), (0,), "dropping_losses 0"),
        (((1.0,),), ((1.0,),), (), "seeds 0"),
        (((1.0, 2.0),), ((1.0,),), (0,), r"of one length, not \[1, 2\]"),
        (((1.0, math.nan),), ((1.0, 1.0),), (0,), r"baseline_losses\[0\]\[1\]=nan"),
        (((1.0, 1.0),), ((math.inf, 1.0),), (0,), r"dropping_losses\[0\]\[0\]=inf"),
    ],
)
def test_pilots_that_do_not_pair_are_refused(baseline, dropping, seeds, problem):
    with pytest.raises(ValueError, match=problem):
        PilotData(
            baseline_losses=baseline,
            dropping_losses=dropping,
            seeds=seeds,
            mean_keep=0.8,
            seconds=0.0,
        )


def test_a_run_is_iterable_over_its_steps_and_sums_them_up():
    run = run_record(
        step(0, layers_run=(0, 1), flops=100.0, evaluations={"loss": 3.0}),
        step(1, layers_run=(1,), flops=60.0, loss_nats=2.0),
        step(2, layers_run=(), flops=20.0, evaluations={"loss": 2.5}),
    )
    assert [record.step for record in run] == [0, 1, 2] and len(run) == 3
    assert run.losses == (2.25, 2.0, 2.25)
    assert run.final == {"loss": 2.5}
    assert run.realised_drop == pytest.approx(1 - 3 / 6)
    assert run.flops_saved == pytest.approx(1 - 180 / 300)
    table = run.columns()
    assert table["num_layers_run"] == [2, 1, 0] and table["loss_nats"] == [2.25, 2.0, 2.25]
    assert {len(column) for column in table.values()} == {3}


def test_layers_that_ran_for_a_part_of_the_rows_count_as_that_part():
    run = run_record(
        step(0, layers_run=(0, 1)),
        step(1, layers_run=(0,), forward_share=(0.5, 0.0)),
        step(2, layers_run=(0, 1), backward_share=(0.0, 1.0)),
        step(3, layers_run=(0, 1), forward_share=(1.0, 0.5), backward_share=(0.25, 0.0)),
    )
    assert [s.num_layers_forward for s in run] == [2, 0.5, 2, 1.5]
    assert [s.num_layers_backward for s in run] == [2, 0.5, 1, 0.25]
    assert run.realised_drop == 1 - 6 / 8
    assert run.realised_backward_drop == 1 - 3.75 / 8
    assert RunRecord.from_json(run.to_json()) == run


def test_a_step_from_before_there_were_shares_is_read():
    values = step(3, layers_run=(1,)).to_dict()
    del values["forward_share"], values["backward_share"]
    assert StepRecord.from_dict(values) == step(3, layers_run=(1,))


def test_a_run_without_a_step_has_saved_nothing():
    run = run_record()
    assert (run.losses, run.final, run.realised_drop, run.flops_saved) == ((), {}, 0.0, 0.0)
    assert run.realised_backward_drop == 0.0


def test_another_depth_is_refused_with_both_numbers():
    check_num_layers("lists", 4, 4)
    with pytest.raises(ValueError, match="lists is for 3 layers, the model has 4"):
        check_num_layers("lists", 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_keep": 1.5}, r"mean_keep=1.5 is outside \(0, 1\]"),
        ({"baseline_losses": ((),), "dropping_losses": ((),)}, r"of one length, not \[0\]"),
    ],
)
def test_pilot_refuses_what_no_pilot_gives(change, message):
    good = {"baseline_losses": ((1.0,),), "dropping_losses": ((1.0,),), "seeds": (0,)}
    with pytest.raises(ValueError, match=message):
        PilotData(**{**good, "mean_keep": 0.8, "seconds": 1.0, **change})
