"""The comparison of the GPT variants as tables, and one table of all models of the kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from sbldlib.comparison.cells import (
    REFERENCE,
    Cells,
    arms_of,
    by_seed,
    difference_to,
    mean_over_seeds,
    of_arm,
)
from sbldlib.comparison.summary import Difference
from sbldlib.comparison.tables import interval
from sbldlib.models.recurrent import KINDS
from sbldlib.plots.parallelism import KIND_LABEL
from sbldlib.plots.variant_styles import arm_style, suspects

from .lessons_files import LessonResults
from .report import markdown_table

NONE = "-"
MODEL_LABEL = {"bert": "BERT", "encoder_decoder": "encoder-decoder"}
# Of the arms, those that are models of the kit; the others are the same with something changed.
SHOWN = ("gpt", "conv", "conv-ahead", "diverging", "stack")


def budget_rows(cells: Cells, part: str) -> list[list[str]]:
    """The header, and a line an arm: its budget, its score, and the score less the GPT's.

    Args:
        cells: of the file.
        part: "raw" (equal tokens), "compute" (equal operations) or the same two of the longer
            trainings, "longer" and "longer_compute".
    """
    head = ["model", "parameters", "steps", "tokens", "TFLOP", "bits per byte"]
    rows = [[*head, "less the GPT's, paired [95 %]", "right tokens"]]
    for arm in arms_of(cells, part):
        found = list(of_arm(cells, part, arm).values())
        gap = difference_to(cells, part, arm)
        rows.append(
            [
                arm_style(arm, cells)["label"],
                f"{found[0]['num_parameters']:,}",
                f"{fmean(cell['steps'] for cell in found):,.0f}",
                f"{fmean(cell['tokens'] for cell in found) / 1e6:.2f} M",
                f"{fmean(cell['flops'] for cell in found) / 1e12:.2f}",
                _with_range(cells, part, arm),
                NONE if arm == REFERENCE else _gap(gap),
                f"{mean_over_seeds(cells, part, arm, 'accuracy').mean:.1%}",
            ]
        )
    return rows


def suspect_rows(cells: Cells) -> list[list[str]]:
    """The header, and a line a suspect: its loss as reported, on text alone, over the GPT's."""
    found = suspects(cells)
    baseline = mean_over_seeds(cells, "raw", REFERENCE, "test_nats").mean
    rows = [["what", "loss as reported", "over the GPT's", "loss on text alone"]]
    for label, _, reported, on_text in found:
        share = NONE if baseline is None else f"{reported / baseline:.2f}"
        alone = "the same" if on_text is None else f"{on_text:.2f}"
        rows.append([label, f"{reported:.2f}", share, alone])
    return rows


def model_rows(results: LessonResults) -> list[list[str]]:
    """The header, and a line a model of the kit: what it is, what it takes, what it reaches.

    A "-" stands where a number has no meaning; `models_section` says why.
    """
    cells, size = results.cells, results.size
    head = ["model", "parameters", "context", "tokens a batch", "ms a batch", "training loss"]
    rows = [[*head, "test bits per byte", "accuracy", "ms a pass of one row"]]
    seconds = cells.get("latency", {}).get("seconds", {})
    for name, label, found in _models(cells, size):
        rows.append(
            [
                label,
                f"{found[0]['num_parameters']:,}",
                str(found[0]["context_length"]),
                f"{found[0]['rows'] * found[0]['context_length']:,}",
                _milliseconds(seconds, name, "batch"),
                f"{fmean(cell['train_nats'] for cell in found):.2f}",
                _mean(found, "bits_per_byte", "{:.3f}"),
                _accuracy(found),
                _milliseconds(seconds, name, "forward"),
            ]
        )
    return rows


def variants_section(results: LessonResults) -> str:
    """Both budgets and the suspects, each a Markdown table, and what they rest on."""
    cells, size, found = results.cells, results.size, results.machine
    first = of_arm(cells, "raw", REFERENCE)[size["seeds"][0]]
    rests = (
        f"{len(size['seeds'])} seeds of weights and batches; bits per byte are means and ranges "
        f"over them, differences are paired by seed with Student's 95 % interval. All models are "
        f"scored on the same {first['num_targets']:,} tokens ({first['num_bytes']:,} bytes) of "
        f"files that training never saw; guessing by frequency has "
        f"{cells['unigram']['bits_per_byte']:.3f} bits per byte, by the token before alone "
        f"{cells['bigram']['bits_per_byte']:.3f}. Learning rates from a search of "
        f"{len(size['rates'])} with another seed, decayed to each budget's own end. "
        f"{found['processor']}, torch {found['packages']['torch']}."
    )
    parts = [
        "Equal raw context, equal tokens:",
        markdown_table(budget_rows(cells, "raw")),
        "Equal operations, those of the GPT's run:",
        markdown_table(budget_rows(cells, "compute")),
        f"{size['longer']} times as many tokens, at the learning rates of the shorter trainings "
        "(the GRU's was never searched):",
        markdown_table(budget_rows(cells, "longer")),
        f"{size['longer']} times as many operations, those of the GPT just above:",
        markdown_table(budget_rows(cells, "longer_compute")),
        "What could make a loss low, in nats a target of new text:",
        markdown_table(suspect_rows(cells)),
        rests,
    ]
    return "\n\n".join(parts)


def models_section(results: LessonResults) -> str:
    """All models of the kit in one Markdown table, and what its numbers mean."""
    size, found = results.size, results.machine
    rests = (
        "Training loss: nats a target, mean of a run's last twentieth; its targets are each "
        "model's own. Bits per byte and accuracy (share of tokens guessed first) are of the same "
        "tokens of new text for all that predict the token after what they saw, or some further "
        f"ahead: mean of {len(size['seeds'])} seeds for the GPTs, one for the others, which took "
        "as many steps at a learning rate that was not searched. BERT sees both sides of a hidden "
        "token and gives no probability of a text, so bits per byte have no meaning there; its "
        "accuracy is of tokens hidden behind [MASK], its loss is of two tasks, and this budget is "
        "too small for it (notebook 03 gives it more). The encoder-decoder translates "
        "number words: its accuracy is of whole answers. Milliseconds: median of "
        f"{size['rounds']} rounds in turn, one thread, {found['processor']}; growing models at "
        "their last stage."
    )
    return "\n\n".join([markdown_table(model_rows(results)), rests])


def _models(
    cells: Cells, size: Mapping[str, Any]
) -> list[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Name, label and cells of every model that was trained, a seed each."""
    found: list[tuple[str, str, Sequence[Mapping[str, Any]]]] = []
    for name in size["other_models"]:
        label = MODEL_LABEL.get(name) or KIND_LABEL[name]
        if name in KINDS:
            label = f"{label}, sequence model" if name == "convolution" else label
        found.append((name, label, list(of_arm(cells, "model", name).values())))
    for arm in SHOWN:
        found.append(
            (arm, arm_style(arm, cells)["label"], list(of_arm(cells, "raw", arm).values()))
        )
    return [each for each in found if each[2]]


def _with_range(cells: Cells, part: str, arm: str) -> str:
    values = by_seed(cells, part, arm).values()
    mean = f"{fmean(values):.3f}"
    return f"{mean} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else mean


def _gap(difference: Difference) -> str:
    return interval(difference.to_dict(), "{:+.3f}")


def _mean(found: Sequence[Mapping[str, Any]], quantity: str, form: str) -> str:
    if quantity not in found[0]:
        return NONE
    return form.format(fmean(cell[quantity] for cell in found))


def _accuracy(found: Sequence[Mapping[str, Any]]) -> str:
    known = {"accuracy": "", "at_mask_accuracy": " of hidden", "exact_match": " of answers"}
    for quantity, words in known.items():
        if quantity in found[0]:
            return _mean(found, quantity, "{:.1%}") + words
    return NONE


def _milliseconds(seconds: Mapping[str, Any], name: str, what: str) -> str:
    return f"{1e3 * median(seconds[name][what]):.1f}" if name in seconds else NONE
