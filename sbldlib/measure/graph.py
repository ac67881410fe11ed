"""Work and span of a forward pass, read off the graph that autograd built for it.

The graph says which operation needs which: its longest path is what no number of processors can
shorten (the span), all its operations are what one processor has to do (the work). Both are counted
and not timed, and so the same on every machine.

Source: [S] work and span from Brent, "The Parallel Evaluation of General Arithmetic Expressions",
JACM 21(2), 1974, doi 10.1145/321812.321815.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..errors import shown
from ..losses import check_loss, evaluation_mode, next_token_loss, to_device
from ..records import Record
from .step import COUNTING

Returned = TypeVar("Returned")


@dataclass(frozen=True, kw_only=True)
class AutogradGraph:
    """The graph behind a loss: its nodes are numbered so that each comes after all it needs.

    Attributes:
        names: of the nodes, as autograd has them, such as "AddmmBackward0"; "AccumulateGrad" is
            a weight, or another leaf that takes a gradient. The last is the loss.
        needs: of each node, the numbers of those whose outputs it reads, in order.
        depths: of each node, the nodes on the longest path that ends with it, itself among them.
    """

    names: tuple[str, ...]
    needs: tuple[tuple[int, ...], ...]
    depths: tuple[int, ...]

    @property
    def num_nodes(self) -> int:
        """Operations that take part in the gradient, leaves among them."""
        return len(self.names)

    @property
    def longest_path(self) -> int:
        """Nodes on the longest chain of which each needs the one before."""
        return self.depths[-1]

    def critical_path(self) -> tuple[int, ...]:
        """The nodes of such a chain, from its leaf to the loss."""
        path = [self.num_nodes - 1]
        while self.needs[path[-1]]:
            path.append(max(self.needs[path[-1]], key=self.depths.__getitem__))
        return tuple(reversed(path))


@dataclass(frozen=True, kw_only=True)
class Parallelism(Record):
    """How much of a forward pass with its loss could run at once.

    Attributes:
        longest_path: the span: nodes of the autograd graph that wait for one another.
        num_nodes: all nodes of that graph, however large each is.
        num_operations: operations that torch dispatches, views and copies among them.
        flops: the work: floating-point operations of matrix products and convolutions.
        operations: num_operations by name, such as "aten.addmm".
    """

    longest_path: int
    num_nodes: int
    num_operations: int
    flops: int
    operations: Mapping[str, int] = field(default_factory=dict)

    @property
    def flops_per_step(self) -> float:
        """Work / span: what each step of the longest path has for many processors to share."""
        return self.flops / self.longest_path


def trace_graph(loss: Tensor) -> AutogradGraph:
    """The graph behind a loss; nothing is computed, and the loss can still run backward.

    Args:
        loss: any tensor that was computed from leaves that take gradients.

    Raises:
        ValueError: a tensor without such a history.
    """
    root = loss.grad_fn if isinstance(loss, Tensor) else None
    if root is None:
        raise ValueError(
            f"loss={shown(loss)} has no autograd graph; it must be a tensor computed from weights "
            "that take gradients, with gradients enabled"
        )
    numbers: dict[Any, int] = {}
    needs: list[tuple[int, ...]] = []
    depths: list[int] = []
    for node in _each_after_its_needs(root):
        needed = tuple(numbers[other] for other in _needs_of(node))
        numbers[node] = len(numbers)
        needs.append(needed)
        depths.append(1 + max((depths[number] for number in needed), default=0))
    return AutogradGraph(
        names=tuple(node.name().rpartition("::")[2] for node in numbers),
        needs=tuple(needs),
        depths=tuple(depths),
    )


def count_operations(call: Callable[[], Returned]) -> tuple[Returned, dict[str, int]]:
    """What the call returned, and the operations that torch dispatched in it, by name.

    Names are sorted; one operation's overloads count as one, such as "aten.add".
    """
    counter = _Counter()
    with counter:
        returned = call()
    return returned, dict(sorted(counter.counts.items()))


def measure_parallelism(
    model: nn.Module,
    batch: Any,
    *,
    loss: Callable[[nn.Module, Any], Tensor] = next_token_loss,
) -> Parallelism:
    """Work and span of one forward pass and its loss, in evaluation mode (restored after).

    Kernels that hide a loop or a matrix of scores within one node (LSTM's on a CPU, cuDNN's,
    attention's) are written out, so that every machine counts the same.

    Args:
        model: with at least one weight that takes a gradient.
        batch: what the loss takes; it is moved to the model's device.
        loss: gives a tensor of one number.

    Raises:
        ValueError: what the loss returned has no graph.
    """
    batch = to_device(batch, model)
    flops = FlopCounterMode(display=False)
    with written_out(), evaluation_mode(model), torch.enable_grad(), flops:
        value, operations = count_operations(lambda: check_loss(loss(model, batch)))
        graph = trace_graph(value)
    return Parallelism(
        longest_path=graph.longest_path,
        num_nodes=graph.num_nodes,
        num_operations=sum(operations.values()),
        flops=flops.get_total_flops(),
        operations=operations,
    )


@contextmanager
def written_out() -> Iterator[None]:
    """Fused kernels of recurrence and attention are off within this `with`, for the process.

    One thread at a time can be in there.
    """
    with COUNTING, sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
        onednn = torch.backends.mkldnn.set_flags(False)[0]
        cudnn = torch.backends.cudnn.enabled
        torch.backends.cudnn.enabled = False
        try:
            yield
        finally:
            torch.backends.mkldnn.set_flags(onednn)
            torch.backends.cudnn.enabled = cudnn


class _Counter(TorchDispatchMode):
    """Counts what is dispatched below autograd, where composite operations are taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.counts[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def _each_after_its_needs(root: Any) -> Iterator[Any]:
    """The nodes behind `root` and it, in an order that the graph alone decides.

    A chain may be longer than Python lets calls nest: what is under way lies on a stack.
    """
    done, stack = set(), [root]
    while stack:
        node = stack[-1]
        waiting = [] if node in done else [n for n in _needs_of(node) if n not in done]
        stack.extend(reversed(waiting))
        if waiting:
            continue
        stack.pop()
        if node not in done:
            done.add(node)
            yield node


def _needs_of(node: Any) -> list[Any]:
    """The nodes that this one reads, each once."""
    return list(dict.fromkeys(other for other, _ in node.next_functions if other is not None))
