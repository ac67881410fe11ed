"""Blocks that run in part: rows of the batch, forward alone, a scaled residual."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from dropping.toys import Block, D, Handing, Stack, Widening, inputs, stack
from small import EncoderLM, Source, gpt
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.dropping.skipping import attach, detach, skip_layers
from sbldlib.losses import next_token_loss

NUM_ROWS = 4
ROWS = {0: (1, 3), 2: (0, 1, 2), 3: ()}  # layer 1 is not named: it runs whole


def tokens(step: int = 0) -> Tensor:
    return Source(rows=NUM_ROWS).batch(step)[0]


def run(model: nn.Module, *args: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The output and every parameter's gradient, None where it has none."""
    model.zero_grad(set_to_none=True)
    output = model(*args)
    output.float().square().sum().backward()
    return output.detach(), {name: p.grad for name, p in model.named_parameters()}


def run_row_by_row(model: nn.Module, given: Tensor, rows) -> tuple[Tensor, dict]:
    """The oracle: each row by itself, without the layers that it does not run."""
    outputs, total = [], {}
    for row in range(len(given)):
        with skip_layers(model, [layer for layer, some in rows.items() if row not in some]):
            output, grads = run(model, given[row : row + 1])
        outputs.append(output)
        for name, grad in grads.items():
            if grad is not None:
                total[name] = total.get(name, 0) + grad
    return torch.cat(outputs), total


def assert_close(found: tuple[Tensor, dict], expected: tuple[Tensor, dict], **tolerance) -> None:
    torch.testing.assert_close(found[0], expected[0], **tolerance)
    ran = {name for name, grad in found[1].items() if grad is not None}
    assert ran == {name for name, grad in expected[1].items() if grad is not None}
    for name in ran:
        torch.testing.assert_close(found[1][name], expected[1][name], **tolerance)


def assert_equal(found: tuple[Tensor, dict], expected: tuple[Tensor, dict]) -> None:
    assert_close(found, expected, rtol=0, atol=0)


# ---- rows


@pytest.mark.parametrize("make", [gpt, EncoderLM])
@pytest.mark.parametrize(
    "rows", [ROWS, {1: (0,)}, {0: (), 1: (), 2: (), 3: ()}, {layer: (layer,) for layer in range(4)}]
)
def test_each_row_runs_its_own_layers(make, rows):
    model = make()
    expected = run_row_by_row(copy.deepcopy(model), tokens(), rows)
    attach(model).set_rows(rows)
    assert_close(run(model, tokens()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by_keyword", [True, False])
@pytest.mark.parametrize("extra", [None, (None,)])
def test_rows_in_every_form_of_call(by_keyword, extra):
    model = stack(extra=extra, by_keyword=by_keyword)
    given = inputs(rows=NUM_ROWS)
    expected = run_row_by_row(copy.deepcopy(model), given, ROWS)
    attach(model).set_rows(ROWS)
    assert_close(run(model, given), expected)


def test_only_the_rows_that_run_are_computed():
    model = gpt()

    def flops(rows) -> int:
        attach(model).set_rows(rows)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(tokens()).sum().backward()
        return counter.get_total_flops()

    full, without = flops({}), flops({1: ()})
    block = full - without
    assert block > 0
    for num in range(1, NUM_ROWS + 1):
        assert flops({1: range(num)}) == without + block * num // NUM_ROWS


def test_all_rows_are_a_plain_call_and_no_rows_a_skipped_one():
    model, plain = gpt(dropout=0.3), gpt(dropout=0.3)
    attach(model).set_rows({0: range(NUM_ROWS), 2: ()})
    attach(plain).set_dropped({2})
    found, expected = [], []
    for each, results in ((model, found), (plain, expected)):
        torch.manual_seed(3)
        results.extend(run(each, tokens()))
    assert_equal(tuple(found), tuple(expected))
    assert attach(model).calls == attach(plain).calls == [1, 1, 0, 1]
    assert attach(model).shares() == ((), ())


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_recomputation_takes_the_same_rows(use_reentrant):
    plain = stack()
    model = stack(recompute=use_reentrant)
    given = inputs(rows=NUM_ROWS)
    for each in (plain, model):
        attach(each).set_rows(ROWS)
        attach(each).set_residual_scale({0: 2.0, 1: 1.5})
    assert_equal(run(model, given), run(plain, given))
    assert attach(model).shares() == attach(plain).shares() == ((0.5, 1.0, 0.75, 0.0), ())


def test_recomputation_of_ours_takes_the_same_rows():
    model, plain = gpt(), gpt()
    model.activation_recomputation = True
    for each in (plain, model):
        attach(each).set_rows(ROWS)
    assert_equal(run(model, tokens()), run(plain, tokens()))


def test_autocast_keeps_the_type_of_the_stream():
    model = gpt()
    rows = {layer: (0, 2) for layer in range(4)}
    expected = run_row_by_row(copy.deepcopy(model), tokens(), rows)
    attach(model).set_rows(rows)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, grads = run(model, tokens())
    torch.testing.assert_close(output.float(), expected[0], rtol=0.1, atol=0.1)
    assert all(grad.dtype == torch.float32 for grad in grads.values())
    assert seen == [torch.float32] * 4


def test_a_stream_of_two_types_keeps_the_wider():
    class Narrow(Block):
        def forward(self, x_BTD: Tensor) -> Tensor:
            return super().forward(x_BTD).bfloat16()

    model = nn.ModuleDict({"blocks": nn.ModuleList([Narrow(), Narrow()])})
    attach(model).set_rows({0: (1,)})
    given = inputs()
    output = model["blocks"][0](given)
    assert output.dtype == torch.float32 and torch.equal(output[0], given[0])


class Masked(Block):
    """Takes what transformers' blocks take: a mask by row, one for all, and positions in tuples."""

    def forward(self, x_BTD, by_row=None, for_all=None, positions=None, flag=True):
        y_BTD = super().forward(x_BTD)
        for value in (by_row, for_all, *(positions or ())):
            if value is not None:
                y_BTD = y_BTD + value
        return y_BTD


def test_arguments_that_go_by_row_are_gathered_and_others_are_not():
    model = nn.ModuleDict({"blocks": nn.ModuleList([Masked(), Masked()])})
    block, given = model["blocks"][0], inputs(rows=NUM_ROWS)
    by_row = torch.arange(4.0).reshape(4, 1, 1)
    for_all, cos, sin = torch.full((1, 3, D), 5.0), torch.ones(3, D), 2 * torch.ones(4, 3, 1)
    arguments = {"for_all": for_all, "positions": (cos, sin), "flag": False}
    full = block(given, by_row, **arguments)
    attach(model).set_rows({0: (1, 3)})
    found = block(given, by_row, **arguments)
    torch.testing.assert_close(found[[1, 3]], full[[1, 3]])
    assert torch.equal(found[[0, 2]], given[[0, 2]])


@pytest.mark.parametrize(
    "value, problem",
    [
        (torch.zeros(3), r"argument 1 of layer 0 \(blocks.0\) has shape \(3,\), and 3 is both"),
        (torch.zeros(3, 3), r"has shape \(3, 3\), and 3 is both the number of rows and another"),
        ((torch.zeros(3, 5),), r"has shape \(3, 5\)"),
    ],
)
def test_what_may_or_may_not_go_by_row_is_refused(value, problem):
    model = nn.ModuleDict({"blocks": nn.ModuleList([Masked(), Masked()])})
    attach(model).set_rows({0: (1,)})
    with pytest.raises(ValueError, match=problem):
        model["blocks"][0](inputs(rows=3), value)  # three tokens, three rows


def test_a_bias_by_head_is_refused_where_it_may_be_a_mask_by_row():
    block = Masked()
    block.num_heads = 4
    model = nn.ModuleDict({"blocks": nn.ModuleList([block, Masked()])})
    attach(model).set_rows({0: (1,), 1: (1,)})
    given, bias = inputs(rows=4, tokens=8), torch.zeros(4, 8, 8)
    with pytest.raises(ValueError, match="4 is both the number of rows and another size"):
        block(given, bias)
    assert torch.equal(model["blocks"][1](given, bias)[0], given[0])  # no heads: a mask by row


class Cache:
    """Looks like transformers' caches."""

    def get_seq_length(self) -> int:
        return 0


@pytest.mark.parametrize("value", [Cache(), object()])
def test_a_cache_is_refused(value):
    model = nn.ModuleDict({"blocks": nn.ModuleList([Masked(), Masked()])})
    attach(model).set_rows({1: (1,)})
    with pytest.raises(ValueError, match=r"argument 'by_row' of layer 1 .* use_cache=False"):
        model["blocks"][1](inputs(), by_row=value)


def test_blocks_that_return_more_than_rows_can_be_put_together_from_are_refused():
    model = stack(extra=(torch.zeros(2, 3),))
    attach(model).set_rows({1: (0,)})
    with pytest.raises(ValueError, match=r"layer 1 \(blocks.1\) returns more than its activation"):
        model(inputs())


def test_batches_that_do_not_come_first_are_refused():
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=False)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    attach(model).set_rows({0: (1,)})
    with pytest.raises(ValueError, match=r"layer 0 \(layers.0\) has batch_first=False"):
        model(inputs())


def test_another_batch_than_was_drawn_for_is_refused():
    model = gpt()
    skipping = attach(model)
    skipping.set_rows({1: (0, 3)}, num_rows=4)
    model(tokens())
    for rows in (3, 5):
        with pytest.raises(ValueError, match=f"batch of 4, .* input of layer 1 .* is {rows}"):
            model(Source(rows=rows).batch(0)[0])
    skipping.set_rows({1: (0, 3)})
    model(Source(rows=5).batch(0)[0])
    with pytest.raises(ValueError, match=r"drawn for a batch of 4, .* is 3"):
        model(Source(rows=3).batch(0)[0])


@pytest.mark.parametrize(
    "rows, problem",
    [
        ({4: (0,)}, "rows: layer 4 is outside 0..3"),
        ({0: (1, 0)}, r"rows\[0\]=\(1, 0\) must be rows of 4, in order and each once"),
        ({0: (1, 1)}, "in order and each once"),
        ({0: (-1,)}, "in order"),
        ({0: (4,)}, r"rows\[0\]=\(4,\) must be rows of 4"),
        ({0: (0.0,)}, "in order"),
    ],
)
def test_rows_that_are_none_are_refused(rows, problem):
    with pytest.raises(ValueError, match=problem):
        attach(gpt()).set_rows(rows, num_rows=4)


def test_rows_are_for_training_alone():
    model = gpt()
    expected = model.eval()(tokens())
    attach(model).set_rows({0: (), 1: (0,)})
    assert torch.equal(model.eval()(tokens()), expected)
    assert not torch.equal(model.train()(tokens()), expected)


# ---- forward alone


def without_backward(model: nn.Module, layers, gradient: str) -> nn.Module:
    """The oracle: blocks whose forward is written by hand as y = x + stop(f(x) - x), or stop(y)."""
    other = copy.deepcopy(model)
    for layer in layers:
        block = other.blocks[layer]

        def forward(x, *args, plain=block.forward):
            y = plain(x.detach(), *args).detach()
            return y if gradient == "none" else x + (y - x).detach()

        block.forward = forward
    return other


@pytest.mark.parametrize("gradient", ["identity", "none"])
@pytest.mark.parametrize("layers", [{0}, {2}, {0, 1}, {1, 3}, {0, 1, 2, 3}])
def test_a_block_without_a_backward(layers, gradient):
    model = gpt(dropout=0.2)
    oracle = without_backward(model, layers, gradient)
    attach(model).set_forward_only(layers, gradient=gradient)
    results = []
    for each in (model, oracle):
        torch.manual_seed(0)
        results.append(run(each, tokens()))
    assert_close(*results, rtol=1e-4, atol=1e-3)
    lowest = max(layers) if gradient == "none" else -1
    for name, grad in results[0][1].items():
        if name.startswith("blocks."):
            layer = int(name.split(".")[1])
            assert (grad is None) == (layer in layers or layer < lowest), name
    torch.manual_seed(0)
    forward = model(tokens())
    attach(model).clear_draw()
    torch.manual_seed(0)
    assert torch.equal(forward, model(tokens())), "forward alone is not the forward"


@pytest.mark.parametrize(
    "gradient, use_reentrant",
    [("identity", True), ("identity", False), ("identity", None), ("none", False), ("none", None)],
)
def test_forward_alone_with_recomputation_and_autocast(gradient, use_reentrant):
    model = stack(recompute=use_reentrant)
    oracle = without_backward(stack(), {0, 2}, gradient)
    attach(model).set_forward_only({0, 2}, gradient=gradient)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert_close(run(model, inputs()), run(oracle, inputs()))


def test_reentrant_recomputation_refuses_an_output_without_a_gradient():
    model = stack(recompute=True)
    attach(model).set_forward_only({0}, gradient="none")
    with pytest.raises(RuntimeError, match="none of output has requires_grad=True"):
        run(model, inputs())


def test_what_forward_alone_returns_may_be_changed_in_place():
    class Adding(Stack):
        def forward(self, x_BTD: Tensor) -> Tensor:
            x_BTD = self.embedding(x_BTD)
            for block in self.blocks:
                x_BTD = block(x_BTD)
                x_BTD += 1
            return self.head(x_BTD)

    model = Adding(Block(), Block(extra=None))
    attach(model).set_forward_only({0, 1})
    _, grads = run(model, inputs())
    assert grads["embedding.weight"] is not None


def test_an_unknown_gradient_names_the_nearest():
    with pytest.raises(ValueError, match=r"gradient='identiy' .*'identity'"):
        attach(gpt()).set_forward_only({0}, gradient="identiy")


# ---- a scaled residual


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("extra", [None, (None,)])
def test_the_residual_is_scaled_once_for_the_whole_block(factor, extra):
    model, given = stack(extra=extra), inputs()
    blocks, skipping = model.blocks, attach(model)
    output = blocks[1](given) if extra is None else blocks[1](given)[0]
    expected = given + factor * (output - given)
    for set_scale, training in (
        (skipping.set_residual_scale, True),
        (skipping.set_evaluation_scale, False),
    ):
        set_scale({1: factor})
        for mode in (True, False):
            found = blocks.train(mode)[1](given)
            found = found if extra is None else found[0]
            torch.testing.assert_close(found, expected if mode == training else output)
        set_scale({})
    assert torch.equal(blocks[0](given)[0], stack(extra=extra).blocks[0](given)[0])


def test_the_evaluation_scale_stays_until_it_is_set_anew():
    model = gpt()
    skipping = attach(model)
    plain = model.eval()(tokens())
    skipping.set_evaluation_scale({0: 0.5, 2: 0.1})
    scaled = model(tokens())
    assert not torch.allclose(scaled, plain)
    skipping.clear_draw()
    with skip_layers(model, ()), skipping.full_depth():
        assert torch.equal(model(tokens()), scaled)
    assert torch.equal(model(tokens()), scaled)
    assert skipping.evaluation_scale == {0: 0.5, 2: 0.1}
    with skip_layers(model, {0, 2}):
        without = model(tokens())
    skipping.set_evaluation_scale({})
    with skip_layers(model, {0, 2}):
        assert torch.equal(model(tokens()), without)
    assert torch.equal(model(tokens()), plain)


def test_what_is_called_in_place_of_a_block_gets_the_scaled_one():
    model = gpt().eval()
    skipping = attach(model)
    skipping.set_evaluation_scale({0: 0.5, 2: 0.1})
    expected, seen = model(tokens()), []

    def instead(layer, run, args, kwargs):
        seen.append(layer)
        return run(*args, **kwargs)

    skipping.instead = instead
    assert torch.equal(model(tokens()), expected) and seen == [0, 1, 2, 3]


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), "much"])
def test_a_scale_out_of_range_is_named(factor):
    skipping = attach(gpt())
    for set_scale in (skipping.set_residual_scale, skipping.set_evaluation_scale):
        with pytest.raises(ValueError, match=r"scale\[1\]="):
            set_scale({1: factor})
    assert skipping.evaluation_scale == {}


def exact_mean(model: nn.Module, given: Tensor, keep: dict[int, float]) -> Tensor:
    """E[training output] over all draws of these layers, each weighed by its probability."""
    total = torch.zeros(())
    for outcome in itertools.product((True, False), repeat=len(keep)):
        weight = 1.0
        for (_, k), runs in zip(keep.items(), outcome, strict=True):
            weight *= k if runs else 1 - k
        dropped = [layer for layer, runs in zip(keep, outcome, strict=True) if not runs]
        attach(model).set_dropped(dropped)
        total = total + weight * model.train()(given)
    attach(model).clear_draw()
    return total


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_train_inverse_is_unbiased_for_one_block_given_its_input(keep):
    model = stack(1 + 1)
    block, given = nn.ModuleDict({"blocks": model.blocks}), inputs()
    full = block["blocks"][0](given)
    skipping = attach(block)
    mean = 0
    for runs, weight in ((True, keep), (False, 1 - keep)):
        skipping.clear_draw()
        skipping.set_dropped([] if runs else [0])
        skipping.set_residual_scale({0: 1 / keep})
        mean = mean + weight * block["blocks"][0](given)
    torch.testing.assert_close(mean, full)


def test_eval_scale_is_the_mean_training_output_of_one_block_given_its_input():
    model = stack(2)
    only = nn.ModuleDict({"blocks": model.blocks})
    first, given, keep = model.blocks[0], inputs(), 0.3
    mean = keep * first(given) + (1 - keep) * given
    attach(only).set_evaluation_scale({0: keep})
    torch.testing.assert_close(only.eval()["blocks"][0](given), mean)


def test_over_two_blocks_neither_is_exact():
    """The documentation claims it for one block alone; this is why."""
    model, given, keep = stack(2), inputs(), {0: 0.5, 1: 0.5}
    mean = exact_mean(model, given, keep)
    attach(model).set_evaluation_scale(keep)
    scaled = model.eval()(given)
    attach(model).set_evaluation_scale({})
    full = model(given)
    off = (scaled - mean).abs().max()
    assert 1e-4 < off < 0.5 * (full - mean).abs().max(), "nearer than without, and not exact"


def test_the_last_block_alone_may_vary_and_the_head_is_linear_so_the_mean_is_exact():
    model, given, keep = stack(2), inputs(), {1: 0.4}
    mean = exact_mean(model, given, keep)
    attach(model).set_evaluation_scale(keep)
    torch.testing.assert_close(model.eval()(given), mean)


# ---- what is refused for all three


@pytest.mark.parametrize("how", ["rows", "forward_only", "scale"])
def test_blocks_that_are_not_residual_are_refused(how):
    class InPlace(Block):
        def forward(self, x_BTD: Tensor) -> Tensor:
            with torch.no_grad():
                return x_BTD.add_(1)

    def part(model: nn.Module) -> None:
        skipping = attach(model)
        if how == "rows":
            skipping.set_rows({0: (1,)})
        elif how == "forward_only":
            skipping.set_forward_only({0})
        else:
            skipping.set_residual_scale({0: 2.0})

    widening, handing, in_place = (
        nn.ModuleDict({"blocks": nn.ModuleList([make(), make()])})
        for make in (Widening, Handing, InPlace)
    )
    for model in (widening, handing, in_place):
        part(model)
    with pytest.raises(ValueError, match=r"layer 0 \(blocks.0\) .* same shape"):
        widening["blocks"][0](inputs())
    problem = "more than its activation" if how == "rows" else "hands a state"
    with pytest.raises(ValueError, match=problem):
        handing["blocks"][0](inputs())
    if how == "rows":  # gathered rows are a copy
        given = inputs()
        assert torch.equal(in_place["blocks"][0](given.clone())[0], given[0])
        attach(in_place).set_residual_scale({0: 2.0})
        with pytest.raises(ValueError, match="changes its input in place"):
            in_place["blocks"][0](given)
    else:
        with pytest.raises(ValueError, match="changes its input in place"):
            in_place["blocks"][0](inputs())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused():
    layer = nn.TransformerEncoderLayer(D, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    attach(model).set_evaluation_scale({0: 0.5})
    padding_BT = torch.tensor([[False, False, False], [False, False, True]])
    with torch.no_grad(), pytest.raises(ValueError, match=r"nested tensor: .* only run whole"):
        model(inputs(), src_key_padding_mask=padding_BT)


# ---- together, counted, and left as it was


def test_rows_and_a_scale_act_together():
    model, given = stack(), inputs(rows=NUM_ROWS)
    block = model.blocks[1]
    expected = given.clone()
    expected[[0, 2]] += 2 * (block(given) - given)[[0, 2]]
    attach(model).set_rows({1: (0, 2)})
    attach(model).set_residual_scale({1: 2.0})
    torch.testing.assert_close(block(given), expected)


def test_rows_run_forward_alone_and_the_others_pass():
    model, given = stack(), inputs(rows=NUM_ROWS)
    skipping = attach(model)
    skipping.set_rows({1: (0, 2)})
    output, _ = run(model, given)
    skipping.set_forward_only({1})
    found, grads = run(model, given)
    assert torch.equal(found, output)
    assert grads["blocks.1.up.weight"] is None and grads["blocks.0.up.weight"] is not None
    skipping.reset_calls()
    model(given)
    assert skipping.shares() == ((1.0, 0.5, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0))


def test_shares_say_what_was_counted():
    model = gpt()
    skipping = attach(model)
    run(model, tokens())
    assert skipping.shares() == ((), ())
    skipping.reset_calls()
    skipping.set_rows({0: (1,), 2: ()})
    run(model, tokens()), run(model, tokens())
    assert skipping.shares() == ((0.25, 1.0, 0.0, 1.0), ())
    skipping.reset_calls()
    skipping.clear_draw()
    skipping.set_forward_only({1, 2})
    run(model, tokens())
    assert skipping.shares() == ((), (1.0, 0.0, 0.0, 1.0))
    skipping.reset_calls()
    skipping.set_forward_only({1}, gradient="none")
    skipping.set_dropped({2})
    run(model, tokens())
    assert skipping.shares() == ((), (0.0, 0.0, 0.0, 1.0)), "layer 0 is below one that is closed"
    model.eval()(tokens())
    assert skipping.calls == [1, 1, 0, 1]


# ---- windows of rows


def run_in_windows(model: nn.Module, given: Tensor, bounds: tuple[int, ...]) -> tuple[Tensor, dict]:
    """What `run` gives, of the batch a window after the other; a gradient is summed over them."""
    skipping = attach(model)
    model.zero_grad(set_to_none=True)
    outputs = []
    for start, end in itertools.pairwise(bounds):
        with skipping.window(start, end, num_rows=len(given)):
            output = model(given[start:end])
            output.float().square().sum().backward()
        outputs.append(output.detach())
    return torch.cat(outputs), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("recompute", [None, True, False])
@pytest.mark.parametrize("bounds", [(0, 2, 4), (0, 1, 4), (0, 1, 2, 3, 4), (0, 4)])
@pytest.mark.parametrize("rows", [{}, ROWS, {0: (3,), 1: (0, 1)}, {1: (), 2: (2,)}])
def test_a_batch_in_windows_runs_each_row_as_in_one_go(rows, bounds, recompute):
    model, whole = stack(recompute=recompute), stack(recompute=recompute)
    given = inputs(rows=NUM_ROWS)
    for each in (model, whole):
        attach(each).set_rows(rows, num_rows=NUM_ROWS)
    expected = run(whole, given)
    assert_close(run_in_windows(model, given, bounds), expected, rtol=1e-4, atol=1e-4)
    assert attach(model).shares() == attach(whole).shares()
    assert attach(model).rows == rows  # as before


def test_other_parts_of_a_draw_act_in_every_window():
    model, whole = gpt(), gpt()
    for each in (model, whole):
        skipping = attach(each)
        skipping.set_dropped({3})
        skipping.set_forward_only({1}, gradient="none")
        skipping.set_residual_scale({2: 1.5})
    expected = run(whole, tokens())
    assert_close(run_in_windows(model, tokens(), (0, 1, 4)), expected, rtol=1e-4, atol=1e-4)
    assert attach(model).shares() == attach(whole).shares() == ((), (0.0, 0.0, 1.0, 0.0))


def test_windows_count_by_their_rows_and_not_by_their_calls():
    skipping = attach(model := gpt())
    skipping.set_rows({0: (0,), 2: (0, 1, 2)}, num_rows=3)
    for start, end in ((0, 1), (1, 3)):
        with skipping.window(start, end, num_rows=3):
            model(Source(rows=end - start).batch(0)[0])
            model(Source(rows=end - start).batch(1)[0])
    assert skipping.calls == [2, 4, 4, 4]
    assert skipping.shares() == ((1 / 3, 1.0, 1.0, 1.0), ())
    skipping.reset_calls()
    assert skipping.shares() == ((), ())


def test_a_window_ends_with_its_with_and_is_of_the_batch_that_was_drawn_for():
    skipping = attach(model := gpt())
    skipping.set_rows({1: (0, 3)}, num_rows=4)
    with pytest.raises(KeyError), skipping.window(2, 4, num_rows=4):
        assert skipping.rows == {1: (1,)}
        raise KeyError
    assert skipping.rows == {1: (0, 3)}
    with pytest.raises(ValueError, match=r"drawn for a batch of 4, .* of the batch is 5"):
        skipping.window(0, 2, num_rows=5).__enter__()
    skipping.set_rows({1: (0, 3)})
    with pytest.raises(ValueError, match=r"drawn for a batch of 4, .* of the batch is 3"):
        skipping.window(0, 2, num_rows=3).__enter__()
    with (
        skipping.window(2, 4, num_rows=4),
        pytest.raises(ValueError, match=r"drawn for a batch of 2, .* is 4"),
    ):
        model(tokens())


def test_a_draw_is_told_whole():
    skipping = attach(model := gpt())
    empty = skipping.draw()
    skipping.set_dropped({1})
    skipping.set_rows({0: (1,), 2: ()}, num_rows=4)
    skipping.set_forward_only({3}, gradient="none")
    skipping.set_residual_scale({0: 2.0})
    with skip_layers(model, {2}):
        assert skipping.draw() == {
            "skipped": [2],
            "dropped": [1],
            "forward only": ([3], "none"),
            "rows": [(0, (1,)), (2, ())],
            "residual scale": [(0, 2.0)],
        }
    skipping.clear_draw()
    assert skipping.draw() == empty


def test_full_depth_puts_a_draw_aside_and_back():
    model = gpt()
    full = model.train()(tokens())
    skipping = attach(model)
    skipping.set_rows({0: (1,)})
    skipping.set_forward_only({1}, gradient="none")
    skipping.set_residual_scale({3: 2.0})
    drawn = run(model, tokens())
    with pytest.raises(KeyError), skipping.full_depth():
        assert torch.equal(model(tokens()), full)
        raise KeyError
    assert_equal(run(model, tokens()), drawn)
    skipping.clear_draw()
    assert torch.equal(model(tokens()), full)
    assert skipping.dropped == skipping.forward_only == frozenset()


def test_outputs_in_part_are_recorded_as_the_next_block_gets_them():
    model = gpt()
    skipping = attach(model)
    skipping.set_rows({1: (0,)})
    skipping.recorded = outputs = {}
    model(tokens())
    assert torch.equal(outputs[1][1:], outputs[0][1:]) and len(outputs[1]) == NUM_ROWS
    assert not torch.equal(outputs[1][0], outputs[0][0])


def test_copies_and_pickles_are_plain_and_detach_undoes_it():
    model = stack()
    full = model(inputs())
    skipping = attach(model)
    skipping.set_rows({0: (1,)})
    skipping.set_residual_scale({1: 2.0})
    skipping.set_evaluation_scale({1: 2.0})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(type(block) is Block for block in other.blocks)
        assert torch.equal(other(inputs()), full)
        assert torch.equal(other.eval()(inputs()), full)
    detach(model)
    assert torch.equal(model(inputs()), full)


# Dynamo looks at the gradient of every input it meets.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("whole", [False, True])
def test_few_graphs_serve_every_part(whole):
    torch._dynamo.reset()
    counters.clear()
    model, plain = gpt(), gpt()
    compiled = torch.compile(model, backend="eager") if whole else model
    skipping, oracle = attach(model), attach(plain)
    if not whole:
        for block in model.blocks:
            block.compile(backend="eager")
    for step in range(12):
        for each in (skipping, oracle):
            each.clear_draw()
            each.set_rows({step % 4: range(1 + step % 3)})
            each.set_forward_only({(step + 1) % 4})
            each.set_residual_scale({(step + 2) % 4: 1 + step})
        found, expected = run(compiled, tokens()), run(plain, tokens())
        found = found[0], {name.removeprefix("_orig_mod."): g for name, g in found[1].items()}
        assert_close(found, expected, rtol=1e-4, atol=1e-3)
    # whole and for some rows, with and without a gradient
    assert counters["stats"]["unique_graphs"] <= (6 if whole else 4)
    assert not any("recompile_limit" in str(reason) for reason in counters["unimplemented"])
    torch._dynamo.reset()


def test_a_step_in_part_trains_the_same_as_by_hand():
    """The loss, too, so that nothing but the block's own rows is touched."""
    model = gpt()
    batch = Source(rows=NUM_ROWS).batch(0)
    attach(model).set_rows({layer: (0, 1, 2, 3) for layer in range(4)})
    part = next_token_loss(model, batch)
    assert torch.equal(part, next_token_loss(gpt(), batch))
