"""transformers' KV caches under skipping: the tokens of no cache at all, or a clear refusal."""

from __future__ import annotations

import copy

import pytest
import torch
from peers.zoo import PEERS, V
from torch import Tensor, nn

from sbldlib.dropping.skipping import attach, skip_layers

pytestmark = pytest.mark.peer

every_decoder = pytest.mark.parametrize("name", ["GPT-2", "Llama"])

# The refusal, by its reason.
CHANGED = r"the skipped layers changed from .* KV cache .*use_cache=False"
NO_LENGTH = r"its length is read from is one of the skipped.* KV cache .*use_cache=False"


def decoder(name: str) -> nn.Module:
    return PEERS[name].model().eval()


def tokens(num: int = 6) -> Tensor:
    return torch.randint(3, V, (1, num), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def read(model: nn.Module, tokens_BT: Tensor, cache=None):
    return model(tokens_BT, past_key_values=cache, use_cache=True)


@torch.no_grad()
def uncached(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    return model(tokens_BT, use_cache=False).logits


def generate(model: nn.Module, **settings) -> Tensor:
    prompt_BT = tokens(3)
    return model.generate(
        prompt_BT,
        attention_mask=torch.ones_like(prompt_BT),
        max_new_tokens=5,
        do_sample=False,
        pad_token_id=0,
        **settings,
    )


@every_decoder
@pytest.mark.parametrize("layers", [(), (1,), (3,), (1, 2), (1, 2, 3)])
def test_a_fixed_set_with_block_0_running_equals_no_cache(name, layers):
    model = decoder(name)
    skip_layers(model, layers)
    expected = uncached(model, tokens())
    cache, logits = None, []
    for token in range(6):
        output = read(model, tokens()[:, token : token + 1], cache)
        cache = output.past_key_values
        logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, dim=1), expected)
    assert torch.equal(generate(model, use_cache=True), generate(model, use_cache=False))


@every_decoder
@pytest.mark.parametrize("layers", [(0,), (0, 2), (0, 1, 2, 3)])
def test_block_0_skipped_reads_a_prompt_but_not_on(name, layers):
    """On a model that never ran too: the first look at a block must leave the cache alone."""
    for ran_before in (False, True):
        model = decoder(name)
        if ran_before:
            read(model, tokens())
        skip_layers(model, layers)
        output = read(model, tokens(3))
        torch.testing.assert_close(output.logits, uncached(model, tokens(3)))
        assert output.past_key_values.get_seq_length() == 0
        with pytest.raises(ValueError, match=NO_LENGTH):
            read(model, tokens()[:, 3:4], output.past_key_values)
        with pytest.raises(ValueError, match=NO_LENGTH):
            generate(model, use_cache=True)


@every_decoder
def test_block_0_skipped_generates_without_a_cache(name):
    model, oracle = decoder(name), decoder(name)
    block = oracle.get_submodule(PEERS[name].names[0])
    block.forward = lambda hidden_states, *args, **kwargs: hidden_states
    skip_layers(model, {0})
    assert torch.equal(generate(model, use_cache=False), generate(oracle, use_cache=False))


@every_decoder
@pytest.mark.parametrize(
    "first, then",
    [((), (1,)), ((), (0,)), ((1,), ()), ((1,), (2,)), ((0,), ()), ((0,), (1,)), ((1,), (0, 1))],
)
def test_a_set_that_changes_in_mid_generation_is_refused(name, first, then):
    model = decoder(name)
    attach(model)
    skip_layers(model, first)
    cache = read(model, tokens(3)).past_key_values
    skip_layers(model, then)
    with pytest.raises(ValueError, match=CHANGED):
        read(model, tokens()[:, 3:4], cache)
    output = read(model, tokens())  # a new cache is a new start
    torch.testing.assert_close(output.logits, uncached(model, tokens()))


@every_decoder
def test_a_cache_that_was_filled_before_attaching_was_filled_at_full_depth(name):
    model = decoder(name)
    expected = uncached(model, tokens())
    cache = read(model, tokens(3)).past_key_values
    skip_layers(model, {1})
    with pytest.raises(ValueError, match=r"changed from \[\] to \[1\]"):
        read(model, tokens()[:, 3:4], copy.deepcopy(cache))
    skip_layers(model, ())
    torch.testing.assert_close(read(model, tokens()[:, 3:], cache).logits, expected[:, 3:])


@every_decoder
def test_a_copied_cache_goes_on_where_it_was(name):
    model = decoder(name)
    skip_layers(model, {2})
    expected = uncached(model, tokens())[:, 3:]
    cache = read(model, tokens(3)).past_key_values
    for branch in (copy.deepcopy(cache), cache):
        torch.testing.assert_close(read(model, tokens()[:, 3:], branch).logits, expected)
    skip_layers(model, {1})
    with pytest.raises(ValueError, match=CHANGED):
        read(model, tokens(1), copy.deepcopy(cache))


@every_decoder
def test_an_emptied_cache_may_be_filled_by_other_layers(name):
    model = decoder(name)
    library = pytest.importorskip("transformers")
    cache = library.StaticCache(config=model.config, max_cache_len=8)
    for layers in [(1,), (), (2, 3)]:
        skip_layers(model, layers)
        expected = uncached(model, tokens())
        read(model, tokens(3), cache)
        torch.testing.assert_close(read(model, tokens()[:, 3:], cache).logits, expected[:, 3:])
        cache.reset()


@every_decoder
def test_training_steps_need_no_thought_of_the_cache(name):
    """transformers makes one in every forward unless it is told not to."""
    model = decoder(name).train()
    skipping = attach(model)
    for dropped in [{0}, (), {1, 2}, {0, 3}]:
        skipping.set_dropped(dropped)
        model(tokens()).logits.sum().backward()
    cache = read(model.eval(), tokens(3)).past_key_values
    read(model, tokens()[:, 3:], cache)  # dropped layers run in evaluation


@pytest.mark.parametrize("name", ["LFM2", "Gemma 3n"])
def test_caches_without_a_length_in_each_layer(name):
    """Hybrid layers keep a state instead, and some borrow another layer's keys."""
    model = {"LFM2": lfm2, "Gemma 3n": gemma3n}[name]().eval()
    expected = uncached(model, tokens())
    attach(model)
    cache = read(model, tokens(3)).past_key_values
    torch.testing.assert_close(read(model, tokens()[:, 3:], cache).logits, expected[:, 3:])


def lfm2() -> nn.Module:
    library = pytest.importorskip("transformers", minversion="5")
    config = library.Lfm2Config(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"] * 2,
        conv_L_cache=3,
    )
    return library.Lfm2ForCausalLM(config)


def gemma3n() -> nn.Module:
    library = pytest.importorskip("transformers", minversion="5")
    config = library.Gemma3nTextConfig(
        vocab_size=V,
        vocab_size_per_layer_input=V,
        hidden_size=16,
        hidden_size_per_layer_input=8,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        num_kv_shared_layers=2,
        layer_types=["full_attention"] * 4,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * 4,
        altup_num_inputs=2,
    )
    return library.Gemma3nForCausalLM(config)
