"""A comparison from end to end: killed, shared out and gone on with, its tables are the same."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from comparison.tiny import EVERY_BUDGET, NUM_LAYERS, PRICES, TINY, subject, table
from typer.testing import CliRunner

from sbldlib.cli import app
from sbldlib.comparison import ARMS, Arm, Table, compare, load_runs
from sbldlib.comparison.runs import ComparedRun, file_name
from sbldlib.comparison.summary import MixedRunsError
from sbldlib.methods.sbld import sbld as make_sbld
from sbldlib.storage.lock import RunBusyError
from sbldlib.training.interrupts import TrainingInterrupted
from sbldlib.training.ledger import read_ledger

TIMED = {"seconds", "wall_seconds"}


def run_it(comparison, folder, **options):
    return compare(comparison, folder=folder, subject=subject(), prices=PRICES, **options)


def untimed(value):
    """A summary without what no two runs have in common."""
    if isinstance(value, dict):
        return {name: untimed(item) for name, item in value.items() if name not in TIMED}
    return [untimed(item) for item in value] if isinstance(value, (list, tuple)) else value


class KilledError(Exception):
    pass


def test_killed_again_and_again_it_ends_with_the_same_tables(tmp_path):
    whole = run_it(EVERY_BUDGET, tmp_path / "whole")
    steps_left = 0

    def die(_):
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise KilledError

    for patience in (2, 30, 75, 10_000):
        steps_left = patience
        try:
            again = run_it(EVERY_BUDGET, tmp_path / "killed", on_step=die)
        except KilledError:
            continue
    assert untimed(again.to_dict()) == untimed(whole.to_dict())
    assert not again.missing and (tmp_path / "killed" / "summary.json").exists()


def test_what_is_there_is_not_done_again(tmp_path):
    run_it(TINY, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    steps = []
    run_it(TINY, tmp_path, on_step=steps.append)
    (tmp_path / "runs" / file_name("steps", "sbld", 1)).unlink()
    assert steps == []
    run_it(TINY, tmp_path, on_step=steps.append)
    assert len(steps) == TINY.steps
    kept = [
        path for path in before if path.name not in ("summary.json", file_name("steps", "sbld", 1))
    ]
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


def test_budgets_are_matched_and_overhead_is_paid(tmp_path):
    summary = run_it(EVERY_BUDGET, tmp_path)
    runs = {(run.budget, run.name, run.seed): run for run in load_runs(tmp_path)}
    assert len(runs) == 3 * 3 * 2
    for (budget, arm, seed), run in runs.items():
        spent = {"steps": run.num_steps, "flops": run.flops, "seconds": run.priced_seconds}[budget]
        if budget == "steps":
            assert (spent, run.paid) == (TINY.steps, 0.0)
        else:
            reference = runs["steps", "full depth", seed]
            unit = {"flops": reference.flops, "seconds": reference.priced_seconds}[budget]
            one_step = unit / TINY.steps
            assert run.amount < unit  # what so many steps cost at the asked saving
            assert run.amount - one_step < spent + run.paid <= run.amount * (1 + 1e-9)
        assert (run.owed > 0) == (arm == "sbld")
        assert len(run.losses) == run.num_steps and all(map(math.isfinite, run.losses))
    flops = {row["arm"]: row for row in summary.table("flops")["rows"]}
    assert flops["full depth"]["num_steps"] < flops["shallower"]["num_steps"]
    assert flops["sbld"]["paid"] == flops["sbld"]["owed"] > 0
    assert flops["shallower"]["num_layers"] == 6


def test_arms_share_weights_data_and_draws(tmp_path):
    arms = (
        ARMS["full depth"],
        Arm(name="nothing dropped", method="uniform", options={"saving": 0.0}),
    )
    with pytest.raises(TypeError, match="saving"):  # the saving is the comparison's, not an arm's
        run_it(replace(TINY, tables=(Table(budget="steps", arms=arms),)), tmp_path / "refused")
    run_it(TINY, tmp_path)
    runs = {(run.name, run.seed): run for run in load_runs(tmp_path)}
    again = tmp_path / "again"
    one = replace(TINY, tables=(table("steps", "uniform", "sbld"),), seeds=(1,))
    run_it(one, again)
    for run in load_runs(again):
        assert run.losses == runs[run.name, 1].losses
    assert runs["uniform", 0].losses != runs["uniform", 1].losses
    assert runs["uniform", 0].losses[0] != runs["full depth", 0].losses[0]


def test_sbld_spares_the_block_list_and_shuffling_spares_others(tmp_path):
    known = replace(
        TINY, tables=(table("steps", "full depth", "sbld", "sbld, inverted"),), seeds=(0,)
    )
    run_it(known, tmp_path)
    runs = {run.name: run for run in load_runs(tmp_path)}
    analysis = json.loads((tmp_path / "analysis-seed0.json").read_text())
    values = analysis["sensitivity"]["values"]
    ranking = sorted(range(NUM_LAYERS), key=lambda layer: -values[layer])
    assert [runs["sbld"].layer_runs[layer] for layer in ranking[:2]] == [1.0, 1.0]
    assert [runs["sbld, inverted"].layer_runs[layer] for layer in ranking[-2:]] == [1.0, 1.0]
    assert runs["sbld"].realised_drop == pytest.approx(0.25)
    assert runs["full depth"].layer_runs == (1.0,) * NUM_LAYERS


def test_a_pre_analysis_beyond_the_budget_leaves_no_step(tmp_path):
    dear = replace(
        TINY,
        tables=(table("flops", "full depth", "sbld, PWEGD", "sbld, PWEGD, analysis free"),),
        pilot_pairs=2,
        seeds=(0,),
    )
    summary = run_it(dear, tmp_path)
    rows = {row["arm"]: row for row in summary.table("flops")["rows"]}
    assert rows["sbld, PWEGD"]["num_steps"] == 0 and "validation_loss" not in rows["sbld, PWEGD"]
    free = rows["sbld, PWEGD, analysis free"]
    assert free["paid"] == 0 < free["owed"] and free["num_steps"] > 0
    # each pilot pair is a run at full depth and one with dropping
    full = rows["full depth"]["flops"] / rows["full depth"]["num_steps"]
    assert free["owed"] > 2 * TINY.pilot_steps * full * 1.7


def test_a_pre_trained_start_is_shared_and_the_pruned_model_keeps_the_sensitive_layers(tmp_path):
    known = replace(
        TINY,
        tables=(table("flops", "full depth", "pruned", "sbld"),),
        pretrain_steps=8,
        warmup_steps=0,
        seeds=(0,),
    )
    run_it(known, tmp_path)
    runs = {run.name: run for run in load_runs(tmp_path)}
    fresh = tmp_path / "fresh"
    run_it(replace(TINY, tables=(table("steps", "full depth", "sbld"),), seeds=(0,)), fresh)
    from_scratch = next(run for run in load_runs(fresh) if run.name == "full depth")
    assert runs["full depth"].losses[0] != from_scratch.losses[0]  # it begins where it was left
    assert runs["pruned"].num_layers == 6 and runs["pruned"].owed > 0


def test_another_comparison_in_the_folder_is_refused(tmp_path):
    run_it(TINY, tmp_path)
    before = sorted(path.name for path in (tmp_path / "runs").iterdir())
    for changes, named in (
        ({"steps": 30}, "steps=30 is asked.*20"),
        ({"saving": 0.3}, "saving=0.3"),
        ({"name": "other"}, "comparison='other'"),
    ):
        with pytest.raises(MixedRunsError, match=named):
            run_it(replace(TINY, **changes), tmp_path)
    with pytest.raises(MixedRunsError, match="subject="):
        compare(TINY, folder=tmp_path, subject=subject(5e-3), prices=PRICES)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == before


def test_runs_of_another_version_are_refused_before_anything_is_trained(tmp_path):
    run_it(TINY, tmp_path)
    path = tmp_path / "runs" / file_name("steps", "sbld", 0)
    run = ComparedRun.load(path)
    replace(run, environment={**run.environment, "python": "2.7"}).save(path)
    with pytest.raises(MixedRunsError, match="python="):
        run_it(replace(TINY, seeds=(0, 1, 2)), tmp_path, on_step=pytest.fail)


def test_a_run_s_file_that_is_damaged_is_named(tmp_path):
    run_it(TINY, tmp_path)
    path = tmp_path / "runs" / file_name("steps", "sbld", 0)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match=rf"{path.name}: damaged: its SHA-256"):
        run_it(TINY, tmp_path, on_step=pytest.fail)


def test_a_second_comparer_is_refused_and_the_first_unharmed(tmp_path):
    refused = []

    def second(_) -> None:
        if not refused:
            with pytest.raises(RunBusyError, match="is being written by process") as error:
                run_it(TINY, tmp_path)
            refused.append(error)

    assert run_it(TINY, tmp_path, on_step=second).missing == () and refused


def test_a_run_that_was_interrupted_goes_on_within_it(tmp_path):
    whole = run_it(TINY, tmp_path / "whole")
    steps = []

    def interrupt_once(record) -> None:
        steps.append(record.step)
        if len(steps) == 4 * TINY.steps + TINY.steps // 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        run_it(TINY, tmp_path / "cut", on_step=interrupt_once)
    (running,) = (tmp_path / "cut" / "running").iterdir()
    assert 0 < len(read_ledger(running)) < TINY.steps
    again = run_it(TINY, tmp_path / "cut")
    assert not any((tmp_path / "cut" / "running").iterdir())
    assert untimed(again.to_dict()) == untimed(whole.to_dict())


def test_it_stops_in_time_and_says_what_is_missing(tmp_path):
    first = run_it(TINY, tmp_path, stop_after=1e-9)  # one run, so that each call gets further
    assert len(first.runs) == 1 and len(first.missing) == 7
    assert run_it(TINY, tmp_path, stop_after=1e-9).missing == first.missing
    assert not (tmp_path / "summary.json").exists()
    assert run_it(TINY, tmp_path, stop_after=1e9).missing == ()
    assert (tmp_path / "summary.json").exists()


def test_options_reach_the_method(tmp_path):
    arm = Arm(name="equal", method="sbld", options={"weight": "equal"}, lists={"count": 4})
    run_it(replace(TINY, tables=(Table(budget="steps", arms=(ARMS["full depth"], arm)),)), tmp_path)
    run = next(run for run in load_runs(tmp_path) if run.name == "equal")
    assert run.method["weight"] == "equal" and len(run.method["block"]) == 4
    assert make_sbld.__name__ == "sbld"


COMMAND = [sys.executable, "-m", "sbldlib.cli", "compare", "--preset", "smoke"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def test_a_killed_process_goes_on_where_it_was(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = ["--seed", "0", "--seed", "1", "--arm", "full depth", "--arm", "uniform"]
    done = subprocess.run(
        [*COMMAND, *flags, "--out", str(whole)],
        env=ONE_THREAD,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "equal steps" in done.stdout and "full depth" in done.stdout
    process = subprocess.Popen([*COMMAND, *flags, "--out", str(killed)], env=ONE_THREAD)
    deadline = time.monotonic() + 300
    while not list(killed.glob("runs/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(list(killed.glob("runs/*.json"))) < 4
    # two processes take up what is left, and share it out
    subprocess.run(
        [*COMMAND, *flags, "--out", str(killed), "--processes", "2"], env=ONE_THREAD, check=True
    )
    first, second = (json.loads((f / "summary.json").read_text()) for f in (whole, killed))
    priced = {"priced_seconds", "prices", "sha256"}
    for summary in (first, second):
        for row in (*summary["runs"], *summary["tables"][0]["rows"], summary):
            for name in priced & row.keys():
                del row[name]
    assert untimed(first) == untimed(second)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--preset", "cpuu"], "did you mean 'cpu'"),
        (["--seed", "x"], "Invalid value for '--seed'"),
        (["--seed", "1", "--seed", "1"], "seeds=(1, 1)"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--arm", "full depth", "--arm", "sbdl"], "arm='sbdl'"),
        (["--arm", "sbld"], "arm=('sbld',) leaves no table"),
    ],
)
def test_bad_flags_are_usage_errors(flags, named):
    done = CliRunner().invoke(app, ["compare", *flags], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert named in " ".join(done.output.replace("│", " ").split())


def test_files_that_are_not_its_own_stay(tmp_path):
    (tmp_path / ".keep").write_text("mine")
    (tmp_path / ".folder").mkdir()
    (tmp_path / ".taken-before").write_text("of a killed call")
    run_it(replace(TINY, seeds=(0,)), tmp_path)
    assert (tmp_path / ".keep").read_text() == "mine" and (tmp_path / ".folder").is_dir()
    assert not (tmp_path / ".taken-before").exists()


def test_an_arm_of_the_same_name_with_other_settings_is_refused(tmp_path):
    known = replace(TINY, seeds=(0,))
    run_it(known, tmp_path)
    other = Arm(name="sbld", method="sbld", options={"weight": "equal"})
    changed = replace(known, tables=(Table(budget="steps", arms=(ARMS["full depth"], other)),))
    with pytest.raises(MixedRunsError, match=r"arm=.*'weight': 'equal'.* is asked"):
        run_it(changed, tmp_path)


def test_a_pre_analysis_of_other_settings_is_refused_and_one_without_pilots_made_again(tmp_path):
    known = replace(TINY, seeds=(0,))
    run_it(known, tmp_path)
    for path in (tmp_path / "runs").iterdir():
        path.unlink()
    with pytest.raises(MixedRunsError, match=r"warmup_steps=5 is asked, analysis-seed0.json"):
        run_it(replace(known, warmup_steps=5), tmp_path)
    before = json.loads((tmp_path / "analysis-seed0.json").read_text())
    more = replace(known, tables=(table("steps", "full depth", "sbld, PWEGD"),))
    assert run_it(more, tmp_path).missing == ()
    after = json.loads((tmp_path / "analysis-seed0.json").read_text())
    assert after["sensitivity"] == before["sensitivity"] and after["pilot"] is not None
