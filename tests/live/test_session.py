from __future__ import annotations

import itertools

import pytest
import torch
from live.sessions import NUM_LAYERS, SENSITIVITY, make_session, run
from small import Source, gpt, same_weights, weights

from sbldlib.live.values import CONTROLS
from sbldlib.methods import make_method
from sbldlib.records import RunRecord
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.ledger import read_ledger
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer


def plain_run(name: str, steps: int = 12, saving: float = 0.25, seed: int = 0):
    """What `train` alone makes of the same weights and data."""
    model = gpt(NUM_LAYERS, seed=seed)
    method = make_method(name, model, saving=saving, sensitivity_data=SENSITIVITY)
    return train(
        model,
        Source(seed),
        make_optimizer(model, learning_rate=1e-2),
        config=TrainConfig(budget=Budget(steps=steps)),
        callbacks=[method],
    )


# ---- a race


def test_each_arm_of_a_race_is_the_run_that_it_would_be_alone():
    session = run(make_session(against="none"))
    lead, rival = (arm.record() for arm in session.arms)
    assert [arm.name for arm in session.arms] == ["steered", "full depth"]
    assert lead.losses == plain_run("sbld").losses
    assert rival.losses == plain_run("none").losses


def test_any_two_methods_may_race_at_the_same_saving():
    session = run(make_session(against="uniform", values={"saving": 0.2}))
    assert session.arms[1].record().losses == plain_run("uniform", saving=0.2).losses


def test_the_arms_begin_with_the_same_weights_and_share_nothing():
    session = make_session(against="none")
    lead, rival = (arm.model for arm in session.arms)
    assert same_weights(rival, weights(lead))
    run(session)
    shared = {p.data_ptr() for p in lead.parameters()} & {p.data_ptr() for p in rival.parameters()}
    assert not shared and not same_weights(rival, weights(lead))


def test_they_take_turns_step_by_step():
    turns = [(place, record.step) for place, record in make_session(4, against="none").steps()]
    assert turns == [(place, step) for step in range(4) for place in (0, 1)]


def test_with_a_budget_of_flops_the_one_that_has_got_least_far_goes_on():
    alone = run(make_session(8)).lead.records
    budget = Budget(flops=sum(record.flops_full for record in alone))
    session = run(make_session(budget=budget, against="none", values={"saving": 0.4}))
    lead, rival = (arm.records for arm in session.arms)
    assert len(lead) > len(rival)
    spent = [sum(record.flops for record in records) for records in (lead, rival)]
    a_step = rival[0].flops
    assert all(budget.flops <= each < budget.flops + a_step for each in spent)


def test_what_is_shared_holds_for_both_at_the_same_step():
    session = make_session(against="none")

    def slower():
        session.ask("learning_rate_scale", 0.5)

    run(session, {5: slower})
    lead, rival = (arm.record() for arm in session.arms)
    assert [s.learning_rate for s in lead] == [s.learning_rate for s in rival]
    reference = plain_run("none").steps
    scales = [s.learning_rate / r.learning_rate for s, r in zip(rival, reference, strict=True)]
    assert scales == pytest.approx([1.0] * 5 + [0.5] * 7)
    assert lead.controls_log == ((5, "learning_rate_scale", 1.0, 0.5),) == rival.controls_log


def test_a_change_of_the_lead_s_dropping_leaves_the_rival_alone():
    session = make_session(against="none")
    run(session, {3: lambda: session.ask("method", "uniform")})
    assert session.arms[1].record().losses == plain_run("none").losses
    assert session.arms[1].record().controls_log == ()


def test_a_stop_ends_both_after_as_many_steps():
    session = make_session(100, against="none")
    run(session, {7: session.stop})
    assert [len(arm.records) for arm in session.arms] == [7, 7]
    assert session.is_stopped and [arm.record().outcome for arm in session.arms] == ["stopped"] * 2


def test_a_race_stopped_and_taken_up_is_the_race_that_nobody_stopped(tmp_path):
    whole = run(make_session(against="uniform"))
    first = make_session(against="uniform", folder=tmp_path)
    run(first, {5: first.stop})
    again = run(make_session(against="uniform", folder=tmp_path))
    for arm, undisturbed in zip(again.arms, whole.arms, strict=True):
        assert arm.record().losses == undisturbed.record().losses
        assert len(arm.records) == 12 and [r.step for r in arm.records] == list(range(12))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lead", "rival"]


def test_arms_that_were_killed_at_different_steps_meet_again(tmp_path):
    def changed(session):
        return {2: lambda: session.ask("learning_rate_scale", 2.0)}

    whole = make_session(against="none")
    run(whole, changed(whole))
    first = make_session(against="none", folder=tmp_path)
    steps, act = first.steps(), changed(first)[2]
    for _ in range(9):  # the lead is a step ahead
        place, record = next(steps)
        if (place, record.step) == (0, 1):
            act()
    steps.close()
    again = run(make_session(against="none", folder=tmp_path))
    for arm, undisturbed in zip(again.arms, whole.arms, strict=True):
        assert arm.record().losses == undisturbed.record().losses


# ---- asking


def test_what_cannot_be_held_is_refused_and_nothing_is_asked_for():
    session = make_session()
    before = session.controls.wanted
    for name, value in (("saving", 0.41), ("block", "9"), ("method", "x")):
        with pytest.raises(ValueError, match=f"{name}="):
            session.ask(name, value)
    with pytest.raises(ValueError, match="control='speed' is not known"):
        session.ask("speed", 1)
    assert session.controls.wanted == before


def test_the_saving_falls_to_what_can_be_held():
    session = make_session(values={"saving": 0.4})
    assert session.ask("block", "0, 1, 2, 3") == {"saving": 0.3, "block": "0, 1, 2, 3"}
    run(session)
    assert session.lead.records[0].controls["saving"] == 0.3
    keep = session.lead.records[0].keep_probability
    assert keep[:4] == (1.0,) * 4 and sum(keep) == pytest.approx(6 * 0.7)


def test_a_saving_too_large_for_the_block_list_is_refused():
    session = make_session(values={"saving": 0.15, "block": "0, 1, 2, 3, 4"})
    with pytest.raises(ValueError, match=r"1 layers that may be dropped hold 0\.9"):
        session.ask("saving", 0.2)
    assert session.controls.wanted["saving"] == 0.15


def test_every_method_schedule_and_draw_that_passes_the_door_trains():
    session = make_session(steps=400)
    steps = iter(session.steps())
    for name, values in {
        "method": session.asking.offered,
        "schedule": ("constant", "linear_more", "linear_less", "pld", "front", "pwegd", "own"),
        "mode": ("fixed_count", "bernoulli", "own"),
        "scope": ("per_sequence", "per_batch", "own"),
        "rescale": ("train_inverse", "eval_scale", "none", "own"),
        "block": ("1, 2", "", "measured"),
    }.items():
        for value in values:
            asked = session.ask(name, value)
            _, record = next(steps)
            assert asked.items() <= record.controls.items(), (name, value)
            assert torch.isfinite(torch.tensor(record.loss_nats))
        session.ask("method", "sbld")
    assert set(CONTROLS) <= set(record.controls)


def test_undo_brings_back_what_fell_with_a_change():
    session = make_session(steps=40, values={"saving": 0.4})
    steps = iter(session.steps())
    next(steps)
    session.ask("block", "0, 1, 2, 3")
    next(steps)
    session.undo()
    _, record = next(steps)
    assert record.controls == session.start
    assert not session.undo()


# ---- pace


def test_a_speed_limit_holds_and_ends_at_once(monkeypatch):
    session = make_session(steps=30)
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("sbldlib.live.pace.time.monotonic", lambda: now)
    monkeypatch.setattr("sbldlib.live.pace.time.sleep", sleep)
    steps = iter(session.steps())
    session.ask("steps_per_second", 5)
    began = []
    for _ in range(5):
        next(steps)
        began.append(now)
    waits = [later - sooner for sooner, later in itertools.pairwise(began[1:])]
    assert waits == pytest.approx([0.2] * 3, abs=0.03)
    session.ask("steps_per_second", 0)
    before = now
    for _ in range(5):
        next(steps)
    assert now == before


# ---- going back


def test_going_back_goes_on_from_the_checkpoint_as_if_nothing_had_come_after(tmp_path):
    undisturbed = run(make_session(20, against="none", every_steps=5, folder=tmp_path / "a"))
    session = make_session(20, against="none", every_steps=5, folder=tmp_path / "b")
    asked: list[int] = []

    def spoil():
        if not asked:
            session.ask("learning_rate_scale", 10.0)
            session.ask("method", "uniform")

    def back():
        if not asked:
            asked.append(session.go_back())

    run(session, {11: spoil, 13: back})
    assert asked == [10] and session.num_returns == 1
    for arm, other in zip(session.arms, undisturbed.arms, strict=True):
        assert arm.record().losses == other.record().losses
        assert [r.step for r in arm.records] == list(range(20))
        assert arm.record().resumes[-1]["step"] == 10
    assert session.lead.record().controls_log == ()


def test_without_a_checkpoint_there_is_no_way_back_and_the_run_goes_on(tmp_path):
    session = make_session(6)
    with pytest.raises(ValueError, match="no checkpoint to go back to: give a folder"):
        session.go_back()
    assert len(run(session).lead.records) == 6 and not session.is_stopped


# ---- samples


def test_the_model_writes_before_and_after_and_what_it_wrote_is_kept(tmp_path):
    def sample(model):
        return f"{sum(float(p.detach().abs().sum()) for p in model.parameters()):.6f}"

    first = make_session(6, against="none", folder=tmp_path, sample=sample)
    before = sample(first.lead.model)
    run(first, {3: first.stop})
    assert list(first.lead.samples) == [0, 3] and first.lead.samples[0] == before
    again = run(make_session(6, against="none", folder=tmp_path, sample=sample))
    for arm, other in zip(again.arms, first.arms, strict=True):
        assert list(arm.samples) == [0, 3, 6] and arm.samples[3] == other.samples[3]
        assert arm.samples[6] == sample(arm.model)


def test_damaged_samples_are_no_reason_to_stop(tmp_path):
    run(make_session(4, folder=tmp_path, sample=lambda model: "text"))
    (tmp_path / "analysis" / "samples.json").write_text("{")
    again = run(make_session(4, folder=tmp_path, sample=lambda model: "text"))
    assert len(again.lead.records) == 4


# ---- the record


def test_records_are_kept_in_the_folder_and_in_memory_alike(tmp_path):
    kept, free = make_session(folder=tmp_path), make_session()
    for session in (kept, free):
        run(session, {4: lambda session=session: session.ask("saving", 0.4)})
    assert kept.lead.record().losses == free.lead.record().losses
    assert RunRecord.load(tmp_path / "run.json") == kept.lead.record()
    assert len(read_ledger(tmp_path)) == 12


class Noisy(Source):
    """Batches whose tokens are noisy by torch's global generator, as dropout is."""

    def batch(self, step, micro_batch=0):
        inputs_BT, targets_BT = super().batch(step, micro_batch)
        noise_BT = torch.randint(0, 2, inputs_BT.shape) if step else torch.zeros_like(inputs_BT)
        return (inputs_BT + noise_BT) % 32, targets_BT


def test_what_one_arm_draws_from_global_state_does_not_move_the_other(tmp_path):
    def lead_losses(**options):
        torch.manual_seed(7)
        session = make_session(data=Noisy(), **options)
        before = torch.get_rng_state()
        run(session)
        if session.is_race:  # nor what is outside
            assert torch.equal(torch.get_rng_state(), before)
        return [record.loss_nats for record in session.lead.records]

    alone = lead_losses()
    assert lead_losses(against="none") == alone == lead_losses(against="uniform")
    torch.manual_seed(7)
    first = make_session(data=Noisy(), against="none", folder=tmp_path)
    steps = first.steps()
    for _ in range(9):  # the lead is a step ahead
        next(steps)
    steps.close()
    torch.manual_seed(123)
    again = run(make_session(data=Noisy(), against="none", folder=tmp_path))
    assert [record.loss_nats for record in again.lead.records] == alone
