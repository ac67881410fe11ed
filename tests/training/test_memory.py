from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.limited import NUM_ROWS, losses

from sbldlib.losses import IGNORE, next_token_loss
from sbldlib.training.memory import Retry, StepTooLargeError, cut, is_out_of_memory

TESTS = Path(__file__).parents[1]
CPU = torch.device("cpu")


# ---- cutting a batch


@given(st.integers(1, 9), st.integers(1, 12))
def test_pieces_are_all_rows_in_order_and_about_alike(num_rows, parts):
    rows = torch.arange(num_rows)[:, None]
    pieces = cut(rows, parts)
    assert torch.equal(torch.cat([piece.batch for piece in pieces]), rows)
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    sizes = [piece.end - piece.start for piece in pieces]
    assert sizes == [len(piece.batch) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1 and len(sizes) == min(parts, num_rows)
    assert max(sizes) == -(-num_rows // parts)
    assert sum(piece.share for piece in pieces) == pytest.approx(1)
    assert all(piece.is_whole == (len(pieces) == 1) for piece in pieces)


def test_tensors_with_rows_are_cut_wherever_they_lie_and_others_go_whole():
    rows, mask, scalar = torch.arange(4), torch.zeros(3, 3), torch.tensor(2.0)
    batch = {"rows": rows, "more": [rows[:, None], (mask, scalar)], "words": "as they are"}
    first, last = cut(batch, 2)
    assert first.batch["rows"].tolist() == [0, 1] and last.batch["rows"].tolist() == [2, 3]
    assert last.batch["more"][0].tolist() == [[2], [3]]
    for piece in (first, last):
        assert piece.batch["more"][1][0] is mask and piece.batch["more"][1][1] is scalar
        assert piece.batch["words"] == "as they are" and piece.share == 0.5


def test_each_piece_weighs_what_its_targets_do():
    inputs = torch.zeros(4, 3, dtype=torch.long)
    targets = torch.tensor([[1, 1, 1], [1, IGNORE, IGNORE], [IGNORE, 1, 1], [IGNORE] * 3])
    assert [piece.share for piece in cut((inputs, targets), 2)] == [4 / 6, 2 / 6]
    # a causal model's first column is no target of its own
    labelled = {"input_ids": inputs, "labels": targets}
    assert [piece.share for piece in cut(labelled, 4)] == [2 / 4, 0, 2 / 4, 0]
    by_class = (inputs, torch.tensor([0, IGNORE, 2, 3]))
    assert [piece.share for piece in cut(by_class, 2)] == [1 / 3, 2 / 3]


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(4, 2),
        (torch.zeros(4, 2), torch.zeros(4), torch.zeros(4)),
        (torch.zeros(4, 2), torch.zeros(3)),  # targets without rows
        (torch.zeros(4, 2), torch.full((4,), IGNORE)),  # no target at all
        {"input_ids": torch.zeros(4, 2)},
    ],
)
def test_where_no_targets_are_known_each_row_weighs_alike(batch):
    assert [piece.share for piece in cut(batch, 3)] == [1 / 4, 1 / 4, 2 / 4]


@pytest.mark.parametrize("kind", ["pair", "labels"])
def test_a_piece_without_targets_has_a_loss_that_weighs_nothing(kind):
    targets = torch.tensor([[1, 2], [IGNORE, IGNORE]])
    inputs = torch.zeros(2, 2, dtype=torch.long)
    batch = (inputs, targets) if kind == "pair" else {"x": inputs, "labels": targets}
    piece = cut(batch, 2)[1]
    changed = piece.batch[1] if kind == "pair" else piece.batch["labels"]
    logits = torch.zeros(1, 2, 5)
    assert piece.share == 0
    assert next_token_loss(lambda _: logits, (inputs, changed)).isfinite()
    assert (targets[1] == IGNORE).all(), "the batch itself was changed"


# ---- what counts as out of memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas"), True),
        (RuntimeError("The size of tensor a (3) must match"), False),
        (ValueError("out of memory"), False),
        (StepTooLargeError("step 1: out of memory with one row"), False),
    ],
)
def test_errors_that_say_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_cpu_allocators_own_error_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


# ---- doing it again


class Work:
    """Fits into memory with so many rows at a time; draws a number before it fails or not."""

    def __init__(self, retry: Retry, fits: int, rows: int = 8):
        self.retry, self.fits, self.rows = retry, fits, rows
        self.drawn: list[float] = []

    def __call__(self) -> str:
        at_a_time = -(-self.rows // self.retry.parts)
        self.retry.rows = (at_a_time, self.rows)
        self.drawn.append(float(torch.rand(1)))
        if at_a_time > self.fits:
            raise MemoryError
        return "done"


def test_parts_double_until_it_fits_and_each_try_draws_the_same():
    retry = Retry()
    work = Work(retry, fits=3)
    with pytest.warns(RuntimeWarning) as warned:
        assert retry.until_it_fits(7, work, CPU) == "done"
    assert retry.parts == 4 and len(work.drawn) == 3 and len(set(work.drawn)) == 1
    first, second = (str(warning.message) for warning in warned)
    assert first.startswith("step 7: out of memory with 8 rows of the batch's 8 at a time")
    assert "with 4 at a time" in first and "with 2 at a time" in second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert retry.until_it_fits(8, work, CPU) == "done"  # the parts stay
    assert len(work.drawn) == 4


def test_one_row_that_does_not_fit_says_what_to_do():
    retry = Retry()
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(StepTooLargeError, match=r"step 2: .*one row of the batch's 3") as caught,
    ):
        retry.until_it_fits(2, Work(retry, fits=0, rows=3), CPU)
    assert isinstance(caught.value, MemoryError)
    assert "recompute activations" in str(caught.value)


def test_other_errors_are_not_tried_again():
    def broken():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    retry = Retry()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        retry.until_it_fits(0, broken, CPU)
    assert retry.parts == 1


def test_the_failed_try_is_freed_before_the_next_one():
    alive = []

    class Held:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    retry = Retry()
    seen = []

    def work():
        seen.append(len(alive))
        held = Held()
        retry.rows = (4 // retry.parts, 4)
        if retry.parts < 4:
            raise MemoryError(str(held))

    with pytest.warns(RuntimeWarning):
        retry.until_it_fits(0, work, CPU)
    assert seen == [0, 0, 0]


# ---- memory that does run out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process is limited as on Linux")
def test_a_step_that_does_not_fit_is_done_in_parts_with_the_same_losses():
    done = subprocess.run(
        [sys.executable, str(TESTS / "training" / "limited.py"), "30"],
        env={
            **os.environ,
            "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed goes back at once
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), losses(NUM_ROWS)
    assert [parts for _, parts in expected] == [1, 1]
    assert found[0][1] == found[1][1] > 1
    assert "step 0: out of memory with 512 rows of the batch's 512 at a time" in done.stderr
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in expected], abs=1e-4)
