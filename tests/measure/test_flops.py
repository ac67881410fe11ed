from __future__ import annotations

import threading

import pytest
import torch
from small import D, EncoderLM, Source, T, V, gpt, random_batches, same_weights, weights
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.measure import FlopCount, count_flops, first_tensor, peak_memory_bytes
from sbldlib.models.gpt import flops_per_token

ROWS = 3


@pytest.fixture
def batch():
    return random_batches(1, ROWS)[0]


def counted_by_torch(model: nn.Module, batch) -> int:
    """All operations of one whole step on all rows, by torch's own counter."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        next_token_loss(model, batch).backward()
    return counter.get_total_flops()


def test_a_gpt_block_costs_what_its_matrices_say(batch):
    # Multiply-adds a token: queries, keys, values 3 D D; output D D; MLP 8 D D; scores and their
    # sum over values 2 T D. Two operations each; backward costs twice the forward.
    block = 6 * ROWS * T * (12 * D * D + 2 * T * D)
    head = 6 * ROWS * T * D * V
    counted = count_flops(gpt(), batch)
    assert counted == FlopCount(blocks=(block,) * 4, outside=head)
    assert counted.full == flops_per_token(gpt().config) * ROWS * T


@pytest.mark.parametrize("make_model", [gpt, EncoderLM])
@pytest.mark.parametrize("skipped", [set(), {0}, {2}, {1, 3}, {0, 1, 2, 3}])
def test_a_step_without_some_layers_costs_what_torch_counts(make_model, skipped, batch):
    model = make_model()
    counted = count_flops(model, batch)
    if len(skipped) == 4:  # what a block returns is learnt from one that runs
        next_token_loss(model, batch)
    with skip_layers(model, skipped):
        assert counted.of(set(range(4)) - skipped) == counted_by_torch(model, batch)


def test_the_forward_part_of_a_block_is_counted_by_itself(batch):
    forward = 2 * ROWS * T * (12 * D * D + 2 * T * D)
    counted = count_flops(gpt(), batch)
    assert counted.blocks_forward == (forward,) * 4
    model = gpt()
    model.activation_recomputation = True
    again = count_flops(model, batch)
    assert again.blocks_forward == counted.blocks_forward, "what runs again is backward"
    assert count_flops(RecomputingLM(), batch).blocks_forward == pytest.approx(
        count_flops(EncoderLM(), batch).blocks_forward
    )
    half = gpt()
    for part in (half.token_embedding, half.position_embedding, *half.blocks[:2]):
        part.requires_grad_(False)
    frozen = count_flops(half, batch)
    assert frozen.blocks_forward == counted.blocks_forward
    assert frozen.blocks[:2] == frozen.blocks_forward[:2]


def test_operations_of_shares():
    counted = FlopCount(blocks=(10.0, 20.0, 30.0), outside=40.0, blocks_forward=(4.0, 5.0, 6.0))
    assert counted.of((0, 2), forward_share=(1, 0, 1)) == counted.of((0, 2)) == 80
    assert counted.of((), forward_share=(0.5, 0, 1)) == 40 + 5 + 30
    assert counted.of((0, 1, 2), backward_share=(0, 0.5, 1)) == 40 + 4 + (5 + 7.5) + 30
    assert counted.of((1, 2), backward_share=(0, 0, 1)) == 40 + 5 + 30
    both = counted.of((), forward_share=(0.5, 1, 0), backward_share=(0.25, 0, 0))
    assert both == 40 + 0.5 * 4 + 0.25 * 6 + 5
    assert FlopCount.from_json(counted.to_json()) == counted
    assert FlopCount(blocks=(3.0,), outside=1.0).blocks_forward == (1.0,)
    with pytest.raises(ValueError, match="blocks_forward is for 1 layers, blocks for 2"):
        FlopCount(blocks=(1.0, 2.0), outside=0.0, blocks_forward=(1.0,))
    with pytest.raises(ValueError):
        counted.of((), forward_share=(1.0, 1.0))


def test_a_draw_does_not_lower_the_count(batch):
    model = gpt()
    skipping = attach(model)
    skipping.set_rows({0: (1,)})
    skipping.set_forward_only({1}, gradient="none")
    skipping.set_residual_scale({2: 2.0})
    assert count_flops(model, batch) == count_flops(gpt(), batch)
    assert skipping.forward_only == {1} and skipping.rows == {0: (1,)}


def test_the_parts_of_a_count():
    counted = FlopCount(blocks=(10.0, 20.0, 30.0), outside=40.0)
    assert counted.full == 100 and counted.outside_share == 0.4
    assert counted.of([]) == 40 and counted.of([0, 2]) == 80 and counted.of(range(3)) == 100
    assert counted.ceiling(0.25) == pytest.approx(0.15) and counted.ceiling(0) == 0
    assert FlopCount.from_json(counted.to_json()) == counted
    assert FlopCount(blocks=(), outside=0.0).outside_share == 1.0


def test_nothing_is_left_behind(batch):
    model = gpt(dropout=0.5).train()
    model.blocks[1].eval()
    next_token_loss(model, batch).backward()
    skipping = attach(model)
    skip_layers(model, {0})
    skipping.set_dropped({2})
    modes = [module.training for module in model.modules()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    before, state = weights(model), torch.get_rng_state()
    counted = count_flops(model, batch)
    assert counted == count_flops(gpt(), batch), "layers skipped before must not lower the count"
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(model, before)
    assert all(p.grad is None for p in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert (skipping.skipped, skipping.dropped) == ({0}, {2})
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_go_where_the_loss_raises(batch):
    model = gpt()

    def loss(model, batch):
        model(batch[0])
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        count_flops(model, batch, loss=loss)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_recomputed_activations_are_counted_in_their_block(batch):
    model = gpt()
    plain = count_flops(model, batch)
    model.activation_recomputation = True
    again = count_flops(model, batch)
    assert again.outside == plain.outside
    assert sum(again.blocks) + again.outside == counted_by_torch(model, batch)
    for block, before in zip(again.blocks, plain.blocks, strict=True):
        # a third more, but for the last matrix, whose output the backward does not need
        assert block == pytest.approx(before * 4 / 3 - 2 * ROWS * T * 4 * D * D)


class RecomputingLM(EncoderLM):
    """Runs each block again in the backward pass, the older way: nested in it, and whole."""

    def forward(self, tokens_BT):
        x_BTD = self.embedding(tokens_BT)
        for block in self.encoder.layers:
            x_BTD = checkpoint(block, x_BTD, self.mask_TT, use_reentrant=True)
        return self.head(x_BTD)


def test_reentrant_recomputation_is_counted_in_its_block(batch):
    plain, again = count_flops(EncoderLM(), batch), count_flops(RecomputingLM(), batch)
    assert again.outside == plain.outside
    assert again.blocks == pytest.approx([block * 4 / 3 for block in plain.blocks])


class KeywordLM(EncoderLM):
    """Hands its blocks their input by name."""

    def forward(self, tokens_BT):
        x_BTD = self.embedding(tokens_BT)
        for block in self.encoder.layers:
            x_BTD = block(src=x_BTD, src_mask=self.mask_TT)
        return self.head(x_BTD)


def test_blocks_called_by_keyword_are_told_apart(batch):
    assert count_flops(KeywordLM(), batch) == count_flops(EncoderLM(), batch)


def test_a_loss_may_call_a_part_of_the_model(batch):
    def loss(model, batch):
        encoded = model.encoder(model.embedding(batch[0]), mask=model.mask_TT)
        return model.head(encoded).logsumexp(-1).mean()

    assert count_flops(EncoderLM(), batch, loss=loss) == count_flops(EncoderLM(), batch)


def test_frozen_layers_have_no_backward(batch):
    model = gpt()
    whole = count_flops(model, batch)
    for part in (model.token_embedding, model.position_embedding, *model.blocks[:2]):
        part.requires_grad_(False)
    counted = count_flops(model, batch)
    assert counted.blocks[:2] == tuple(block / 3 for block in whole.blocks[:2])
    assert counted.blocks[2:] == whole.blocks[2:]


class Convolutions(nn.Module):
    """No residual blocks, and a norm that one row must neither move nor break."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, V))

    def forward(self, x_BD):
        return self.layers(x_BD)


def test_a_model_without_blocks_is_counted_as_outside():
    model = Convolutions()
    before = weights(model)
    batch = (torch.randn(5, 6), torch.zeros(5, dtype=torch.long))
    counted = count_flops(model, batch)
    # the first layer's input takes no gradient
    assert counted == FlopCount(blocks=(), outside=5 * (4 * 6 * 8 + 6 * 8 * V))
    assert counted.outside_share == 1 and counted.ceiling(0.5) == 0
    assert same_weights(model, before), "running statistics moved"


def test_a_batch_may_hold_dicts_scalars_and_none(batch):
    def loss(model, batch):
        assert batch["temperature"].ndim == 0 and batch["mask"] is None and batch["exact"] is True
        return next_token_loss(model, batch["pair"]) / batch["temperature"]

    tokens_BT, targets_BT = batch
    packed = {
        "exact": True,
        "mask": None,
        "temperature": torch.tensor(2.0),
        "pair": [tokens_BT, targets_BT],
    }
    assert count_flops(gpt(), packed, loss=loss) == count_flops(gpt(), batch)
    assert first_tensor(packed) is tokens_BT
    with pytest.raises(ValueError, match="batch of type dict holds no tensor with rows"):
        count_flops(gpt(), {"a": torch.tensor(1.0)}, loss=loss)


def test_memory_of_a_cpu_is_not_known():
    assert peak_memory_bytes(torch.device("cpu")) is None


def test_counting_in_several_threads_leaves_the_process_as_it_was():
    """Stance and attention kernel are set for the whole process while a thread counts."""
    before = torch._dynamo.eval_frame._stance, torch.backends.cuda.flash_sdp_enabled()
    models = [gpt(2) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda m=m: [count_flops(m, Source().batch(0)) for _ in range(4)])
        for m in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (torch._dynamo.eval_frame._stance, torch.backends.cuda.flash_sdp_enabled()) == before
