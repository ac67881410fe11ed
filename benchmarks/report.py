"""Results in words and pictures: the table at the terminal and in the README, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbldlib.comparison.tables import markdown_cell
from sbldlib.environment import installed_version
from sbldlib.storage.files import write_atomically

from . import saving
from .common import say
from .results import FOLDER, Result, load_results
from .timing import spread

README = Path(__file__).parent / "README.md"
FIGURE = Path(__file__).parent.parent / "figures" / "saving.png"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEADER = ("setting", "measured", "median", "p10 to p90", "95 % of the median", "target", "verdict")
FORMATS = {"x": "{:.3f}", "%": "{:.2f} %", "us": "{:,.0f} µs", "ms": "{:.1f} ms"}
FORMATS["tokens/s"] = "{:,.0f}"
DRAWN = {
    "cpu-small": "Small preset on a CPU",
    "cuda-gpt2-124m-compiled": "GPT-2 124M on a GPU",
    "cuda-gpt3-medium-compiled": "GPT-3 Medium on a GPU",
}


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The table's lines, its header first."""
    lines = [_row(result, finding) for result in results for finding in result.findings]
    return [HEADER, *lines]


def plain_table(lines: Sequence[Sequence[str]]) -> str:
    """Columns padded with spaces, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([padded[0], "-" * sum(widths, 2 * (len(widths) - 1)), *padded[1:]])


def markdown(results: Sequence[Result]) -> str:
    """The same table for the README, with where and when each setting was measured."""
    return "\n".join([markdown_table(rows(results)), "", *_provenance(results)])


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows, the header first, as a Markdown table."""
    head, *body = ["| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def renew_readme(results: Sequence[Result], path: Path = README) -> None:
    """Put the results' table between the README's markers.

    Raises:
        ValueError: the file has no markers.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path.name} lacks the markers {BEGIN} and {END}")
    text = f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}"
    write_atomically(path, text.encode())


def redraw(folder: Path = FOLDER) -> list[Result]:
    """Renew the README's table and the figure from the results; returns them."""
    results = load_results(folder)
    renew_readme(results)
    if installed_version("matplotlib") is None or installed_version("seaborn") is None:
        say("!! SKIPPED: matplotlib and seaborn are not both installed, so no figure is drawn")
    elif any(r.question == "saving" and r.setting["name"] in DRAWN for r in results):
        draw_saving(results, FIGURE)
    return results


def draw_saving(results: Sequence[Result], path: Path) -> Path:
    """Realised and theoretical saving for each number of blocks skipped, one axes a setting."""
    from matplotlib.figure import Figure

    from sbldlib.plots.theme import themed

    chosen = {r.setting["name"]: r for r in results if r.question == "saving"}
    chosen = {name: chosen[name] for name in DRAWN if name in chosen}
    with themed():
        width = 2.0 + 4.6 * len(chosen)
        figure = Figure(figsize=(width, 4.4), layout="constrained")
        all_axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
        for ax, (name, result) in zip(all_axes, chosen.items(), strict=True):
            _draw_one(ax, result)
            ax.set_title(DRAWN[name])
        all_axes[0].set_ylabel("time saved (%)")
        all_axes[0].legend(loc="upper left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw_one(ax: Any, result: Result) -> None:
    from sbldlib.plots.theme import BLUE, INK, ORANGE

    num_layers = result.facts["num_layers"]
    blocks_share = 1 - result.facts["flops_outside_share"]
    depths = range(num_layers)
    ideal = [100 * k / num_layers for k in depths]
    series = (
        ("measured: blocks", BLUE, "o", lambda k: saving.realised(result.rounds, num_layers, k)),
        ("measured: whole step", ORANGE, "s", lambda k: saving.step_saving(result.rounds, k)),
    )
    ax.plot(ideal, ideal, color=INK, linestyle="-", linewidth=1.2, label="ideal: blocks")
    flops = [blocks_share * share for share in ideal]
    ax.plot(ideal, flops, color=INK, linestyle=":", linewidth=1.4, label="FLOPs: whole step")
    for label, colour, marker, saved in series:
        shares = [spread([100 * s for s in saved(k)]) for k in depths]
        medians = [s.median for s in shares]
        bars = [
            [s.median - s.p10 for s in shares],
            [s.p90 - s.median for s in shares],
        ]
        ax.errorbar(
            ideal, medians, yerr=bars, color=colour, marker=marker, markersize=6,
            linestyle="none", capsize=2.5, elinewidth=1.2, label=label,
        )  # fmt: skip
    ax.set(xlabel=f"blocks skipped (% of {num_layers})", xlim=(-3, 100), ylim=(-6, 100))


def _row(result: Result, finding: dict[str, Any]) -> tuple[str, ...]:
    form, s = FORMATS[finding["unit"]].format, finding["spread"]
    timed = s["p10"] != s["p90"]
    return (
        result.setting["name"],
        finding["claim"],
        form(s["median"]),
        f"{form(s['p10'])} to {form(s['p90'])}" if timed else "computed",
        f"{form(s['low'])} to {form(s['high'])}" if timed else "",
        _target(finding),
        finding["verdict"],
    )


def _target(finding: dict[str, Any]) -> str:
    unit = " %" if finding["unit"] == "%" else ""
    for sign, key in ((">=", "at_least"), ("<=", "at_most")):
        if finding[key] is not None:
            return f"{sign} {finding[key]:g}{unit}"
    return ""


def _provenance(results: Sequence[Result]) -> list[str]:
    """One line a setting: its model, batch, precision, machine, versions and date."""
    lines = {}
    for result in results:
        setting, where = result.setting, result.machine
        model = setting["model"]
        versions = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
        processors = where["device"] if setting["device"] == "cuda" else where["processor"]
        text = (
            f"- `{setting['name']}`: {setting['preset']} ({model['num_layers']} layers, width "
            f"{model['width']}), {setting['batch_size']} x {setting['num_tokens']} tokens, "
            f"{setting['precision']}; {processors}, {where['torch_threads']} thread(s), Python "
            f"{where['python']}, {versions}; {result.date}"
        )
        lines[text] = None
    return list(lines)
