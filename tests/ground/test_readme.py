"""What the README says is so: its commands, tables, pictures, links, snippet and numbers."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
from pathlib import Path

import torch

import sbldlib
from benchmarks import lessons_variants
from benchmarks.comparisons import load_summaries
from benchmarks.faults import faults_section, load_faults
from benchmarks.lessons_files import LessonResults
from benchmarks.results import load_results
from sbldlib.comparison.cells import (
    arms_of,
    change_of,
    difference_to,
    mean_over_seeds,
    times_as_long,
)
from sbldlib.demo import DemoRecord

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

spec = importlib.util.spec_from_file_location("figures_make", ROOT / "figures" / "make.py")
assert spec is not None and spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def section(name: str) -> str:
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def test_starts_with_one_sentence_one_picture_and_two_commands():
    parts = README.split("\n\n")
    assert parts[0].startswith("# ") and parts[1].count(". ") == 0 and parts[1].endswith(".")
    assert parts[2].startswith("![") and parts[3].startswith("```sh\nmake lab")
    assert "make test" in parts[3]


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets | {"sure"}


def test_the_eight_commands_with_their_leading_arguments():
    rows = re.findall(r"^\| `(\w+)\(([^)]*)\)` \|", README, re.M)
    assert len(rows) == 8
    for name, arguments in rows:
        parameters = list(inspect.signature(getattr(sbldlib, name)).parameters)
        asked = arguments.split(", ")
        assert parameters[: len(asked)] == asked, name


def test_every_notebook_has_its_row_and_every_row_its_notebook():
    listed = re.findall(r"^\| \[(\d\d) · [^\]]+\]\(notebooks/([\w.]+)\)", README, re.M)
    assert [f"{number}" for number, _ in listed] == [name[:2] for _, name in listed]
    files = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert [name for _, name in listed] == files


def test_links_and_pictures_lead_to_files_and_pictures_have_words():
    for alt, target in re.findall(r"(!?\[[^\]]*\])\(([^)]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
        if alt.startswith("!"):
            assert len(alt) > 40, f"{target} needs words for those who cannot see it"


def test_every_committed_figure_is_shown():
    shown = set(re.findall(r"\(figures/(\w+\.png)\)", README))
    assert shown == {path.name for path in (ROOT / "figures").glob("*.png")}


def test_demo_table_is_the_record_s():
    assert section("demo") == make.demo_section(DemoRecord.load(make.DEMO))


def test_benchmark_table_is_the_results_s():
    assert section("benchmarks") == make.benchmark_section(load_results())


def test_fault_table_is_the_results_s_and_every_promise_in_it_was_kept():
    results = load_faults()
    assert section("faults") == faults_section(results)
    assert results.all_kept and len(results.outcomes) >= 13
    least = {"killed": 50, "killed_saves": 200, "damaged": 300, "interrupted": 200, "fuzzed": 2000}
    least |= {"hostile": 6, "racing": 20, "steady": 10_000, "twice": 2, "streamed": 10_240}
    counts = {outcome["name"]: outcome["count"] for outcome in results.outcomes}
    assert {name: counts.get(name, 0) >= num for name, num in least.items()} == dict.fromkeys(
        least, True
    )


def test_every_promise_has_its_test():
    named = re.findall(r"^\| [^|]+ \| `(tests/[\w/]+\.py)::(\w+)` \|$", README, re.M)
    assert len(named) >= 15
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_section_is_replaced_and_the_rest_kept():
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb"
    assert make.with_section(text, "x", "new") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"


def test_the_snippets_run_one_after_the_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(snippets) == 3
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(0, 16, (2, 9), generator=generator) for _ in range(3)]
    model = sbldlib.GPT(
        sbldlib.GPTConfig(vocabulary_size=16, context_length=8, num_layers=4, num_heads=2, width=16)
    )
    space = {"model": model, "batches": [(t[:, :-1], t[:, 1:]) for t in tokens]}

    def run(snippet: str) -> None:
        code = compile(snippet, "README", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (awaited := eval(code, space)) is not None:
            asyncio.run(awaited)

    run(snippets[0])
    assert 0.1 < space["run"].realised_drop < 0.3
    assert f"{space['run'].losses[-1]}" in capsys.readouterr().out
    run(snippets[1])
    assert len(space["run"]) == len(space["twin"]) and space["twin"].realised_drop == 0
    run(snippets[2])
    assert (tmp_path / "data" / "runs" / "mine" / "run.json").exists()


def test_comparison_tables_are_the_results_s():
    summary = load_summaries()["cpu"]
    assert section("answers") == make.answers_section(summary)
    assert section("comparison") == make.comparison_section(summary, "flops")


def test_what_it_concludes_is_in_the_results():
    summary = load_summaries()["cpu"]

    def verdict(budget: str, first: str, second: str) -> str:
        return summary.difference(budget, first, second).verdict

    assert verdict("steps", "sbld, front", "full depth") == "lower"
    assert verdict("steps", "sbld, rising", "full depth") == "higher"
    assert verdict("steps", "sbld", "full depth") == "unresolved"
    for late in ("pld", "linear", "layerskip"):
        assert verdict("steps", late, "sbld, front") == "higher"
    for wrong in ("uniform", "sbld, inverted"):
        assert verdict("steps", wrong, "sbld") == "higher"
    assert verdict("flops", "sbld, front, analysis free", "shallower") == "lower"
    assert verdict("flops", "sbld, front", "shallower") == "unresolved"
    for other in ("shallower", "sbld, front, analysis free", "raptr"):
        assert verdict("flops", "half depth", other) == "lower"
    assert verdict("steps", "sbld, PWEGD", "sbld") != "lower"
    kept = load_summaries()
    for name in ("depth-24", "long"):
        harder, front = kept[name], "sbld, front, analysis free"
        assert harder.difference("flops", front, "full depth").verdict == "lower"
        assert harder.difference("flops", "half depth", front).verdict == "lower"
    deep = kept["depth-24"].difference("flops", "sbld, front, analysis free", "shallower")
    assert deep.verdict == "lower"
    often = kept["epochs"]
    for other in ("full depth", "sbld, front, analysis free"):
        assert often.difference("flops", "half depth", other).verdict == "higher"
    again = often.difference("flops", "sbld, front, analysis free", "full depth")
    assert again.verdict == "unresolved"
    tuning = kept["finetune"]
    for arm in ("sbld", "sbld, front"):
        assert tuning.difference("flops", arm, "full depth").verdict != "lower"
    spent = [run for run in summary.runs if run["arm"] == "sbld, PWEGD"]
    assert all(run["num_steps"] == 0 for run in spent if run["budget"] == "flops")


def test_what_it_says_of_the_variants_is_in_the_results():
    cells = LessonResults.load(lessons_variants.result_path("cpu")).cells

    def verdict(part: str, arm: str, reference: str = "gpt") -> str:
        return difference_to(cells, part, arm, reference=reference).verdict

    def bits(arm: str) -> float:
        return mean_over_seeds(cells, "raw", arm).mean

    assert (
        cells["causality/conv-ahead"]["is_causal"] and not cells["causality/conv-leak"]["is_causal"]
    )
    assert 0 < cells["unigram"]["bits_per_byte"] - bits("conv-ahead") < 0.02
    whole = mean_over_seeds(cells, "raw", "gpt", "test_nats").mean
    padded, leaking = cells["padding/0.75/counted/0"], cells["raw/conv-leak/0"]
    assert max(padded["loss_as_counted"], leaking["test_nats"]) / whole < 1.42 / 3.54
    assert (verdict("raw", "conv"), verdict("compute", "conv")) == ("higher", "lower")
    assert verdict("compute", "gpt-64", "conv") == "lower"
    times = cells["compute/conv/0"]["tokens"] / cells["raw/gpt/0"]["tokens"]
    assert 3.9 < times < 4.5
    for part in ("raw", "compute"):
        assert verdict(part, "stack") == verdict(part, "gpt-shallow") == "lower"
        assert verdict(part, "diverging") == "higher"
        small, stack = (difference_to(cells, part, arm).mean for arm in ("gpt-shallow", "stack"))
        assert stack < small < 0.6 * stack
    assert bits("gpt") > cells["bigram"]["bits_per_byte"]

    # four times the budget
    assert mean_over_seeds(cells, "longer", "gpt").mean < cells["bigram"]["bits_per_byte"] - 0.2
    assert times_as_long(cells) == 4
    assert change_of(cells, ("raw", "longer"), "conv").verdict == "higher"
    assert verdict("longer_compute", "gpt-64", "conv") == "lower"
    assert verdict("longer_compute", "conv") == "unresolved"
    for arm in ("stack", "gpt-shallow"):
        assert (verdict("longer", arm), verdict("longer_compute", arm)) == ("higher", "lower")
    assert verdict("raw", "gpt-outer", "conv") == "lower"
    assert verdict("longer", "gpt-outer", "conv") == "higher"
    assert verdict("longer", "diverging") == "higher"
    assert difference_to(cells, "longer_compute", "gpt-64").high < -0.2
    others = set(arms_of(cells, "longer")) - {"gpt", "gru"}
    assert {verdict("longer", arm) for arm in others} == {"higher"}
    one, three = cells["longer/gru/0"], mean_over_seeds(cells, "longer", "gpt")
    assert f"({one['bits_per_byte']:.3f} and {three.mean:.3f} bits per byte; one" in README
    fast = [
        cells[f"model/{name}/0"]["bits_per_byte"] for name in ("rnn", "lstm", "gru", "convolution")
    ]
    assert max(fast) < min(map(bits, ("gpt", "conv", "diverging", "stack"))) - 0.2


def test_what_it_says_of_the_variants_speed_is_in_the_results():
    (found,) = (result for result in load_results() if result.question == "variants")
    medians = {finding["claim"]: finding["spread"]["median"] for finding in found.findings}
    of_conv = [value for claim, value in medians.items() if "convolution" in claim]
    plain, parted = of_conv[:2], of_conv[2:4]
    assert all(0.75 < value < 0.87 for value in plain) and all(0.7 < v < 0.8 for v in parted)
