"""Signals held back until what runs is whole, and then let through as they came."""

from __future__ import annotations

import signal
import threading

import pytest
import torch
from small import gpt, random_batches, same_weights, weights

from sbldlib import calculate_sensitivities
from sbldlib.dropping.skipping import attach
from sbldlib.losses import next_token_loss
from sbldlib.sensitivity import ESTIMATORS
from sbldlib.signals import HeldSignals


def test_a_signal_waits_until_it_is_let_through_and_the_handler_is_back():
    with HeldSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signals.let_through()
        signals.let_through()  # only once
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), HeldSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_entered_twice_it_holds_until_it_is_left_twice():
    signals = HeldSignals()
    with signals:
        with signals:
            pass
        signal.raise_signal(signal.SIGINT)
        assert signals.asked == signal.SIGINT


def test_in_another_thread_nothing_is_changed():
    found = []

    def look() -> None:
        with HeldSignals():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


@pytest.mark.parametrize("method", ESTIMATORS)
@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_measurement_ends_between_two_batches_with_the_model_as_it_was(method, call):
    model = gpt().train()
    before, calls, batches = weights(model), [], random_batches(8)

    def loss(model, batch):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return next_token_loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        calculate_sensitivities(model, batches=batches, method=method, loss=loss)
    skipping = attach(model)
    assert model.training and same_weights(model, before)
    assert skipping.replay == {} and skipping.recorded is None and skipping.instead is None
    assert not skipping.skipped and not skipping.dropped
    skipping.reset_calls()
    torch.manual_seed(0)
    next_token_loss(model, batches[0])
    assert skipping.calls == [1] * skipping.num_layers
