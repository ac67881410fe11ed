"""A step in parts is the step in one go: gradient, loss, plan and what was counted."""

from __future__ import annotations

import pytest
import torch
from small import EncoderLM, Source, T, gpt, random_batches
from torch import Tensor, nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import IGNORE, next_token_loss
from sbldlib.methods import uniform
from sbldlib.methods.base import PlanMismatchError
from sbldlib.records import StepRecord
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.finite import NotFiniteError
from sbldlib.training.launch import Workers
from sbldlib.training.memory import StepTooLargeError
from sbldlib.training.optimizer import make_optimizer
from sbldlib.training.run import Run

NUM_ROWS = 8


class Limited:
    """The loss of a machine whose memory holds so many rows; `late` fails in the backward pass."""

    def __init__(self, fits: int, *, late: bool = False):
        self.fits, self.late, self.largest = fits, late, 0
        self.seen: list[int] = []

    def __call__(self, model: nn.Module, batch) -> Tensor:
        rows = len(batch[0])
        self.seen.append(rows)
        loss = next_token_loss(model, batch)
        if rows > self.fits and self.late:
            loss.register_hook(self._fail)
        elif rows > self.fits:
            self._fail(None)
        return loss

    def _fail(self, _gradient) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def run_of(model, *, data=None, loss=next_token_loss, callbacks=(), **settings) -> Run:
    config = TrainConfig(budget=Budget(steps=9), clip_norm=1e9, **settings)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    return Run(model, data or Source(rows=NUM_ROWS), optimizer, config, callbacks, loss)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same_gradients(found: nn.Module, expected: nn.Module) -> None:
    mine, theirs = gradients(found), gradients(expected)
    assert [n for n, g in mine.items() if g is None] == [n for n, g in theirs.items() if g is None]
    for name, gradient in theirs.items():
        if gradient is not None:
            torch.testing.assert_close(mine[name], gradient, atol=1e-5, rtol=1e-4)


def compare(
    make_model, make_callbacks, *, data=None, fits: int = 3, num_steps: int = 3, **settings
):
    """The same steps in one go and in parts; both records of the last one."""
    whole, parts = make_model(), make_model()
    one = run_of(whole, data=data, callbacks=make_callbacks(whole), **settings)
    other = run_of(parts, data=data, callbacks=make_callbacks(parts), **settings)
    other._gradients._loss = Limited(fits=3)
    for step in range(3):
        expected = one.step({})
        if step == 0:
            with pytest.warns(RuntimeWarning, match="step 0: out of memory"):
                found = other.step({})
        else:
            found = other.step({})
        assert_same_gradients(parts, whole)
        assert_same_record(found, expected)
    assert other.parts == 4
    return found


def assert_same_record(found: StepRecord, expected: StepRecord) -> None:
    assert found.loss_nats == pytest.approx(expected.loss_nats, abs=1e-5)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    for name in ("tokens", "flops", "flops_full", "layers_run", "forward_share", "backward_share"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.micro_batches == 4 * expected.micro_batches


# ---- the same gradient


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_a_step_in_parts_has_the_gradient_of_the_step_in_one_go(make_model, accumulate):
    found = compare(make_model, lambda _: (), accumulate=accumulate)
    assert found.micro_batches == 4 * accumulate


class Uneven:
    """Targets that carry loss in some rows alone: none in the last two, all in the first."""

    def batch(self, step, micro_batch=0):
        inputs, targets = Source(rows=NUM_ROWS).batch(step, micro_batch)
        for row in range(NUM_ROWS):
            targets[row, T - row - row * (row > 5) :] = IGNORE
        targets[6:] = IGNORE
        return inputs, targets


def test_parts_weigh_as_many_targets_as_they_have():
    compare(gpt, lambda _: (), data=Uneven())
    compare(gpt, lambda m: [uniform(m, saving=0.4, seed=1, scope="per_sequence")], data=Uneven())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "fixed_count"},
        {"scope": "per_sequence"},
        {"scope": "per_sequence", "mode": "fixed_count", "rescale": "train_inverse"},
        {"scope": "per_sequence", "rescale": "eval_scale"},
        {"effect": "freeze"},
        {"effect": "skip_backward"},
        {"rescale": "train_inverse"},
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_the_plan_holds_in_parts(settings, seed):
    compare(gpt, lambda model: [uniform(model, saving=0.6, seed=seed, **settings)])


def test_the_plan_holds_in_parts_over_micro_batches_and_skipped_layers():
    def dropping(model):
        skip_layers(model, {2})
        return [uniform(model, saving=0.5, scope="per_sequence")]

    found = compare(gpt, dropping, accumulate=2)
    assert 2 not in found.layers_run and any(0 < share < 1 for share in found.forward_share)


def test_recomputed_blocks_are_counted_once_in_parts():
    def make_model():
        model = gpt()
        model.activation_recomputation = True
        return model

    compare(make_model, lambda model: [uniform(model, saving=0.6, scope="per_sequence")])


def test_a_plan_that_something_else_changed_is_still_seen_in_parts():
    class Meddle(Callback):
        def before_step(self, context):
            skipping = attach(context.model)
            skipping.set_rows({0: (0, 1)}, num_rows=NUM_ROWS)

    model = gpt()
    run = run_of(model, callbacks=[uniform(model, saving=0.4, scope="per_sequence"), Meddle()])
    run.parts = 2
    with pytest.raises(PlanMismatchError, match="step 0: layer 0 was planned to run forward"):
        run.step({})


class Counting(nn.Module):
    """Blocks of which each adds a power of ten to the rows that it runs for."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Adding(10.0**layer) for layer in range(4))

    def forward(self, x_BD: Tensor) -> Tensor:
        for block in self.blocks:
            x_BD = block(x_BD)
        return x_BD


class Adding(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(1)  # what a block is known by
        self.layers = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD + self.value


def test_each_row_keeps_the_layers_that_were_drawn_for_it():
    outputs = []

    def loss(model, batch):
        outputs.append(model(batch).detach())
        return outputs[-1].mean() + sum(block.value for block in model.blocks)

    model = Counting()
    method = uniform(model, saving=0.6, scope="per_sequence", seed=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    config = TrainConfig(budget=Budget(steps=1))
    run = Run(model, [torch.zeros(NUM_ROWS, 1)], optimizer, config, [method], loss)
    run.parts = 3
    outputs.clear()
    run.step({})
    planned = method.planned
    rows = {layer: () for layer in planned.dropped} | planned.rows
    assert rows, "a draw that drops nothing shows nothing"
    expected = [
        sum(10**layer for layer in range(4) if row in rows.get(layer, range(NUM_ROWS)))
        for row in range(NUM_ROWS)
    ]
    assert torch.cat(outputs)[:, 0].round().int().tolist() == expected


# ---- doing it again


@pytest.mark.parametrize("late", [False, True])
def test_a_step_is_done_again_with_fewer_rows_at_a_time_and_so_are_later_ones(late):
    loss = Limited(fits=2, late=late)
    model, whole = gpt(dropout=0.0), gpt(dropout=0.0)
    run, other = run_of(model, loss=loss), run_of(whole)
    loss.seen.clear()
    with pytest.warns(RuntimeWarning) as warned:
        record = run.step({})
    assert loss.seen == [8, 4, 2, 2, 2, 2]
    assert [str(w.message).split(";")[0] for w in warned] == [
        "step 0: out of memory with 8 rows of the batch's 8 at a time",
        "step 0: out of memory with 4 rows of the batch's 8 at a time",
    ]
    other.step({})
    assert_same_gradients(model, whole)
    assert (run.parts, record.micro_batches) == (4, 4)
    loss.seen.clear()
    assert run.step({}).micro_batches == 4
    assert loss.seen == [2, 2, 2, 2]


def test_a_failure_in_a_later_micro_batch_leaves_nothing_of_the_first_try():
    class Growing(Source):
        def batch(self, step, micro_batch=0):
            return Source(rows=2 if micro_batch == 0 else 6).batch(step, micro_batch)

    model, whole = gpt(), gpt()
    run = run_of(model, data=Growing(), loss=Limited(fits=3), accumulate=2)
    other = run_of(whole, data=Growing(), accumulate=2)
    with pytest.warns(RuntimeWarning, match="6 rows of the batch's 6"):
        record = run.step({})
    expected = other.step({})
    assert_same_gradients(model, whole)
    assert record.loss_nats == pytest.approx(expected.loss_nats, abs=1e-5)
    assert (record.micro_batches, record.tokens) == (4, expected.tokens)


def test_the_generator_is_put_back_before_a_step_is_done_again():
    def drawn(run: Run) -> Tensor:
        torch.manual_seed(5)
        run.step({})
        return torch.get_rng_state()

    failing, known = run_of(gpt(dropout=0.3), loss=Limited(fits=4)), run_of(gpt(dropout=0.3))
    known.parts = 2
    with pytest.warns(RuntimeWarning):
        first = drawn(failing)
    assert torch.equal(first, drawn(known))
    assert_same_gradients(failing.model, known.model)


def test_a_row_that_does_not_fit_ends_the_run_and_says_what_to_do():
    model = gpt()
    run = run_of(model, loss=Limited(fits=1))
    run._gradients._loss = Limited(fits=0)
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(StepTooLargeError, match=r"step 0: out of memory with one row .* shorter"),
    ):
        run.step({})


def test_a_loss_that_is_not_finite_names_its_rows():
    def loss(model, batch):
        value = next_token_loss(model, batch)
        return value * float("nan") if torch.equal(batch[0], bad) else value

    bad = Source(rows=NUM_ROWS).batch(0, 1)[0][2:4]
    run = run_of(gpt(), loss=loss, accumulate=2)
    run.parts = 4
    with pytest.raises(NotFiniteError, match="step 0: the loss of rows 2 to 3 of micro-batch 1"):
        run.step({})


def test_micro_batches_are_counted_where_nothing_was_cut():
    assert run_of(gpt()).step({}).micro_batches == 1
    run = run_of(gpt(), data=random_batches(6, rows=2), accumulate=3)
    assert run.step({}).micro_batches == 3 and run.parts == 1


# ---- several ranks


class Rank(Workers):
    """One of several, with nobody to talk to."""

    def __init__(self, index: int, count: int):
        super().__init__()
        self.index, self.count = index, count


def test_micro_batches_that_cannot_be_shared_out_are_refused():
    model = gpt()
    with pytest.raises(ValueError, match=r"accumulate=3 .* 2 processes .* multiple of 2"):
        Run(
            model,
            Source(),
            make_optimizer(model),
            TrainConfig(accumulate=3),
            (),
            next_token_loss,
            Rank(0, 2),
        )


def test_alone_a_stop_is_agreed_at_once():
    run = run_of(gpt())
    assert not run.stop_agreed
    run.request_stop()
    assert run.stop_agreed
