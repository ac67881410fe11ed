"""Redraw every figure and table that the README shows, from the records under benchmarks/results.

`make figures` runs this. Nothing is measured here: `sbld demo --out` and `make bench` measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import lessons_parallelism, lessons_variants
from benchmarks.comparisons import load_summaries
from benchmarks.faults import faults_section, load_faults
from benchmarks.lessons_files import LessonResults
from benchmarks.lessons_tables import recall_rows, work_and_span_rows
from benchmarks.lessons_variants_tables import models_section, variants_section
from benchmarks.report import redraw, rows
from benchmarks.results import FOLDER as RESULTS
from benchmarks.results import Result
from sbldlib.comparison import ComparisonSummary
from sbldlib.comparison.tables import answer_table, markdown_cell, study_differences, table_rows
from sbldlib.demo import DemoRecord
from sbldlib.figures import demo_limits, demo_rows, save_demo_figures
from sbldlib.plots.comparison import plot_differences, plot_study
from sbldlib.plots.parallelism import draw_parallelism
from sbldlib.plots.reach import draw_reach
from sbldlib.plots.theme import themed
from sbldlib.plots.variants import draw_suspects, draw_variants
from sbldlib.storage.files import write_atomically

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
DEMO = ROOT / "benchmarks" / "results" / "demo.json"


# The comparisons of the harder question, by the words that the figure has for them.
STUDIES = {
    "cpu": "8 layers, width 64, 500 steps",
    "depth-16": "16 layers",
    "depth-24": "24 layers",
    "width-128": "width 128",
    "saving-40": "40 % saved",
    "long": "2000 steps",
    "epochs": "little text, many epochs",
}
TUNED = "sbld, front, analysis free"
SHOWN = ("arm", "layers", "steps", "loss on new text", "to the reference", "exact answers")
SHOWN += ("layers not run", "FLOPs saved", "pre-analysis")


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Rows, the header first, as a Markdown table."""
    head, *body = [f"| {' | '.join(map(markdown_cell, line))} |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def demo_section(record: DemoRecord) -> str:
    """The demonstration's table and its limits, in Markdown."""
    found = record.environment
    torch_version = found["packages"]["torch"]
    machine = f"{found['device']}, {found['processor_cores']} cores, torch {torch_version}"
    limits = f"{demo_limits(record)} Measured {found['date']} on {machine}."
    return "\n".join([markdown(demo_rows(record)), "", limits])


def comparison_section(summary: ComparisonSummary, budget: str) -> str:
    """One budget's table, in Markdown."""
    return markdown(table_rows(summary, budget, columns=SHOWN))


def answers_section(summary: ComparisonSummary) -> str:
    """The questions and their answers, and what they rest on, in Markdown."""
    shared, found = summary.shared, summary.environment
    rests = (
        f"{len(summary.seeds)} paired seeds, {shared['steps']} steps at full depth, asked saving "
        f"{shared['saving']:.0%}; difference in nats per token with its 95 % interval. "
        f"{found['device']}, torch {found['packages']['torch']}, {found['date']}."
    )
    return "\n".join([markdown(answer_table(summary)), "", rests])


def benchmark_section(results: list[Result]) -> str:
    """What was measured against a target, in Markdown; benchmarks/README.md has all of it."""
    header, *measured = rows(results)
    return markdown([header, *(row for row in measured if row[header.index("target")])])


def save_comparison_figures(summaries: dict[str, ComparisonSummary], folder: Path) -> list[Path]:
    """The main comparison at equal FLOPs, and SBLD against its controls in every setting."""
    files = [folder / "comparison.png", folder / "harder.png"]
    with themed():
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        ax = plot_differences(figure.subplots(), summaries["cpu"], "flops")
        ax.set_title("Equal FLOPs, pre-analysis paid")
        figure.savefig(files[0])
        named = {STUDIES[name]: summaries[name] for name in STUDIES if name in summaries}
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        found = study_differences(named, TUNED, ("full depth", "shallower", "half depth"))
        plot_study(figure.subplots(), found).set_title("Controls against SBLD, equal FLOPs")
        figure.savefig(files[1])
    return files


def lesson_section(results: LessonResults) -> str:
    """What the first lesson's benchmark found, in Markdown."""
    tables = [work_and_span_rows(results.cells)]
    tables += [recall_rows(results.cells, part) for part in ("alone", "together")]
    found, size = results.machine, results.size
    rests = (
        f"{size['tokens_per_step']:,} tokens a timed step, median of {size['rounds']} rounds on "
        f"{found['processor']}, {found['processor_cores']} cores, torch "
        f"{found['packages']['torch']}. Recall: mean and range of {len(size['seeds'])} seeds, "
        f"{size['num_steps']} steps a training; a guess is right in 1 of {size['num_symbols']}."
    )
    return "\n\n".join([*map(markdown, tables), rests])


def save_lesson_figures(folder: Path, results: Path = RESULTS) -> list[Path]:
    """The first lesson's work and span, and its reach; a GPU's curve where one was measured."""
    cells = LessonResults.load(lessons_parallelism.result_path("cpu", results)).cells
    on_gpu = lessons_parallelism.result_path("gpu", results)
    gpu = LessonResults.load(on_gpu).cells if on_gpu.exists() else None
    files = [folder / "parallelism.png", folder / "reach.png"]
    with themed():
        figure = Figure(figsize=(9.6 if gpu else 7.2, 6.0), layout="constrained")
        draw_parallelism(figure, cells, gpu)
        figure.savefig(files[0])
        figure = Figure(figsize=(7.2, 7.0), layout="constrained")
        draw_reach(figure, cells)
        figure.savefig(files[1])
    return files


def save_variant_figures(folder: Path, results: Path = RESULTS) -> list[Path]:
    """The GPT variants beside the GPT, and what could make a loss low."""
    cells = LessonResults.load(lessons_variants.result_path("cpu", results)).cells
    files = [folder / "variants.png", folder / "suspects.png"]
    for file, draw, height in zip(files, (draw_variants, draw_suspects), (5.0, 4.0), strict=True):
        with themed():
            figure = Figure(figsize=(7.2, height), layout="constrained")
            draw(figure, cells)
            figure.savefig(file)
    return files


def with_section(text: str, name: str, section: str) -> str:
    """The text with what stands between <!-- name --> and <!-- /name --> replaced."""
    head, _, rest = text.partition(f"<!-- {name} -->")
    _, _, tail = rest.partition(f"<!-- /{name} -->")
    return f"{head}<!-- {name} -->\n{section}\n<!-- /{name} -->{tail}"


def main() -> None:
    """Redraw the figures and rewrite the README's tables."""
    record = DemoRecord.load(DEMO)
    for path in save_demo_figures(record, FIGURES):
        print(path.relative_to(ROOT))
    summaries = load_summaries()
    for path in save_comparison_figures(summaries, FIGURES):
        print(path.relative_to(ROOT))
    for path in (*save_lesson_figures(FIGURES), *save_variant_figures(FIGURES)):
        print(path.relative_to(ROOT))
    variants = LessonResults.load(lessons_variants.result_path("cpu"))
    lessons = ROOT / "benchmarks" / "README.md"
    section = lesson_section(LessonResults.load(lessons_parallelism.result_path("cpu")))
    text = with_section(lessons.read_text(), "lesson", section)
    text = with_section(text, "variants", variants_section(variants))
    write_atomically(lessons, text.encode())
    readme = ROOT / "README.md"
    text = with_section(readme.read_text(), "demo", demo_section(record))
    text = with_section(text, "models", models_section(variants))
    text = with_section(text, "comparison", comparison_section(summaries["cpu"], "flops"))
    text = with_section(text, "answers", answers_section(summaries["cpu"]))
    text = with_section(text, "benchmarks", benchmark_section(redraw()))
    text = with_section(text, "faults", faults_section(load_faults()))
    write_atomically(readme, text.encode())


if __name__ == "__main__":
    main()
