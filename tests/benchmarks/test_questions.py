"""Each question: its arms do what they say, its findings are the arithmetic they claim."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import (
    overhead,
    panel,
    panel_events,
    plan_cost,
    saving,
    sensitivity_cost,
    throughput,
    variants,
)
from benchmarks.common import TINY, VARIANTS, bare_step, make_batch, make_model
from benchmarks.published_layout import PublishedGPT
from sbldlib.dropping.skipping import attach
from sbldlib.losses import next_token_loss
from sbldlib.measure import FlopCount
from sbldlib.models.gpt import GPT, Block
from sbldlib.sensitivity import calculate_sensitivities

SMALLEST = dataclasses.replace(TINY, batch_size=2, num_tokens=8)


@pytest.mark.parametrize(
    ("num_skipped", "layers"), [(0, ()), (1, (4,)), (2, (2, 6)), (3, (1, 4, 6)), (8, range(8))]
)
def test_skipped_layers_are_spread_over_the_depth(num_skipped: int, layers) -> None:
    assert saving.evenly(num_skipped, 8) == tuple(layers)


def test_the_saving_arms_skip_as_many_blocks_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(SMALLEST)
    monkeypatch.setattr(saving, "make_model", lambda setting: model)
    prepared, skipping = saving.prepare(SMALLEST), attach(model)
    assert list(prepared.arms) == [str(k) for k in range(9)]
    for name, arm in prepared.arms.items():
        skipping.reset_calls()
        arm()
        assert sum(skipping.calls) == 8 - int(name)


def test_a_perfect_saving_is_one_and_half_of_it_a_half() -> None:
    facts = {"num_layers": 4, "flops_outside_share": 0.2}
    perfect = {str(k): [10.0 - 2 * k] * 9 for k in range(5)}
    pooled, worst, step, flops = saving.findings(perfect, facts)
    assert pooled.spread.median == worst.spread.median == pytest.approx(1.0)
    assert pooled.verdict == "met"
    assert step.spread.median == pytest.approx(20.0)  # a quarter of the blocks' 8 of 10 seconds
    assert flops.spread.median == pytest.approx(20.0)
    half = {**perfect, **{str(k): [10.0 - k] * 9 for k in (1, 2, 3)}}
    pooled, worst, *_ = saving.findings(half, facts)
    assert pooled.spread.median == worst.spread.median == pytest.approx(0.5)
    assert pooled.verdict == "missed"
    one_bad = {**perfect, "2": [7.0] * 9}
    assert saving.findings(one_bad, facts)[1].claim == "the same at the worst k (2 of 4)"


def test_overhead_is_a_share_of_the_bare_step_and_its_target_is_for_long_steps() -> None:
    def rounds(bare: float) -> dict[str, list[float]]:
        costs = {"bare": 0, "bare again": 0, "mechanism alone": 1e-4, "everything": 1e-3}
        return {name: [bare + cost] * 9 for name, cost in costs.items()}

    everything, each, of_50_ms, *_ = overhead.findings(rounds(0.05), {})
    assert everything.spread.median == pytest.approx(2.0)
    assert everything.verdict == "missed"
    assert each.spread.median == pytest.approx(1000.0)
    assert of_50_ms.verdict == ""
    everything, _, of_50_ms, *_ = overhead.findings(rounds(0.01), {})
    assert everything.verdict == ""
    assert of_50_ms.spread.median == pytest.approx(2.0)
    assert of_50_ms.verdict == "missed"


def test_everything_at_keep_one_is_everything_and_drops_nothing() -> None:
    steps = overhead.all_of_it(SMALLEST, make_batch(SMALLEST))
    records = [next(steps), next(steps)]
    steps.close()
    for record in records:
        assert record.layers_run == tuple(range(8))
        assert record.keep_probability == (1.0,) * 8
        assert record.flops == record.flops_full > 0
        assert record.controls == {"dropping": True}


def test_the_plans_that_are_timed_change_at_every_step_and_cover_every_kind() -> None:
    prepared = plan_cost.prepare(SMALLEST)
    assert len(prepared.arms) == 12
    keeps = {plan_cost.hump(step / 299) for step in range(300)}
    assert len(keeps) == 300 and 0.6 <= min(keeps) < max(keeps) <= 0.9
    for call in prepared.arms.values():
        call()


def test_a_plans_cost_is_of_one_step_and_the_costliest_kind_is_named() -> None:
    plainest = "bernoulli, per_batch, rescale none"
    rounds = {"some": [0.06] * 9, plainest: [0.003] * 9, "others": [0.03] * 9}
    plain, worst = plan_cost.findings(rounds, {"steps_per_call": 30})
    assert plain.spread.median == pytest.approx(100) and plain.verdict == "met"
    assert worst.spread.median == pytest.approx(2000) and worst.verdict == "missed"
    assert f"plainest: {plainest}" in plain.claim and "costliest: some" in worst.claim


def test_the_bare_step_trains_a_model_that_was_never_touched() -> None:
    model, batch = make_model(SMALLEST), make_batch(SMALLEST)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = bare_step(model, batch, SMALLEST, optimizer=optimizer)
    before = next_token_loss(model, batch).item()
    for _ in range(5):
        step()
    assert next_token_loss(model, batch).item() < before
    assert type(model.blocks[0]) is Block


def test_without_an_optimiser_a_step_ends_with_the_gradients() -> None:
    model, batch = make_model(SMALLEST), make_batch(SMALLEST)
    before = [p.clone() for p in model.parameters()]
    bare_step(model, batch, SMALLEST)()
    assert all(p.grad is not None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def published_with_weights_of(model: GPT, activation: nn.Module) -> PublishedGPT:
    """The published layout with our model's weights."""
    peer = PublishedGPT(model.config, activation)
    names = {
        "token_embedding": "wte", "position_embedding": "wpe", "blocks": "h", "final_norm": "ln_f",
        "norm1": "ln_1", "norm2": "ln_2", "query_key_value": "c_attn", "attention": "attn",
        "hidden": "0",
    }  # fmt: skip
    weights = {}
    for name, weight in model.state_dict().items():
        parts = name.split(".")
        output = "c_proj" if "attention" in parts else "2"
        weights[".".join({**names, "output": output}.get(part, part) for part in parts)] = weight
    weights["lm_head.weight"] = weights["wte.weight"]
    peer.load_state_dict(weights)
    return peer


def test_the_published_layout_is_the_same_model_but_for_its_gelu() -> None:
    model, batch = make_model(SMALLEST), make_batch(SMALLEST)
    ours = next_token_loss(model, batch)
    alike = published_with_weights_of(model, nn.GELU("tanh"))
    torch.testing.assert_close(alike(*batch), ours)
    assert sum(p.numel() for p in alike.parameters()) == model.num_parameters()
    exact = published_with_weights_of(model, nn.GELU())
    torch.testing.assert_close(exact(*batch), ours, rtol=1e-3, atol=1e-3)


@pytest.mark.peer
def test_every_peer_has_as_many_weights_and_learns_from_the_same_batch() -> None:
    pytest.importorskip("transformers")
    theirs = throughput.transformers_model(SMALLEST)
    assert sum(p.numel() for p in theirs.parameters()) == make_model(SMALLEST).num_parameters()
    assert theirs.config._attn_implementation == "sdpa"
    prepared = throughput.prepare(SMALLEST)
    for arm in prepared.arms.values():
        arm()
    rounds = {name: [0.5] * 9 for name in prepared.arms}
    rounds["ours step"] = [0.25] * 9
    found = {f.claim: f for f in throughput.findings(rounds, prepared.facts)}
    assert found["tokens/s, our GPT, whole step"].spread.median == 16 / 0.25
    claim = "tokens/s, ours / transformers' GPT2LMHeadModel, whole step"
    assert found[claim].spread.median == 2.0
    claim = "tokens/s, ours / nanoGPT's published layout, forward and backward"
    assert found[claim].spread.median == 1.0


def test_without_transformers_the_other_peer_is_timed_and_the_gap_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(throughput, "installed_version", lambda _: None)
    prepared = throughput.prepare(SMALLEST)
    assert not any("transformers" in name for name in prepared.arms)
    assert "!! SKIPPED: transformers is not installed" in capsys.readouterr().err
    rounds = {name: [0.5] * 9 for name in prepared.arms}
    claims = " ".join(f.claim for f in throughput.findings(rounds, prepared.facts))
    assert "published" in claims
    assert "transformers" not in claims


def test_naive_sensitivities_are_the_kits() -> None:
    model = make_model(SMALLEST).eval()
    batches = [make_batch(SMALLEST, seed) for seed in (0, 1)]
    naive = sensitivity_cost.naive_sensitivities(model, batches)
    assert naive == pytest.approx(calculate_sensitivities(model, batches=batches).values, abs=1e-6)
    assert attach(model).skipped == frozenset()


def test_the_cost_in_flops_is_half_as_large_as_the_blocks_are_many() -> None:
    # Three blocks of 1 and nothing else: kit 3 + (2 + 1 + 0), naive 3 + (2 + 2 + 2).
    assert sensitivity_cost.flops_ratio(FlopCount(blocks=(1.0,) * 3, outside=0.0)) == 6 / 9
    # With a head of 1: kit 4 + (3 + 2 + 1), naive 4 + (3 + 3 + 3).
    assert sensitivity_cost.flops_ratio(FlopCount(blocks=(1.0,) * 3, outside=1.0)) == 10 / 13


def test_the_targets_of_the_sensitivities_go_by_depth() -> None:
    rounds = {"kit": [0.58] * 9, "naive": [1.0] * 9}
    facts = {"num_layers": 12, "flops_ratio": 0.5}
    met, in_flops = sensitivity_cost.findings(rounds, facts)
    assert (met.verdict, met.spread.median, in_flops.spread.median) == ("met", 0.58, 0.5)
    assert sensitivity_cost.findings(rounds, {**facts, "num_layers": 8})[0].verdict == ""
    rounds |= {f"{way}, twice as deep": seconds for way, seconds in rounds.items()}
    facts["deeper"] = {"num_layers": 24, "flops_ratio": 0.4}
    _, _, missed, in_flops = sensitivity_cost.findings(rounds, facts)
    assert missed.claim == "all 24 sensitivities / 25 naive passes" and missed.verdict == "missed"
    assert in_flops.claim == "the same, twice as deep, in FLOPs"


def test_the_sensitivities_are_asked_at_twice_the_depth_on_a_cpu() -> None:
    prepared = sensitivity_cost.prepare(dataclasses.replace(SMALLEST, effort="cpu"))
    facts, deeper = prepared.facts, prepared.facts["deeper"]
    assert deeper["num_layers"] == 2 * facts["num_layers"] == 16
    assert deeper["flops_ratio"] < facts["flops_ratio"]
    assert len(prepared.arms) == 4
    for run in prepared.arms.values():
        run()
    assert len(sensitivity_cost.prepare(SMALLEST).arms) == 2


def panel_rounds(without: float = 0.1) -> dict[str, list[float]]:
    """Rounds in which every arm takes 4 % more than training without a panel."""
    rounds = {"without": [without] * 9, "drawing": [0.01] * 9}
    for name in panel.WATCHED:
        rounds |= {name: [1.04 * without] * 9, f"{name}, panel": [0.02] * 9}
    events = {"events sent": 30_000, "events asked": 30_000, "seconds of events": 30}
    promises = {"last in force": 100, "steps as logged": 100}
    return {**rounds, **{name: [float(each)] * 3 for name, each in {**events, **promises}.items()}}


def test_the_panels_cost_is_a_share_of_training_on_long_steps() -> None:
    found = panel.findings(panel_rounds(), {})
    shares, costs, (drawing, *_) = found[0:6:2], found[1:6:2], found[6:]
    assert [f.spread.median for f in shares] == pytest.approx([2.0] * 3)
    assert [f.verdict for f in shares] == ["met", "missed", "met"]  # of 3, 1 and 5 %
    assert [f.spread.median for f in costs] == pytest.approx([4.0] * 3)
    assert [f.verdict for f in costs] == ["missed", "missed", "met"]
    assert "at 3 refreshes a second and 1,000 events a second" in shares[2].claim
    assert drawing.spread.median == pytest.approx(10.0)
    assert {f.verdict for f in panel.findings(panel_rounds(0.01), {})[:6]} == {""}


@pytest.mark.parametrize("broken", ["events asked", "last in force", "steps as logged"])
def test_one_event_that_is_lost_or_late_is_a_promise_missed(broken: str) -> None:
    assert [f.verdict for f in panel.findings(panel_rounds(), {})[7:]] == ["met"] * 3
    rounds = panel_rounds()
    rounds[broken] = [rounds[broken][0] - 1] * 3
    assert [f.verdict for f in panel.findings(rounds, {})[7:]].count("missed") == 1


def test_a_step_whose_value_is_not_the_logs_is_counted() -> None:
    log = [(1, "saving", 0.1, 0.2), (1, "method", "sbld", "pld"), (3, "saving", 0.2, 0.3)]
    assert panel_events.as_logged([0.1, 0.2, 0.2, 0.3, 0.3], log) == 100
    assert panel_events.as_logged([0.1, 0.1, 0.2, 0.3, 0.3], log) == 80
    assert panel_events.as_logged([0.1, 0.2, 0.2, 0.2, 0.3], log) == 80


def test_the_panels_arms_train_and_time_each_window_but_the_first() -> None:
    pytest.importorskip("ipywidgets")
    model = make_model(SMALLEST)
    attach(model)
    arms = {"without": functools.partial(panel.without_panel, model, SMALLEST, 12)}
    for name in panel.WATCHED:
        arms[name] = functools.partial(panel.with_panel, model, SMALLEST, 12, name)
    for name, arm in arms.items():
        measured = arm()
        assert len(measured[name]) == panel.NUM_WINDOWS - 1 and min(measured[name]) > 0
        # "panel" is a difference of two clocks and may fall below 0; how it is reckoned is
        # held by the test below, on a clock that does not tick by itself.
        assert all(map(math.isfinite, measured.get(f"{name}, panel", [])))
        assert sum(attach(model).calls) >= 7  # of the last step: one layer in a thousand rests
        if name == "events":
            assert measured["events sent"] == measured["events asked"] != [0.0]
            assert measured["last in force"] == measured["steps as logged"] == [100.0]


def test_the_panels_clock_tells_the_wall_from_the_other_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Between looks 3 s pass; the process takes 2 s of processor time, this thread 1.5 of them.
    looks = {name: itertools.count(0, step) for name, step in CLOCKS.items()}
    fake = {name: functools.partial(next, count) for name, count in looks.items()}
    monkeypatch.setattr(panel, "time", SimpleNamespace(**fake))
    clock = panel.Clock(steps_per_window=15)
    for step in range(15 * panel.NUM_WINDOWS):
        clock.after_step(SimpleNamespace(step=step, controls={"saving": step}))
    assert clock.seconds_per_step == [3 / 15] * (panel.NUM_WINDOWS - 1)
    assert clock.others_per_second == pytest.approx([0.5 / 3] * (panel.NUM_WINDOWS - 1))
    assert clock.savings == list(range(60))


CLOCKS = {"perf_counter": 3.0, "process_time": 2.0, "thread_time": 1.5}


def test_without_ipywidgets_the_panel_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "installed_version", lambda _: None)
    with pytest.raises(panel.UnavailableError, match="ipywidgets is not installed"):
        panel.prepare(SMALLEST)


def test_the_benchmarks_need_torch_numpy_tokenizers_and_safetensors_alone() -> None:
    code = """
import sys
others = "IPython ipywidgets matplotlib pandas PIL rich scipy seaborn transformers typer"
sys.modules.update(dict.fromkeys(others.split()))
import benchmarks.__main__
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_the_variants_have_the_shapes_that_were_reported() -> None:
    made = variants.models(VARIANTS)
    shapes = {
        name: (model.config.num_layers, model.config.num_heads, model.config.context_length)
        for name, model in made.items()
    }
    assert set(shapes) == {"gpt", *variants.NAMES}
    assert {shape for name, shape in shapes.items() if "conv" not in name} == {(12, 6, 256)}
    assert {shape for name, shape in shapes.items() if "conv" in name} == {(12, 6, 1024)}
    assert VARIANTS.batch_size == variants.ROWS == 8
    assert [made[f"diverging-{stage}"].config.num_blocks for stage in range(3)] == [3, 6, 12]


def test_a_variant_s_findings_are_ratios_to_the_baseline_s_round() -> None:
    rounds = {f"{name} {arm}": [0.6] * 7 for name in variants.NAMES for arm in ("step", "forward")}
    rounds |= {"gpt step": [1.0, 1.2] * 3 + [1.2], "gpt forward": [0.2] * 7}
    rounds |= {f"{name} step in parts": [0.3] * 7 for name in ("gpt", *variants.PARTED)}
    found = {f.claim: f for f in variants.findings(rounds, {})}
    step = found[f"seconds a batch, {variants.NAMES['conv-next']} / baseline"]
    assert step.spread.median == pytest.approx(0.5) and step.verdict == "met"
    assert step.spread.p90 == pytest.approx(0.6)
    forward = found[f"forward pass of one row, {variants.NAMES['diverging-1']} / baseline"]
    assert forward.spread.median == pytest.approx(3.0) and forward.verdict == "missed"
    assert found["a batch, baseline"].spread.median == pytest.approx(1200)
    parted = f"seconds a batch with the loss in parts, {variants.NAMES['conv-ahead']} / baseline"
    assert found[parted].spread.median == 1 and found[parted].verdict == "missed"


def test_the_variants_arms_train_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"gpt": GPT.from_preset("tiny", num_layers=2)}
    monkeypatch.setattr(variants, "models", lambda setting: kept)
    before = kept["gpt"].blocks[0].mlp.hidden.weight.detach().clone()
    prepared = variants.prepare(SMALLEST)
    assert prepared.facts["tokens_per_step"] == {"gpt": 2 * 64}
    prepared.arms["gpt forward"]()
    assert torch.equal(kept["gpt"].blocks[0].mlp.hidden.weight, before)
    for arm in ("gpt step", "gpt step in parts"):
        prepared.arms[arm]()
        after = kept["gpt"].blocks[0].mlp.hidden.weight.detach().clone()
        assert not torch.equal(after, before)
        before = after
