"""ConvGPT: its levels, any length, convolutions, both targets, generation, files, errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import Source, same_weights, weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.dropping.blocks import find_blocks
from sbldlib.dropping.skipping import skip_layers
from sbldlib.models.conv_gpt import PRESETS, Compressor, ConvGPT, ConvGPTConfig, Expander
from sbldlib.models.gpt import GPT, GPTConfig
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.loop import train
from sbldlib.training.optimizer import make_optimizer

MINI = ConvGPTConfig(
    vocabulary_size=32, context_length=32, widths=(8, 16, 32), num_heads=2, merge=2, init_std=0.3
)
AHEAD = replace(MINI, target="ahead", skip_connections=False)


def tokens(num_tokens: int, rows: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(32, (rows, num_tokens), generator=generator)


def test_the_source_s_shape():
    config = PRESETS["small-ahead"]
    assert config.levels == (0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0) and config.num_layers == 12
    assert (config.span, config.offset, config.context_length // config.span) == (64, 64, 16)
    assert PRESETS["small"].offset == 1


def test_each_block_sees_its_level_s_width_and_length():
    model, seen = ConvGPT(MINI), []
    for block in model.blocks:
        block.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[1:])))
    model(tokens(16))
    sizes = [(16, 8), (8, 16), (4, 32)]
    assert seen == [sizes[level] for level in MINI.levels]


@pytest.mark.parametrize("target", ["next", "ahead"])
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 4, 5, 31, 32])
def test_reads_any_length(num_tokens, target):
    logits_BTV = ConvGPT(replace(MINI, target=target))(tokens(num_tokens))
    assert logits_BTV.shape == (2, num_tokens, 32) and logits_BTV.isfinite().all()


@pytest.mark.parametrize("num_tokens", [1, 3, 7, 30])
def test_what_comes_later_changes_no_earlier_logits_of_a_next_token_model(num_tokens):
    model, whole_BT = ConvGPT(MINI), tokens(32)
    ahead_BTV = model(whole_BT)[:, :num_tokens]
    torch.testing.assert_close(model(whole_BT[:, :num_tokens]), ahead_BTV, atol=1e-5, rtol=1e-5)


def test_a_compressor_is_torch_s_convolution_of_equal_kernel_and_stride():
    ours = Compressor(4, 6, 10, shift=0)
    theirs = nn.Conv1d(6, 10, kernel_size=4, stride=4)
    with torch.no_grad():
        theirs.weight.copy_(ours.map.weight.view(10, 4, 6).transpose(1, 2))
        theirs.bias.copy_(ours.map.bias)
    x_BTD = torch.linspace(-1, 1, 2 * 12 * 6).view(2, 12, 6)
    expected = theirs(x_BTD.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x_BTD), expected, atol=1e-5, rtol=1e-5)


def test_an_expander_is_torch_s_transposed_convolution():
    ours = Expander(4, 10, 6)
    theirs = nn.ConvTranspose1d(10, 6, kernel_size=4, stride=4)
    with torch.no_grad():
        theirs.weight.copy_(ours.map.weight.view(4, 6, 10).permute(2, 1, 0))
        ours.map.bias.copy_(theirs.bias.repeat(4))
    x_BGD = torch.linspace(-1, 1, 2 * 3 * 10).view(2, 3, 10)
    expected = theirs(x_BGD.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x_BGD), expected, atol=1e-5, rtol=1e-5)


def test_a_shifted_group_ends_with_its_first_reader():
    compress = Compressor(4, 1, 1, shift=3)
    with torch.no_grad():
        compress.map.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        compress.map.bias.zero_()
    x_BTD = torch.arange(1.0, 9.0).view(1, 8, 1)
    assert compress(x_BTD).flatten().tolist() == [1000.0, 2 + 30 + 400 + 5000]


def test_four_times_the_context_costs_a_third_of_the_baseline_s_operations():
    vocabulary_size = 4096
    baseline = GPTConfig(
        vocabulary_size=vocabulary_size, context_length=256, num_layers=12, num_heads=6, width=192
    )
    conv = replace(PRESETS["small-ahead"], vocabulary_size=vocabulary_size)
    flops = []
    for model in (GPT(baseline), ConvGPT(conv)):
        num_tokens = model.config.context_length
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            model(torch.zeros(1, num_tokens, dtype=torch.int64))
        flops.append(counted.get_total_flops())
    assert flops[1] < flops[0] / 2


def test_weights_are_of_the_seed_and_touch_no_global_state():
    state = torch.get_rng_state()
    first, again, other = ConvGPT(MINI, 3), ConvGPT(MINI, 3), ConvGPT(MINI, 4)
    assert torch.equal(state, torch.get_rng_state())
    assert same_weights(first, weights(again)) and not same_weights(first, weights(other))
    assert all(bool(weight.isfinite().all()) for weight in first.parameters())
    inputs = first.compressors[0].map.weight.shape[1]
    assert first.compressors[0].map.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.3)


def test_layers_are_found_and_skipped():
    model, read = ConvGPT(MINI), tokens(16)
    assert [entry.name for entry in find_blocks(model)] == [f"blocks.{i}" for i in range(8)]
    whole = model(read)
    with skip_layers(model, {1, 4}):
        assert not torch.allclose(model(read), whole)
    assert torch.equal(model(read), whole)


@pytest.mark.parametrize("config", [MINI, AHEAD], ids=["next", "ahead"])
def test_learns(config):
    class Later(Source):
        """Each row counts up by one, so that any later token is known from any earlier one."""

        def batch(self, step, micro_batch=0):
            inputs_BT, _ = super().batch(step, micro_batch)
            rows_BT = (inputs_BT[:, :1] + torch.arange(16)) % 32
            return rows_BT, (rows_BT + config.offset) % 32

    model = ConvGPT(config)
    optimizer = make_optimizer(model, learning_rate=1e-2)
    run = train(model, Later(), optimizer, config=TrainConfig(budget=Budget(steps=160)))
    assert run.losses[0] > 3 and run.losses[-1] < 1.0


def test_generates_token_by_token_what_it_ranks_first():
    model, prompt = ConvGPT(MINI), tokens(5)
    written = model.generate(prompt, 6, temperature=0)
    assert torch.equal(written[:, :5], prompt) and written.shape == (2, 11)
    for length in range(5, 11):
        assert torch.equal(model(written[:, :length])[:, -1].argmax(-1), written[:, length])


def test_generates_a_span_at_a_time_where_it_predicts_ahead():
    model, prompt = ConvGPT(AHEAD), tokens(8)
    calls = []
    model.register_forward_hook(lambda *call: calls.append(call[1][0].shape[1]))
    written = model.generate(prompt, 6, temperature=0)
    assert calls == [8, 12] and written.shape == (2, 14)
    expected = model(prompt)[:, -4:].argmax(-1)
    assert torch.equal(written[:, 8:12], expected)


def test_a_prompt_that_is_no_whole_span_is_refused():
    with pytest.raises(ValueError, match="prompt of 7 must be of whole spans of 4"):
        ConvGPT(AHEAD).generate(tokens(7), 2)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = ConvGPT(AHEAD, 5)
    again = ConvGPT.load(model.save(tmp_path))
    assert again.config == AHEAD and same_weights(model, weights(again))


def test_a_gpt_s_folder_is_refused(tmp_path):
    config = GPTConfig(vocabulary_size=8, context_length=4, num_layers=2, num_heads=2, width=8)
    GPT(config).save(tmp_path)
    with pytest.raises(ValueError, match=r"'merge'.*missing or unknown"):
        ConvGPT.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (8,)}, r"widths=\(8,\) must name two levels"),
        ({"widths": (8, 15)}, "widths=15 must be a multiple of num_heads=2, such as 16"),
        ({"widths": 8}, "widths=8"),
        ({"merge": 1}, "merge=1"),
        ({"merge": 65}, "merge=65"),
        ({"target": "nxt"}, "target='nxt'.*next"),
        ({"skip_connections": 1}, "skip_connections=1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
    ],
)
def test_a_bad_configuration_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(MINI, **changes)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (tokens(33), "33 tokens exceed context_length=32"),
        (torch.full((1, 2), 32), "token 32 is outside vocabulary_size=32"),
        (torch.zeros(1, 0, dtype=torch.int64), "at least one each"),
    ],
)
def test_bad_tokens_are_named(read, message):
    with pytest.raises(ValueError, match=message):
        ConvGPT(MINI)(read)


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match=r"preset='smal'.*small"):
        ConvGPT.from_preset("smal")


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_a_new_model_does_not_bury_what_its_skip_connections_carry(preset):
    model = ConvGPT.from_preset(preset, vocabulary_size=64)
    held, added = [], []
    model.blocks[0].register_forward_hook(lambda *call: held.append(call[2].std()))
    model.expanders[0].register_forward_hook(lambda *call: added.append(call[2].std()))
    model(torch.randint(64, (2, 256), generator=torch.Generator().manual_seed(0)))
    assert 0.05 < added[0] / held[0] < 0.7
    ahead = ConvGPT.from_preset(f"{preset}-ahead", vocabulary_size=64)
    wide = ahead.expanders[0].map.weight  # nothing goes around it: it keeps the stream's size
    assert wide.std().item() == pytest.approx(wide.shape[1] ** -0.5, rel=0.05)
