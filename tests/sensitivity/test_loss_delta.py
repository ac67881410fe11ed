"""The loss without a layer: what the definition says, by either way of computing it."""

from __future__ import annotations

import pytest
import torch
from peers.zoo import LAYERS, PEERS, V
from scipy import stats
from small import T, gpt, random_batches
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.sensitivity import calculate_sensitivities, calculate_sensitivity
from sbldlib.sensitivity.side_by_side import CannotStackError, SideBySide

NUM_LAYERS = 4
WAYS = {"side by side": None, "two at a time": 6, "one after another": 1}


@torch.no_grad()
def naive_deltas(model: nn.Module, layer: int, batches) -> list[float]:
    """What the sensitivity is by its definition: two whole passes a batch."""
    was_training = model.training
    model.eval()
    deltas = []
    for batch in batches:
        full = float(next_token_loss(model, batch))
        with skip_layers(model, {layer}):
            deltas.append(float(next_token_loss(model, batch)) - full)
    model.train(was_training)
    return deltas


@pytest.mark.parametrize("way", WAYS)
def test_equals_the_naive_computation_and_scipys_standard_error(model, way):
    batches = random_batches(5)
    found = calculate_sensitivities(model, batches=batches, rows_at_once=WAYS[way])
    for layer in range(NUM_LAYERS):
        deltas = naive_deltas(model, layer, batches)
        assert found.samples[layer] == pytest.approx(deltas, abs=1e-6)
        assert found.standard_errors[layer] == pytest.approx(stats.sem(deltas), abs=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("name", PEERS)
def test_every_architecture_gives_what_the_definition_says(name):
    peer = PEERS[name]
    model = peer.model()
    generator = torch.Generator().manual_seed(0)
    batches = []
    for seed in (0, 1):
        inputs = peer.inputs(seed)
        shape, high = ((len(inputs),), 2) if peer.images else (inputs.shape, V)
        batches.append((inputs, torch.randint(0, high, shape, generator=generator)))
    found = calculate_sensitivities(model, batches=batches)
    for layer in range(LAYERS):
        assert found.samples[layer] == pytest.approx(naive_deltas(model, layer, batches), abs=2e-6)
        assert abs(found.values[layer]) > 1e-4


def count_block_rows(model: nn.Module) -> list[list[int]]:
    """The rows of each call of a block, as they come."""
    calls: list[int] = []
    for block in attach(model).blocks:
        block.module.register_forward_hook(
            lambda _, args, kwargs, __: calls.append(len([*args, *kwargs.values()][0])),
            with_kwargs=True,
        )
    return [calls]


@pytest.mark.parametrize("way", WAYS)
def test_all_layers_run_each_block_before_the_skipped_one_once(model, way):
    (calls,) = count_block_rows(model)
    calculate_sensitivities(model, batches=random_batches(2, rows=3), rows_at_once=WAYS[way])
    passes = 2 * (NUM_LAYERS + NUM_LAYERS * (NUM_LAYERS - 1) // 2)
    trial = {"side by side": 1, "two at a time": 1, "one after another": 0}[way]
    assert sum(calls) == 3 * (passes + trial)
    sizes = {"side by side": {3, 6, 9, 12}, "two at a time": {3, 6}, "one after another": {3}}
    assert set(calls) == sizes[way]


def test_one_layer_runs_the_blocks_after_it_a_second_time(model):
    (calls,) = count_block_rows(model)
    calculate_sensitivity(model, 1, batches=random_batches(2))
    assert sum(calls) == 3 * (2 * (NUM_LAYERS + NUM_LAYERS - 2) + 1)  # 1 is the trial


def test_a_layer_that_adds_nothing_has_sensitivity_zero_exactly():
    model = gpt()
    with torch.no_grad():
        for part in (model.blocks[2].attention.output, model.blocks[2].mlp.output):
            part.weight.zero_()
            part.bias.zero_()
    found = calculate_sensitivities(model, batches=random_batches(3))
    assert (found.values[2], found.standard_errors[2]) == (0.0, 0.0)
    assert all(found.values[layer] != 0 for layer in (0, 1, 3))


def test_a_batch_may_be_a_dict_with_a_loss_of_ones_own():
    def loss(model, batch):
        return next_token_loss(model, (batch["tokens"], batch["targets"]))

    model, pairs = gpt(), random_batches(3)
    dicts = [{"tokens": tokens, "targets": targets} for tokens, targets in pairs]
    expected = calculate_sensitivities(model, batches=pairs)
    assert calculate_sensitivities(model, batches=dicts, loss=loss) == expected


# ---- models whose blocks cannot be stacked


class Toy(nn.Module):
    """Three residual blocks over [B, T, D] in a `run` of one's own."""

    def __init__(self, block: type[nn.Module], run):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(V, 8)
            self.blocks = nn.ModuleList(block() for _ in range(3))
            self.head = nn.Linear(8, V)
        self.run = run

    def forward(self, tokens_BT):
        return self.head(self.run(self.blocks, self.embedding(tokens_BT)))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def added(self, x_BTD):
        return self.down(self.up(self.norm(x_BTD)).relu())

    def forward(self, x_BTD, *others):
        return x_BTD + self.added(x_BTD)


class MixesRows(Plain):
    def added(self, x_BTD):
        return super().added(x_BTD - x_BTD.mean(dim=0))


class MixesTokensFirst(Plain):
    """Its first dimension is time: what stands before is summed up."""

    def added(self, x_TBD):
        return super().added(x_TBD.cumsum(dim=0))


class InPlace(Plain):
    def forward(self, x_BTD):
        return x_BTD.add_(self.added(x_BTD))


class TakesAMask(Plain):
    def forward(self, x_BTD, mask_TT):
        return x_BTD + self.added(mask_TT @ x_BTD)


class TakesAnObject(Plain):
    def forward(self, x_BTD, settings):
        return x_BTD + settings["scale"] * self.added(x_BTD)


class ReturnsMore(Plain):
    def forward(self, x_BTD, *others):
        return x_BTD + self.added(x_BTD), x_BTD.mean(dim=-1)


def in_turn(blocks, x, *others):
    for block in blocks:
        x = block(x, *others)
    return x


def with_a_step_between(blocks, x):
    for block in blocks:
        x = block(x).tanh()
    return x


def with_a_step_in_place(blocks, x):
    for block in blocks:
        x = block(x).mul_(0.5)
    return x


def time_first(blocks, x):
    return in_turn(blocks, x.transpose(0, 1)).transpose(0, 1)


def backwards(blocks, x):
    return in_turn(reversed(list(blocks)), x)


def in_pairs(blocks, x):
    for block in blocks:
        x, _ = block(x)
    return x


def masked(blocks, x):
    return in_turn(blocks, x, torch.ones(x.shape[1], x.shape[1]).tril() / x.shape[1])


def with_settings(blocks, x):
    return in_turn(blocks, x, {"scale": 2.0})


NOT_STACKED = {
    "rows that mix": (MixesRows, in_turn, 3),
    "time first": (MixesTokensFirst, time_first, 3),
    "time first, as many rows as tokens": (MixesTokensFirst, time_first, T),
    "in place": (InPlace, in_turn, 3),
    "a step between": (Plain, with_a_step_between, 3),
    "a step in place": (Plain, with_a_step_in_place, 3),
    "backwards": (Plain, backwards, 3),
    "a mask that looks like rows": (TakesAMask, masked, T),
    "an argument of another kind": (TakesAnObject, with_settings, 3),
    "more than one output": (ReturnsMore, in_pairs, 3),
}


@pytest.mark.parametrize("name", NOT_STACKED)
def test_blocks_that_cannot_be_stacked_are_measured_one_after_another(name, monkeypatch):
    block, run, rows = NOT_STACKED[name]
    model, batches = Toy(block, run), random_batches(2, rows=rows)
    if name == "backwards":  # replaying what comes before needs the order: not what is asked here
        with pytest.raises(CannotStackError):
            stack(model, batches)
        return
    refusals = watch_refusals(monkeypatch)
    found = calculate_sensitivities(model, batches=batches)
    assert refusals and len(refusals) == 1, "asked once, and not again for every batch"
    assert found == calculate_sensitivities(model, batches=batches, rows_at_once=1)
    for layer, samples in enumerate(found.samples):
        assert samples == pytest.approx(naive_deltas(model, layer, batches), abs=1e-6)
        assert abs(found.values[layer]) > 1e-5


def test_blocks_that_share_a_mask_are_stacked(monkeypatch):
    model, batches = Toy(TakesAMask, masked), random_batches(2, rows=3)
    refusals = watch_refusals(monkeypatch)
    found = calculate_sensitivities(model, batches=batches)
    assert not refusals
    expected = [naive_deltas(model, layer, batches) for layer in range(3)]
    for samples, deltas in zip(found.samples, expected, strict=True):
        assert samples == pytest.approx(deltas, abs=1e-6)


def watch_refusals(monkeypatch) -> list[str]:
    refusals: list[str] = []
    losses = SideBySide.losses

    def watched(self, batch, number):
        try:
            return losses(self, batch, number)
        except CannotStackError as error:
            refusals.append(str(error))
            raise

    monkeypatch.setattr(SideBySide, "losses", watched)
    return refusals


def stack(model, batches):
    from sbldlib.sensitivity import Measurement

    measurement = Measurement(
        model=model, skipping=attach(model), given_batches=batches, loss=next_token_loss,
        layers=(0, 1, 2),
    )  # fmt: skip
    with torch.no_grad():
        return SideBySide(measurement).losses(batches[0], 0)
