"""What one output of a convolution-attention model sees, by target, merge and levels."""

from __future__ import annotations

import ipywidgets as widgets
from matplotlib.figure import Figure

from ..errors import check_choice, check_positive_int
from ..measure.routes import Route, route_of
from ..models.conv_gpt_config import ConvGPTConfig
from ..plots.routes import plot_route
from .explorer import Explorer, dropdown, slider

SIZE_INCHES = (7.2, 3.6)
MERGES, LEVELS = (2, 4), (2, 4)  # least and most
SPANS_SHOWN = 3
# What is trained -> the model's target, whether its groups are cut earlier, what it is asked for.
KINDS = {
    "next": ("next", True, "next"),
    "ahead": ("ahead", False, "ahead"),
    "leak: groups not shifted": ("next", False, "next"),
    "leak: ahead, asked for the next": ("ahead", False, "next"),
}


class ContextExplorer(Explorer):
    """Choose a model and a position; see the vectors it passes, what it sees, what it predicts.

    Attributes:
        kind, merge, levels, position: what is chosen with; `kind` is a key of `KINDS`.
        config: of the model that is chosen now.
        shift: places by which its groups are cut earlier.
        offset: the target is so many tokens after the position.
        route: of the position.
    """

    config: ConvGPTConfig
    shift: int
    offset: int
    route: Route

    def __init__(self, kind: str = "next", *, merge: int = 4, levels: int = 3, position: int = 21):
        """
        Args:
            kind: a key of `KINDS`, at first.
            merge: at first, in 2..4.
            levels: at first, in 2..4.
            position: at first, in 0..2 merge^(levels - 1) - 1.

        Raises:
            ValueError: an argument is none of these.
        """
        check_positive_int("merge", merge, minimum=MERGES[0], maximum=MERGES[1])
        check_positive_int("levels", levels, minimum=LEVELS[0], maximum=LEVELS[1])
        most = 2 * merge ** (levels - 1) - 1
        check_positive_int("position", position, minimum=0, maximum=most)
        self.kind = dropdown("model", tuple(KINDS), value=check_choice("kind", kind, KINDS))
        self.merge = slider(widgets.IntSlider, "merge", merge, *MERGES)
        self.levels = slider(widgets.IntSlider, "levels", levels, *LEVELS)
        self.position = slider(widgets.IntSlider, "position", position, 0, most)
        controls = [self.kind, self.merge, self.levels, self.position]
        super().__init__(controls, size_inches=SIZE_INCHES)

    def _draw(self, figure: Figure) -> str:
        target, is_shifted, asked = KINDS[str(self.kind.value)]
        merge, num_levels = int(self.merge.value), int(self.levels.value)
        span = merge ** (num_levels - 1)
        self.position.max = 2 * span - 1
        self.config = ConvGPTConfig(
            vocabulary_size=2,
            context_length=SPANS_SHOWN * span,
            widths=tuple(4 * 2**level for level in range(num_levels)),
            num_heads=1,
            merge=merge,
            target=target,
            skip_connections=target == "next",
        )
        self.shift = merge - 1 if is_shifted else 0
        self.offset = 1 if asked == "next" else span
        position = int(self.position.value)
        self.route = route_of(self.config, position, shift=self.shift, offset=self.offset)
        plot_route(
            figure.subplots(), self.config, self.route, shift=self.shift,
            num_tokens=SPANS_SHOWN * span,
        )  # fmt: skip
        return self._in_words(self.route)

    def _in_words(self, route: Route) -> str:
        read = ", ".join(
            f"vector {place} of level {level} (tokens up to {known})"
            for level, (place, known) in enumerate(zip(route.places, route.known, strict=True))
            if self.config.skip_connections or level == len(route.places) - 1
        )
        distance = route.target - route.last_seen
        verdict = (
            f"It is honest: the target comes {distance} after the last token that is seen."
            if route.is_honest
            else "It SEES ITS ANSWER, and has nothing to predict."
        )
        return (
            f"Output {route.position} reads {read}. So it sees tokens 0 to {route.last_seen}, and "
            f"predicts token {route.target}. {verdict}"
        )
