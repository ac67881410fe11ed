"""The loss that every room shares: cross-entropy of any model's logits.

Legend: B batch, T tokens, N tokens of all rows, V vocabulary, D width, or V of logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import shown

IGNORE = -100  # a target that carries no loss, torch's own default
PART = 2**21  # logits of a part of the loss, 8 MiB: what a CPU's cache has room for


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returned: a tensor, `.logits`, or the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    logits = output[0] if isinstance(output, tuple) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"model output {type(output).__name__} holds no logits; pass a loss of your own"
        )
    return logits


def next_token_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy in nats per target token.

    Also fits classification: logits [B, V] with targets [B].

    Args:
        model: maps inputs to logits [..., V].
        batch: inputs, and targets that are already shifted; targets of -100 carry no loss.
    """
    inputs, targets = _pair(batch)
    logits_BTV = logits_of(model(inputs))
    return _mean_loss(logits_BTV, targets, logits_BTV.shape[-1])


def loss_in_parts(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """`next_token_loss`, equal to rounding, whose logits are never held as a whole.

    The model's `body` runs once, its `head` a few rows at a time: a CPU waits for memory there, so
    a large vocabulary over many tokens takes half the time. The model itself is not called: hooks
    on it do not run.

    Args:
        model: one of the kit's GPTs, or anything with `body` and `head` as theirs.
        batch: as `next_token_loss`'s.
    """
    inputs, targets = _pair(batch)
    of_two: Any = model
    if not all(callable(getattr(model, name, None)) for name in ("body", "head")):
        raise ValueError(
            f"model={type(model).__name__} has no body and head, as GPT has; use next_token_loss"
        )
    x_BTD = of_two.body(inputs)
    return _mean_loss(x_BTD, targets, of_two.head(x_BTD[:1, :1]).shape[-1], of_two.head)


def check_loss(value: Any) -> Tensor:
    """Return what a loss function gave, or raise ValueError where nothing can be learnt from it."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad:
        return value
    raise ValueError(
        f"loss returned {shown(value)}; it must be a tensor of one number that comes from the "
        "model's weights"
    )


def _mean_loss(
    x_BTD: Tensor,
    targets_BT: Tensor,
    num_logits: int,
    head: Callable[[Tensor], Tensor] = lambda logits_NV: logits_NV,
) -> Tensor:
    """Mean cross-entropy of what the head gives; on a CPU in parts that its cache has room for."""
    if x_BTD.shape[:-1] != targets_BT.shape:
        raise ValueError(
            f"targets of shape {tuple(targets_BT.shape)} in a batch do not fit the model's logits "
            f"of shape {(*x_BTD.shape[:-1], num_logits)}; there must be one target for each of its "
            "outputs"
        )
    x_ND, targets_N = x_BTD.flatten(0, -2), targets_BT.flatten()
    num_rows = max(1, PART // max(1, num_logits)) if x_ND.is_cpu else len(x_ND)
    try:
        if len(x_ND) <= num_rows:
            return F.cross_entropy(head(x_ND).float(), targets_N, ignore_index=IGNORE)
        losses = [
            F.cross_entropy(head(part_ND).float(), part_N, ignore_index=IGNORE, reduction="sum")
            for part_ND, part_N in zip(x_ND.split(num_rows), targets_N.split(num_rows), strict=True)
        ]
    except IndexError as error:  # found out here, for a GPU's targets must not be read
        raise ValueError(f"targets in a batch, for {num_logits} logits: {error}") from None
    return torch.stack(losses).sum() / (targets_N != IGNORE).sum()


def _pair(batch: Any) -> tuple[Any, Tensor]:
    """A batch's inputs and targets, or ValueError where it is no such pair."""
    inputs: Any = None
    targets: Any = None
    try:
        inputs, targets = batch
        is_pair = isinstance(targets, Tensor) and not targets.is_floating_point()
    except (TypeError, ValueError):
        is_pair = False
    if not is_pair:
        right = "(inputs, targets), targets a tensor of whole numbers; or give a loss of your own"
        raise ValueError(f"batch={shown(batch)} of batches must be {right}")
    return inputs, targets


@torch.no_grad()
def evaluate_loss(model: nn.Module, batches, loss=next_token_loss) -> float:
    """Mean loss over batches in evaluation mode, nats per token; the mode is restored after.

    Args:
        batches: a sequence of batches, each weighted by the number of targets that carry loss.
    """
    total, count = 0.0, 0
    with evaluation_mode(model):
        for batch in batches:
            batch = to_device(batch, model)
            weight = num_targets(batch)
            if weight:  # a batch without targets has a loss of 0 / 0
                total += float(loss(model, batch)) * weight
                count += weight
    if count == 0:
        raise ValueError("batches holds no target to evaluate on")
    return total / count


def num_targets(batch: Any) -> int:
    """How many targets of a batch carry loss; 1 where it does not hold them in the usual place."""
    targets = batch[1:2] if isinstance(batch, (tuple, list)) else ()
    return int((targets[0] != IGNORE).sum()) if targets and isinstance(targets[0], Tensor) else 1


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within this `with`; each module then has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lives."""
    return next(model.parameters()).device


def to_device(batch: Any, model: nn.Module) -> Any:
    """The batch with its tensors moved to the model's device."""
    device = device_of(model)
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(item, model) for name, item in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(to_device(item, model) for item in batch)
    return batch
