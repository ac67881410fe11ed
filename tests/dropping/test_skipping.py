"""Skipping: equal to blocks that are the identity, nothing computed, nothing left behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from dropping.toys import Block, D, Handing, Stack, Widening, inputs, stack
from small import Source, gpt
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.dropping.blocks import NoBlocksError, find_blocks
from sbldlib.dropping.skipping import Skipping, attach, detach, skip_layers

MASKS = [(), (0,), (2,), (0, 1), (1, 3), (0, 1, 2, 3)]


def without(model: nn.Module, layers) -> nn.Module:
    """The oracle: a copy of a plain model whose blocks of these layers are replaced by hand."""
    replaced = copy.deepcopy(model)
    for layer in layers:
        extra = getattr(replaced.blocks[layer], "extra", None)
        replaced.blocks[layer].forward = identity(extra)
    return replaced


def identity(extra: tuple | None = None):
    """A forward that returns its first input, in the form of a block with these extras."""

    def forward(x_BTD: Tensor, *args, **kwargs):
        return x_BTD if extra is None else (x_BTD, *(None for _ in extra))

    return forward


def run(model: nn.Module, *args: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The output and every parameter's gradient, None where it has none."""
    torch.manual_seed(seed)
    model.zero_grad(set_to_none=True)
    output = model(*args)
    output.float().square().sum().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters()}


def assert_same_run(model: nn.Module, oracle: nn.Module, *args: Tensor) -> None:
    """Outputs bit for bit, gradients too, None where the oracle has None."""
    (output, grads), (expected, expected_grads) = run(model, *args), run(oracle, *args)
    assert torch.equal(output, expected)
    assert grads.keys() == expected_grads.keys()
    for name, grad in expected_grads.items():
        if grad is None:
            assert grads[name] is None, name
        else:
            assert torch.equal(grads[name], grad), name


def tokens() -> Tensor:
    return Source().batch(0)[0]


# ---- the same as the identity, and as nothing


@pytest.mark.parametrize("layers", MASKS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("warm", [True, False])
def test_equals_the_model_with_the_identity_in_its_place(layers, training, warm):
    model = gpt(dropout=0.2).train(training)
    oracle = without(model, layers)
    attach(model)
    if warm:
        run(model, tokens())
    skip_layers(model, layers)
    assert_same_run(model, oracle, tokens())


@pytest.mark.parametrize("layers", MASKS)
@pytest.mark.parametrize("by_keyword", [True, False])
@pytest.mark.parametrize("extra", [None, (None,), ("attention",)])
def test_returns_what_the_block_would_have_returned(layers, by_keyword, extra):
    model = stack(extra=extra, dropout=0.3, by_keyword=by_keyword)
    oracle = without(model, layers)
    skip_layers(model, layers)
    assert_same_run(model, oracle, inputs())


def test_a_tuple_keeps_its_length_with_none_in_the_other_places():
    model = stack(extra=(torch.zeros(1), "cache"))
    skip_layers(model, {0})
    x_BTD = inputs()
    output = model.blocks[0](x_BTD)
    assert output[0] is x_BTD and output[1:] == (None, None)


def test_blocks_of_two_classes_return_each_its_own_form():
    class Tupled(Block):
        pass

    model = nn.ModuleDict(
        {"a": nn.ModuleList([Block(), Block()]), "b": nn.ModuleList([Tupled(extra=(1,)), Tupled()])}
    )
    skip_layers(model, {0, 2})
    x_BTD = inputs()
    assert model["a"][0](x_BTD) is x_BTD
    assert model["b"][0](x_BTD)[0] is x_BTD


def test_the_form_is_that_of_the_last_blocks_that_ran():
    """transformers' blocks return a tuple or a tensor by what the model was asked for."""
    model = stack(3)
    model(inputs())

    def set_form(extra):
        for block in model.blocks:
            block.extra = extra

    skipping = attach(model)
    for dropped, extra in [((), None), ((0,), (1,)), ((1,), None), ((2,), (1,)), ((2,), None)]:
        set_form(extra)
        skipping.set_dropped(dropped)
        model(inputs())
        block = model.blocks[2]
        assert isinstance(block(inputs()), tuple) == (extra is not None)


def test_nothing_dropped_changes_not_one_bit():
    model = gpt(dropout=0.2)
    plain = copy.deepcopy(model)
    attach(model)
    assert_same_run(model, plain, tokens())


@pytest.mark.parametrize("layers", MASKS)
def test_nothing_is_computed_forward_or_backward(layers):
    model, fewer = gpt(), gpt()
    fewer.blocks = nn.ModuleList(b for i, b in enumerate(fewer.blocks) if i not in layers)
    attach(model)
    model(tokens())
    skip_layers(model, layers)

    def flops(of: nn.Module) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            of(tokens()).sum().backward()
        return counter.get_total_flops()

    assert flops(model) == flops(fewer)
    if not layers:
        return
    full = flops(gpt())
    assert flops(model) < full


def test_hooks_run_for_blocks_that_run_and_for_no_other():
    model, seen = gpt(), []
    attach(model)
    model(tokens())
    for layer, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, layer=layer: seen.append(("before", layer)))
        block.register_forward_hook(lambda *_, layer=layer: seen.append(("after", layer)))
        block.register_full_backward_hook(lambda *_, layer=layer: seen.append(("back", layer)))
        block.mlp.register_forward_hook(lambda *_, layer=layer: seen.append(("inside", layer)))
    skip_layers(model, {0, 2})
    run(model, tokens())
    expected = {
        (event, layer) for event in ("before", "after", "back", "inside") for layer in (1, 3)
    }
    assert set(seen) == expected and len(seen) == len(expected)


def test_gradients_of_skipped_blocks_are_none_and_adamw_leaves_them():
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    skipping = attach(model)
    run(model, tokens())
    optimizer.step()  # moments are there, which would move a weight of zero gradient
    before = copy.deepcopy(model.state_dict())
    skipping.set_dropped({1})
    _, grads = run(model, tokens())
    optimizer.step()
    for name, value in model.state_dict().items():
        is_dropped = name.startswith("blocks.1.")
        assert torch.equal(value, before[name]) == is_dropped, name
    for name, grad in grads.items():
        assert (grad is None) == name.startswith("blocks.1."), name


def test_gradient_accumulation_under_one_mask_adds_up():
    model = gpt(dropout=0.2)
    oracle = without(model, {1})
    attach(model).set_dropped({1})

    def accumulated(of: nn.Module):
        torch.manual_seed(3)
        for micro_batch in range(3):
            (of(Source().batch(0, micro_batch)[0]).square().mean() / 3).backward()
        return {name: p.grad for name, p in of.named_parameters()}

    for (name, grad), (_, expected) in zip(
        accumulated(model).items(), accumulated(oracle).items(), strict=True
    ):
        assert (grad is None) == (expected is None), name
        assert grad is None or torch.equal(grad, expected), name


def test_autocast_keeps_its_types():
    model = gpt()
    oracle = without(model, {0, 2})
    skip_layers(model, {0, 2})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_run(model, oracle, tokens())
    assert model.blocks[1](torch.zeros(1, 2, 16)).dtype == torch.float32


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_recomputation_changes_no_gradient(use_reentrant):
    model = stack(dropout=0.3, recompute=use_reentrant)
    oracle = without(model, {1, 2})
    oracle.recompute = None
    attach(model).set_dropped({1, 2})
    assert_same_run(model, oracle, inputs())


def test_recomputation_of_ours_changes_no_gradient():
    model = gpt(dropout=0.2)
    oracle = without(model, {0, 3})
    model.activation_recomputation = True
    attach(model).set_dropped({0, 3})
    assert_same_run(model, oracle, tokens())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("layers", MASKS[:5])
def test_torchs_encoder_with_its_fast_path(padded, layers):
    """In evaluation it hands nested tensors from block to block, which have no shape to compare."""
    layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 4).eval()
    oracle = copy.deepcopy(model)
    for index in layers:
        oracle.layers[index].forward = lambda src, **kwargs: src
    skip_layers(model, layers)
    padding_BT = torch.tensor([[False, False, False], [False, False, True]])
    arguments = {"src_key_padding_mask": padding_BT} if padded else {}
    with torch.no_grad():
        assert torch.equal(model(inputs(), **arguments), oracle(inputs(), **arguments))


# ---- learning what a block returns


class InPlace(Block):
    """Adds to its input in its place."""

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.add_(super().forward(x_BTD))


@pytest.mark.parametrize("make", [lambda: stack(dropout=0.5), lambda: Stack(InPlace(), InPlace())])
def test_the_first_look_moves_no_random_state_and_no_input(make):
    model = make()
    model.embedding = nn.Identity()
    skipping = attach(model)
    skipping.set_dropped(range(skipping.num_layers))
    x_BTD = inputs()
    before, state = x_BTD.clone(), torch.random.get_rng_state()
    model(x_BTD)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(x_BTD, before)


def test_the_first_look_happens_once_and_counts_no_call():
    model, seen = gpt(), []
    for layer, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, layer=layer: seen.append(layer))
    skipping = attach(model)
    skipping.set_dropped({0, 1})
    model(tokens())
    model(tokens())
    assert seen == [0, 2, 3, 2, 3]
    assert skipping.calls == [0, 0, 2, 2]


@pytest.mark.parametrize("layers", [(0,), (0, 2), (1,), (3,)])
def test_generation_with_our_cache_on_a_model_that_never_ran(layers):
    model = gpt()
    skip_layers(model, layers)
    prompt_BT = tokens()[:, :3]
    cached = model.generate(prompt_BT, 4, temperature=0)
    assert torch.equal(cached, model.generate(prompt_BT, 4, temperature=0, use_cache=False))


def test_a_layer_that_changes_the_shape_runs_but_cannot_be_skipped():
    model = Stack(Widening(1), Widening(2))
    model.head = nn.Linear(2 * D, D)
    plain = copy.deepcopy(model)
    skipping = attach(model)
    assert_same_run(model, plain, inputs())
    skip_layers(model, {0})
    assert_same_run(model, without(plain, {0}), inputs())
    skip_layers(model, {})
    skipping.set_dropped({1})
    with pytest.raises(ValueError, match=r"layer 1 \(blocks.1\).*same shape.*cannot be skipped"):
        model(inputs())
    model.eval()(inputs())


def test_a_block_that_hands_on_a_state_cannot_be_skipped():
    model = Stack(Handing(), Handing())
    model(inputs())
    skip_layers(model, {1})
    with pytest.raises(ValueError, match=r"layer 1 \(blocks.1\).*one output"):
        model(inputs())


def test_a_block_with_an_odd_signature_runs_while_nothing_is_skipped():
    class Loose(Block):
        def forward(self, **given: Tensor):
            return [super().forward(given["x_BTD"])]

    class Loop(Stack):
        def forward(self, x_BTD: Tensor) -> Tensor:
            for block in self.blocks:
                (x_BTD,) = block(x_BTD=x_BTD)
            return x_BTD

    model = Loop(Loose(), Loose())
    attach(model)
    model(inputs())
    skip_layers(model, {0})
    with pytest.raises(ValueError, match="cannot be skipped"):
        model(inputs())


# ---- when it acts


def test_dropped_acts_in_training_alone_and_skipped_always():
    model = gpt()
    full, other = run(copy.deepcopy(model), tokens())[0], run(without(model, {2}), tokens())[0]
    skipping = attach(model)
    skipping.set_dropped({2})
    assert torch.equal(run(model.train(), tokens())[0], other)
    assert torch.equal(run(model.eval(), tokens())[0], full)
    skipping.set_dropped(())
    skipping.set_skipped([2])
    assert torch.equal(run(model.train(), tokens())[0], other)
    assert torch.equal(run(model.eval(), tokens())[0], other)


def test_skipped_and_dropped_add_up():
    model = gpt()
    expected = run(without(model, {0, 1}), tokens())[0]
    attach(model).set_dropped({0})
    skip_layers(model, {1})
    assert torch.equal(run(model.train(), tokens())[0], expected)


def test_skip_layers_acts_at_once_and_until_told_otherwise():
    model = gpt()
    full, other = run(copy.deepcopy(model), tokens())[0], run(without(model, {1}), tokens())[0]
    skip_layers(model, {1})
    assert torch.equal(run(model, tokens())[0], other)
    skip_layers(model, ())
    assert torch.equal(run(model, tokens())[0], full)


def test_with_restores_what_was_skipped_before_nested_and_after_an_exception():
    model = gpt()
    skipping = attach(model)
    with skip_layers(model, {3}) as skipped:
        assert skipped.layers == (3,) and skipping.skipped == {3}
        with pytest.raises(KeyError), skip_layers(model, {0, 1}):
            assert skipping.skipped == {0, 1}
            raise KeyError
        assert skipping.skipped == {3}
    assert skipping.skipped == frozenset()


def test_full_depth_runs_all_and_restores_after_an_exception():
    model = gpt()
    full = run(copy.deepcopy(model), tokens())[0]
    skipping = attach(model)
    skipping.set_dropped({0})
    skipping.set_skipped({1})
    with pytest.raises(KeyError), skipping.full_depth():
        assert torch.equal(run(model, tokens())[0], full)
        raise KeyError
    assert (skipping.dropped, skipping.skipped) == ({0}, {1})


def test_calls_count_blocks_that_ran_in_training():
    model = gpt()
    skipping = attach(model)
    skipping.set_dropped({1})
    model.train()(tokens())
    model.train()(tokens())
    model.eval()(tokens())
    assert skipping.calls == [2, 0, 2, 2]
    skipping.reset_calls()
    assert skipping.calls == [0, 0, 0, 0]


def test_recorded_outputs_replayed_give_the_same_and_run_nothing():
    model, seen = gpt().eval(), []
    skipping = attach(model)
    skipping.recorded = outputs = {}
    expected = model(tokens())
    skipping.recorded = None
    assert sorted(outputs) == [0, 1, 2, 3]
    for layer, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, layer=layer: seen.append(layer))
    skipping.replay = {layer: outputs[layer] for layer in (0, 1, 2)}
    assert torch.equal(model(tokens()), expected)
    assert seen == [3]


def test_a_skipped_blocks_output_is_recorded_too():
    model = gpt().eval()
    skip_layers(model, {1})
    skipping = attach(model)
    skipping.recorded = outputs = {}
    model(tokens())
    assert outputs[1] is outputs[0]


# ---- what is left behind


def test_state_dict_parameters_and_names_do_not_change():
    model = gpt()
    keys, parameters, text = list(model.state_dict()), dict(model.named_parameters()), repr(model)
    skip_layers(model, {1})
    assert list(model.state_dict()) == keys
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert repr(model) == text
    model.load_state_dict(gpt(seed=1).state_dict())
    block, plain = model.blocks[1], type(gpt().blocks[0])
    assert isinstance(block, plain)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(type(block), name) == getattr(plain, name)


def copies(model: nn.Module) -> dict[str, nn.Module]:
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    return {
        "deepcopy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
        "pickle 0": pickle.loads(pickle.dumps(model, protocol=0)),
        "torch.save": torch.load(saved, weights_only=False),
    }


@pytest.mark.parametrize("make", [stack, gpt])
def test_copies_and_pickles_are_plain(make):
    model = make()
    plain = type(model.blocks[0])
    full = run(copy.deepcopy(model), inputs() if make is stack else tokens())
    skip_layers(model, {1})
    for name, other in copies(model).items():
        assert all(type(block) is plain for block in other.blocks), name
        output, _ = run(other, inputs() if make is stack else tokens())
        assert torch.equal(output, full[0]), f"{name} skips"
    assert b"sbld_" not in pickle.dumps(stack())
    skipped = stack()
    skip_layers(skipped, {1})
    assert b"_sbld" not in pickle.dumps(skipped), "a pickle needs this library to be read"


def test_a_copy_can_be_attached_by_itself():
    model = gpt()
    skip_layers(model, {1})
    other = copy.deepcopy(model)
    assert attach(other) is not attach(model)
    skip_layers(other, {2})
    assert attach(model).skipped == {1} and attach(other).skipped == {2}
    assert copy.copy(model.blocks[1])(torch.zeros(1, 2, 16)).shape == (1, 2, 16)


def test_a_class_with_a_pickled_state_of_its_own():
    model = Stack(Stateful(), Stateful())
    attach(model)
    assert copy.deepcopy(model).blocks[0].note == "left out"


class Stateful(Block):
    note = "left out"

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "note"}


def test_detach_gives_each_block_its_class_back():
    model = gpt()
    plain = type(model.blocks[0])
    skip_layers(model, {0, 1, 2, 3})
    detach(model)
    assert all(type(block) is plain for block in model.blocks)
    assert not any("sbld" in key for block in model.blocks for key in block.__dict__)
    assert torch.equal(run(model, tokens())[0], run(gpt(), tokens())[0])
    detach(model)
    assert attach(model).skipped == frozenset()


def test_a_model_is_freed_with_its_last_reference():
    model = gpt()
    skip_layers(model, {1})
    run(model, tokens())
    references = [weakref.ref(model), weakref.ref(model.blocks[1])]
    gc.disable()  # by reference counts alone: a GPU's memory cannot wait for a collection
    try:
        del model
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_blocks_outlive_their_model_as_plain_ones():
    model = gpt()
    skip_layers(model, {0})
    blocks = model.blocks
    del model
    gc.collect()
    x_BTD = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(blocks[0](x_BTD), gpt().blocks[0](x_BTD))
    skip_layers(blocks, {0})
    assert blocks[0](x_BTD) is x_BTD
    detach(blocks)
    assert all(type(block) is type(gpt().blocks[0]) for block in blocks)


def test_a_new_block_of_an_attached_ones_class_is_plain():
    model = stack()
    skip_layers(model, {0})
    other = type(model.blocks[0])()
    assert not torch.equal(other(inputs()), inputs())


# ---- attaching


def test_attach_twice_is_attach_once():
    model = gpt()
    assert attach(model) is attach(model)
    assert attach(model, within="blocks") is attach(model)
    assert isinstance(attach(model), Skipping) and attach(model).num_layers == 4
    assert [block.name for block in attach(model).blocks] == [f"blocks.{i}" for i in range(4)]
    assert attach(model).blocks == find_blocks(model)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = stack(2), stack(3, seed=1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.decoder(self.encoder(x_BTD))


def test_within_skips_in_that_part_alone():
    model, oracle = Pair(), Pair()
    skip_layers(model, {0}, within="decoder")
    oracle.decoder.blocks[0].forward = identity()
    assert_same_run(model, oracle, inputs())
    assert attach(model).num_layers == 3
    with pytest.raises(ValueError, match=r"within='encoder'.*detach it first"):
        attach(model, within="encoder")
    detach(model)
    assert attach(model, within="encoder").num_layers == 2


def test_one_block_has_one_owner_and_a_refusal_changes_nothing():
    model = Pair()
    skip_layers(model.decoder, {0})
    with pytest.raises(ValueError, match=r"decoder\.blocks\.0 already belongs to another attached"):
        attach(model)
    assert all(type(block) is Block for block in model.encoder.blocks)
    assert attach(model.decoder).skipped == {0}
    detach(model.decoder)
    assert attach(model).num_layers == 5


def test_a_wrapper_of_an_attached_model_is_told_to_use_that():
    model = gpt()
    attach(model)
    with pytest.raises(ValueError, match="such as the one inside this wrapper"):
        attach(nn.ModuleDict({"module": model}))


@pytest.mark.parametrize(
    "layers, problem",
    [
        ([4], "layers_to_skip: layer 4 is outside 0..3"),
        ([1, 1], "layers_to_skip: layer 1 is named twice"),
        ([-1], "layers_to_skip=-1 must be at least 0"),
        ([1.0], "layers_to_skip=1.0 must be a whole number"),
        ([True], "layers_to_skip=True must be a whole number"),
        (["1"], "layers_to_skip='1' must be a whole number"),
    ],
)
def test_layers_that_are_none_are_refused_and_nothing_changes(layers, problem):
    model = gpt()
    skip_layers(model, {2})
    with pytest.raises(ValueError, match=problem):
        skip_layers(model, layers)
    assert attach(model).skipped == {2}
    with pytest.raises(ValueError, match="dropped layers"):
        attach(model).set_dropped(layers)


def test_layers_may_be_numpys_or_a_generator():
    torch_layers = torch.tensor([0, 2])
    model = gpt()
    skip_layers(model, torch_layers.numpy())
    assert attach(model).skipped == {0, 2}
    skip_layers(model, (layer for layer in torch_layers))
    assert attach(model).skipped == {0, 2}


def test_a_model_without_blocks_is_refused():
    with pytest.raises(NoBlocksError):
        skip_layers(nn.Linear(2, 2), {0})


# ---- under torch.compile


@pytest.fixture
def dynamo(recwarn):
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


# Dynamo looks at the gradient of every input it meets.
compiling = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


def masks() -> list[set[int]]:
    """All sixteen sets of four layers."""
    return [{layer for layer in range(4) if number >> layer & 1} for number in range(16)]


@compiling
@pytest.mark.parametrize("whole", [False, True])
def test_few_graphs_serve_every_mask(dynamo, whole):
    model = gpt()
    plain = copy.deepcopy(model)
    skipping = attach(model)
    compiled = torch.compile(model, backend="eager") if whole else model
    if not whole:
        for block in model.blocks:
            block.compile(backend="eager")
    for layers in masks():
        skipping.set_dropped(layers)
        (output, grads), (expected, _) = (
            run(compiled, tokens()),
            run(without(plain, layers), tokens()),
        )
        torch.testing.assert_close(output, expected)
        for name, grad in grads.items():
            is_off = any(f"blocks.{layer}." in name for layer in layers)
            assert (grad is None) == is_off, name
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 1 if not whole else graphs <= 3
    assert not any("recompile_limit" in str(reason) for reason in counters["unimplemented"])


@compiling
def test_the_bookkeeping_is_not_compiled(dynamo):
    """Its sets and counts change at every step: Dynamo would watch them, recompile and give up."""
    model = gpt()
    skipping = attach(model)
    compiled = torch.compile(model, backend="eager")
    for layers in masks():
        skipping.set_dropped(layers)
        compiled(tokens())
        if layers == masks()[4]:
            graphs = counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs
