"""Models of all kinds: one interface, one budget, causality, initial weights, training, errors."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sbldlib.dropping.blocks import NoBlocksError, find_blocks
from sbldlib.dropping.skipping import skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.models.cells import CELLS, run_cell
from sbldlib.models.gpt import GPT, GPTConfig
from sbldlib.models.recurrent import (
    KINDS,
    SequenceConfig,
    SequenceModel,
    fit_width,
    num_parameters,
    same_budget,
)
from sbldlib.models.recurrent_config import RECURRENT
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

V, T, D = 13, 12, 8
MINI = SequenceConfig(kind="attention", vocabulary_size=V, context_length=T, width=D)
ALL = [replace(MINI, kind=kind) for kind in KINDS]
DEEP = [replace(config, num_layers=3) for config in ALL]


def draw_tokens(rows: int = 2, num_tokens: int = T, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (rows, num_tokens), generator=generator)


def name(config: SequenceConfig) -> str:
    return f"{config.kind}-{config.depth}"


class Counting:
    """Batches that can be learnt: each token is the one before it plus one."""

    def batch(self, step: int, micro_batch: int = 0):
        starts_B1 = draw_tokens(8, 1, seed=step)
        tokens_BT = (starts_B1 + torch.arange(T + 1)) % V
        return tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()


@pytest.mark.parametrize("config", ALL + DEEP, ids=name)
@pytest.mark.parametrize("num_tokens", [1, 5, T])
def test_logits_have_one_row_per_token(config, num_tokens):
    logits_BTV = SequenceModel(config)(draw_tokens(3, num_tokens))
    assert logits_BTV.shape == (3, num_tokens, V) and logits_BTV.dtype == torch.float32


@pytest.mark.parametrize("config", ALL + DEEP, ids=name)
def test_logits_depend_on_exactly_the_tokens_in_their_window(config):
    model, embedded = SequenceModel(config), []
    model.token_embedding.register_forward_hook(lambda *call: embedded.append(call[2]))
    logits_TV = model(draw_tokens(1))[0]
    for i, logits_V in enumerate(logits_TV):
        (grad_BTD,) = torch.autograd.grad(logits_V.square().sum(), embedded[0], retain_graph=True)
        seen_T = grad_BTD[0].norm(dim=-1) > 0
        first = max(0, i + 1 - config.window)
        assert seen_T.tolist() == [first <= j <= i for j in range(T)]


@pytest.mark.parametrize("config", ALL + DEEP, ids=name)
def test_the_number_of_weights_is_foretold(config):
    model = SequenceModel(config)
    assert num_parameters(config) == model.num_parameters()
    assert num_parameters(config) == sum(weight.numel() for weight in model.state_dict().values())


@given(
    kind=st.sampled_from(KINDS),
    budget=st.integers(200_000, 10**8),
    num_layers=st.sampled_from([None, 1, 5]),
    kernel_size=st.integers(2, 4),
)
def test_the_width_that_meets_a_budget_is_the_nearest(kind, budget, num_layers, kernel_size):
    config = replace(MINI, kind=kind, num_layers=num_layers, kernel_size=kernel_size)
    found = fit_width(config, budget)
    assert found == replace(config, width=found.width)
    miss = abs(num_parameters(found) - budget)
    assert miss <= 0.05 * budget
    step = config.num_heads if kind == "attention" else 1
    for width in (found.width - step, found.width + step):
        if width > 0:
            assert abs(num_parameters(replace(config, width=width)) - budget) >= miss


def test_a_budget_that_no_width_meets_is_refused_with_the_nearest():
    # 2 V D + 2 D^2 + 2 D + 2 D: 32 weights at width 1, 68 at width 2
    config = replace(MINI, kind="rnn")
    with pytest.raises(ValueError, match=r"budget=45 cannot be met.*nearest width, 1, has 32"):
        fit_width(config, 45)
    assert fit_width(config, 45, tolerance=0.5).width == 1
    assert fit_width(config, 32).width == 1 and fit_width(config, 68).width == 2
    assert fit_width(config, 1, tolerance=40).width == 1
    with pytest.raises(ValueError, match=r"budget=10+ cannot be met"):
        fit_width(config, 10**15)
    for wrong, field in (((MINI, 0), "budget=0"), (("lstm", 5), "config='lstm'")):
        with pytest.raises(ValueError, match=field):
            fit_width(*wrong)
    with pytest.raises(ValueError, match="tolerance=0"):
        fit_width(config, 45, tolerance=0)


def test_all_kinds_at_one_budget():
    config = replace(MINI, width=32, context_length=64)
    configs = same_budget(config)
    assert tuple(configs) == KINDS and configs["attention"] is config
    budget = num_parameters(config)
    for kind, each in configs.items():
        assert each.kind == kind and each.num_layers is None
        assert SequenceModel(each).num_parameters() == pytest.approx(budget, rel=0.05)
    widths = [configs[kind].width for kind in ("rnn", "gru", "lstm")]
    assert widths == sorted(widths, reverse=True), "more gates, fewer units"
    odd = replace(config, kind="rnn", width=37)
    assert same_budget(odd, ["attention", "rnn"], tolerance=0.2)["rnn"] is odd
    with pytest.raises(ValueError, match=r"kinds='lsmt' is not known.*'lstm'"):
        same_budget(config, ["lsmt"])


@pytest.mark.parametrize(
    ("context_length", "kernel_size", "layers"),
    [(1, 2, 2), (4, 2, 2), (5, 2, 3), (16, 2, 4), (1024, 2, 10), (1024, 4, 5), (27, 3, 3)],
)
def test_a_convolution_is_as_deep_as_the_logarithm_of_its_context(
    context_length, kernel_size, layers
):
    config = replace(
        MINI, kind="convolution", context_length=context_length, kernel_size=kernel_size
    )
    assert config.depth == layers and config.window == context_length
    shallow = replace(config, num_layers=1)
    assert shallow.window == min(context_length, kernel_size)


def test_attention_is_our_gpt_with_a_head_of_its_own():
    gpt = GPT(
        GPTConfig(
            vocabulary_size=V,
            context_length=T,
            num_layers=2,
            num_heads=2,
            width=D,
            init_std=0.3,
        )
    )
    model, theirs = SequenceModel(MINI), gpt.state_dict()
    theirs["head.weight"] = theirs["token_embedding.weight"]
    ours = {key: theirs.pop(key.removeprefix("body.")) for key in model.state_dict()}
    assert not theirs
    model.load_state_dict(ours)
    tokens_BT = draw_tokens()
    torch.testing.assert_close(model(tokens_BT), gpt(tokens_BT))


@pytest.mark.parametrize("kind", sorted(RECURRENT))
def test_a_recurrent_body_is_the_cell_that_is_written_out(kind):
    model = SequenceModel(replace(MINI, kind=kind))
    cell = CELLS[kind](D, D)
    cell.copy_torch(model.body.recurrence)
    tokens_BT = draw_tokens()
    hidden_BTD, _ = run_cell(cell, model.token_embedding(tokens_BT))
    logits_BTV = model.head(model.final_norm(hidden_BTD))
    torch.testing.assert_close(logits_BTV, model(tokens_BT), atol=1e-5, rtol=0)


def test_a_convolution_is_the_sum_that_it_says():
    block = SequenceModel(replace(MINI, kind="convolution", kernel_size=3)).body.blocks[1]
    x_BTD = torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))
    normed_BTD = block.norm(x_BTD)
    weight_DDk = block.convolution.weight  # the last of its taps sees the token itself
    for t in range(T):
        mixed_BD = block.convolution.bias.expand(2, D)
        for tap, past in enumerate((6, 3, 0)):
            if t >= past:
                mixed_BD = mixed_BD + normed_BTD[:, t - past] @ weight_DDk[:, :, tap].T
        right_BD = x_BTD[:, t] + block.output(F.gelu(mixed_BD))
        torch.testing.assert_close(block(x_BTD)[:, t], right_BD, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [config for config in ALL if config.kind not in RECURRENT])
def test_residual_blocks_are_found_and_can_be_skipped(config):
    model, tokens_BT = SequenceModel(config), draw_tokens()
    blocks = find_blocks(model)
    assert [block.name for block in blocks] == [f"body.blocks.{i}" for i in range(config.depth)]
    full_BTV = model(tokens_BT)
    with skip_layers(model, set(range(config.depth))):
        empty_BTV = model(tokens_BT)
    assert not torch.allclose(full_BTV, empty_BTV)
    assert torch.equal(model(tokens_BT), full_BTV)


def test_a_recurrent_model_has_no_blocks_to_skip():
    with pytest.raises(NoBlocksError, match="SequenceModel"):
        find_blocks(SequenceModel(replace(MINI, kind="lstm", num_layers=3)))


@pytest.mark.parametrize("config", ALL, ids=name)
def test_every_kind_trains(config):
    model = SequenceModel(config)
    batch = Counting().batch(999)
    before = next_token_loss(model, batch).item()
    assert before == pytest.approx(math.log(V), abs=0.6)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    record = train(model, Counting(), optimizer, config=TrainConfig(budget=Budget(steps=60)))
    assert len(record.steps) == 60
    assert next_token_loss(model, batch).item() < 0.5 * before


@pytest.mark.parametrize("config", DEEP, ids=name)
def test_weights_are_the_seeds_alone(config):
    before = torch.get_rng_state()
    first, again, other = (
        nn.utils.parameters_to_vector(SequenceModel(config, seed).parameters())
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.isfinite(first).all()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("config", DEEP, ids=name)
def test_initial_weights(config):
    config = replace(config, width=64, forget_bias=2.5)
    for key, weight in SequenceModel(config).named_parameters():
        if "norm" in key:
            right = torch.ones_like(weight) if key.endswith("weight") else torch.zeros_like(weight)
            assert torch.equal(weight, right), key
        elif "bias" in key:
            opened = config.kind == "lstm" and "bias_ih" in key
            right = torch.zeros_like(weight)
            right[64:128] = 2.5 if opened else right[64:128]  # input, FORGET, candidate, output
            assert torch.equal(weight, right), key
        else:
            inputs = weight[0].numel()
            std = 1.0 if "embedding" in key else (3 * inputs) ** -0.5
            assert weight.std().item() == pytest.approx(std, rel=0.05), key
            assert "embedding" in key or weight.abs().max() <= inputs**-0.5


def test_the_forget_gate_starts_as_open_as_its_bias_says():
    model = SequenceModel(replace(MINI, kind="lstm", forget_bias=3.0))
    cell = CELLS["lstm"](D, D)
    cell.copy_torch(model.body.recurrence)
    state = cell.first_state(1)
    gate_BD = cell.forget_gate(torch.zeros(1, D), state[0])
    assert torch.equal(gate_BD, torch.full((1, D), 3.0))


@pytest.mark.parametrize("kind", sorted(RECURRENT))
@pytest.mark.parametrize("orthogonal", [True, False])
def test_orthogonal_states_keep_their_length(kind, orthogonal):
    config = replace(MINI, kind=kind, num_layers=2, orthogonal=orthogonal)
    for key, weight in SequenceModel(config).named_parameters():
        if "weight_hh" in key:
            for gate_DD in weight.chunk(RECURRENT[kind]):
                is_orthogonal = torch.allclose(gate_DD @ gate_DD.T, torch.eye(D), atol=1e-5)
                assert is_orthogonal is orthogonal, key


def test_a_model_is_copied_with_its_weights():
    for config in ALL:
        model = SequenceModel(config)
        again = copy.deepcopy(model)
        with torch.no_grad():
            again.head.weight.zero_()
        assert again(draw_tokens()).abs().max() == 0 < model(draw_tokens()).abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "lsmt"}, "kind='lsmt' is not known .did you mean 'lstm'"),
        ({"vocabulary_size": 0}, "vocabulary_size=0 must be at least 1"),
        ({"context_length": 2.5}, "context_length=2.5 must be a whole number"),
        ({"width": 7}, "width=7 must be a multiple of num_heads=2, such as 8"),
        ({"width": 10**9}, "width=1000000000 must be at most"),
        ({"num_layers": 0}, "num_layers=0 must be at least 1"),
        ({"num_heads": True}, "num_heads=True"),
        ({"kernel_size": 1}, "kernel_size=1 must be at least 2"),
        ({"forget_bias": math.inf}, "forget_bias=inf is outside"),
        ({"forget_bias": "1"}, "forget_bias='1' must be a number"),
        ({"orthogonal": 1}, "orthogonal=1 must be True or False"),
    ],
)
def test_a_bad_configuration_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MINI, **change)


def test_only_attention_needs_heads():
    assert replace(MINI, kind="gru", width=7).width == 7


@pytest.mark.parametrize("config", ALL, ids=name)
def test_bad_tokens_are_named(config):
    model = SequenceModel(config)
    for tokens, message in (
        (draw_tokens(2, T + 1), rf"shape \(2, {T + 1}\): {T + 1} tokens exceed context_length={T}"),
        (torch.zeros(2, 0, dtype=torch.long), r"tokens of shape \(2, 0\) must be"),
        (torch.zeros(3, dtype=torch.long), r"tokens of shape \(3,\) must be"),
        (torch.full((1, 3), V), f"token {V} is outside vocabulary_size={V}"),
        (torch.full((1, 3), -1), f"token -1 is outside vocabulary_size={V}"),
        (torch.zeros(1, 3), "tokens of type torch.float32 must be torch.int64"),
        ([[1, 2]], "tokens=.* must be a tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            model(tokens)


def test_a_model_needs_a_configuration_and_a_seed():
    with pytest.raises(ValueError, match="config='lstm' must be a SequenceConfig"):
        SequenceModel("lstm")  # pyright: ignore
    with pytest.raises(ValueError, match="seed=-1"):
        SequenceModel(MINI, seed=-1)
    with pytest.raises(ValueError, match="config=None must be a SequenceConfig"):
        num_parameters(None)  # pyright: ignore
