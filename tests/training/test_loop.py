from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small import EncoderLM, Source, T, V, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import evaluate_loss, next_token_loss
from sbldlib.measure import count_flops
from sbldlib.methods import uniform
from sbldlib.records import RunRecord
from sbldlib.training.callbacks import Callback
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train, train_steps
from sbldlib.training.optimizer import make_optimizer
from sbldlib.training.record import make_run_record

PATIENCE = 20  # seconds until a thread that should have ended is called stuck
TOKENS_PER_STEP = 4 * T


def config(steps: int = 5, **changes) -> TrainConfig:
    return TrainConfig(budget=Budget(steps=steps), **changes)


def run(model: nn.Module, *, data=None, optimizer=None, **arguments) -> RunRecord:
    arguments.setdefault("config", config())
    optimizer = optimizer or make_optimizer(model, learning_rate=1e-2)
    return train(model, data or Source(), optimizer, **arguments)


def test_golden_losses():
    # To change only where the arithmetic of a step is meant to change.
    expected = [4.224922, 4.092367, 3.808178, 3.463613, 3.584491]
    assert run(gpt()).losses == pytest.approx(expected, abs=5e-5)


def test_the_same_seed_twice_is_bit_equal():
    def once() -> tuple[RunRecord, nn.Module]:
        model = gpt()
        return run(model, callbacks=[uniform(model, saving=0.5, seed=3)]), model

    (one, first), (other, second) = once(), once()
    assert one.losses == other.losses
    assert [s.gradient_norm for s in one] == [s.gradient_norm for s in other]
    assert [s.layers_run for s in one] == [s.layers_run for s in other]
    assert same_weights(first, weights(second))


def test_a_longer_run_learns():
    run_record = run(gpt(), config=config(60))
    assert run_record.losses[-1] < 0.5 * run_record.losses[0]


# ---------------------------------------------------------------- budgets and the learning rate


class FakeClock:
    """Every step takes an eighth of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.125
        return self.now


def flops_of_steps(num_steps: int) -> float:
    return count_flops(gpt(), Source().batch(0)).full * num_steps


@pytest.mark.parametrize(
    ("budget", "num_steps"),
    [
        (Budget(steps=8), 8),
        (Budget(tokens=8 * TOKENS_PER_STEP), 8),
        (Budget(tokens=8 * TOKENS_PER_STEP + 1), 9),
        (Budget(flops=flops_of_steps(8)), 8),
        (Budget(flops=flops_of_steps(8) + 1), 9),
        (Budget(seconds=1.0), 8),
        (Budget(seconds=1.01), 9),
        (Budget(steps=1), 1),
        (Budget(flops=1.0), 1),
        (Budget(seconds=1e-9), 1),
    ],
)
def test_each_budget_ends_where_it_should_with_its_rate_decayed(budget, num_steps, monkeypatch):
    monkeypatch.setattr("sbldlib.training.run.time", FakeClock())
    settings = TrainConfig(budget=budget, final_learning_rate=0.02)
    steps = run(gpt(), config=settings).steps
    assert len(steps) == num_steps
    assert [step.step for step in steps] == list(range(num_steps))
    assert steps[0].progress == 0
    for step in steps:
        factor = settings.learning_rate_factor(step.progress)
        assert step.learning_rate == pytest.approx(1e-2 * factor)
        # T is not a whole number in a flops or seconds budget of 9 steps
        assert step.progress == pytest.approx(min(1, step.step / max(1, num_steps - 1)), abs=0.13)
    if num_steps > 1:
        assert steps[-1].progress == 1
        assert steps[-1].learning_rate == pytest.approx(1e-2 * 0.02)
        assert steps[-2].progress < 1


def test_skipped_layers_buy_steps_of_a_flops_budget():
    model = gpt()
    dropping = uniform(model, saving=0.5)
    budget = Budget(flops=flops_of_steps(20))
    steps = run(model, callbacks=[dropping], config=TrainConfig(budget=budget)).steps
    spent = sum(step.flops for step in steps)
    assert budget.flops <= spent < budget.flops + steps[-1].flops_full
    assert len(steps) > 30
    progress = [step.progress for step in steps]
    assert progress == sorted(progress) and progress[-1] > 0.97


def test_a_flops_budget_needs_operations_that_are_counted():
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Embedding(V, V)

        def forward(self, tokens_BT):
            return self.logits(tokens_BT)

    with pytest.raises(ValueError, match=r"flops=1e\+06 .*no operation of this model is counted"):
        run(Bag(), config=TrainConfig(budget=Budget(flops=1e6)))


def test_the_optimiser_has_its_base_rates_back_and_a_changed_one_holds():
    model = gpt()
    optimizer = make_optimizer(model, learning_rate=1e-2)
    optimizer.param_groups[1]["lr"] = 5e-3
    run(model, optimizer=optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 5e-3]
    assert all("initial_lr" not in group for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    again = run(model, optimizer=optimizer, config=config(warmup=0.0))
    assert again.steps[0].learning_rate == 1e-4


# ---------------------------------------------------------------- gradients


def test_accumulation_equals_one_big_batch():
    micro = [Source().batch(step) for step in range(8)]
    big = [
        tuple(torch.cat(pair) for pair in zip(first, second, strict=True))
        for first, second in zip(micro[::2], micro[1::2], strict=True)
    ]
    whole_model, parts_model = gpt(), gpt()
    whole, parts = (
        run(
            model,
            data=data,
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
            config=config(4, accumulate=accumulate, clip_norm=1e6),
        )
        for model, data, accumulate in ((whole_model, big, 1), (parts_model, micro, 2))
    )
    assert parts.losses == pytest.approx(whole.losses, abs=1e-5)
    assert [s.tokens for s in parts] == [s.tokens for s in whole] == [2 * TOKENS_PER_STEP] * 4
    assert [s.flops for s in parts] == [s.flops for s in whole]
    torch.testing.assert_close(weights(whole_model), weights(parts_model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("clip_norm", [0.25, 1e6, float("inf")])
def test_the_gradient_is_clipped_and_its_norm_told_as_it_was(clip_norm):
    model = gpt()
    before = weights(model)
    next_token_loss(model, Source().batch(0)).backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters()]))
    assert 0.25 < norm < 1e6
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    settings = config(1, clip_norm=clip_norm, warmup=0.0)
    record = run(model, optimizer=optimizer, config=settings)
    assert record.steps[0].gradient_norm == pytest.approx(norm, rel=1e-5)
    moved = [p.detach() - before[name] for name, p in model.named_parameters()]
    assert float(nn.utils.get_total_norm(moved)) == pytest.approx(min(norm, clip_norm), rel=1e-4)


def test_weights_that_are_not_trained_do_not_count_in_the_norm():
    model, alone = gpt(), gpt()
    held = alone.blocks.requires_grad_(False)
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if "blocks" not in n], 0.1)
    one = run(model, optimizer=optimizer)  # the blocks' gradients are computed and not used
    other = run(
        alone, optimizer=torch.optim.SGD([p for p in alone.parameters() if p.requires_grad], 0.1)
    )
    assert [s.gradient_norm for s in one] == pytest.approx([s.gradient_norm for s in other])
    assert same_weights(model.blocks, weights(held))
    assert other.num_parameters == one.num_parameters - sum(p.numel() for p in held.parameters())


class DropLate(Callback):
    """Drops layer 1 from step 2 on."""

    def before_step(self, context):
        attach(context.model).set_dropped({1} if context.step >= 2 else ())


def test_a_dropped_layer_keeps_its_weights_although_it_has_moments():
    model = gpt()
    held = []
    record = run(
        model,
        callbacks=[DropLate()],
        on_step=lambda step: held.append(weights(model.blocks[1])),
    )
    assert [step.layers_run for step in record] == [(0, 1, 2, 3)] * 2 + [(0, 2, 3)] * 3
    moved = [not same_weights(model.blocks[1], held[step]) for step in range(5)]
    assert moved == [True, False, False, False, False]


# ---------------------------------------------------------------- the record


def test_every_step_says_what_was_applied():
    model = gpt()
    record = run(model, callbacks=[uniform(model, saving=0.5)], config=config(12, name="half"))
    counted = count_flops(gpt(), Source().batch(0))
    assert (record.name, len(record), record.num_layers, record.outcome) == (
        "half",
        12,
        4,
        "completed",
    )
    assert len({step.layers_run for step in record}) > 3
    for step in record:
        assert step.flops == counted.of(step.layers_run)
        assert step.flops_full == counted.full
        assert step.keep_probability == (0.5,) * 4
        assert step.tokens == TOKENS_PER_STEP and step.seconds > 0
        assert step.gradient_norm > 0 and step.evaluations == {} and step.controls == {}
    assert record.realised_drop == 1 - sum(len(s.layers_run) for s in record) / 48
    assert record.seconds == pytest.approx(sum(step.seconds for step in record))
    assert record.num_parameters == sum(p.numel() for p in model.parameters())
    assert record.configuration["budget"]["steps"] == 12
    assert record.configuration["callbacks"][0]["method"] == "uniform"
    described = record.configuration["optimizer"]
    assert described["name"] == "AdamW"
    assert [group["weight_decay"] for group in described["groups"]] == [0.1, 0.0]
    assert described["groups"][0]["lr"] == 1e-2  # the base rate, not the last one
    assert "torch" in record.environment["packages"]


def test_a_record_survives_json():
    model = gpt()
    controls = Controls({"saving": 0.5})
    controls.set("saving", 0.25)
    record = run(
        model,
        callbacks=[uniform(model, saving=0.5)],
        controls=controls,
        evaluations={"loss": lambda model: evaluate_loss(model, random_batches(1))},
        optimizer=torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.01)),
    )
    assert record.controls_log == ((0, "saving", 0.5, 0.25),)
    assert RunRecord.from_json(record.to_json()) == record


def test_each_batch_is_asked_for_once_and_callbacks_know_its_rows():
    class Noting(Source):
        def batch(self, step: int, micro_batch: int = 0):
            asked.append((step, micro_batch))
            return Source(rows=2 + step).batch(step, micro_batch)

    class Rows(Callback):
        def before_step(self, context):
            rows.append(context.num_rows)

    asked, rows = [], []
    run(gpt(), data=Noting(), callbacks=[Rows()], config=config(3, accumulate=2))
    assert rows == [2, 3, 4]
    # the first is what operations are counted on, before the first step
    assert asked[1:] == [(step, micro_batch) for step in range(3) for micro_batch in range(2)]


def test_batches_of_other_sizes_are_counted_as_they_are():
    small, large = random_batches(1, rows=2)[0], random_batches(1, rows=6)[0]
    steps = run(gpt(), data=[small, large], config=config(4)).steps
    assert [step.tokens for step in steps] == [2 * T, 6 * T, 2 * T, 6 * T]
    assert steps[1].flops == pytest.approx(3 * steps[0].flops)


# ---------------------------------------------------------------- data, models, precision


def test_a_list_of_batches_is_gone_around():
    batches = random_batches(3)
    seen = []

    def loss(model, batch):
        seen.append([torch.equal(known[:1], batch[0][:1]) for known, _ in batches].index(True))
        return next_token_loss(model, batch)

    model = gpt()
    steps = train_steps(
        model, batches, make_optimizer(model), config=config(4, accumulate=2), loss=loss
    )
    first = next(steps)
    del seen[:-2]  # what was counted before the first step
    assert first.tokens == 2 * 3 * T
    list(steps)
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"data=\[\] holds no batch"),
        (iter(()), r"data=<tuple_iterator .* must have .batch"),
        (
            torch.utils.data.DataLoader([1]),
            r"data=<.*DataLoader .* must have .batch\(step, micro_batch\)",
        ),
        (None, "data=None must have"),
    ],
)
def test_data_that_cannot_be_trained_on_is_named(data, message):
    model = gpt()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        train(model, data, make_optimizer(model))
    assert same_weights(model, before)


def test_batches_may_be_dicts_with_a_loss_of_ones_own():
    def loss(model, batch):
        return next_token_loss(model, (batch["tokens"], batch["targets"]))

    pairs = random_batches(3)
    dicts = [{"tokens": tokens, "targets": targets} for tokens, targets in pairs]
    assert run(gpt(), data=dicts, loss=loss).losses == run(gpt(), data=pairs).losses


def test_a_model_without_blocks_trains():
    class Bigram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm, self.head = (
                nn.Embedding(V, 8),
                nn.LayerNorm(8),
                nn.Linear(8, V),
            )

        def forward(self, tokens_BT):
            return self.head(self.norm(self.embedding(tokens_BT)))

    torch.manual_seed(0)
    record = run(Bigram(), config=config(30))
    assert record.num_layers == 0 and record.losses[-1] < record.losses[0]
    assert record.steps[0].layers_run == () and record.flops_saved == 0 == record.realised_drop


def test_bfloat16_differs_a_little():
    exact = run(gpt()).losses
    rounded = run(gpt(), config=config(precision="bfloat16")).losses
    assert rounded == pytest.approx(exact, rel=0.05) and rounded != exact
    assert run(gpt(), config=config(precision="float32")).losses == exact


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_recomputation_with_dropping_changes_nothing(dropout):
    def losses(recompute: bool) -> tuple[float, ...]:
        model = gpt(dropout=dropout)
        model.activation_recomputation = recompute
        torch.manual_seed(5)
        record = run(model, callbacks=[uniform(model, saving=0.5)], config=config(8))
        assert 0 < record.realised_drop < 1
        return record.losses

    assert losses(True) == losses(False)


def test_training_works_where_gradients_are_off_outside():
    with torch.no_grad():
        assert run(gpt()).losses == run(gpt()).losses
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
def test_a_model_handed_over_in_evaluation_mode_is_trained(make_model):
    model = make_model().eval()
    record = run(model, callbacks=[uniform(model, saving=0.5)], config=config(8))
    assert record.realised_drop > 0


# ---------------------------------------------------------------- evaluation, callbacks


def test_evaluations_are_at_full_depth_and_do_not_disturb():
    model = gpt(dropout=0.2)
    skipping = attach(model)
    seen = []

    def measure(evaluated: nn.Module) -> float:
        seen.append((evaluated.training, set(skipping.dropped), set(skipping.skipped)))
        evaluated.train()  # one that does not see to the mode itself
        skipping.reset_calls()
        evaluated(random_batches(1)[0][0])
        assert skipping.calls == [1, 1, 1, 1]
        return 1.5

    def losses(**arguments) -> tuple[RunRecord, nn.Module]:
        model = gpt()
        return run(model, callbacks=[uniform(model, saving=0.7)], **arguments), model

    state = torch.get_rng_state()
    record = run(
        model,
        callbacks=[uniform(model, saving=0.7)],
        config=config(5, evaluate_every=2),
        evaluations={"one": measure},
    )
    torch.set_rng_state(state)
    assert [step.step for step in record if step.evaluations] == [1, 3, 4]
    assert record.final == {"one": 1.5}
    assert seen == [(False, set(), set())] * 3
    plain, _ = losses(config=config(5))
    evaluated, model = losses(
        config=config(5, evaluate_every=1),
        evaluations={"loss": lambda model: evaluate_loss(model, random_batches(2))},
    )
    assert plain.losses == evaluated.losses
    assert evaluated.final["loss"] == evaluate_loss(model, random_batches(2))
    assert [s.layers_run for s in plain] == [s.layers_run for s in evaluated]


def test_layers_skipped_on_purpose_stay_skipped_in_evaluation():
    model = gpt()
    skip_layers(model, {2})
    skipping = attach(model)
    record = run(
        model,
        callbacks=[uniform(model, saving=0.5)],
        evaluations={"skipped": lambda _: float(sum(skipping.skipped))},
    )
    assert record.final == {"skipped": 2.0} and skipping.skipped == {2}


def test_callbacks_are_called_around_each_step():
    events = []

    class Watch(Callback):
        def before_step(self, context):
            events.append(("before", context.step, context.num_steps, context.progress))
            context.keep_probability = (1.0,) * 4

        def after_step(self, record):
            events.append(("after", record.step, record.keep_probability))

    record = run(gpt(), callbacks=[Watch()], config=config(3))
    assert events == [
        ("before", 0, 3, 0.0),
        ("after", 0, (1.0,) * 4),
        ("before", 1, 3, 0.5),
        ("after", 1, (1.0,) * 4),
        ("before", 2, 3, 1.0),
        ("after", 2, (1.0,) * 4),
    ]
    assert record.configuration["callbacks"] == ({"callback": "Watch"},)


# ---------------------------------------------------------------- ending early


def test_a_generator_closed_early_leaves_full_depth():
    model = gpt()
    optimizer = make_optimizer(model, learning_rate=1e-2)
    dropping = uniform(model, saving=0.7)
    steps = train_steps(model, Source(), optimizer, config=config(9), callbacks=[dropping])
    taken = [next(steps), next(steps)]
    assert attach(model).dropped
    steps.close()
    assert not attach(model).dropped
    assert optimizer.param_groups[0]["lr"] == 1e-2
    record = make_run_record(model, taken, config=config(9), callbacks=[dropping])
    assert len(record) == 2 and record.configuration["optimizer"] is None


@pytest.mark.parametrize("where", ["loss", "on_step", "evaluation", "callback"])
def test_an_interrupt_propagates_and_leaves_full_depth(where):
    model = gpt()
    calls = {"left": 4}

    def interrupt(place: str) -> None:
        if where == place:
            calls["left"] -= 1
            if calls["left"] == 0:
                raise KeyboardInterrupt

    class Interrupting(Callback):
        def before_step(self, context):
            interrupt("callback")

    def loss(model, batch):
        interrupt("loss")
        return next_token_loss(model, batch)

    with pytest.raises(KeyboardInterrupt) as caught:
        run(
            model,
            callbacks=[uniform(model, saving=0.7), Interrupting()],
            # an evaluation would end what was dropped
            config=config(9, evaluate_every=int(where == "evaluation")),
            evaluations={"none": lambda _: interrupt("evaluation") or 0.0},
            loss=loss,
            on_step=lambda _: interrupt("on_step"),
        )
    # with the traceback, and so all its frames, still held
    assert caught.tb is not None and attach(model).dropped == set()


# ---------------------------------------------------------------- live controls


def test_controls_are_in_force_from_the_next_step_and_stop_ends_the_run():
    model = gpt()
    controls = Controls({"saving": 0.0})

    def steer(step) -> None:
        if step.step == 1:
            controls.set("saving", 0.5)
        if step.step == 4:
            controls.stop()

    record = run(model, controls=controls, on_step=steer, config=config(9))
    assert [step.controls["saving"] for step in record] == [0.0, 0.0, 0.5, 0.5, 0.5]
    assert record.controls_log == ((2, "saving", 0.0, 0.5), (5, "stop", False, True))
    assert record.outcome == "stopped"


def test_a_stop_asked_for_in_the_last_step_completes():
    controls = Controls({})
    record = run(
        gpt(),
        controls=controls,
        on_step=lambda s: s.step == 4 and controls.stop(),
        config=config(5),
    )
    assert (len(record), record.outcome) == (5, "completed")


class SavingControl(Callback):
    """Skips the layer that the controls name: a stand-in for a live method."""

    def before_step(self, context):
        attach(context.model).set_dropped({context.controls["layer"]})


def test_pause_resume_and_stop_from_another_thread_and_the_replay():
    model, controls = gpt(), Controls({"layer": 0})
    paused, stopped = threading.Event(), threading.Event()
    records: list[RunRecord] = []
    taken = []

    def on_step(step) -> None:
        taken.append(step)
        if step.step == 2:
            controls.pause()
            paused.set()
        if step.step == 5:
            stopped.set()
            stop_asked.wait(PATIENCE)

    stop_asked = threading.Event()

    def work() -> None:
        records.append(
            run(
                model,
                controls=controls,
                callbacks=[SavingControl()],
                on_step=on_step,
                config=config(50),
            )
        )

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert paused.wait(PATIENCE)
    controls.set("layer", 3)
    thread.join(0.05)
    assert thread.is_alive() and len(taken) == 3, "a paused run took another step"
    controls.resume()
    assert stopped.wait(PATIENCE)
    controls.stop()
    stop_asked.set()
    thread.join(PATIENCE)
    (record,) = records
    assert record.outcome == "stopped" and len(record) == 6
    assert record.controls_log == ((3, "layer", 0, 3), (6, "stop", False, True))
    assert [s.layers_run for s in record] == [(1, 2, 3)] * 3 + [(0, 1, 2)] * 3

    again = Controls({"layer": 0}, replay=RunRecord.from_json(record.to_json()).controls_log)
    replayed = run(gpt(), controls=again, callbacks=[SavingControl()], config=config(50))
    assert replayed.losses == record.losses
    assert replayed.controls_log == record.controls_log


def test_seconds_are_those_of_the_steps_without_their_evaluation(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(
        "sbldlib.training.run.time", SimpleNamespace(perf_counter=clock.perf_counter)
    )

    def slow(_model) -> float:
        clock.now += 100
        return 0.0

    record = run(gpt(), config=config(4, evaluate_every=1), evaluations={"slow": slow})
    assert record.seconds == 4 * 0.125
    assert replace(record, seconds=0.0).seconds == 0


@pytest.mark.parametrize("value", ["low", None, [1]])
def test_an_evaluation_that_gives_no_number_is_named(value):
    with pytest.raises(ValueError, match=r"evaluations\['loss'\] returned .*returns a number"):
        run(gpt(), evaluations={"loss": lambda model: value})
