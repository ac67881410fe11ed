from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.plots.frames import sensitivity_frame, sensitivity_from_frame
from sbldlib.records import SensitivityData
from sbldlib.sensitivity import data_from_samples

SAMPLES = [[float(10 * layer + batch) for batch in range(12)] for layer in range(3)]
WHOLE = data_from_samples(SAMPLES, method="loss_delta", unit="nats per token", iteration=200)
BARE = SensitivityData(values=(0.5, 0.25), standard_errors=(0.1, 0.2))


@pytest.mark.parametrize("data", [WHOLE, BARE], ids=["with samples", "without"])
def test_there_and_back_is_the_same_even_reordered(data):
    frame = sensitivity_frame(data)
    assert len(frame) == data.num_layers
    assert sensitivity_from_frame(frame) == data
    assert sensitivity_from_frame(frame.iloc[::-1][sorted(frame.columns, reverse=True)]) == data


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=9))
def test_every_float_survives(samples):
    data = data_from_samples(samples, method="own", unit="points")
    assert sensitivity_from_frame(sensitivity_frame(data)) == data


def test_several_measurements_in_one_table_can_be_taken_apart_again():
    both = pd.concat([sensitivity_frame(WHOLE), sensitivity_frame(WHOLE).assign(method="dropbp")])
    with pytest.raises(ValueError, match=r"layer=.* must be 0..L-1, each once"):
        sensitivity_from_frame(both)
    assert sensitivity_from_frame(both[both["method"] == "loss_delta"]) == WHOLE


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda f: f.drop(columns="unit"), r"columns \['unit'\] are missing"),
        (lambda f: f.iloc[1:], r"layer=\[1, 2\] must be 0..L-1"),
        (lambda f: f.iloc[:0], r"layer=\[\] must be"),
        (lambda f: f.assign(method=["a", "b", "b"]), r"method=\['a', 'b'\]: one table holds one"),
    ],
)
def test_a_table_that_is_no_measurement_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        sensitivity_from_frame(change(sensitivity_frame(WHOLE)))
