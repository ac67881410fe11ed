from __future__ import annotations

import pytest
from small import Source, gpt

from sbldlib.dropping.schedules import tabulate
from sbldlib.dropping.skipping import attach
from sbldlib.live.dropping import MOST_KEPT, LiveDropping, lists_of
from sbldlib.live.schedules import SCHEDULES
from sbldlib.live.values import CONTROLS
from sbldlib.methods import METHODS, make_method
from sbldlib.records import RunRecord, SensitivityData
from sbldlib.training.callbacks import StepContext
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.controls import Controls
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

SENSITIVITY = SensitivityData(values=(0.4, 0.1, 0.3, 0.2), standard_errors=(0.0,) * 4)
NUM_STEPS = 24


def drawn_at(callback, model, step: int, **controls):
    """What is set on the model for this step."""
    context = StepContext(
        step=step,
        num_steps=NUM_STEPS,
        progress=step / (NUM_STEPS - 1),
        model=model,
        controls=controls,
        num_rows=4,
    )
    callback.before_step(context)
    skipping = attach(model)
    return skipping.dropped, skipping.forward_only, skipping.rows


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("saving", [0.0, 0.1, 0.2])
def test_it_draws_what_the_method_alone_would_draw(name, saving):
    live_model, model = gpt(), gpt()
    live = LiveDropping(live_model, sensitivity_data=SENSITIVITY, seed=6)
    method = make_method(name, model, saving=saving, seed=6, sensitivity_data=SENSITIVITY)
    for step in range(NUM_STEPS):
        asked = {"dropping": True, "method": name, "saving": saving}
        assert drawn_at(live, live_model, step, **asked) == drawn_at(method, model, step)


def test_the_defaults_are_the_controls():
    live_model, model = gpt(), gpt()
    live = LiveDropping(live_model, sensitivity_data=SENSITIVITY)
    method = make_method("sbld", model, saving=0.25, sensitivity_data=SENSITIVITY)
    for step in range(NUM_STEPS):
        assert drawn_at(live, live_model, step) == drawn_at(method, model, step)


def test_a_draw_does_not_depend_on_what_was_chosen_before():
    model, other = gpt(), gpt()
    live = LiveDropping(model, sensitivity_data=SENSITIVITY)
    straight = LiveDropping(other, sensitivity_data=SENSITIVITY)
    uniform = {"dropping": True, "method": "uniform", "saving": 0.3}
    for step in range(NUM_STEPS):
        if step % 3:
            drawn_at(live, model, step, method="linear", saving=0.2)
        else:
            expected = drawn_at(straight, other, step, **uniform)
            assert drawn_at(live, model, step, **uniform) == expected


def steer(controls: Controls, step: int) -> None:
    changes = {
        3: ("dropping", False),
        7: ("dropping", True),
        10: ("method", "uniform"),
        14: ("saving", 0.5),
        19: ("method", "pld"),
    }
    if step == 18:
        controls.set("saving", 0.2)
    if step in changes:
        controls.set(*changes[step])


def run(controls: Controls, on_step=None) -> RunRecord:
    model = gpt()
    return train(
        model,
        Source(),
        make_optimizer(model),
        config=TrainConfig(budget=Budget(steps=NUM_STEPS)),
        callbacks=[LiveDropping(model, sensitivity_data=SENSITIVITY, seed=1)],
        controls=controls,
        on_step=on_step,
    )


def test_a_steered_run_follows_and_its_log_replays_it_bit_for_bit():
    controls = Controls(CONTROLS)
    record = run(controls, lambda step: steer(controls, step.step))
    means = [sum(step.keep_probability) / 4 for step in record]
    assert means[:4] == pytest.approx([0.75] * 4)
    assert means[4:8] == [1.0] * 4
    assert all(step.layers_run == (0, 1, 2, 3) for step in record.steps[4:8])
    assert means[8:15] == pytest.approx([0.75] * 7)
    assert record.steps[11].keep_probability == pytest.approx((0.75,) * 4)
    assert record.steps[15].keep_probability == pytest.approx((0.5,) * 4)
    assert record.steps[20].keep_probability[0] == 1.0  # pld's first layer
    assert [step.controls["method"] for step in record.steps[18:22]] == ["uniform"] * 2 + [
        "pld"
    ] * 2
    assert record.configuration["callbacks"][0] == {"method": "live", "seed": 1}

    loaded = RunRecord.from_json(record.to_json())
    replayed = run(Controls(CONTROLS, replay=loaded.controls_log))
    assert replayed.losses == record.losses
    assert [s.layers_run for s in replayed] == [s.layers_run for s in record]
    assert replayed.controls_log == record.controls_log


def test_a_method_is_made_once_and_the_oldest_is_forgotten(monkeypatch):
    model, made = gpt(), []
    live = LiveDropping(model, sensitivity_data=SENSITIVITY)
    plain = LiveDropping.method
    monkeypatch.setattr(
        LiveDropping, "method", lambda self, **asked: made.append(asked) or plain(self, **asked)
    )
    for saving in (0.1, 0.2, 0.1, 0.2):
        drawn_at(live, model, 0, method="uniform", saving=saving)
    drawn_at(live, model, 1, method="uniform", saving=0.2, pwegd_shape=5.0)  # not read
    drawn_at(live, model, 2, dropping=False, method="linear")
    assert len(made) == 2
    for number in range(2 * MOST_KEPT):
        drawn_at(live, model, 3, method="uniform", saving=number / 100)
    assert len(live.state_dict()["made"]) == MOST_KEPT
    drawn_at(live, model, 4, method="uniform", saving=0.1)  # forgotten, and made again
    assert len(made) == 1 + 2 * MOST_KEPT + 1  # two of them were kept from before


def test_what_cannot_be_chosen_is_named():
    live = LiveDropping(gpt())
    with pytest.raises(ValueError, match="'sbld' needs sensitivity_data"):
        live.method(method="sbld", saving=0.2)
    with pytest.raises(ValueError, match=r"method='unform' .*'uniform'"):
        live.method(method="unform", saving=0.2)
    with pytest.raises(ValueError, match=r"saving=1.2"):
        live.method(method="uniform", saving=1.2)


def test_another_order_of_the_layers_is_another_run():
    model = gpt(4)
    orders = [(3.0, 2.0, 1.0, 0.0), (6.0, 5.0, 1.0, 0.5), (0.0, 1.0, 2.0, 3.0)]
    same, scaled, other = (
        LiveDropping(
            model, sensitivity_data=SensitivityData(values=values, standard_errors=(0.0,) * 4)
        ).identity()
        for values in orders
    )
    assert same == scaled != other
    assert LiveDropping(model).identity()["ranking"] is None


def test_a_block_list_by_hand_is_never_dropped_and_keeps_its_order():
    lists = lists_of("1, 3", SENSITIVITY)
    assert lists is not None and lists.block == (3, 1) and lists.allow == (0, 2)
    assert lists_of("measured", SENSITIVITY) is None
    assert lists_of("", SENSITIVITY).block == ()
    live = LiveDropping(gpt(), sensitivity_data=SENSITIVITY)
    keep = live.method(method="sbld", saving=0.3, block="1, 3").keep_probability(0.5)
    assert keep[1] == keep[3] == 1 and sum(keep) == pytest.approx(4 * 0.7) and keep[0] < 1
    with pytest.raises(ValueError, match=r"1 layers that may be dropped hold 0\.9"):
        live.method(method="sbld", saving=0.3, block="0, 1, 2")


@pytest.mark.parametrize("name", ["uniform", "linear", "pld", "sbld"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_has_the_asked_mean_under_every_method(name, schedule):
    live = LiveDropping(gpt(), sensitivity_data=SENSITIVITY)
    method = live.method(method=name, saving=0.1, schedule=schedule)
    table = tabulate(method.schedule, 50)
    assert 1 - table.mean() == pytest.approx(0.1)
    assert [sum(method.allocation(float(k))) / 4 for k in table] == pytest.approx(table.tolist())


def test_draws_and_rescaling_are_those_asked_for():
    live = LiveDropping(gpt(), sensitivity_data=SENSITIVITY)
    asked = {"mode": "fixed_count", "scope": "per_sequence", "rescale": "train_inverse"}
    described = live.method(method="uniform", saving=0.2, **asked).describe()
    assert asked.items() <= described.items()
    plain = live.method(method="dont_drop_dropout", saving=0.1).describe()
    assert plain["scope"] == "per_sequence"  # its own, where nothing else is asked for


def test_what_is_kept_goes_on_where_it_was():
    model, other = gpt(), gpt()
    live = LiveDropping(model, sensitivity_data=SENSITIVITY)
    for step, name in enumerate(("uniform", "sbld", "dropbp", "uniform")):
        drawn_at(live, model, step, method=name, saving=0.2)
    again = LiveDropping(other, sensitivity_data=SENSITIVITY)
    again.load_state_dict(live.state_dict())
    for step in range(4, 10):
        asked = {"method": "sbld", "saving": 0.2}
        assert drawn_at(again, other, step, **asked) == drawn_at(live, model, step, **asked)
