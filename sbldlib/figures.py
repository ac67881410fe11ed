"""Records in, files out: the demonstration's figures and its table in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .demo import DemoRecord, scheduler_from
from .plots.sensitivity import plot_sensitivity
from .plots.theme import themed
from .plots.training import plot_keep_probability, plot_losses
from .plots.variance import plot_variance_fit
from .records import LayerLists, PilotData, SensitivityData

COLUMNS = {
    "arm": ("arm", str),
    "validation_loss": ("loss on new text", "{:.3f}".format),
    "accuracy": ("exact answers", "{:.1%}".format),
    "seconds": ("seconds", "{:.1f}".format),
    "layers_not_run": ("layers not run", "{:.1%}".format),
    "flops_saved": ("FLOPs saved", "{:.1%}".format),
    "time_saved": ("time saved", "{:.1%}".format),
    "ceiling": ("ceiling", "{:.1%}".format),
}


def demo_rows(record: DemoRecord) -> list[tuple[str, ...]]:
    """The demonstration's table as text, its header first."""
    header = tuple(title for title, _ in COLUMNS.values())
    rows = [tuple(show(row[key]) for key, (_, show) in COLUMNS.items()) for row in record.table]
    return [header, *rows]


def demo_limits(record: DemoRecord) -> str:
    """What the demonstration's table does not show, with its own numbers."""
    cost = sum(record.preanalysis_seconds.values())
    chance, saving = record.data["chance_level"], record.settings["saving"]
    num_layers = len(record.keep_probability[0])
    depth = round((1 - saving) * num_layers)
    return (
        f"Loss in nats per token of text that no run has seen; exact answers to arithmetic "
        f"problems (by chance {chance:.1%}). The ceiling is the most that running so many fewer "
        f"layers can save; shallower is a model of {depth} layers at full depth, the control. "
        f"One seed, equal steps, asked saving {saving:.0%}: this shows how the parts work "
        f"together, not which method is better. SBLD's warm-up, sensitivities, pilot and fit took "
        f"{cost:.0f} s more, which the table leaves out."
    )


def save_demo_figures(record: DemoRecord, folder: Path) -> list[Path]:
    """Draw the demonstration's figures from its record; returns their files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "sensitivity": _sensitivity,
        "variance_fit": _variance_fit,
        "keep_probability": _keep_probability,
        "losses": _losses,
    }
    files = []
    for name, draw in drawings.items():
        with themed():
            figure = Figure(figsize=(6.4, 3.6), layout="constrained")
            draw(figure.subplots(), record)
            files.append(folder / f"{name}.png")
            figure.savefig(files[-1])
    return files


def _sensitivity(ax: Axes, record: DemoRecord) -> None:
    measured = SensitivityData.from_dict(record.sensitivity)
    plot_sensitivity(ax, measured, LayerLists.from_dict(record.lists))
    ax.set_title(f"What skipping one layer costs, after {measured.iteration} steps")


def _variance_fit(ax: Axes, record: DemoRecord) -> None:
    scheduler = scheduler_from(
        PilotData.from_dict(record.pilot),
        LayerLists.from_dict(record.lists),
        saving=record.settings["saving"],
    )
    plot_variance_fit(ax, scheduler.curve, scheduler.fit)
    ax.set_title("How far dropping moves the loss, over a run")


def _keep_probability(ax: Axes, record: DemoRecord) -> None:
    plot_keep_probability(ax, np.asarray(record.keep_probability))
    ax.set_title("SBLD's keep probability, layer by step")


def _losses(ax: Axes, record: DemoRecord) -> None:
    plot_losses(ax, record.losses, window=max(5, record.settings["steps"] // 30))
    ax.set_title("One seed, equal steps")
