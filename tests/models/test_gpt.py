"""The baseline GPT-2: shapes, causality, initial weights, training, generation, files, errors."""

from __future__ import annotations

import copy
import json
import math
import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.models import gpt
from sbldlib.models.cache import KeyValueCache
from sbldlib.models.generation import choose_tokens
from sbldlib.models.gpt import GPT, PRESETS, Block, GPTConfig, flops_per_token

MINI = GPTConfig(
    vocabulary_size=61, context_length=16, num_layers=3, num_heads=2, width=16, init_std=0.2
)


def draw_tokens(config: GPTConfig, batch_size: int = 2, num_tokens: int | None = None, seed=0):
    shape = (batch_size, config.context_length if num_tokens is None else num_tokens)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocabulary_size, shape, generator=generator)


def make_identity(block: Block) -> None:
    """Skip a block as layer dropping does: its call returns its first argument."""
    body = {"__call__": lambda self, x_BTD, *rest: x_BTD}
    block.__class__ = type("Block", (type(block),), body)


def restore(block: Block) -> None:
    block.__class__ = Block


def loss_of(model: GPT, tokens_BT: torch.Tensor) -> torch.Tensor:
    logits_BTV = model(tokens_BT[:, :-1])
    return F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())


@pytest.mark.parametrize("num_tokens", [1, 7, 16])
def test_logits_have_one_row_per_token(num_tokens):
    logits_BTV = GPT(MINI)(draw_tokens(MINI, 3, num_tokens))
    assert logits_BTV.shape == (3, num_tokens, MINI.vocabulary_size)
    assert logits_BTV.dtype == torch.float32


@pytest.mark.parametrize("cached", [False, True])
def test_logits_depend_on_exactly_the_tokens_up_to_theirs(cached):
    model = GPT(MINI)
    embedded = []
    model.token_embedding.register_forward_hook(lambda *call: embedded.append(call[2]))
    cache = KeyValueCache(MINI.num_layers) if cached else None
    logits_TV = model(draw_tokens(MINI, 1, 8), cache)[0]
    for i, logits_V in enumerate(logits_TV):
        (grad_BTD,) = torch.autograd.grad(logits_V.square().sum(), embedded[0], retain_graph=True)
        assert torch.equal(grad_BTD[0, i + 1 :], torch.zeros_like(grad_BTD[0, i + 1 :]))
        assert (grad_BTD[0, : i + 1].norm(dim=-1) > 0).all()


def test_positions_matter():
    logits_BTV = GPT(MINI)(torch.full((1, 4), 5))
    assert not torch.allclose(logits_BTV[0, 0], logits_BTV[0, 3], atol=1e-3)


def test_a_block_without_its_residuals_is_the_identity():
    block = GPT(MINI).blocks[0]
    assert isinstance(block, Block)
    for part in (block.attention.output, block.mlp.output):
        torch.nn.init.zeros_(part.weight)
    x_BTD = torch.linspace(-1, 1, 2 * 4 * 16).view(2, 4, 16)
    assert torch.equal(block(x_BTD), x_BTD)


def test_an_identity_block_is_left_out_of_the_forward_pass():
    model, shallow = GPT(MINI), GPT(replace(MINI, num_layers=2))
    weights = model.state_dict()
    moved = {name.replace("blocks.2.", "blocks.1."): weights[name] for name in weights}
    shallow.load_state_dict({name: moved[name] for name in shallow.state_dict()})
    make_identity(model.blocks[1])
    tokens_BT = draw_tokens(MINI)
    assert torch.equal(model(tokens_BT), shallow(tokens_BT))


def test_head_is_the_token_embedding():
    model = GPT(MINI)
    assert not [name for name in model.state_dict() if "head" in name]
    loss_of(model, draw_tokens(MINI)).backward()
    unseen = torch.ones(MINI.vocabulary_size, dtype=torch.bool)
    unseen[draw_tokens(MINI)] = False
    assert (model.token_embedding.weight.grad[unseen].norm(dim=-1) > 0).all()  # through the head


def test_initial_loss_is_that_of_guessing():
    config = replace(PRESETS["tiny"], init_std=0.02)
    loss = loss_of(GPT(config), draw_tokens(config, 8)).item()
    assert loss == pytest.approx(math.log(config.vocabulary_size), abs=0.05)


def test_initial_weights():
    config = replace(PRESETS["tiny"], width=128, init_std=0.03)
    model = GPT(config)
    narrow = 0.03 * (2 * config.num_layers) ** -0.5
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(weight, torch.zeros_like(weight))
        elif "norm" in name:
            assert torch.equal(weight, torch.ones_like(weight))
        else:
            std = narrow if name.endswith(".output.weight") else 0.03
            assert weight.std().item() == pytest.approx(std, rel=0.04), name
            assert abs(weight.mean().item()) < 5 * std * weight.numel() ** -0.5, name


def test_weights_come_from_the_seed_and_nothing_else():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = GPT(MINI, seed=3).state_dict()
        torch.manual_seed(2)
        two = GPT(MINI, seed=3).state_dict()
    other = GPT(MINI, seed=4).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["token_embedding.weight"], other["token_embedding.weight"])


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    model = GPT(MINI)
    loss_of(model, draw_tokens(MINI)).backward()
    model.generate(draw_tokens(MINI, 1, 2), 3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), repr(np.random.get_state()))


def test_five_steps_give_the_golden_losses():
    model, tokens_BT = GPT(PRESETS["tiny"], seed=0), draw_tokens(PRESETS["tiny"], 4, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(model, tokens_BT)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # In float64, and with every kernel torch has for this CPU, the same to 1e-5.
    assert losses == pytest.approx([6.54095, 6.05995, 5.59671, 5.26940, 4.92885], abs=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputation_changes_no_gradient_and_runs_blocks_again(dropout):
    model, tokens_BT = GPT(replace(MINI, dropout=dropout)), draw_tokens(MINI)
    make_identity(model.blocks[1])
    calls = []
    for layer, block in enumerate(model.blocks):
        block.norm1.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
    gradients = []
    for recompute in (False, True):
        model.activation_recomputation = recompute
        calls.clear()
        model.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss_of(model, tokens_BT).backward()
        assert sorted(calls) == ([0, 0, 2, 2] if recompute else [0, 2])
        assert model.blocks[1].norm1.weight.grad is None
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


# Dynamo looks at .grad of whatever it is given and hides the warning only where it is not an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_share_their_graphs_whatever_is_active():
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model, tokens_BT = GPT(MINI), draw_tokens(MINI)
    plain = model(tokens_BT)
    assert model.compile_blocks(backend=count) is model
    torch.testing.assert_close(model(tokens_BT), plain)
    for layer in range(MINI.num_layers):
        make_identity(model.blocks[layer])
        model(tokens_BT).sum().backward()
        restore(model.blocks[layer])
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_dropout_acts_in_training_only():
    model, tokens_BT = GPT(replace(MINI, dropout=0.5)), draw_tokens(MINI)
    with torch.random.fork_rng():
        assert not torch.allclose(model(tokens_BT), model(tokens_BT))
    assert torch.equal(model.eval()(tokens_BT), GPT(MINI).eval()(tokens_BT))


def test_a_copy_is_a_model_of_its_own():
    model, tokens_BT = GPT(MINI), draw_tokens(MINI)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(tokens_BT), model(tokens_BT))
    torch.nn.init.zeros_(twin.token_embedding.weight)
    assert not torch.equal(twin(tokens_BT), model(tokens_BT))


def test_bias_false_leaves_only_weights():
    model = GPT(replace(MINI, bias=False))
    assert all(name.endswith("weight") for name in model.state_dict())
    assert model(draw_tokens(MINI)).isfinite().all()


def test_num_parameters():
    D, L = MINI.width, MINI.num_layers
    in_blocks = L * (12 * D * D + 13 * D) + 2 * D
    tables = (MINI.vocabulary_size + MINI.context_length) * D
    assert GPT(MINI).num_parameters() == in_blocks + tables
    assert GPT(MINI).num_parameters(embeddings=False) == in_blocks


@pytest.mark.parametrize("config", [MINI, PRESETS["tiny"]])
@pytest.mark.parametrize("num_tokens", [None, 5])
def test_flops_per_token_is_what_torch_counts(config, num_tokens):
    tokens_BT = draw_tokens(config, 2, num_tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        GPT(config)(tokens_BT).sum().backward()
    asked = flops_per_token(config, num_tokens) * tokens_BT.numel()
    assert counter.get_total_flops() == asked


# Generation


@pytest.mark.parametrize("skipped", [None, 0, 1, 2])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_cache_changes_no_token(skipped, temperature):
    model, prompt_BT = GPT(MINI), draw_tokens(MINI, 3, 4)
    if skipped is not None:
        make_identity(model.blocks[skipped])
    cached, uncached = (
        model.generate(prompt_BT, 12, temperature=temperature, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)
    assert cached.shape == (3, 16)
    assert torch.equal(cached[:, :4], prompt_BT)


@pytest.mark.parametrize("skipped", [None, 0, 2])
@pytest.mark.parametrize("chunks", [(16,), (1, 15), (5, 4, 1, 6)])
def test_cached_chunks_give_the_logits_of_the_whole(chunks, skipped):
    model, tokens_BT = GPT(MINI), draw_tokens(MINI)
    if skipped is not None:
        make_identity(model.blocks[skipped])
    cache = KeyValueCache(MINI.num_layers)
    parts = [model(chunk_BT, cache) for chunk_BT in tokens_BT.split(chunks, dim=1)]
    assert cache.length == 16
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens_BT), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", range(MINI.num_layers))
@pytest.mark.parametrize("joins", [False, True])
def test_active_layers_cannot_change_while_a_cache_is_used(layer, joins):
    model, tokens_BT, cache = GPT(MINI), draw_tokens(MINI, 1, 4), KeyValueCache(MINI.num_layers)
    first, then = (make_identity, restore) if joins else (lambda block: None, make_identity)
    first(model.blocks[layer])
    model(tokens_BT, cache)
    then(model.blocks[layer])
    message = rf"active layers changed in mid-generation: after 5 tokens, layers \[{layer}\]"
    with pytest.raises(ValueError, match=message):
        model(tokens_BT[:, :1], cache)
    with pytest.raises(ValueError, match="mid-generation"):  # nor can it be used after
        model(tokens_BT[:, :1], cache)


def test_greedy_takes_the_likeliest_token():
    model, tokens_BT = GPT(MINI), draw_tokens(MINI, 2, 4)
    made_BT = model.generate(tokens_BT, 3, temperature=0)
    for length in range(4, 7):
        assert torch.equal(made_BT[:, length], model(made_BT[:, :length])[:, -1].argmax(dim=-1))


def test_draws_follow_the_tempered_softmax_of_the_top_k():
    logits_V = torch.tensor([2.0, -1.0, 0.5, 1.0, -math.inf])
    rows_BV, generator = logits_V.expand(40_000, 5), torch.Generator().manual_seed(0)
    for top_k, kept in ((None, [0, 1, 2, 3]), (3, [0, 2, 3]), (1, [0])):
        drawn_B1 = choose_tokens(rows_BV, 1.5, top_k, generator)
        share_V = torch.bincount(drawn_B1.flatten(), minlength=5) / 40_000
        expected_V = torch.zeros(5).index_add(
            0, torch.tensor(kept), (logits_V[kept] / 1.5).softmax(-1)
        )
        torch.testing.assert_close(share_V, expected_V, atol=0.01, rtol=0)
        assert set(drawn_B1.unique().tolist()) == set(kept)
    assert not choose_tokens(rows_BV, 1e-30, None, generator).any()  # all took token 0


def test_the_generator_decides_the_draws():
    model, prompt_BT = GPT(MINI), draw_tokens(MINI, 1, 2)
    texts = [
        model.generate(prompt_BT, 14, generator=torch.Generator().manual_seed(seed)).tolist()
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert model.generate(prompt_BT, 14).tolist() == texts[0]


def test_every_part_gets_its_mode_back_after_generation():
    model = GPT(replace(MINI, dropout=0.5))
    model.blocks[1].eval()
    seen = []
    model.blocks[0].register_forward_hook(lambda block, *_: seen.append(block.training))
    first, second = (model.generate(draw_tokens(MINI, 1, 2), 6, temperature=0) for _ in range(2))
    assert torch.equal(first, second) and seen and not any(seen)
    assert model.training and model.blocks[0].mlp.training and not model.blocks[1].mlp.training
    model.blocks[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.generate(draw_tokens(MINI, 1, 2), 6)
    assert model.training


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ([[1, 2]], {"num_tokens": 15}, r"num_tokens=15 after a prompt of 2 makes 17.*length=16"),
        ([[1, 2]], {"num_tokens": 0}, "num_tokens=0 must be at least 1"),
        ([[]], {}, r"tokens of shape \(1, 0\)"),
        ([1, 2], {}, r"tokens of shape \(2,\)"),
        ([[1, 61]], {}, "token 61 is outside vocabulary_size=61"),
        ([[-1, 3]], {}, "token -1 is outside vocabulary_size=61"),
        ([[1.0]], {}, "torch.float32 must be torch.int64"),
        ([[1]], {"temperature": -0.1}, r"temperature=-0.1 is outside \[0, inf\)"),
        ([[1]], {"temperature": math.nan}, "temperature=nan is outside"),
        ([[1]], {"top_k": 0}, "top_k=0 must be at least 1"),
        ([[1]], {"top_k": 62}, "top_k=62 is more than vocabulary_size=61"),
    ],
)
def test_generate_refuses(prompt, changes, message):
    tokens = torch.tensor(prompt, dtype=torch.long if prompt == [[]] else None)
    with pytest.raises(ValueError, match=message):
        GPT(MINI).generate(tokens, **{"num_tokens": 2, **changes})


# Files


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_and_load_give_the_same_model(tmp_path, dtype):
    model, tokens_BT = GPT(replace(MINI, dropout=0.1), seed=5).to(dtype).eval(), draw_tokens(MINI)
    assert model.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    loaded = GPT.load(tmp_path / "new" / "folder").eval()
    assert loaded.config == model.config
    assert torch.equal(loaded(tokens_BT), model(tokens_BT))
    assert all(p.requires_grad and p.dtype == dtype for p in loaded.parameters())
    names = sorted(os.listdir(tmp_path / "new" / "folder"))
    assert names == ["config.json", "model.safetensors"]


def test_a_loaded_model_trains_and_leaves_its_file_alone(tmp_path):
    GPT(MINI).save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = GPT.load(tmp_path)
    loss_of(model, draw_tokens(MINI)).backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(model.final_norm.weight, torch.ones(MINI.width))
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("failing", ["model.safetensors", "config.json"])
def test_a_crash_while_saving_never_gives_a_mixed_model(tmp_path, monkeypatch, failing):
    old, new, replace_file = GPT(MINI, seed=0), GPT(MINI, seed=1), os.replace
    old.save(tmp_path)

    def crash(source, target):
        if os.fspath(target).endswith(failing):
            raise OSError("disk full")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        new.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]
    if failing == "model.safetensors":
        tokens_BT = draw_tokens(MINI)
        assert torch.equal(GPT.load(tmp_path)(tokens_BT), old(tokens_BT))
    else:
        with pytest.raises(ValueError, match="damaged or of another save"):
            GPT.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_load_names_the_missing_file(tmp_path, name):
    GPT(MINI).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"holds no {name}"):
        GPT.load(tmp_path)


def test_load_refuses_a_flipped_bit(tmp_path):
    GPT(MINI).save(tmp_path)
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256 differs"):
        GPT.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary_size": 60}, r"token_embedding.weight.*\(60, 16\), the file holds \(61, 16\)"),
        ({"num_layers": 4}, r"blocks.3.norm1.weight.*\(16,\), the file holds None"),
        ({"num_layers": 2}, r"blocks.2.attention.output.bias.*shape None, the file holds \(16,\)"),
        ({"num_heads": 3}, "width=16 must be a multiple of num_heads=3"),
        ({"depth": 3}, r"config.json: fields \['depth'\] are missing or unknown"),
    ],
)
def test_load_refuses_a_configuration_that_disagrees(tmp_path, change, message):
    GPT(MINI).save(tmp_path)
    body = json.loads((tmp_path / "config.json").read_text())
    body["config"] |= change
    (tmp_path / "config.json").write_text(json.dumps(body))
    with pytest.raises(ValueError, match=message):
        GPT.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "config": 3}'])
def test_load_refuses_a_configuration_of_another_kind(tmp_path, text):
    GPT(MINI).save(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is not a configuration that GPT.save wrote"):
        GPT.load(tmp_path)


def test_load_refuses_another_format(tmp_path):
    GPT(MINI).save(tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"format": 1', '"format": 9')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"format=9 in .* is not this version's 1"):
        GPT.load(tmp_path)


# What is refused at the door


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size=0 must be at least 1"),
        ({"context_length": -1}, "context_length=-1 must be at least 1"),
        ({"num_layers": 2.5}, "num_layers=2.5 must be a whole number"),
        ({"num_heads": True}, "num_heads=True must be a whole number"),
        ({"num_heads": 3}, "width=16 must be a multiple of num_heads=3, such as 18"),
        ({"dropout": 1.0}, r"dropout=1.0 is outside \[0, 1\)"),
        ({"init_std": 0.0}, r"init_std=0.0 is outside \(0, inf\)"),
        ({"init_std": math.nan}, "init_std=nan is outside"),
        ({"bias": "no"}, "bias='no' must be True or False"),
        ({"activation": "gelu_tan"}, "activation='gelu_tan' .*did you mean 'gelu_tanh'"),
    ],
)
def test_config_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        replace(MINI, **change)


def test_config_takes_numpy_numbers_and_saves_them(tmp_path):
    config = replace(MINI, width=np.int64(16), dropout=np.float32(0.0))
    GPT(config).save(tmp_path)
    assert GPT.load(tmp_path).config == MINI


def test_presets_are_built_by_name_with_changes():
    model = GPT.from_preset("tiny", seed=2, num_layers=2, vocabulary_size=256)
    assert model.config == replace(PRESETS["tiny"], num_layers=2, vocabulary_size=256)
    assert len(model.blocks) == 2
    again = GPT(model.config, seed=2)
    assert torch.equal(model.token_embedding.weight, again.token_embedding.weight)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gpt2-124", {}, "preset='gpt2-124' .*did you mean 'gpt2-124m'"),
        ("tiny", {"num_layer": 3}, "changes='num_layer' .*did you mean 'num_layers'"),
    ],
)
def test_presets_suggest_the_nearest_name(name, changes, message):
    with pytest.raises(ValueError, match=message):
        GPT.from_preset(name, **changes)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seed_must_be_a_whole_number(seed):
    with pytest.raises(ValueError, match=f"seed={seed}"):
        GPT(MINI, seed=seed)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 17, dtype=torch.long), "17 tokens exceed context_length=16"),
        (torch.zeros(4, dtype=torch.long), r"tokens of shape \(4,\) must be \[batch, tokens\]"),
        (torch.tensor([[1, 99]]), "token 99 is outside vocabulary_size=61"),
        (torch.tensor([[-2, 9]]), "token -2 is outside vocabulary_size=61"),
    ],
)
def test_forward_refuses(tokens, message):
    with pytest.raises(ValueError, match=message):
        GPT(MINI)(tokens)


def test_a_full_cache_takes_no_more_tokens():
    model, cache = GPT(MINI), KeyValueCache(MINI.num_layers)
    model(draw_tokens(MINI), cache)
    with pytest.raises(ValueError, match="17 tokens exceed context_length=16"):
        model(torch.zeros(2, 1, dtype=torch.long), cache)


@pytest.mark.parametrize("num_tokens", [0, 17])
def test_flops_per_token_refuses(num_tokens):
    with pytest.raises(ValueError, match=f"num_tokens={num_tokens}"):
        flops_per_token(MINI, num_tokens)


@pytest.mark.parametrize("config", [None, "tiny", {"width": 8}, GPTConfig])
def test_a_configuration_that_is_none_is_shown(config):
    with pytest.raises(ValueError, match=r"^config=.* must be a GPTConfig"):
        GPT(config)


def test_a_seed_that_no_generator_takes_is_named():
    with pytest.raises(ValueError, match=r"seed=18446744073709551616 must be below 2\*\*64"):
        GPT.from_preset("tiny", seed=2**64)


@pytest.mark.parametrize("field", ["vocabulary_size", "context_length", "num_layers", "width"])
def test_a_size_that_would_fill_any_memory_is_refused(field):
    with pytest.raises(ValueError, match=rf"{field}=1000000000 must be at most"):
        GPT.from_preset("tiny", **{field: 10**9})


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(1, 2), "tokens of type torch.float32 must be torch.int64"),
        (torch.zeros(0, 4, dtype=int), r"tokens of shape \(0, 4\) must be .* at least one each"),
        ([[1, 2]], r"tokens=\[\[1, 2\]\] must be a tensor"),
    ],
)
def test_tokens_that_are_none_are_named(tokens, words):
    with pytest.raises(ValueError, match=words):
        GPT.from_preset("tiny")(tokens)


def test_a_generator_of_another_library_is_refused():
    tokens_BT = torch.zeros(1, 2, dtype=int)
    with pytest.raises(
        ValueError, match=r"generator=Generator\(PCG64\).* must be a torch.Generator"
    ):
        GPT.from_preset("tiny").generate(tokens_BT, 1, generator=np.random.default_rng(0))


# ---- narrow heads


def narrow(length: int) -> tuple[Block, torch.Tensor]:
    config = GPTConfig(
        vocabulary_size=4, context_length=length, num_layers=1, num_heads=3, width=12
    )
    block = Block(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in block.parameters():
            weight.copy_(torch.empty(weight.shape).normal_(0, 0.5, generator=generator))
    return block, torch.randn(2, length, 12, generator=generator)


@pytest.fixture
def widths(monkeypatch) -> list[int]:
    """Of the heads that torch's attention is given, call by call."""
    seen, attend = [], F.scaled_dot_product_attention

    def watched(query, key, value, **options):
        seen.append(query.shape[-1])
        return attend(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return seen


def output_and_gradients(block: Block, x_BTD: torch.Tensor) -> list[torch.Tensor]:
    block.zero_grad(set_to_none=True)
    x_BTD = x_BTD.clone().requires_grad_()
    output_BTD = block(x_BTD)
    output_BTD.square().mean().backward()
    return [output_BTD.detach(), *(part.grad for part in (x_BTD, *block.parameters()))]


def test_narrow_heads_are_widened_and_the_function_stays(widths, monkeypatch):
    block, x_BTD = narrow(gpt.LONG)
    wide = output_and_gradients(block, x_BTD)
    monkeypatch.setattr(gpt, "NARROW", 0)
    plain = output_and_gradients(block, x_BTD)
    assert widths == [16, 4]
    for mine, expected in zip(wide, plain, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_heads_are_left_as_they_are_where_that_costs_nothing(widths):
    block, x_BTD = narrow(gpt.LONG)
    block(x_BTD[:, :-1])  # short
    with sdpa_kernel(SDPBackend.MATH):  # as operations are counted: no zeros among them
        block(x_BTD)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x_BTD), block(x_BTD), rtol=1e-4, atol=1e-5)
    assert widths[:2] == [4, 4] and widths[-1] == 16
