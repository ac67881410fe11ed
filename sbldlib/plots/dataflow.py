"""Pictures of a translation on its way through encoder and decoder, from what was computed.

Legend: S source tokens, T target tokens read so far, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..translation.dataflow import BLOCK_PARTS, DECODER, ENCODER, FIRST, LAST, DataFlow, FlowStep
from .attention import letter_size, token_name
from .theme import BLUE, GREY, INK, ORANGE

MAX_LAYERS = 4  # of each half: more boxes cannot be read
LIKELIEST = 5  # next tokens that are shown
MAX_NAMED = 20  # tokens named below a column
NAMES = {
    "embedding": "embedding + position",
    "attention": "self-attention",
    "cross_attention": "cross-attention",
    "feed_forward": "feed-forward",
    "memory": "memory",
    "next": "next token",
}
_WIDTH, _HEIGHT, _GAP = 1.2, 0.66, 1.5  # of a box, and from one column to the next
_DONE, _TO_DO = "#cfe3f1", "#f1efea"
Box = tuple[str, int | None, str]


def draw_flow_step(figure: Figure, flow: DataFlow, place: int) -> None:
    """Left where in the model this step is, right the tensor that came out of it.

    Args:
        figure: an empty one, with constrained layout.
        place: of the step, from 0.

    Raises:
        ValueError: a place that is not among the steps, or more layers than can be drawn.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    plot_flow_map(left, flow, place)
    plot_flow_values(right, flow, place)


def draw_filmstrip(figure: Figure, flow: DataFlow, places: Sequence[int]) -> None:
    """The tensors of several steps, one frame each, in the order given.

    Args:
        figure: an empty one, with constrained layout.
        places: of the steps, at least one; three stand in a row.
    """
    if not places:
        raise ValueError("places=() names no step; at least one is needed")
    frames = figure.subplots(-(-len(places) // 3), min(3, len(places)), squeeze=False).flatten()
    for ax, place in zip(frames, places, strict=False):
        plot_flow_values(ax, flow, place, with_bar=False)
        ax.set_title(f"{place + 1} · {_where(flow.steps[place])}", fontsize=9)
        is_next = flow.steps[place].part == LAST[DECODER]
        ax.set_xlabel("probability" if is_next else _shape(flow.steps[place]), fontsize=9)
        ax.tick_params(labelsize=8)
    for ax in frames[len(places) :]:
        ax.axis("off")


def plot_flow_map(ax: Axes, flow: DataFlow, place: int) -> Axes:
    """Both halves as boxes from bottom to top; the step's own is dark, what is done is tinted.

    In orange is what the step reads.
    """
    now = _step(flow, place)
    if max(flow.num_layers) > MAX_LAYERS:
        raise ValueError(f"num_layers={flow.num_layers}: at most {MAX_LAYERS} each can be drawn")
    boxes = _boxes(flow)
    own = _box(now)
    done = {_box(step) for step in flow.steps[: place + 1] if step.turn in (0, now.turn)}
    for box, (x, y) in boxes.items():
        colour = BLUE if box == own else _DONE if box in done else _TO_DO
        ax.add_patch(Rectangle((x, y), _WIDTH, _HEIGHT, facecolor=colour, edgecolor="white"))
        layer = "" if box[1] is None else f"{box[1]} · "
        ax.text(
            x + _WIDTH / 2, y + _HEIGHT / 2, layer + NAMES[box[2]], ha="center", va="center",
            fontsize=9, color="white" if box == own else INK,
        )  # fmt: skip
    for start, end in _links(flow):
        is_read = end == own and (start[2] != LAST[DECODER] or now.turn > 1)
        _arrow(ax, boxes[start], boxes[end], start, is_read=is_read)
    top = max(y for _, y in boxes.values()) + _HEIGHT
    for x, half in ((0.0, ENCODER), (_GAP, DECODER)):
        ax.text(x + _WIDTH / 2, top + 0.3, half, ha="center", weight="bold")
        rows = flow.source if half == ENCODER else flow.read[: max(now.turn, 1)]
        ax.text(
            x + _WIDTH / 2, -0.25, _in_lines(rows), ha="center", va="top", fontsize=9,
            color=INK if half == now.half else GREY,
        )  # fmt: skip
    ax.set(xlim=(-0.05, _GAP + _WIDTH + 0.2), ylim=(-1.4, top + 0.8))
    ax.axis("off")
    return ax


def plot_flow_values(ax: Axes, flow: DataFlow, place: int, *, with_bar: bool = True) -> Axes:
    """What came out of a step: a row a token, a column a number; or the likeliest next tokens.

    Args:
        with_bar: whether a colour bar stands beside it.
    """
    step = _step(flow, place)
    if step.part == LAST[DECODER]:
        chances = step.values[0].numpy()
        likeliest = np.argsort(-chances, kind="stable")[:LIKELIEST]
        names = [token_name(flow.symbols[token]) for token in likeliest]
        colours = [ORANGE, *[GREY] * (len(names) - 1)]
        ax.barh(range(len(names)), chances[likeliest], color=colours)
        ax.set_yticks(range(len(names)), labels=names)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel=f"probability, the {LIKELIEST} likeliest of {len(chances)}")
        return ax
    values = step.values.numpy()
    most = float(np.abs(values).max()) or 1.0
    image = ax.imshow(values, cmap="PuOr", vmin=-most, vmax=most, aspect="auto")
    ax.set_yticks(range(len(step.rows)), labels=list(map(token_name, step.rows)))
    ax.set_xticks([0, values.shape[1] - 1], labels=["0", str(values.shape[1] - 1)])
    ax.set_xlabel(f"number ({_shape(step)})")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", labelsize=letter_size(len(step.rows)))
    if with_bar:
        bar = ax.figure.colorbar(image, ax=ax, location="top", shrink=0.8, pad=0.03)
        bar.set_label("value")
        bar.outline.set_visible(False)
    return ax


def flow_in_words(flow: DataFlow, place: int) -> str:
    """What happens at a step, in one or two sentences."""
    step = _step(flow, place)
    who = f"Step {place + 1} of {len(flow.steps)}: {_where(step)}"
    if step.half == DECODER:
        who = f"{who} (writing token {step.turn})"
    if step.part == LAST[DECODER]:
        token, chance = flow.written[step.turn - 1], float(step.values.max())
        after = (
            "the sentence ends here"
            if step.turn == len(flow.written)
            else "it goes back in as the decoder's next input"
        )
        return f"{who}. The likeliest is '{token}' ({chance:.2f}); {after}."
    queries, seen = _count(len(step.rows), "query", "queries"), len(flow.source)
    says = {
        FIRST: "Each token's row of the embedding, scaled, plus its position's row: ",
        "attention": f"Each token takes from {_seen(step)}, and adds ",
        "cross_attention": f"{queries} of the decoder, {seen} rows of the memory; adds ",
        "feed_forward": "Each token by itself: wider, zero below zero, and back; adds ",
        LAST[ENCODER]: "What every decoder block will read: ",
    }
    return f"{who}. {says[step.part]}{_shape(step)}."


def _seen(step: FlowStep) -> str:
    return "all of them" if step.half == ENCODER else "itself and those before it"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _shape(step: FlowStep) -> str:
    rows, columns = step.values.shape
    return f"{_count(rows, 'token', 'tokens')} × {columns}"


def _where(step: FlowStep) -> str:
    layer = "" if step.layer is None else f", layer {step.layer}"
    return f"{step.half}{layer}, {NAMES[step.part]}"


def _step(flow: DataFlow, place: int) -> FlowStep:
    if not 0 <= place < len(flow.steps):
        raise ValueError(f"place={place} is outside 0..{len(flow.steps) - 1}")
    return flow.steps[place]


def _box(step: FlowStep) -> Box:
    return step.half, step.layer, step.part


def _boxes(flow: DataFlow) -> dict[Box, tuple[float, float]]:
    """Where each part's box stands: its left and its lower end."""
    places: dict[Box, tuple[float, float]] = {}
    for x, half, depth in zip((0.0, _GAP), (ENCODER, DECODER), flow.num_layers, strict=True):
        column: list[Box] = [(half, None, FIRST)]
        column += [(half, layer, part) for layer in range(depth) for part in BLOCK_PARTS[half]]
        column.append((half, None, LAST[half]))
        places.update({box: (x, float(row)) for row, box in enumerate(column)})
    return places


def _links(flow: DataFlow) -> list[tuple[Box, Box]]:
    """From which box to which tensors flow."""
    names = list(_boxes(flow))
    links = [(a, b) for a, b in pairwise(names) if a[0] == b[0]]
    memory: Box = (ENCODER, None, LAST[ENCODER])
    links += [(memory, box) for box in names if box[2] == "cross_attention"]
    return [*links, ((DECODER, None, LAST[DECODER]), (DECODER, None, FIRST))]


def _arrow(ax: Axes, start: Any, end: Any, box: Box, *, is_read: bool) -> None:
    """From one box to the next above it, across from the memory, or back from the top."""
    curve = "arc3"
    if box[2] == LAST[ENCODER]:
        ends = (start[0] + _WIDTH, start[1] + _HEIGHT / 2), (end[0], end[1] + _HEIGHT / 2)
    elif box[2] == LAST[DECODER]:
        right = start[0] + _WIDTH
        ends = (right, start[1] + _HEIGHT / 2), (right, end[1] + _HEIGHT / 2)
        curve = "arc3,rad=-0.12"
    else:
        middle = start[0] + _WIDTH / 2
        ends = (middle, start[1] + _HEIGHT), (middle, end[1])
    style = {
        "arrowstyle": "->", "connectionstyle": curve, "shrinkA": 0, "shrinkB": 0,
        "color": ORANGE if is_read else GREY, "linewidth": 2.4 if is_read else 0.8,
    }  # fmt: skip
    ax.annotate("", ends[1], ends[0], arrowprops=style)


def _in_lines(tokens: Sequence[str]) -> str:
    """Tokens in lines of a few, so that they fit below a column; of many the last are left out."""
    names = list(map(token_name, tokens[:MAX_NAMED])) + ["…"] * (len(tokens) > MAX_NAMED)
    return "\n".join(" ".join(names[first : first + 5]) for first in range(0, len(names), 5))
