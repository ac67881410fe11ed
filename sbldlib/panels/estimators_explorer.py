"""Estimators side by side: how each orders the layers, and where two of them disagree."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from ..plots.axes import shared_legend
from ..plots.sensitivity import (
    SYMBOLS,
    layers_farthest_apart,
    plot_estimators,
    plot_rank_slopes,
    ranks_of,
    short_name,
)
from ..records import SensitivityData
from ..sensitivity import Agreement, agreement
from .explorer import Explorer, dropdown

SHOWN = {"rank": "ranks", "value": "values, 0 to 100"}
TITLES = {
    "rank": "Rank (1, dark: most sensitive)",
    "value": "Value, from lowest 0 to highest 100",
}
_ROW_INCHES, _LAYER_INCHES, _REST_INCHES = 0.28, 0.2, 2.1  # a letter's height in either picture


class EstimatorsExplorer(Explorer):
    """Every estimator in one picture, and any two of them held against each other.

    Attributes:
        shown, first, second: what is chosen with.
        agreement: rank correlations of all pairs, with their intervals.
    """

    def __init__(self, measured: Mapping[str, SensitivityData], *, seed: int = 0):
        """
        Args:
            measured: two or more; name -> data with samples, all of one model's layers.
            seed: of the resampling behind the intervals.

        Raises:
            ValueError: less than two, or data that cannot be compared, see `agreement`.
        """
        if len(measured) < 2:
            raise ValueError(f"measured={list(measured)} must hold two estimators or more")
        self._measured = dict(measured)
        self.agreement: Agreement = agreement(self._measured, seed=seed)
        names = list(measured)
        self.shown = dropdown("shown as", list(SHOWN), labels=SHOWN)
        self.first = dropdown("A", names)
        self.second = dropdown("B", names, value=names[1])
        height = _REST_INCHES + _ROW_INCHES * len(names) + _LAYER_INCHES * self.agreement.num_layers
        super().__init__([self.shown, self.first, self.second], size_inches=(6.0, height))

    def _draw(self, figure: Figure) -> str:
        of, pair = str(self.shown.value), (str(self.first.value), str(self.second.value))
        if pair[0] == pair[1]:
            raise ValueError(f"A and B are both {pair[0]}; choose two")
        rho, low, high = self.agreement.pair(*pair)
        rows, layers = len(self._measured), self.agreement.num_layers
        top, bottom = figure.subplots(
            2, 1, height_ratios=(_ROW_INCHES * rows, _LAYER_INCHES * layers)
        )
        marks = dict(zip(pair, ("A: ", "B: "), strict=True))
        named = {name: short_name(marks.get(name, "") + name) for name in self._measured}
        plot_estimators(top, self._measured, of=of, labels=list(named.values()))
        top.set_title(TITLES[of])
        plot_rank_slopes(bottom, *(self._measured[name] for name in pair))
        bottom.set_xticks([0, 1], labels=[named[name] for name in pair])
        bottom.set_title(f"{SYMBOLS['spearman']} = {rho:.2f} [{low:.2f}, {high:.2f}]")
        shared_legend(figure, bottom, where="lower")
        return self._said(pair)

    def _said(self, pair: tuple[str, str]) -> str:
        found = self.agreement
        correlations = []
        for of in SYMBOLS:
            value, low, high = found.pair(*pair, of=of)
            correlations.append(f"{SYMBOLS[of]} {value:.2f} [{low:.2f}, {high:.2f}]")
        _, low, high = found.pair(*pair)
        verdict = "holds 0" if low <= 0 <= high else "does not hold 0"
        return (
            f"A {pair[0]}, B {pair[1]}: {', '.join(correlations)} over {found.num_layers} layers; "
            f"the first interval ({found.confidence:.0%}, over batches) {verdict}. "
            f"{self._apart(pair)}"
        )

    def _apart(self, pair: tuple[str, str]) -> str:
        first, second = (self._measured[name] for name in pair)
        moved = layers_farthest_apart(first, second)
        if not moved:
            return "Both give one order."
        ranks = zip(ranks_of(first), ranks_of(second), strict=True)
        said = [
            f"layer {layer} (A {a:g}, B {b:g})"
            for layer, (a, b) in enumerate(ranks)
            if layer in moved
        ]
        return f"Their ranks are farthest apart for {', '.join(said)}."
