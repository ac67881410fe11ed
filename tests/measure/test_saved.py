from __future__ import annotations

import threading

import pytest
import torch
from small import D, EncoderLM, Source, T, V, gpt, random_batches, same_weights, weights
from torch import nn

from sbldlib.dropping.skipping import attach, skip_layers
from sbldlib.losses import next_token_loss
from sbldlib.measure import SavedBytes, count_saved_bytes

ROWS, HIDDEN, FLOAT = 3, 20, 4


@pytest.fixture
def batch():
    return random_batches(1, ROWS)[0]


class Residual(nn.Module):
    """A residual MLP with a norm before it, of which every saved tensor is known."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.up, self.down = nn.Linear(D, HIDDEN), nn.Linear(HIDDEN, D)

    def forward(self, x_BTD):
        return x_BTD + self.down(nn.functional.gelu(self.up(self.norm(x_BTD))))


class Stack(nn.Module):
    def __init__(self, num_layers: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Residual() for _ in range(num_layers))
        self.head = nn.Linear(D, V)

    def forward(self, tokens_BT):
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(x_BTD)


def squared(model: nn.Module, batch) -> torch.Tensor:
    return model(batch[0]).square().mean()


# The norm keeps its input, mean and 1/deviation; `up` the norm's output; gelu what `up` gave, and
# `down` what gelu gave. The sum keeps nothing.
BLOCK = FLOAT * ROWS * T * (D + 2 + D + HIDDEN + HIDDEN)
OUTSIDE = FLOAT * ROWS * T * (D + V)  # the head's input, and the logits that are squared


def recomputing_gpt() -> nn.Module:
    model = gpt()
    model.activation_recomputation = True
    return model


def kept_by_hand(model: nn.Module, batch, loss=next_token_loss) -> int:
    """Bytes of the different storages that a step saves but for weights and batch."""
    known = {
        t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), *batch)
    }
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss(model, batch)
    assert value.requires_grad  # it holds the storages until here
    return sum(size for address, size in sizes.items() if address not in known)


def test_a_stack_of_linear_and_gelu_keeps_what_its_formulas_say(batch):
    counted = count_saved_bytes(Stack(), batch, loss=squared)
    assert counted == SavedBytes(blocks=(BLOCK,) * 3, outside=OUTSIDE)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_all_rows_are_counted(rows):
    counted = count_saved_bytes(Stack(), random_batches(1, rows)[0], loss=squared)
    assert counted.blocks == (BLOCK // ROWS * rows,) * 3
    assert counted.outside == OUTSIDE // ROWS * rows


@pytest.mark.parametrize("make_model", [Stack, gpt, EncoderLM, recomputing_gpt])
@pytest.mark.parametrize("skipped", [set(), {0}, {2}, {1, 2}])
def test_a_step_without_some_layers_keeps_what_was_counted(make_model, skipped, batch):
    model = make_model()
    counted = count_saved_bytes(model, batch)
    layers_run = set(range(attach(model).num_layers)) - skipped
    with skip_layers(model, skipped):
        assert counted.of(layers_run) == kept_by_hand(model, batch)


def test_a_storage_is_counted_once_however_often_it_is_saved(batch):
    def loss(model, batch):
        logits_BTV = model(batch[0])
        return (logits_BTV.square() + logits_BTV.exp() * logits_BTV.transpose(0, 1).sum()).mean()

    # exp keeps what it gives, the product that and a sum of one number; the logits are kept once.
    counted = count_saved_bytes(Stack(), batch, loss=loss)
    assert counted.outside == OUTSIDE + FLOAT * (ROWS * T * V + 1)


class Masked(Stack):
    """Multiplies the stream, in every block, by one table that is made anew in every pass."""

    def forward(self, tokens_BT):
        x_BTD = self.embedding(tokens_BT)
        table_TD = torch.ones(T, D).cumsum(0)
        for block in self.blocks:
            x_BTD = block(x_BTD, table_TD)
        return self.head(x_BTD)


class MaskedResidual(Residual):
    def forward(self, x_BTD, table_TD):
        return x_BTD + super().forward(x_BTD * table_TD)


def test_a_table_that_blocks_share_is_outside_of_them(batch):
    model = Masked()
    model.blocks = nn.ModuleList(MaskedResidual() for _ in range(3))
    counted = count_saved_bytes(model, batch, loss=squared)
    # The product keeps the table alone, for the table takes no gradient.
    assert counted == SavedBytes(blocks=(BLOCK,) * 3, outside=OUTSIDE + FLOAT * T * D)
    with skip_layers(model, {0}):
        assert counted.of((1, 2)) == kept_by_hand(model, batch, squared)


def test_recomputation_keeps_the_inputs_of_blocks_alone(batch):
    counted, plain = count_saved_bytes(recomputing_gpt(), batch), count_saved_bytes(gpt(), batch)
    assert counted.blocks == (FLOAT * ROWS * T * D,) * 4
    assert counted.outside == plain.outside and min(plain.blocks) > 5 * max(counted.blocks)


def test_what_needs_no_gradient_keeps_nothing(batch):
    model = Stack()
    for part in (model.embedding, model.blocks[0]):
        part.requires_grad_(False)
    counted = count_saved_bytes(model, batch, loss=squared)
    assert counted.blocks == (0, BLOCK, BLOCK) and counted.outside == OUTSIDE


def test_a_model_without_blocks_is_outside():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, V))
    before = weights(model)
    batch = (torch.randn(5, 6), torch.zeros(5, dtype=torch.long))
    counted = count_saved_bytes(model, batch)
    assert counted.blocks == () and counted.full == counted.outside > FLOAT * 5 * (8 + 8 + V)
    assert same_weights(model, before), "running statistics moved"


def test_the_parts_of_a_count():
    counted = SavedBytes(blocks=(10, 20, 30), outside=40)
    assert counted.full == 100 and counted.of([]) == 40 and counted.of((0, 2)) == 80
    assert SavedBytes.from_json(counted.to_json()) == counted
    with pytest.raises(ValueError, match="outside=-1"):
        SavedBytes(blocks=(1,), outside=-1)
    with pytest.raises(ValueError, match=r"blocks=1\.5"):
        SavedBytes(blocks=(1.5,), outside=0)


def test_nothing_is_left_behind(batch):
    model = gpt(dropout=0.5).train()
    model.blocks[1].eval()
    next_token_loss(model, batch).backward()
    skipping = attach(model)
    skip_layers(model, {0})
    skipping.set_dropped({2})
    modes = [module.training for module in model.modules()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    before, state = weights(model), torch.get_rng_state()
    counted = count_saved_bytes(model, batch)
    assert counted == count_saved_bytes(gpt(dropout=0.5), batch), "what is skipped is counted too"
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(model, before)
    after = [parameter.grad for parameter in model.parameters()]
    assert all(torch.equal(*pair) for pair in zip(gradients, after, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert (skipping.skipped, skipping.dropped) == ({0}, {2})
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_go_where_the_loss_raises(batch):
    model = gpt()

    def loss(model, batch):
        model(batch[0])
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        count_saved_bytes(model, batch, loss=loss)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ValueError, match="loss returned"):
        count_saved_bytes(model, batch, loss=lambda model, batch: 3.0)


def test_counting_in_several_threads_leaves_the_process_as_it_was():
    before = torch._dynamo.eval_frame._stance
    models, counted = [gpt(2) for _ in range(4)], []

    def count(model):
        counted.extend(count_saved_bytes(model, Source().batch(0)) for _ in range(4))

    threads = [threading.Thread(target=count, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch._dynamo.eval_frame._stance == before
    assert len(set(counted)) == 1 and len(counted) == 16
