"""Pruned models of other libraries: in memory, saved and loaded again, and generating."""

from __future__ import annotations

import pytest
import torch
from peers.zoo import PEERS, V, transformers
from torch import Tensor, nn

from sbldlib.dropping.export import early_exit, prune
from sbldlib.dropping.skipping import skip_layers
from sbldlib.losses import logits_of

pytestmark = pytest.mark.peer

SAVED = ("GPT-2", "BERT", "ViT", "Llama", "SwinV2")
LAYERS = [{1}, {3}, {1, 3}]  # what every one of them holds, SwinV2's two stages too
DEPTH = {"GPT-2": "n_layer", "BERT": "num_hidden_layers", "ViT": "num_hidden_layers"}
DEPTH |= {"Llama": "num_hidden_layers"}

every_saved = pytest.mark.parametrize("name", SAVED)
every_decoder = pytest.mark.parametrize("name", ["GPT-2", "Llama"])


@torch.no_grad()
def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    return logits_of(model.eval()(inputs))


def skipped_logits(model: nn.Module, inputs: Tensor, layers) -> Tensor:
    with skip_layers(model, layers):
        return logits(model, inputs)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_it_computes_what_skipping_does(peer, layers):
    model = peer.model()
    pruned = prune(model, layers)
    assert type(pruned) is type(model)
    assert all(type(module).__call__ is nn.Module.__call__ for module in pruned.modules())
    assert torch.equal(logits(pruned, peer.inputs()), skipped_logits(model, peer.inputs(), layers))


@every_saved
@pytest.mark.parametrize("layers", LAYERS)
def test_saved_and_loaded_it_is_the_same(name, layers, tmp_path):
    peer = PEERS[name]
    model = peer.model()
    prune(model, layers).save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    expected = skipped_logits(model, peer.inputs(), layers)
    assert torch.equal(logits(loaded, peer.inputs()), expected)
    if name in DEPTH:
        assert getattr(loaded.config, DEPTH[name]) == 4 - len(layers)


@pytest.mark.parametrize("name", ["GPT-2", "BERT", "ViT", "Llama"])
@pytest.mark.parametrize("layer", [2, 4])
def test_an_early_exit_saved_and_loaded(name, layer, tmp_path):
    peer = PEERS[name]
    model = peer.model()
    early_exit(model, layer).save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    expected = skipped_logits(model, peer.inputs(), range(layer, 4))
    assert torch.equal(logits(loaded, peer.inputs()), expected)


def generate(model: nn.Module, use_cache: bool) -> Tensor:
    prompt_BT = torch.randint(3, V, (1, 3), generator=torch.Generator().manual_seed(0))
    return model.generate(
        prompt_BT,
        attention_mask=torch.ones_like(prompt_BT),
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
        use_cache=use_cache,
    )


@every_decoder
@pytest.mark.parametrize("layers", [{0}, {1}, {0, 2}])
def test_it_generates_with_a_cache(name, layers, tmp_path):
    """Layer 0 too, without which a skipped model cannot use a cache."""
    model = PEERS[name].model().eval()
    pruned = prune(model, layers).eval()
    attentions = [m for m in pruned.modules() if hasattr(m, "layer_idx")]
    assert [m.layer_idx for m in attentions] == list(range(4 - len(layers)))
    with_cache = generate(pruned, use_cache=True)
    assert torch.equal(with_cache, generate(pruned, use_cache=False))
    with skip_layers(model, layers):
        assert torch.equal(with_cache, generate(model, use_cache=False))
    pruned.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(with_cache, generate(loaded, use_cache=True))


@every_decoder
def test_a_cache_filled_token_by_token(name):
    pruned = prune(PEERS[name].model().eval(), {0, 2})
    tokens_BT = PEERS[name].inputs()
    expected_BTV = logits(pruned, tokens_BT)
    cache, parts = None, []
    with torch.no_grad():
        for token_B1 in tokens_BT.split(1, dim=1):
            output = pruned(token_B1, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected_BTV)


def test_the_kinds_of_the_layers_go_with_them():
    library = transformers()
    if not hasattr(library, "Gemma2Config"):
        pytest.skip("no Gemma2 in this transformers")
    config = library.Gemma2Config(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=2,
    )
    model = library.Gemma2ForCausalLM(config).eval()
    if getattr(config, "layer_types", None) is None:
        pytest.skip("this transformers derives the kind of a layer from its place")
    kinds = config.layer_types
    pruned = prune(model, {0})
    assert pruned.config.layer_types == kinds[1:] and config.layer_types == kinds


# ---------------------------------------------------------------- what is refused


def test_swins_windows_are_shifted_by_place():
    model = PEERS["SwinV2"].model()
    with pytest.raises(ValueError, match=r"layers.0.blocks.1 cannot stand at place 0: .*shift"):
        prune(model, {0})
    with pytest.raises(ValueError, match=r"the stage 'swinv2.encoder.layers.1.blocks' without"):
        early_exit(model, 2)


def test_a_gpt2_that_divides_by_its_layers_number():
    config = transformers().GPT2Config(
        vocab_size=V, n_positions=8, n_layer=3, n_head=2, n_embd=8, bos_token_id=None,
        eos_token_id=None, scale_attn_by_inverse_layer_idx=True,
    )  # fmt: skip
    model = transformers().GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match=r"transformer.h.2 cannot stand at place 1"):
        prune(model, {1})
    assert prune(model, {2}).config.n_layer == 2


def test_an_encoder_and_a_decoder_have_a_depth_each():
    config = transformers().BartConfig(
        vocab_size=V, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_position_embeddings=16,
    )  # fmt: skip
    model = transformers().BartModel(config)
    with pytest.raises(ValueError, match="config of BartModel holds its depth in none of"):
        prune(model, {0})
