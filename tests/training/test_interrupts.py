"""How a process ends that nobody saved from its interrupt."""

from __future__ import annotations

import signal
import sys

import pytest

from sbldlib.training.interrupts import Interrupts, TrainingInterrupted


def test_a_shell_sees_the_code_of_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for _ in range(2):
        interrupts = Interrupts()
        interrupts.asked = signal.SIGINT
        with pytest.raises(TrainingInterrupted, match="after 3 steps") as raised:
            interrupts.end("interrupted after 3 steps")
    with pytest.raises(SystemExit) as ended:
        sys.excepthook(raised.type, raised.value, None)
    assert ended.value.code == 130
    assert capsys.readouterr().err.count("TrainingInterrupted: ") == 1
    assert sys.excepthook(ValueError, ValueError("another"), None) is None
