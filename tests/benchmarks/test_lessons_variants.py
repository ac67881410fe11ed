"""The variants' comparison: fair budgets, the same bytes, a leak that is found, tables by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from variant_cells import SEEDS, everything

from benchmarks import lessons_files, lessons_variants
from benchmarks.lessons_files import LessonResults, forget
from benchmarks.lessons_variants import best_rate, cells_at, main, result_path
from benchmarks.lessons_variants_models import flops_a_token
from benchmarks.lessons_variants_sizes import (
    AHEAD,
    ARMS,
    CPU,
    SIZES,
    PaddedBatches,
    batches_of,
    make_model,
    offset_of,
    random_batch,
    text_of,
)
from benchmarks.lessons_variants_tables import (
    budget_rows,
    model_rows,
    models_section,
    suspect_rows,
    variants_section,
)
from sbldlib.measure import count_flops, measure_causality

ROOT = Path(__file__).parents[2]
SMOKE = SIZES["smoke"]
PLAIN_LISTS = ("losses", "bits_per_byte_at", "flops_at")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Tokens of its own, and one thread; both as they were after it."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SBLD_DATA", str(tmp_path_factory.mktemp("cache")))
        text_of.cache_clear()
        yield
        text_of.cache_clear()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache):
    """Where every part was measured, at the smallest size."""
    path = tmp_path_factory.mktemp("results")
    assert main(["smoke", "--folder", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def results(folder):
    return LessonResults.load(result_path("smoke", folder))


def of(results: LessonResults, *parts: str):
    return {name: cell for name, cell in results.cells.items() if name.split("/")[0] in parts}


def test_every_cell_is_there_and_measured_once(folder, results):
    path = result_path("smoke", folder)
    expected = {"unigram", "bigram", "latency", *(f"causality/{arm}" for arm in ARMS)}
    families = ("gpt", "conv", "conv-ahead", "diverging")
    expected |= {f"rate/{family}/{rate}" for family in families for rate in ("0.002", "0.005")}
    expected |= {f"raw/{arm}/0" for arm in ARMS} | {f"control/{AHEAD}/0"}
    compared = ("gpt-16", "gpt-shallow", "conv", "conv-ahead", "stack", "diverging")
    expected |= {f"compute/{arm}/0" for arm in compared}
    expected |= {f"longer/{arm}/0" for arm in SMOKE.longer_arms}
    longer = ("conv", "stack", "gpt-shallow", "gpt-16")
    expected |= {f"longer_compute/{arm}/0" for arm in longer}
    expected |= {f"padding/{s}/{how}/0" for s in (0.5, 0.25) for how in ("counted", "ignored")}
    expected |= {f"model/{name}/0" for name in SMOKE.other_models}
    expected |= {f"length/{arm}/{n}" for arm in ("gpt", "conv") for n in SMOKE.lengths}
    assert set(results.cells) == expected
    assert all({"date", "seconds_taken"} <= cell.keys() for cell in results.cells.values())
    written = path.read_bytes()
    assert main(["smoke", "--folder", str(folder)]) == 0
    assert path.read_bytes() == written, "nothing is measured again"


def test_a_training_says_what_it_was_and_how_it_went(results):
    for name, cell in of(results, "raw", "compute", "longer", "longer_compute", "control").items():
        assert cell["tokens"] == cell["steps"] * 64, name
        assert len(cell["losses"]) == cell["steps"] and cell["loss_stride"] == 1
        numbers = [number for number, _ in cell["bits_per_byte_at"]]
        assert numbers == sorted(set(numbers)) and numbers[-1] == cell["steps"]
        assert len(cell["flops_at"]) == len(numbers)
        assert cell["flops_at"][-1] == pytest.approx(cell["flops"], rel=1e-5)
        assert cell["bits_per_byte_at"][-1][1] == pytest.approx(cell["bits_per_byte"], rel=1e-4)
        last = cell["losses"][-max(1, round(cell["steps"] / 20)) :]
        assert cell["train_nats"] == pytest.approx(sum(last) / len(last), rel=1e-4)
        assert 0 <= cell["accuracy"] <= 1 and cell["num_parameters"] > 1e4
        assert cell["context_length"] * cell["rows"] == 64
    grown = results.cells["raw/diverging/0"]["num_parameters"]
    assert grown == results.cells["raw/gpt/0"]["num_parameters"], "counted when it has grown"


def test_every_model_is_scored_on_the_same_bytes(results):
    scored = of(
        results,
        "raw",
        "compute",
        "longer",
        "longer_compute",
        "control",
        "padding",
        "unigram",
        "bigram",
    )
    scored["lstm"] = results.cells["model/lstm/0"]
    assert len(scored) == 29
    seen = {(cell["num_targets"], cell["num_bytes"]) for cell in scored.values()}
    tokens = text_of(SMOKE).test.tokens[SMOKE.first_target :][: SMOKE.num_targets]
    text = text_of(SMOKE).tokenizer.decode(tokens).replace("<|endoftext|>", "")
    assert seen == {(SMOKE.num_targets, len(text.encode()))}


def test_equal_compute_is_equal_within_a_step(results):
    budget = results.cells["raw/gpt/0"]["flops"]
    for name, cell in of(results, "compute").items():
        arm = name.split("/")[1]
        model = make_model(SMOKE, arm, 0)
        while getattr(model, "stage", 0) < getattr(model, "num_stages", 1) - 1:
            model.grow()
        batch = random_batch(SMOKE.rows_of(arm), SMOKE.context_of(arm), SMOKE.vocabulary_size)
        a_step = count_flops(model, batch).full
        assert 0 <= cell["flops"] - budget < a_step, name
    by_hand = 4 * count_flops(make_model(SMOKE, "gpt", 0), random_batch(2, 32, 300)).full
    assert budget == by_hand


def test_all_arms_of_one_context_train_on_the_same_windows():
    first = batches_of(SMOKE, "gpt", seed=1)
    for arm in ("conv", "conv-ahead", AHEAD, "stack"):
        source = batches_of(SMOKE, arm, seed=1)
        offset = offset_of(SMOKE, arm)
        assert offset == (16 if arm.endswith("-ahead") else 1)
        for step in (0, 7):
            (inputs_BT, next_BT), (same_BT, targets_BT) = first.batch(step), source.batch(step)
            assert torch.equal(inputs_BT, same_BT)
            length = inputs_BT.shape[1]
            assert torch.equal(targets_BT[:, : length - offset], inputs_BT[:, offset:])
            assert offset > 1 or torch.equal(targets_BT, next_BT)
    assert not torch.equal(first.batch(0)[0], batches_of(SMOKE, "gpt", seed=2).batch(0)[0])
    assert make_model(SMOKE, "conv-ahead", 0).config.offset == offset_of(SMOKE, AHEAD)


def test_the_planted_leak_is_found_on_that_very_arm_and_no_other(results):
    found = of(results, "causality")
    assert {name.split("/")[1] for name, cell in found.items() if not cell["is_causal"]} == {
        "conv-leak"
    }
    assert found["causality/conv-leak"]["num_leaks"] > 0
    assert found["causality/conv-leak"]["lookahead"] == 15, "the end of its innermost group"
    ahead = found["causality/conv-ahead"]
    assert ahead["offset"] == 16 and ahead["lookahead"] == 15
    leaking, honest = (make_model(SMOKE, arm, 0) for arm in ("conv-leak", "conv"))
    assert all(a is not None for a in leaking.state_dict())
    for (name, ours), theirs in zip(
        leaking.state_dict().items(), honest.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    tokens_BT = random_batch(1, 32, 300)[0]
    assert not measure_causality(leaking, tokens_BT, method="substitution").is_causal
    assert measure_causality(honest, tokens_BT, method="substitution").is_causal


def test_padding_fills_its_share_and_is_counted_or_not(results):
    rows = {
        counted: PaddedBatches(SMOKE, 0.25, counted=counted, seed=3).batch(1)
        for counted in (True, False)
    }
    end = text_of(SMOKE).tokenizer.end_of_text
    assert torch.equal(rows[True][0], rows[False][0])
    inputs_BT, targets_BT = rows[True]
    assert inputs_BT.shape == targets_BT.shape == (2, 32)
    assert (inputs_BT[:, 24:] == end).all() and (targets_BT[:, 24:] == end).all()
    assert torch.equal(inputs_BT[:, 1:24], targets_BT[:, :23])
    assert (rows[False][1][:, 24:] == -100).all()
    assert torch.equal(rows[False][1][:, :24], targets_BT[:, :24])
    for name, cell in of(results, "padding").items():
        assert cell["pad_share"] == float(name.split("/")[1])
        assert cell["counted"] == ("/counted/" in name)
        if not cell["counted"]:  # the same tokens but for those that fill no whole row
            assert cell["loss_as_counted"] == pytest.approx(cell["loss_on_text"], rel=0.05)


def test_the_best_rate_is_the_lowest_of_the_familys_search():
    cells = {
        "rate/conv/0.002": {"bits_per_byte": 3.0},
        "rate/conv/0.005": {"bits_per_byte": 2.0},
        "rate/gpt/0.002": {"bits_per_byte": 1.0},
    }
    for arm in ("conv", "conv-leak"):
        assert best_rate(SMOKE, arm, lambda: cells) == 5e-3
    for arm in ("gpt", SMOKE.short, AHEAD):
        with pytest.raises(ValueError, match=r"gpt was not trained with \[0.005\] yet"):
            best_rate(SMOKE, arm, lambda: cells)


def test_the_outer_level_alone_is_the_convolution_s_own():
    alone, whole = make_model(CPU, "gpt-outer", 0), make_model(CPU, "conv", 0)
    assert len(alone.blocks) == whole.config.levels.count(0)
    assert alone.config == replace(whole.config.block(0), num_layers=len(alone.blocks))


def test_longer_trainings_have_as_many_times_the_steps(results):
    found = of(results, "longer")
    assert list(found) == ["longer/gpt/0", "longer/lstm/0"]
    for cell in found.values():
        assert cell["steps"] == SMOKE.longer * SMOKE.num_steps == 8
    assert found["longer/lstm/0"]["learning_rate"] == SMOKE.other_rate
    short = results.cells["raw/gpt/0"]
    assert found["longer/gpt/0"]["learning_rate"] == short["learning_rate"]
    assert found["longer/gpt/0"]["flops"] == pytest.approx(SMOKE.longer * short["flops"])
    for cell in of(results, "longer_compute").values():
        assert cell["flops"] == pytest.approx(found["longer/gpt/0"]["flops"], rel=0.1)
    assert found["longer/gpt/0"]["losses"][0] == short["losses"][0], "the same weights and windows"


def test_the_rate_that_was_found_is_used(results):
    for name, cell in of(results, "raw", "compute", "control", "padding").items():
        arm = "conv" if name.startswith("padding") else name.split("/")[1]
        assert cell["learning_rate"] == best_rate(SMOKE, arm, lambda: results.cells), name


def test_operations_by_length_are_counted_and_not_guessed():
    for arm in ("gpt", "conv"):
        model = make_model(SMOKE, arm, 0, context_length=128)
        counted = count_flops(model, random_batch(1, 128, 300)).full / 128
        assert flops_a_token(SMOKE, arm, 128) == pytest.approx(counted, rel=1e-9)


def test_lengths_and_latency_are_timed_in_turn(results):
    for name, cell in of(results, "length").items():
        assert len(cell["seconds"]) == SMOKE.rounds and min(cell["seconds"]) > 0, name
        assert cell["tokens"] == 64 and cell["saved_bytes"] > 0
    seconds = results.cells["latency"]["seconds"]
    names = {"gpt", "conv", "conv-ahead", "diverging", "stack", "gpt-16", "lstm", "bert"}
    assert set(seconds) == {*names, "encoder_decoder"}
    for rounds in seconds.values():
        assert set(rounds) == {"batch", "forward"}
        assert all(len(values) == SMOKE.rounds and min(values) > 0 for values in rounds.values())


def test_one_part_can_be_measured_again(tmp_path, monkeypatch):
    number = iter(range(9))
    fake = {
        "one": lambda size: iter([("one/a", lambda: {"n": next(number)})]),
        "two": lambda size: iter([("two", lambda: {"n": next(number)})]),
    }
    monkeypatch.setattr(lessons_variants, "cells_at", lambda path: fake)
    asked = ["smoke", "--folder", str(tmp_path)]
    path = result_path("smoke", tmp_path)

    def values():
        return {name: cell["n"] for name, cell in LessonResults.load(path).cells.items()}

    assert main(asked) == 0 and values() == {"one/a": 0, "two": 1}
    assert main([*asked, "--again", "one"]) == 0 and values() == {"one/a": 2, "two": 1}
    assert main([*asked, "--only", "two"]) == 0 and values() == {"one/a": 2, "two": 1}
    forget(SMOKE, path, "two")
    assert values() == {"one/a": 2}
    monkeypatch.setattr(lessons_files.time, "perf_counter", iter([0.0, 9.0]).__next__)
    assert main([*asked, "--stop-after", "1"]) == 1 and values() == {"one/a": 2}


def test_a_gpu_measurement_needs_a_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["gpu", "--folder", str(tmp_path)]) == 2
    assert "gpu: torch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("name", SIZES)
def test_sizes_fit_their_models(name):
    size = SIZES[name]
    span = offset_of(size, AHEAD)
    assert size.first_target >= span and size.context_length % span == 0
    for arm in (*ARMS, size.short):
        assert size.rows_of(arm) * size.context_of(arm) == size.rows * size.context_length
    assert max(size.lengths) <= size.tokens_per_step
    assert list(cells_at(Path())) == [
        "unigram", "bigram", "causality", "rate", "raw", "control", "padding", "compute", "longer",
        "longer_compute", "model", "length", "latency",
    ]  # fmt: skip


def made() -> LessonResults:
    size = {
        "seeds": SEEDS, "rates": (1e-3, 2e-3), "rounds": 3, "longer": 3,
        "other_models": ("lstm", "bert", "gru"),
    }  # fmt: skip
    machine = {"processor": "made up", "packages": {"torch": "9"}}
    return LessonResults(size=size, machine=machine, cells=everything())


def test_budgets_are_tables_with_paired_differences():
    head, gpt, conv, *others = budget_rows(made().cells, "raw")
    assert head[0] == "model" and len({len(row) for row in (head, gpt, conv, *others)}) == 1
    assert gpt == [
        "GPT", "1,000", "10", "2.00 M", "3.00", "2.400 (2.000 to 2.800)", "-", "25.0%",
    ]  # fmt: skip
    assert conv[5:7] == ["2.700 (2.300 to 3.100)", "+0.300 [+0.300, +0.300]"]
    compute = budget_rows(made().cells, "compute")
    assert [row[0] for row in compute[1:]] == [
        "GPT", "GPT, 64 tokens of context", "convolution, next token", "stacking",
    ]  # fmt: skip
    assert compute[3][6].startswith("-0.133 [-0.277, +0.010]")


def test_one_seed_has_a_difference_without_an_interval():
    gru = budget_rows(made().cells, "longer")[-1]
    assert gru[0] == "GRU" and gru[5:7] == ["1.500", "-0.300 (one seed: no interval)"]


def test_suspects_are_a_table_over_the_gpt():
    rows = suspect_rows(made().cells)
    assert rows[1] == ["GPT", "2.40", "1.00", "the same"]
    assert ["padding counted, 75% of targets", "0.75", "0.31", "3.00"] in rows
    assert ["convolution, planted leak", "0.50", "0.21", "the same"] in rows


def test_one_table_of_all_models_says_why_a_number_is_missing():
    head, *rows = model_rows(made())
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(table)[:3] == ["LSTM", "BERT", "GPT"], "one that was not trained is left out"
    bert = table["BERT"]
    assert bert["test bits per byte"] == "-" and bert["accuracy"] == "30.0% of hidden"
    assert bert["tokens a batch"] == "512"
    gpt = table["GPT"]
    assert gpt["test bits per byte"] == "2.400" and gpt["training loss"] == "2.30"
    assert gpt["ms a batch"] == f"{1e3 * median([0.1, 0.2, 0.9]):.1f}"
    assert gpt["ms a pass of one row"] == "20.0"
    assert table["LSTM"]["ms a batch"] == "-"
    section = models_section(made())
    assert "BERT sees both sides" in section and section.startswith("| model | parameters |")


def test_sections_hold_both_budgets_and_what_they_rest_on():
    section = variants_section(made())
    for words in ("Equal raw context", "Equal operations", "3 seeds", "200 bytes", "made up"):
        assert words in section
    assert section.count("\n| --- |") == 5 and "3 times as many tokens" in section


def test_the_readme_shows_what_the_file_holds():
    results = LessonResults.load(result_path("cpu"))
    for folder, name, section in (
        ("benchmarks", "variants", variants_section),
        (".", "models", models_section),
    ):
        readme = (ROOT / folder / "README.md").read_text()
        assert f"<!-- {name} -->\n{section(results)}\n<!-- /{name} -->" in readme


def test_the_file_is_of_the_size_that_the_script_has():
    results = LessonResults.load(result_path("cpu"))
    fresh = LessonResults.from_json(replace(results, size=vars(CPU), cells={}).to_json())
    assert results.size == fresh.size
