"""The methods' formulas against what their authors published, worked by hand from the source named.

What a package that still installs holds is in test_package_formulas.py, as calls. The rest are
scripts and papers, so that their values stand here.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from small import gpt

from sbldlib.dropping.plan import draw_active_layers
from sbldlib.dropping.schedules import pld_theta
from sbldlib.methods import (
    dont_drop_dropout,
    dropbp,
    freezing,
    layerskip,
    linear,
    pld,
    raptr,
    uniform,
)
from sbldlib.methods.dropbp import greedy_drop
from sbldlib.methods.freezing import FreezeSchedule

pytestmark = pytest.mark.peer


def test_theta_is_deepspeeds():
    # microsoft/DeepSpeed, deepspeed/runtime/progressive_layer_drop.py, its defaults theta = 0.5 and
    # gamma = 0.001 a step: (1 - theta) exp(-gamma step) + theta.
    published = {0: 1.0, 100: 0.9524187090, 1000: 0.6839397206, 5000: 0.5033689735}
    num_steps = 5001
    theta = pld_theta(0.5, gamma=0.001 * (num_steps - 1))
    for step, value in published.items():
        assert theta(step / (num_steps - 1)) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("theta", [1.0, 0.8, 0.5])
def test_the_default_index_is_deepspeedexamples(theta):
    # microsoft/DeepSpeedExamples, bing_bert/nvidia/modelingpreln_layerdrop.py: the first layer's
    # keep probability is 1, and it falls by (1 - theta) / L after each.
    expected, keep = [], 1.0
    for _ in range(12):
        expected.append(keep)
        keep -= (1 - theta) / 12
    method = pld(gpt(12), theta_bar=theta)
    assert method.keep_probability(1.0) == pytest.approx(expected)


def test_the_other_index_is_the_papers():
    # Zhang & He 2020, arXiv 2010.13369: p_l = 1 - l / L (1 - theta) for l = 1..L, so that the last
    # layer's is theta and the mean at theta = 0.5 is (3 L - 1) / (4 L).
    method = pld(gpt(12), theta_bar=0.5, first_index=1)
    keep = method.keep_probability(1.0)
    assert keep[0] == pytest.approx(23 / 24) and keep[-1] == pytest.approx(0.5)
    assert sum(keep) / 12 == pytest.approx((3 * 12 - 1) / (4 * 12))
    # the paper's gamma is 100 / T a step: after a hundredth of the run, 1 / e of the way is left
    early = method.keep_probability(0.01)
    assert early[-1] == pytest.approx(0.5 + 0.5 / math.e)


def test_linear_decay_is_stochastic_depths():
    # yueatsprograms/Stochastic_Depth (Huang et al. 2016), main.lua: the death rate of block i of n
    # is i / n * deathRate for i = 1..n; with its 54 blocks and deathRate 0.5 the mean is 55 / 216.
    rates = [i / 54 * 0.5 for i in range(1, 55)]
    assert sum(rates) / 54 == pytest.approx(55 / 216)
    method = linear(gpt(54), saving=55 / 216)
    assert method.keep_probability(0.0) == pytest.approx([1 - rate for rate in rates])


def test_uniform_is_layerdrops():
    # facebookresearch/fairseq, fairseq/modules/layer_drop.py (Fan et al. 2019): each layer is kept
    # where its own uniform draw is above p. A draw u kept where u < 1 - p has the same law.
    keep = uniform(gpt(6), saving=0.2).keep_probability(0.5)
    assert keep == pytest.approx((0.8,) * 6)
    runs = [len(draw_active_layers(keep, seed=0, iteration=t)) for t in range(3000)]
    assert abs(sum(runs) - 6 * 3000 * 0.8) < 4 * math.sqrt(6 * 3000 * 0.16)
    counts = np.bincount(runs, minlength=7) / 3000
    binomial = [math.comb(6, k) * 0.8**k * 0.2 ** (6 - k) for k in range(7)]
    assert np.abs(counts - binomial).max() < 4 * math.sqrt(0.25 / 3000)


def test_layerskips_rates():
    # Elhoushi et al. 2024, arXiv 2404.16710, section 4.1: p = S(t) D(l) p_max with
    # D(l) = exp(l ln 2 / (L - 1)) - 1 and S(t) = exp(t ln 2 / (T - 1)) - 1, or S = 1.
    depth = (0.0, 0.189207115, 0.414213562, 0.681792831, 1.0)
    keep = layerskip(gpt(5), p_max=0.2).keep_probability(0.7)
    assert keep == pytest.approx([1 - 0.2 * each for each in depth], abs=1e-9)
    halfway = layerskip(gpt(5), p_max=0.2, schedule="exponential").keep_probability(0.5)
    assert halfway == pytest.approx([1 - 0.2 * 0.414213562 * each for each in depth], abs=1e-9)


def test_dont_drop_dropouts_rates():
    # Elhoushi et al. 2026, arXiv 2609.05275, read second-hand: p(l, t) = p_max l / (L - 1)
    # (1 - t / (T - 1)), of which 0.25 p_max is the mean; p_max = 0.99 leaves out 24.75 %.
    method = dont_drop_dropout(gpt(5), p_max=0.8)
    table = {0.0: (0, 0.2, 0.4, 0.6, 0.8), 0.5: (0, 0.1, 0.2, 0.3, 0.4), 1.0: (0,) * 5}
    for progress, drop in table.items():
        keep = method.keep_probability(progress)
        assert keep == pytest.approx([1 - each for each in drop], abs=1e-12)
    drops = 1 - dont_drop_dropout(gpt(8), p_max=0.99).schedule.tabulate(1001)
    assert drops.mean() == pytest.approx(0.2475, abs=1e-12)


def test_raptrs_stages():
    # Panigrahi et al. 2024, arXiv 2402.05913: the stages 6-8-10-12 of BERT-Base, each a quarter of
    # the run, with which full depth's operations are 1.33 times as many.
    method = raptr(gpt(12))
    lengths = [sum(method.keep_probability(progress)) for progress in (0.1, 0.3, 0.6, 0.9)]
    assert lengths == pytest.approx([6, 8, 10, 12])
    assert 12 / (sum(lengths) / 4) == pytest.approx(1.33, abs=0.005)


# Sensitivities, and what WooSunghyeon/dropbp's allocate_p.cc, compiled, gave for them with equal
# operations a layer, min_rate 0 and a target of (1 - p) of the operations.
SENSITIVE_8 = (0.917, 0.113, 0.307, 0.0203, 0.431, 0.0519, 0.211, 0.733)
SENSITIVE_6 = (3.01, 1.53, 1.07, 6.11, 2.57, 0.709)
ALLOCATED = [
    (SENSITIVE_8, 0.1, (0.0, 0.1, 0.0, 0.6, 0.0, 0.2, 0.0, 0.0)),
    (SENSITIVE_8, 0.25, (0.0, 0.3, 0.1, 0.9, 0.0, 0.7, 0.1, 0.0)),
    (SENSITIVE_8, 0.5, (0.1, 0.9, 0.4, 0.9, 0.2, 0.9, 0.6, 0.1)),
    (SENSITIVE_8, 0.75, (0.3, 0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.5)),
    (SENSITIVE_6, 0.1, (0.0, 0.1, 0.2, 0.0, 0.1, 0.3)),
    (SENSITIVE_6, 0.25, (0.1, 0.3, 0.4, 0.0, 0.1, 0.7)),
    (SENSITIVE_6, 0.5, (0.3, 0.6, 0.9, 0.1, 0.3, 0.9)),
    (SENSITIVE_6, 0.75, (0.7, 0.9, 0.9, 0.3, 0.9, 0.9)),
    ((1.0,) * 4, 0.25, (0.2, 0.2, 0.3, 0.3)),
    ((1.0,) * 4, 0.75, (0.7, 0.7, 0.8, 0.8)),
]


@pytest.mark.parametrize(("sensitivities", "mean_drop", "published"), ALLOCATED)
def test_dropbps_allocation(sensitivities, mean_drop, published):
    # The published loop goes on until its sum of 32-bit numbers is below the target, mostly one
    # step of 0.1 past it: at what it reached, the rates are the same.
    reached = sum(published) / len(published)
    assert greedy_drop(sensitivities, reached) == pytest.approx(published, abs=1e-9)
    ours = greedy_drop(sensitivities, mean_drop)
    extra = [theirs - own for theirs, own in zip(published, ours, strict=True)]
    assert sum(extra) < 0.2 and all(-1e-9 < each < 0.1 + 1e-9 for each in extra)


def test_dropbps_rates_without_sensitivities_are_alike():
    # dropbp/handler.py, set_initial_drop_rate: every layer has the rate p.
    assert dropbp(gpt(6), saving=0.5).keep_probability(0.0) == pytest.approx((0.5,) * 6)


def test_freezeouts_times():
    # ajbrock/FreezeOut, densenet.py: a layer is trained until iteration j passes
    # max_j = scale(t_0 + (1 - t_0) index / last_index) of the run; the classifier has last_index.
    linear_times = (0.8, 0.85, 0.9, 0.95)
    cubic_times = (0.512, 0.614125, 0.729, 0.857375)
    for freeze_times, expected in [("linear", linear_times), ("cubic", cubic_times)]:
        method = freezing(gpt(4), t_0=0.8, freeze_times=freeze_times)
        for layer, time in enumerate(expected):
            assert method.keep_probability(time - 1e-6)[layer] == 1
            assert method.keep_probability(time + 1e-6)[layer] == 0


@pytest.mark.parametrize("freeze_times", ["linear", "cubic"])
def test_freezeouts_speedup(freeze_times):
    # The same, utils.py, calc_speedup, with n layers of equal cost c, forward as dear as backward:
    # 1 - (sum c + sum c scale(t_0 + (1 - t_0) i / n)) / (2 sum c), half of our saving.
    power = {"linear": 1, "cubic": 3}[freeze_times]
    speedup = 1 - (8 + sum((0.5 + 0.5 * i / 8) ** power for i in range(8))) / 16
    course = FreezeSchedule(8, t_0=0.5, freeze_times=freeze_times, saving=None)
    assert (1 - course.tabulate(500).mean()) / 2 == pytest.approx(speedup, abs=1e-12)
