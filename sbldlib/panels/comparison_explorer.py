"""A comparison's tables by choice: which budget, which result, held against which arm."""

from __future__ import annotations

from matplotlib.figure import Figure

from ..comparison import ComparisonSummary
from ..comparison.summary import UNRESOLVED, Difference
from ..plots.comparison import differences, plot_differences
from .explorer import Explorer, dropdown, offer

TITLES = {"steps": "Equal steps", "flops": "Equal FLOPs", "seconds": "Equal seconds"}
RESULTS = {"validation_loss": "loss on new text", "accuracy": "exact answers"}
SIZE_INCHES = (7.2, 5.4)  # arms by the dozen, with their names


class ComparisonExplorer(Explorer):
    """Every arm's paired difference to an arm of your choice, one table at a time.

    Attributes:
        table, metric, reference: what is chosen with.
        differences: arm -> its difference to the reference, lowest first.
    """

    def __init__(self, summary: ComparisonSummary):
        """
        Args:
            summary: of a comparison; its first table is shown first.
        """
        self._summary = summary
        budgets = [str(table["budget"]) for table in summary.tables]
        self.table = dropdown("table", budgets, labels=TITLES)
        self.metric, self.reference = dropdown("result"), dropdown("against")
        self.differences: dict[str, Difference] = {}
        super().__init__([self.table, self.metric, self.reference], size_inches=SIZE_INCHES)

    def _draw(self, figure: Figure) -> str:
        self._offer()
        budget, metric = str(self.table.value), str(self.metric.value)
        chosen = {"metric": metric, "reference": str(self.reference.value)}
        self.differences = differences(self._summary, budget, **chosen)
        axes = plot_differences(figure.subplots(), self._summary, budget, **chosen)
        axes.set_title(TITLES[budget])
        arms: dict[str, list[str]] = {"lower": [], "higher": [], UNRESOLVED: []}
        for arm, gap in self.differences.items():
            arms[gap.verdict].append(arm)
        said = "; ".join(
            f"{verdict}: {' · '.join(some) or 'none'}" for verdict, some in arms.items()
        )
        return (
            f"{TITLES[budget]}, {RESULTS.get(metric, metric)}, against {self.reference.value}, "
            f"{len(self._summary.seeds)} seed(s). Resolved {said}."
        )

    def _offer(self) -> None:
        """The results and arms of the table; a choice that is still among them stays."""
        table = self._summary.table(str(self.table.value))
        results = {run for row in table["rows"] for run in row if f"{run}_difference" in row}
        ordered = [name for name in RESULTS if name in results]
        offer(self.metric, [*ordered, *sorted(results.difference(RESULTS))], labels=RESULTS)
        arms = [row["arm"] for row in table["rows"] if self.metric.value in row]
        offer(self.reference, arms)
