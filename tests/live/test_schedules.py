from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbldlib.dropping.pwegd import PWEGD
from sbldlib.dropping.schedules import tabulate
from sbldlib.live.schedules import SCHEDULES, make_schedule

PARAMETERS = {"pwegd_shape": 2.0, "pwegd_scale": 0.2, "pwegd_a1": 1.0, "pwegd_a2": 3.0}


def dropped(name: str, saving: float, *, lowest: float = 0.1, num: int = 200, **changes):
    values = {**PARAMETERS, **changes}
    return 1 - tabulate(make_schedule(name, saving, lowest=lowest, values=values), num)


@pytest.mark.parametrize("name", SCHEDULES)
@given(saving=st.floats(0, 0.4), num=st.integers(2, 300))
def test_the_mean_over_the_run_is_the_asked_saving(name, saving, num):
    drops = dropped(name, saving, num=num)
    assert drops.mean() == pytest.approx(saving, abs=1e-6)
    assert drops.min() >= -1e-12 and drops.max() <= 0.9 + 1e-9


def test_each_has_its_own_course():
    courses = {name: dropped(name, 0.2) for name in SCHEDULES}
    assert np.ptp(courses["constant"]) == 0
    assert np.all(np.diff(courses["linear_more"]) > 0) and courses["linear_more"][0] == 0
    assert np.allclose(courses["linear_less"], courses["linear_more"][::-1])
    assert np.all(np.diff(courses["pld"]) > 0)
    assert courses["pld"][100] > courses["linear_more"][100]  # it rises early, and flattens
    assert courses["front"][0] == pytest.approx(0.9) and courses["front"][-1] == 0


def test_a_pwegd_drops_least_where_its_density_is_highest():
    drops = dropped("pwegd", 0.2)
    density = PWEGD((1.0, 1.0, 3.0), 2.0, 0.2).pdf(np.linspace(0, 1, 200))
    assert np.argmin(drops) == np.argmax(density)
    # Where nothing is capped, the drop is proportional to 1 - f / max f, as METHOD has it.
    expected = 1 - density / density.max()
    assert drops == pytest.approx(0.2 * expected / expected.mean())


def test_its_parameters_move_it():
    early = dropped("pwegd", 0.2, pwegd_scale=0.05, pwegd_a1=0.0, pwegd_a2=0.0)
    late = dropped("pwegd", 0.2, pwegd_scale=0.5, pwegd_a1=0.0, pwegd_a2=0.0)
    assert np.argmin(early) / 199 == pytest.approx(0.05, abs=0.01)  # the mode, (q - 1) b
    assert np.argmin(late) / 199 == pytest.approx(0.5, abs=0.01)


def test_what_cannot_be_held_is_refused():
    with pytest.raises(ValueError, match=r"end=-0\.19.* is outside"):
        make_schedule("linear_more", 0.6, lowest=0.1, values=PARAMETERS)
    with pytest.raises(ValueError, match=r"saving=0\.4"):
        make_schedule("front", 0.4, lowest=0.7, values=PARAMETERS)
    with pytest.raises(ValueError, match="schedule='linaer'"):
        make_schedule("linaer", 0.2, lowest=0.1, values=PARAMETERS)
