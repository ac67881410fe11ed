"""Two processes train one model; they are launched once, and each test looks at what they did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from training import on_ranks

TESTS = Path(__file__).parents[1]
PATIENCE = 240  # seconds until processes that wait for each other are called stuck


def on_two_ranks(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(TESTS / "training" / "on_ranks.py"), str(folder)],
        env={
            **os.environ,
            "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, on_ranks.Made]]:
    """What each of two ranks did, by name."""
    folder = tmp_path_factory.mktemp("ranks")
    done = on_two_ranks(folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone() -> dict[str, on_ranks.Made]:
    """What one process does."""
    return json.loads(json.dumps({name: run(None) for name, run in on_ranks.ALIKE.items()}))


CLOSE = ("loss_nats", "gradient_norm")  # sums in another order
COMPARED = {**{name: name for name in on_ranks.ALIKE}, "out_of_memory_on_rank_1": "by_row"}
COMPARED |= {f"sharded_{name}": name for name in ("dropping", "by_row")}
COMPARED |= {"sharded_blocks_alone": "dropping"}


@pytest.mark.parametrize(("name", "like"), COMPARED.items())
def test_two_ranks_take_the_steps_of_one_process(ranks, alone, name, like):
    found, expected = ranks[0][name], alone[like]
    assert len(found["records"]) == len(expected["records"]) >= 5
    for mine, theirs in zip(found["records"], expected["records"], strict=True):
        close = {name: pytest.approx(theirs[name], rel=1e-4) for name in CLOSE}
        if name == "out_of_memory_on_rank_1":  # of the other rank's two, each in two parts
            close["micro_batches"] = 4 if mine["step"] == 0 else 6
        assert mine == {**theirs, **close}
    assert found["weights"] == pytest.approx(expected["weights"], abs=1e-4)
    assert found["evaluated"]["loss"] == pytest.approx(expected["evaluated"]["loss"], abs=1e-4)


@pytest.mark.parametrize("name", [*COMPARED, "stop_on_rank_1", "seconds"])
def test_both_ranks_have_the_same_record_and_the_same_weights(ranks, name):
    first, second = (dict(rank[name]) for rank in ranks)
    parts = first.pop("parts"), second.pop("parts")
    assert parts == ((1, 2) if name == "out_of_memory_on_rank_1" else (1, 1))
    assert first == second  # bit for bit, seconds too


def test_a_stop_asked_for_on_one_rank_ends_both_at_the_same_step(ranks):
    assert len(ranks[0]["stop_on_rank_1"]["records"]) == 3


def test_a_seconds_budget_is_that_of_the_first_rank(ranks):
    spent = ranks[1]["seconds"]["seconds"]
    assert sum(spent) >= 0.3 > sum(spent[:-1])


# ---- ranks that differ


@pytest.mark.parametrize(
    ("name", "step", "first", "second"),
    [
        ("other_masks", 0, "dropped: 3", "dropped: 0"),
        ("other_gradients", 1, "nothing of its own", "without a gradient: blocks.1.mlp"),
        ("other_settings", 0, "warmup: 0.0", "warmup: 0.1"),
        ("other_sizes", 0, "nothing of its own", "model: blocks.3.norm1.weight (16,)"),
        ("sharded_other_masks", 0, "dropped: 3", "dropped: 0"),
    ],
)
def test_ranks_that_differ_are_refused_on_both_with_hashes(ranks, name, step, first, second):
    seen = [rank[name] for rank in ranks]
    assert seen[0] == seen[1] and seen[0]["error"] == "RankMismatchError"
    message = seen[0]["message"]
    assert message.startswith(f"step {step}: rank 0 and rank 1 do not do the same")
    mine, _, theirs = message.partition(", rank 1 has ")
    assert first in mine and second in theirs
    hashes = re.findall(r"has (?:sha256 )?([0-9a-f]{16}) \(", message)
    assert len(hashes) == len(set(hashes)) == 2


def test_nothing_was_summed_or_applied_where_ranks_differ(ranks):
    assert all(rank["other_masks"]["untouched"] for rank in ranks)
    assert all(rank["sharded_other_masks"]["forwards"] == 0 for rank in ranks)


def test_ranks_at_other_steps_are_refused(ranks):
    for rank, seen in enumerate(ranks):
        message = seen["other_steps"]["message"]
        assert message.startswith(f"step {rank}: ") and "(step: 0)" in message
        assert "(step: 1)" in message


# ---- numbers that are not finite, and sharding


@pytest.mark.parametrize(
    ("name", "other", "own"),
    [
        (
            "bad_loss_on_rank_1",
            "step 1: the loss of rank 1 is nan; that rank says where",
            "step 1: the loss of micro-batch 1 is nan, first at the output of layer 2 (blocks.2)",
        ),
        (
            "sharded_bad_loss",
            "step 0: the loss of rank 1 is nan; that rank says where",
            "step 0: the loss of micro-batch 1 is nan, all weights are finite",
        ),
        (
            "sharded_bad_weight",
            "step 1: a weight is not finite; rank 1 says which",
            "step 1: the weight blocks.2.mlp.hidden.weight is not finite, layer 2",
        ),
    ],
)
def test_what_is_not_finite_on_one_rank_stops_both_at_that_step(ranks, name, other, own):
    seen = [rank[name] for rank in ranks]
    assert [one["error"] for one in seen] == ["NotFiniteError"] * 2
    assert [one["message"] for one in seen] == [other, own]


def test_a_sharded_model_needs_the_workers_that_it_is_sharded_over(ranks):
    for rank in ranks:
        assert rank["sharded_alone"]["error"] == "ValueError"
        assert "over 2 processes, and workers has 1" in rank["sharded_alone"]["message"]


def test_a_rank_that_waits_for_a_killed_one_ends_by_itself_when_it_is_told(tmp_path):
    done = on_two_ranks(tmp_path / "stuck", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="1")
    codes = re.findall(r"exitcode  : (-?\d+) ", done.stderr)
    assert done.returncode != 0
    assert sorted(codes) == ["-9", "143"], done.stderr  # not killed by torchrun in its turn
