"""Every architecture that layer dropping is promised for: found, skipped, trained."""

from __future__ import annotations

import copy

import pytest
import torch
from peers.zoo import PEERS, Peer
from torch import Tensor, nn

from sbldlib.dropping.allocation import update_keep_probability
from sbldlib.dropping.blocks import NoBlocksError, find_blocks
from sbldlib.dropping.plan import draw_active_layers
from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import logits_of
from sbldlib.records import SensitivityData

pytestmark = pytest.mark.peer

every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)


def identity_like(block: nn.Module, output) -> None:
    """Replace a block's forward by one that returns its first input in the form of `output`."""

    def forward(*args, **kwargs):
        given = args[0] if args else kwargs["hidden_states"]
        return (given, *(None for _ in output[1:])) if isinstance(output, tuple) else given

    block.forward = forward


def outputs_of_blocks(model: nn.Module, peer: Peer) -> list:
    """What each block returns in one pass of a plain model."""
    outputs, hooks = {}, []
    for name in peer.names:
        keep = lambda module, args, output, name=name: outputs.update({name: output})  # noqa: E731
        hooks.append(model.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        model(peer.inputs())
    for hook in hooks:
        hook.remove()
    return [outputs[name] for name in peer.names]


def run(model: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Logits, and each parameter's gradient or None."""
    torch.manual_seed(5)
    model.zero_grad(set_to_none=True)
    logits = logits_of(model(inputs))
    logits.square().sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters()}


def assert_same_run(model: nn.Module, oracle: nn.Module, inputs: Tensor) -> None:
    (logits, grads), (expected, expected_grads) = run(model, inputs), run(oracle, inputs)
    assert torch.equal(logits, expected)
    assert grads.keys() == expected_grads.keys()
    for name, grad in expected_grads.items():
        assert (grads[name] is None) == (grad is None), name
        assert grad is None or torch.equal(grads[name], grad), name


@every_peer
def test_its_blocks_are_found_in_layer_order(peer):
    model = peer.model()
    found = find_blocks(model)
    assert tuple(block.name for block in found) == peer.names
    assert [block.module for block in found] == [model.get_submodule(name) for name in peer.names]


@every_peer
@pytest.mark.parametrize("training", [True, False])
def test_nothing_skipped_changes_not_one_bit(peer, training):
    model = peer.model().train(training)
    plain = copy.deepcopy(model)
    keys = list(model.state_dict())
    skip_layers(model, ())
    assert_same_run(model, plain, peer.inputs())
    assert list(model.state_dict()) == keys


@every_peer
@pytest.mark.parametrize("training", [True, False])
def test_each_layer_skipped_equals_the_identity_in_its_place(peer, training):
    """On a model that never ran, and on one that did; each layer, and some together."""
    plain = peer.model()
    outputs = outputs_of_blocks(plain.eval(), peer)
    plain.train(training)
    full, _ = run(plain, peer.inputs())
    used = copy.deepcopy(plain)
    attach(used)
    for layers in [*({layer} for layer in range(len(peer.names))), {0, 2}, {1, 2, 3}]:
        oracle, fresh = copy.deepcopy(plain), copy.deepcopy(plain)
        for layer in layers:
            identity_like(oracle.get_submodule(peer.names[layer]), outputs[layer])
        for model in (used, fresh):
            with skip_layers(model, layers):
                assert_same_run(model, oracle, peer.inputs())
        assert not torch.equal(run(oracle, peer.inputs())[0], full), f"{layers} do not matter"
    assert torch.equal(run(used, peer.inputs())[0], full)


@every_peer
def test_a_skipped_block_computes_nothing_forward_or_backward(peer):
    model, seen = peer.model(), []
    run(model, peer.inputs())
    skipping = attach(model)
    run(model, peer.inputs())
    for layer, block in enumerate(skipping.blocks):
        for part in block.module.modules():
            part.register_forward_pre_hook(lambda *_, layer=layer: seen.append(layer))
    skip_layers(model, {1, 3})
    _, grads = run(model, peer.inputs())
    assert set(seen) == {0, 2}
    for name, grad in grads.items():
        if name.startswith((f"{peer.names[1]}.", f"{peer.names[3]}.")):
            assert grad is None, name


@every_peer
def test_a_training_step_with_layers_dropped(peer):
    """Sensitivity to probabilities to a draw to one optimiser step, four times."""
    model = peer.model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    skipping = attach(model)
    sensitivity = SensitivityData(values=(0.9, 0.3, 0.2, 0.1), standard_errors=(0.0,) * 4)
    keep = update_keep_probability(sensitivity, 0.6)
    for iteration in range(4):
        active = draw_active_layers(keep, seed=1, iteration=iteration, mode="fixed_count")
        dropped = set(range(4)) - set(active)
        assert dropped and 0 in active
        skipping.set_dropped(dropped)
        skipping.reset_calls()
        before = copy.deepcopy(model.state_dict())
        _, grads = run(model, peer.inputs(seed=iteration))
        assert [layer for layer, calls in enumerate(skipping.calls) if calls] == list(active)
        assert all(grad is None or grad.isfinite().all() for grad in grads.values())
        optimizer.step()
        after = model.state_dict()
        for layer, prefix in enumerate(peer.names):
            names = [n for n, p in model.named_parameters() if n.startswith(f"{prefix}.")]
            has_moved = any(not torch.equal(before[name], after[name]) for name in names)
            assert has_moved == (layer in active), f"iteration {iteration}, layer {layer}"
    expected, _ = run(copy.deepcopy(model).eval(), peer.inputs())
    assert torch.equal(run(model.eval(), peer.inputs())[0], expected), "evaluation drops layers"


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # pixels have none
@pytest.mark.parametrize("name", ["GPT-2", "BERT", "ViT", "Llama", "SwinV2"])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_transformers_activation_recomputation_changes_no_gradient(name, use_reentrant):
    peer, seen = PEERS[name], []
    model = peer.model().train()
    recomputed = copy.deepcopy(model)
    enable = getattr(recomputed, "activation_checkpointing_enable", None)
    enable = enable or recomputed.gradient_checkpointing_enable  # its name before version 5
    enable({"use_reentrant": use_reentrant})
    for each in (model, recomputed):
        attach(each).set_dropped({1, 2})
    for layer, block in enumerate(attach(recomputed).blocks):
        part = next(iter(block.module.children()))
        part.register_forward_pre_hook(lambda *_, layer=layer: seen.append(layer))
    assert_same_run(recomputed, model, peer.inputs())
    assert sorted(seen) == [0, 0, 3, 3]


# ---- models beyond the promised ones, each for a trap of its own


def test_t5_is_refused_because_its_blocks_share_state():
    library = pytest.importorskip("transformers")
    config = library.T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    with pytest.raises(NoBlocksError, match=r"T5For.*share state.*T5Block.*position_bias"):
        skip_layers(library.T5ForConditionalGeneration(config), {1})


def test_mobileberts_inner_feed_forward_lists_are_no_layers():
    library = pytest.importorskip("transformers")
    config = library.MobileBertConfig(
        vocab_size=32,
        num_hidden_layers=3,
        hidden_size=16,
        embedding_size=16,
        intra_bottleneck_size=8,
        num_attention_heads=2,
        intermediate_size=16,
    )
    names = [block.name for block in find_blocks(library.MobileBertModel(config))]
    assert names == ["encoder.layer.0", "encoder.layer.1", "encoder.layer.2"]


def test_mixtrals_experts_are_no_layers():
    library = pytest.importorskip("transformers")
    config = library.MixtralConfig(
        vocab_size=32,
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        num_local_experts=3,
    )
    names = [block.name for block in find_blocks(library.MixtralForCausalLM(config))]
    assert names == ["model.layers.0", "model.layers.1"]


def test_mpnets_bias_is_no_shared_state():
    """Its encoder computes the position_bias that every block takes."""
    library = pytest.importorskip("transformers")
    config = library.MPNetConfig(
        vocab_size=32,
        num_hidden_layers=3,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=16,
    )
    assert len(find_blocks(library.MPNetModel(config))) == 3


def test_albert_is_refused_because_one_block_is_all_its_layers():
    library = pytest.importorskip("transformers")
    config = library.AlbertConfig(
        vocab_size=32,
        embedding_size=8,
        num_hidden_layers=3,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=16,
    )
    with pytest.raises(NoBlocksError, match=r"1 residual block.*albert_layers: 1 x AlbertLayer"):
        find_blocks(library.AlbertModel(config))
