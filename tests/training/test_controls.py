from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.training.controls import Controls

PATIENCE = 10  # seconds until a thread that should have ended is called stuck


@pytest.fixture
def controls() -> Controls:
    return Controls({"saving": 0.2, "method": "sbld"})


def test_a_value_is_in_force_from_the_next_step_on_and_logged_there(controls):
    assert controls.begin_step(0)
    controls.set("saving", 0.3)
    assert controls["saving"] == 0.2 and controls.values() == {"saving": 0.2, "method": "sbld"}
    assert controls.log == []
    assert controls.begin_step(1)
    assert controls["saving"] == 0.3 and controls.values()["saving"] == 0.3
    assert controls.log == [(1, "saving", 0.2, 0.3)]


def test_only_what_came_into_force_is_logged(controls):
    controls.begin_step(0)
    for saving in (0.3, 0.4, 0.1):
        controls.set("saving", saving)
    controls.set("method", "uniform")
    controls.begin_step(1)
    controls.set("saving", 0.3)
    controls.set("saving", 0.1)
    controls.begin_step(2)
    assert controls.log == [(1, "saving", 0.2, 0.1), (1, "method", "sbld", "uniform")]


def test_an_unknown_name_names_the_nearest(controls):
    with pytest.raises(ValueError, match=r"control='savings' .*'saving'"):
        controls.set("savings", 0.1)
    with pytest.raises(ValueError, match="control='speed'"):
        controls["speed"]
    with pytest.raises(ValueError, match="replay='gone'"):
        Controls({"saving": 0.2}, replay=[(3, "gone", 1, 2)])
    controls.set("saving", 0.1)  # no lock is left held by the error


def test_what_is_handed_in_is_copied():
    values = {"saving": 0.2}
    controls = Controls(values)
    values["saving"] = 0.9
    controls.values()["saving"] = 0.8
    controls.begin_step(0)
    assert controls["saving"] == 0.2 and controls.log == []


def test_stop_ends_the_run_at_the_next_boundary_and_is_logged(controls):
    assert controls.begin_step(0)
    controls.stop()
    assert not controls["stop"]
    assert not controls.begin_step(1)
    assert controls["stop"] and "stop" not in controls.values()
    assert controls.log == [(1, "stop", False, True)]


def started(controls: Controls, step: int) -> tuple[threading.Thread, list[bool]]:
    """A thread that begins a step, and what `begin_step` told it."""
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(controls.begin_step(step)), daemon=True)
    thread.start()
    return thread, told


def test_a_paused_run_waits_until_it_is_resumed(controls):
    controls.pause()
    assert controls.is_paused
    thread, told = started(controls, 5)
    controls.set("saving", 0.4)  # asked while it waits: in force when it goes on
    thread.join(0.05)
    assert thread.is_alive() and told == []
    controls.resume()
    thread.join(PATIENCE)
    assert told == [True] and not controls.is_paused
    assert controls.log == [(5, "saving", 0.2, 0.4)]


@pytest.mark.parametrize("pause_after_stop", [False, True])
@pytest.mark.parametrize("through_set", [False, True])
def test_a_stopped_run_does_not_wait(controls, pause_after_stop, through_set):
    if not pause_after_stop:
        controls.pause()
    if through_set:
        controls.set("stop", True)
    else:
        controls.stop()
    if pause_after_stop:
        controls.pause()
    thread, told = started(controls, 0)
    thread.join(PATIENCE)
    assert told == [False]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sampled_from(["saving", "method"]),
            st.sampled_from([0.1, 0.2, "sbld", "pld"]),
        ),
        max_size=12,
    )
)
def test_the_log_replayed_gives_the_same_values_and_the_same_log(changes):
    def run(controls: Controls, changes) -> list[dict]:
        held = []
        for step in range(10):
            for _, name, value in (change for change in changes if change[0] == step):
                controls.set(name, value)
            controls.begin_step(step)
            held.append(controls.values())
        return held

    first = Controls({"saving": 0.2, "method": "sbld"})
    held = run(first, changes)
    again = Controls({"saving": 0.2, "method": "sbld"}, replay=first.log)
    assert run(again, []) == held
    assert again.log == first.log


def test_a_replayed_stop_ends_at_the_same_step():
    controls = Controls({"saving": 0.2}, replay=[(2, "stop", False, True)])
    assert [controls.begin_step(step) for step in range(3)] == [True, True, False]


def test_many_threads_may_ask_at_once(controls):
    asked = threading.Barrier(5)

    def ask(number: int) -> None:
        asked.wait(PATIENCE)
        for value in range(200):
            controls.set("saving", (number, value))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    asked.wait(PATIENCE)
    for step in range(200):
        controls.begin_step(step)
    for thread in threads:
        thread.join(PATIENCE)
    controls.begin_step(200)
    olds = [old for _, _, old, _ in controls.log]
    news = [new for _, _, _, new in controls.log]
    assert olds == [0.2, *news[:-1]], "each change starts where the one before it ended"
    assert controls["saving"] in {(number, 199) for number in range(4)}


def test_a_state_taken_up_has_no_stop_in_its_log(controls):
    controls.set("saving", 0.3)
    controls.begin_step(0)
    controls.stop()
    controls.begin_step(4)
    state = controls.state_dict()
    taken_up = Controls({"saving": 0.2})
    taken_up.load_state_dict({**state, "in_force": {"saving": 0.3, "stop": True}})
    assert taken_up.log == [(0, "saving", 0.2, 0.3)] and taken_up.begin_step(4)


def test_wanted_is_what_was_asked_for_last():
    controls = Controls({"saving": 0.2})
    controls.set("saving", 0.3)
    controls.stop()
    assert controls.wanted == {"saving": 0.3} and controls.values() == {"saving": 0.2}


# ---- one step, and back


def test_a_single_step_lets_one_step_begin_and_holds_the_next(controls):
    controls.step_once()
    assert controls.is_paused and controls.begin_step(0)
    thread, told = started(controls, 1)
    thread.join(0.3)
    assert thread.is_alive() and told == []
    controls.step_once()
    thread.join(PATIENCE)
    assert told == [True] and controls.is_paused
    controls.resume()
    assert controls.begin_step(2) and controls.begin_step(3)


def test_single_steps_that_were_not_taken_are_gone_when_the_run_goes_on(controls):
    for _ in range(3):
        controls.step_once()
    controls.resume()
    assert controls.begin_step(0)
    controls.pause()
    thread, told = started(controls, 1)
    thread.join(0.3)
    assert thread.is_alive() and told == []
    controls.stop()
    thread.join(PATIENCE)
    assert told == [False]


def test_a_pause_is_saved_once_and_not_again_between_single_steps(controls):
    saved: list[int] = []
    for step in range(3):
        controls.step_once()
        controls.begin_step(step, on_pause=lambda step=step: saved.append(step))
    assert saved == [0]
    controls.resume()
    controls.begin_step(3, on_pause=lambda: saved.append(3))
    controls.step_once()
    controls.begin_step(4, on_pause=lambda: saved.append(4))
    assert saved == [0, 4]


def test_an_undo_brings_back_what_the_last_change_replaced_and_is_logged(controls):
    controls.set("saving", 0.3)
    controls.begin_step(0)
    controls.set("saving", 0.4)
    controls.set("method", "uniform")  # one step's changes belong together
    controls.begin_step(1)
    assert controls.undo()
    controls.begin_step(2)
    assert controls.values() == {"saving": 0.3, "method": "sbld"}
    assert controls.undo()
    controls.begin_step(3)
    assert controls.values() == {"saving": 0.2, "method": "sbld"} and not controls.undo()
    assert controls.log[-3:] == [
        (2, "saving", 0.4, 0.3), (2, "method", "uniform", "sbld"), (3, "saving", 0.3, 0.2),
    ]  # fmt: skip


def test_two_undos_between_two_steps_go_back_two_changes(controls):
    for step, saving in enumerate((0.3, 0.4)):
        controls.set("saving", saving)
        controls.begin_step(step)
    assert controls.undo() and controls.undo() and not controls.undo()
    controls.begin_step(2)
    assert controls["saving"] == 0.2


def test_what_is_not_in_force_yet_is_undone_first(controls):
    controls.set("method", "uniform")
    controls.begin_step(0)
    controls.set("saving", 0.4)
    assert controls.undo() and controls.wanted == {"saving": 0.2, "method": "uniform"}
    controls.begin_step(1)
    assert controls.undo() and controls.wanted["method"] == "sbld"


def test_a_stop_is_not_undone(controls):
    controls.begin_step(0)
    controls.stop()
    assert controls.is_stopping and not controls.undo()
    assert not controls.begin_step(1) and not controls.undo()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from([0.1, 0.2, 0.3])),
            st.sampled_from([("undo", None), ("begin", None)]),
        ),
        max_size=25,
    )
)
def test_undone_to_the_end_the_first_values_hold_and_a_replay_agrees(moves):
    controls, step = Controls({"saving": 0.2, "method": "sbld"}), 0
    for kind, value in moves:
        if kind == "set":
            controls.set("saving", value)
        elif kind == "undo":
            controls.undo()
        else:
            controls.begin_step(step)
            step += 1
    while True:
        is_left = controls.undo()
        controls.begin_step(step)
        step += 1
        if not is_left:
            break
    assert controls.values() == {"saving": 0.2, "method": "sbld"}
    again = Controls({"saving": 0.2, "method": "sbld"}, replay=controls.log)
    for at in range(step):
        again.begin_step(at)
        assert again.values() == controls.at(at)
    assert again.log == controls.log


def test_the_values_of_every_step_can_be_looked_up(controls):
    applied = []
    for step, saving in enumerate((0.2, 0.3, 0.3, 0.1)):
        controls.set("saving", saving)
        controls.begin_step(step)
        applied.append(controls.values())
    assert [controls.at(step) for step in range(4)] == applied
    assert controls.at(99) == applied[-1]


def test_a_thousand_asks_between_two_steps_come_to_the_last_one(controls):
    controls.begin_step(0)
    for number in range(1000):
        controls.set("saving", number / 1000)
    controls.begin_step(1)
    assert controls.num_asked == 1000
    assert controls.log == [(1, "saving", 0.2, 0.999)]


def test_what_a_checkpoint_brings_back_cannot_be_undone_and_later_changes_are_forgotten(controls):
    controls.set("saving", 0.3)
    controls.begin_step(0)
    state = controls.state_dict()
    controls.set("saving", 0.4)
    controls.begin_step(1)
    controls.replay([(1, "saving", 0.3, 0.35)])
    controls.load_state_dict(state)
    assert not controls.undo()
    controls.begin_step(1)
    assert controls["saving"] == 0.3
