"""Attention by hand: type a sentence, choose layer, heads and token, see who looks at whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_callable, printable
from ..measure.attention import AttentionMaps
from ..plots.attention import (
    MAX_HEADS,
    plot_attention_map,
    plot_head_view,
    plot_model_view,
    token_name,
)
from .explorer import Explorer, dropdown, offer, show_only_where, slider
from .theming import NARROW

VIEWS = {
    "head": "head view: lines",
    "model": "model view: all heads",
    "map": "one map: one head",
}
SIZE_INCHES = (6.4, 4.6)
MAX_CHARACTERS = 2000  # of a sentence: above it even the model view is too fine
_ALL, _OWN = "all", "self-attention"
_LABEL = {"description_width": "9em"}


class AttentionViewer(Explorer):
    """Every head of every layer for a sentence that is typed.

    Attributes:
        sentence, view, attention, layer, heads, token: what is chosen with; a head view shows the
            `heads` that are marked, one map the first of them.
        maps: of the sentence, by the attention's name.
    """

    def __init__(
        self,
        attend: Callable[[str], AttentionMaps | Mapping[str, AttentionMaps]],
        *,
        sentence: str,
        view: str = "head",
    ):
        """
        Args:
            attend: gives the maps of a sentence, or several by name, such as "encoder", "decoder"
                and "cross"; a ValueError that it raises is shown in words.
            sentence: what is shown at first.
            view: "head", "model" or "map", at first.

        Raises:
            ValueError: the first sentence cannot be shown.
        """
        right = "a function from a sentence to its AttentionMaps"
        self._attend = check_callable("attend", attend, right)
        self._attended = ""
        self.maps: dict[str, AttentionMaps] = {}
        self.sentence = widgets.Text(
            value=sentence, description="sentence", continuous_update=False, layout=NARROW,
            style=_LABEL,
        )  # fmt: skip
        self.view = dropdown("view", list(VIEWS), value=view, labels=VIEWS)
        self.attention = dropdown("attention")
        self.layer = slider(widgets.IntSlider, "layer", 0, 0, 0)
        self.heads = widgets.SelectMultiple(
            description="heads", rows=4, layout={**NARROW, "width": "18em"}, style=_LABEL
        )
        self.token = dropdown("token that looks", [_ALL])
        controls = [self.sentence, self.view, self.attention, self.layer, self.heads, self.token]
        super().__init__(controls, size_inches=SIZE_INCHES)

    def _draw(self, figure: Figure) -> str:
        self._read()
        maps = self.maps[str(self.attention.value)]
        self._fit_controls(maps)
        view, layer = str(self.view.value), int(self.layer.value)
        ax = figure.subplots()
        if view == "model":
            plot_model_view(ax, maps)
            layer, head = _sharpest(maps)
            first = f"{self.attention.value}: the sharpest map is"
            return f"{first} layer {layer}, {self._links(maps, layer, (head,))}."
        heads = tuple(self.heads.value)
        if not heads:
            raise ValueError(f"no head is marked; mark 1 to {MAX_HEADS}")
        if view == "map":
            plot_attention_map(ax, maps.map(layer, heads[0]), maps.queries, maps.keys)
            heads = heads[:1]
        else:
            plot_head_view(ax, maps, layer=layer, heads=heads, query=self._query)
        return f"{self.attention.value}, layer {layer}, {self._links(maps, layer, heads)}."

    @property
    def _query(self) -> int | None:
        """The place of the chosen token; None is all, as in the views that show no other."""
        is_chosen = self.view.value == "head" and self.token.value != _ALL
        return int(str(self.token.value)) if is_chosen else None

    def _read(self) -> None:
        """The maps of the sentence, anew where it has changed."""
        sentence = str(self.sentence.value)
        if not sentence.strip():
            raise ValueError("the sentence is empty; type at least one word")
        if len(sentence) > MAX_CHARACTERS:
            raise ValueError(
                f"the sentence has {len(sentence)} characters; {MAX_CHARACTERS} are the most"
            )
        if sentence == self._attended:
            return
        found = self._attend(sentence)
        self.maps = {_OWN: found} if isinstance(found, AttentionMaps) else dict(found)
        if not self.maps:
            raise ValueError("attend gave no attention for this sentence")
        self._attended = sentence
        offer(self.attention, list(self.maps))

    def _fit_controls(self, maps: AttentionMaps) -> None:
        """Offer the layers, heads and tokens that there are; hide what a view has no use for."""
        self.layer.max = maps.num_layers - 1
        named = tuple((f"head {head}", head) for head in range(maps.num_heads))
        if self.heads.options != named:
            kept = [head for head in self.heads.value or () if head < maps.num_heads]
            self.heads.options = named
            self.heads.value = kept or list(range(min(maps.num_heads, MAX_HEADS)))
        places = [str(place) for place in range(len(maps.queries))]
        labels = {p: f"{p}: {token_name(maps.queries[int(p)])}" for p in places}
        offer(self.token, [_ALL, *places], labels={_ALL: "all tokens", **labels})
        view = self.view.value
        show_only_where(self.attention, len(self.maps) > 1)
        show_only_where(self.layer, view != "model")
        show_only_where(self.heads, view != "model")
        show_only_where(self.token, view == "head")

    def _links(self, maps: AttentionMaps, layer: int, heads: tuple[int, ...]) -> str:
        """The strongest links of these heads, in words."""
        links = [
            (weight, head, query, key)
            for head in heads
            for query, key, weight in maps.strongest(layer, head, self._query)
        ]
        links.sort(reverse=True)
        return "; ".join(
            f"head {head}: '{printable(maps.queries[query])}' looks at "
            f"'{printable(maps.keys[key])}' ({weight:.2f})"
            for weight, head, query, key in links[:3]
        )


def _sharpest(maps: AttentionMaps) -> tuple[int, int]:
    """Layer and head of the map whose rows are set the most on one token, on average."""
    sharpness_LH = maps.weights_LHTS.amax(-1).mean(-1)
    layer, head = divmod(int(sharpness_LH.argmax()), maps.num_heads)
    return layer, head
