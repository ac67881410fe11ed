"""The methods' formulas against what their authors published, worked by hand from the source named.

None of these packages installs beside a current torch (DeepSpeed removed PLD in 2026, the others
are scripts), so that the values stand here instead of a call.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from small import gpt

from sbldlib.dropping.plan import draw_active_layers
from sbldlib.dropping.schedules import pld_theta
from sbldlib.methods import linear, pld, uniform

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


def test_linear_decay_differs_from_the_rule_of_vision_libraries():
    # timm and transformers space drop-path rates from 0 to p over L layers, np.linspace(0, p, L):
    # the first layer always runs there. Huang's first layer does not.
    method = linear(gpt(4), saving=0.25)
    assert method.keep_probability(0.0) == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert np.linspace(0, 0.5, 4)[0] == 0 and np.linspace(0, 0.5, 4).mean() == 0.25


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
