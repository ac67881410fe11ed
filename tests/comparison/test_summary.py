"""Tables from runs: pairs, intervals, and what may not be averaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sbldlib.comparison import ComparedRun, ComparisonSummary, summarise
from sbldlib.comparison.summary import MixedRunsError, paired_difference
from sbldlib.comparison.tables import answer_rows, answer_table, study_differences, table_rows

LOSSES = {
    "full depth": (4.0, 4.2, 4.4),
    "shallower": (3.9, 4.1, 4.3),
    "uniform": (4.3, 4.4, 4.8),
    "sbld": (4.1, 4.1, 4.5),
    "sbld, shuffled": (4.2, 4.21, 4.6),
}


def run(arm: str, seed: int, loss: float | None, **changes) -> ComparedRun:
    settings = {
        "comparison": "made up",
        "shared": {"steps": 100, "saving": 0.25},
        "subject": "none",
        "arm": {"name": arm, "method": arm.split(",")[0]},
        "budget": "steps",
        "seed": seed,
        "amount": 100.0,
        "owed": 0.0,
        "paid": 0.0,
        "environment": {"date": "2026-01-01", "python": "3.11", "packages": {"torch": "2.13"}},
        "method": {},
        "num_layers": 8,
        "num_steps": 100,
        "results": {} if loss is None else {"validation_loss": loss},
        "seconds": 10.0,
    }
    return ComparedRun(**{**settings, **changes})


def runs() -> list[ComparedRun]:
    return [run(arm, seed, loss) for arm, row in LOSSES.items() for seed, loss in enumerate(row)]


def test_differences_are_paired_and_their_interval_is_students():
    summary = summarise(runs())
    rows = {row["arm"]: row for row in summary.table("steps")["rows"]}
    gaps = np.subtract(LOSSES["sbld"], LOSSES["full depth"])
    found = rows["sbld"]["validation_loss_difference"]
    low, high = stats.t.interval(0.95, 2, loc=gaps.mean(), scale=stats.sem(gaps))
    assert found["mean"] == pytest.approx(gaps.mean())
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["verdict"] == "unresolved"  # -0.1 to 0.1: the interval holds zero
    # each seed's gap is the same, so three seeds are enough to tell
    assert rows["shallower"]["validation_loss_difference"]["verdict"] == "lower"
    assert rows["shallower"]["validation_loss"] == pytest.approx(4.1)


def test_the_order_of_files_does_not_matter_and_the_reference_is_full_depth():
    backwards = summarise(runs()[::-1])
    assert backwards.table("steps")["reference"] == "full depth"
    assert {r["arm"]: r for r in backwards.table("steps")["rows"]} == {
        r["arm"]: r for r in summarise(runs()).table("steps")["rows"]
    }


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(-1, 1))
def test_a_verdict_is_given_only_where_the_interval_leaves_zero_out(values, shift):
    first = {seed: value + shift for seed, value in enumerate(values)}
    gap = paired_difference(first, dict(enumerate(np.zeros(len(values)).tolist())))
    assert gap.low is not None and gap.high is not None and gap.low <= gap.mean <= gap.high
    assert (gap.verdict == "unresolved") == (gap.low <= 0 <= gap.high)


def test_one_seed_gives_no_interval_and_no_verdict():
    gap = paired_difference({0: 1.0}, {0: 2.0, 1: 3.0})
    assert (gap.mean, gap.low, gap.verdict) == (-1.0, None, "unresolved")
    assert paired_difference({0: 1.0}, {1: 1.0}).mean is None


def test_questions_are_answered_where_both_arms_are_there():
    answers = {found["question"]: found["answer"] for found in summarise(runs()).answers}
    assert answers["Does SBLD beat the shallower model?"] == "unresolved"
    assert answers["Does the measured order beat a shuffled one?"] == "yes"
    assert not any("PWEGD" in question for question in answers)
    better = [run("sbld", seed, loss - 0.5) for seed, loss in enumerate(LOSSES["full depth"])]
    kept = [one for one in runs() if one.name != "sbld"]
    rows = answer_rows(summarise([*kept, *better]))
    assert ("Does SBLD beat full depth?", "steps", "yes", "-0.500 [-0.500, -0.500]") in rows


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shared": {"steps": 200, "saving": 0.25}}, r"steps=200 of 'sbld', seed 0.*100"),
        ({"shared": {"steps": 100}}, r"saving=None"),
        ({"subject": "another"}, r"subject='another'"),
        ({"comparison": "other"}, r"comparison='other'"),
    ],
)
def test_arms_that_differ_in_more_than_their_method_are_refused(changes, named):
    with pytest.raises(MixedRunsError, match=named):
        summarise([run("full depth", 0, 4.0), run("sbld", 0, 4.0, **changes)])


@pytest.mark.parametrize("field", ["python", "packages", "device"])
def test_runs_of_another_version_or_machine_are_never_averaged(field):
    first = run("full depth", 0, 4.0)
    other = {**first.environment, field: "another"}
    with pytest.raises(MixedRunsError, match=f"{field}='another'.*not averaged"):
        summarise([first, run("sbld", 0, 4.0, environment=other)])
    tomorrow = {**first.environment, "date": "2026-01-02"}
    summarise([first, run("sbld", 0, 4.0, environment=tomorrow)])


def test_the_same_arm_twice_with_other_settings_is_refused():
    one = run("sbld", 0, 4.0)
    with pytest.raises(MixedRunsError, match="arm 'sbld', seed 0"):
        summarise([one, replace(one, arm={"name": "sbld", "method": "uniform"})])


def test_nothing_to_summarise_says_so():
    with pytest.raises(ValueError, match=r"runs=\[\]"):
        summarise([])


def test_an_arm_whose_budget_was_spent_before_it_began_is_shown():
    broke = run("sbld, PWEGD", 0, None, num_steps=0, owed=120.0, paid=120.0, budget="flops")
    full = run("full depth", 0, 4.0, budget="flops")
    header, *rows = table_rows(summarise([full, broke]), "flops")
    cells = dict(zip(header, rows[1], strict=True))
    assert cells["loss on new text"] == "budget spent" and cells["pre-analysis"] == "120%"


def test_rows_mark_what_is_not_resolved():
    header, *rows = table_rows(summarise(runs()), "steps")
    shown = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert shown["full depth"]["to the reference"] == ""
    assert shown["sbld"]["to the reference"].endswith("?")
    assert shown["shallower"]["to the reference"] == "-0.100 [-0.100, -0.100]"


def test_the_summary_comes_back_from_its_file(tmp_path):
    summary = summarise(runs(), missing=["x.json"])
    assert ComparisonSummary.load(summary.save(tmp_path / "s.json")) == ComparisonSummary.from_json(
        summary.to_json()
    )
    with pytest.raises(ValueError, match="budget='flops' has no table"):
        summary.table("flops")


def test_any_two_arms_can_be_held_against_each_other():
    summary = summarise(runs())
    gap = summary.difference("steps", "uniform", "shallower")
    assert gap.values == pytest.approx((0.4, 0.3, 0.5))
    with pytest.raises(ValueError, match=r"arm='unifrom'.*'uniform'"):
        summary.difference("steps", "unifrom", "sbld")


def test_a_study_holds_its_controls_against_one_arm():
    at_flops = [replace(one, budget="flops") for one in runs()]
    found = study_differences({"here": summarise(at_flops)}, "sbld", ("full depth", "pruned"))
    gap = found["here"]["full depth"]
    assert list(found["here"]) == ["full depth"]
    assert gap["values"] == pytest.approx((-0.1, 0.1, -0.1)) and gap["verdict"] == "unresolved"


def test_answers_stand_in_one_row_a_question_and_one_column_a_budget():
    at_flops = [replace(one, budget="flops") for one in runs() if one.name != "uniform"]
    header, *rows = answer_table(summarise([*runs(), *at_flops]))
    assert header == ("is its loss lower?", "equal steps", "equal FLOPs")
    cells = {row[0]: row[1:] for row in rows}
    shuffled = cells["Does the measured order beat a shuffled one?"]
    assert shuffled[0] == shuffled[1] and shuffled[0].startswith("yes: -0.103 [")
    assert cells["Does SBLD beat uniform dropping?"][1] == ""
