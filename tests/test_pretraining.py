from __future__ import annotations

import dataclasses
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from small import Source, gpt

from sbldlib import LayerLists, SensitivityData, calculate_sensitivities, make_optimizer
from sbldlib import train as plain_train
from sbldlib.models.gpt import GPT
from sbldlib.pretraining import (
    PretrainConfig,
    load_pretrained,
    measure_sensitivities,
    prepare,
    pretrain,
    text_for,
)
from sbldlib.pretraining.config import MODELS, Asked
from sbldlib.pretraining.text import unseen_batches
from sbldlib.storage.checkpoints import CheckpointError
from sbldlib.storage.lock import FolderLock, RunBusyError
from sbldlib.training.checkpoints import CheckpointConfig
from sbldlib.training.config import Budget, TrainConfig
from sbldlib.training.folder import RunMismatchError
from sbldlib.training.interrupts import TrainingInterrupted

CONFIG = PretrainConfig(
    steps=12, warmup_steps=6, evaluate_every=4, batch_size=2, sensitivity_batches=2
)
PLD = dataclasses.replace(CONFIG, method="pld")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of sbld in one go, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return pretrain(CONFIG, folder=folder), folder


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    """That run's folder, to be spoilt."""
    return shutil.copytree(whole[1], tmp_path / "copied")


def refuses_to_train(record):
    pytest.fail("a step was trained")


def weights_of(folder: Path) -> bytes:
    return (folder / "checkpoints" / "step-00000012" / "model.safetensors").read_bytes()


def test_stopped_in_its_warm_up_and_after_it_gives_the_same_run(whole, tmp_path):
    seen, stages, said = 0, [], []

    def stop_now_and_then(record):
        nonlocal seen
        seen += 1
        if seen in (4, 13):  # a step of the warm-up, and the seventh of the run
            signal.raise_signal(signal.SIGINT)

    while True:
        try:
            run = pretrain(
                CONFIG,
                folder=tmp_path / "run",
                on_step=stop_now_and_then,
                on_stage=lambda name, total: stages.append(name),
            )
            break
        except TrainingInterrupted as error:
            said.append(str(error))
    assert "after 4 steps" in said[0] and "warm-up" in said[0]
    assert "after 7 steps" in said[1] and "warm-up" not in said[1]
    assert stages.count("sensitivities") == 1 and len(said) == 2
    assert run.losses == whole[0].losses and run.final == whole[0].final
    assert [s.layers_run for s in run] == [s.layers_run for s in whole[0]]
    assert run.resumes == ({"step": 7, "exact": True, "why_not": ""},)
    assert weights_of(tmp_path / "run") == weights_of(whole[1])


def test_what_was_measured_is_kept_and_used(whole):
    run, folder = whole
    analysis = folder / "analysis"
    assert {path.name for path in analysis.iterdir()} == {
        "pretraining.json",
        "sensitivity.json",
        "lists.json",
    }
    measured = SensitivityData.load(analysis / "sensitivity.json")
    assert measured.num_batches == 2 and measured.iteration == 6
    lists = LayerLists.load(analysis / "lists.json")
    assert lists.block == measured.ranking()[:2]
    assert all(step.keep_probability[layer] == 1 for step in run for layer in lists.block)
    assert 0.1 < run.realised_drop < 0.4
    assert [bool(step.evaluations) for step in run] == [(i + 1) % 4 == 0 for i in range(12)]


def test_a_run_that_is_done_is_not_trained_again(whole):
    run, folder = whole
    again = pretrain(CONFIG, folder=folder, on_step=refuses_to_train)
    assert again == run


@pytest.mark.parametrize(("model", "method"), [("conv", "uniform"), ("diverging", "pld")])
def test_a_variant_goes_on_bit_for_bit_across_its_stages(tmp_path, model, method):
    config = dataclasses.replace(CONFIG, model=model, method=method)
    expected = pretrain(config, folder=tmp_path / "whole")
    for ends in (3, 5, 9):  # the diverging model grows at steps 4 and 8

        def stop(record, ends=ends):
            if record.step + 1 == ends:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(TrainingInterrupted, match=f"after {ends} steps"):
            pretrain(config, folder=tmp_path / "run", on_step=stop)
    run = pretrain(config, folder=tmp_path / "run")
    assert run.losses == expected.losses and run.final == expected.final
    assert [taken_up["step"] for taken_up in run.resumes] == [3, 5, 9]
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "whole")
    trained, asked, done = load_pretrained(tmp_path / "run")
    assert (asked.model, done, type(trained)) == (model, 12, MODELS[model])
    if model == "diverging":
        assert trained.stage == 2
    measured = measure_sensitivities(tmp_path / "run", num_batches=2)
    assert measured.num_layers == len(trained.blocks)
    again = measure_sensitivities(trained.save(tmp_path / "model"), num_batches=2)
    assert len(again.values) == measured.num_layers


def test_a_run_from_before_there_were_other_models_is_the_baseline_s(copied):
    path = copied / "analysis" / "pretraining.json"
    asked = Asked.load(path)
    older = {name: value for name, value in asked.config.items() if name != "model"}
    dataclasses.replace(asked, config=older).save(path)
    assert len(pretrain(CONFIG, folder=copied, on_step=refuses_to_train)) == 12
    with pytest.raises(RunMismatchError, match="model='conv' is asked for"):
        pretrain(dataclasses.replace(CONFIG, model="conv"), folder=copied)


def test_what_was_prepared_before_is_not_measured_again(whole, tmp_path):
    prepare(CONFIG, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "settings.json").exists()
    stages = []
    run = pretrain(
        CONFIG,
        folder=tmp_path / "run",
        on_stage=lambda name, total: stages.append((name, total)),
    )
    assert stages == [("text and problems", 0), ("tiny, sbld", 12)]
    assert run.losses == whole[0].losses


def test_never_measures_and_trains_anew(copied):
    (copied / "analysis" / "sensitivity.json").write_text("spoilt")
    stages = []
    run = pretrain(
        CONFIG, folder=copied, resume="never", on_stage=lambda name, total: stages.append(name)
    )
    assert "sensitivities" in stages and len(run) == 12 and run.resumes == ()


def test_a_checkpoint_can_be_gone_back_to(whole, copied):
    steps = []
    run = pretrain(CONFIG, folder=copied, resume=8, on_step=lambda r: steps.append(r.step))
    assert steps == [8, 9, 10, 11] and run.losses == whole[0].losses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 13}, "steps=13 is asked for, the run in .* has 12"),
        ({"method": "uniform"}, "method='uniform' is asked for, .* has 'sbld'"),
        ({"learning_rate": 0.01}, "learning_rate=0.01 is asked for, .* has 0.003"),
        ({"warmup_steps": 7}, "warmup_steps=7"),
        ({"batch_size": 4}, "batch_size=4"),
    ],
)
def test_another_run_is_refused_before_any_step(whole, changes, message):
    with pytest.raises(RunMismatchError, match=message):
        pretrain(dataclasses.replace(CONFIG, **changes), folder=whole[1], on_step=refuses_to_train)


def test_the_preset_s_rate_by_its_number_is_the_same_run(whole):
    named = dataclasses.replace(CONFIG, learning_rate=3e-3)
    assert pretrain(named, folder=whole[1], on_step=refuses_to_train) == whole[0]


def test_other_text_is_another_run_wherever_it_lies(tmp_path):
    for name, seed in (("one", 0), ("moved", 0), ("other", 1)):
        draws = random.Random(seed)
        (tmp_path / name).mkdir()
        for i in range(60):
            words = "".join(draws.choices("abcdefgh ", k=2000))
            (tmp_path / name / f"{i}.txt").write_text(words)
    configs = {
        name: dataclasses.replace(PLD, corpus=str(tmp_path / name))
        for name in ("one", "moved", "other")
    }
    run = pretrain(configs["one"], folder=tmp_path / "run")
    assert pretrain(configs["moved"], folder=tmp_path / "run") == run
    with pytest.raises(RunMismatchError, match=r"corpus='.*other' is asked for, .*one'"):
        pretrain(configs["other"], folder=tmp_path / "run", on_step=refuses_to_train)


def test_lists_changed_after_the_start_are_another_run(copied):
    path = copied / "analysis" / "lists.json"
    LayerLists(block=(6, 7), allow=(0, 1, 2, 3, 4, 5), rule="by hand").save(path)
    with pytest.raises(RunMismatchError, match="block"):
        pretrain(CONFIG, folder=copied, on_step=refuses_to_train)


def test_a_damaged_measurement_is_named(copied):
    (copied / "analysis" / "sensitivity.json").write_text('{"kind": "Sensi')
    with pytest.raises(CheckpointError, match=r"sensitivity\.json is damaged .*resume='never'"):
        pretrain(CONFIG, folder=copied)


@pytest.mark.parametrize("resume", ["always", 5])
def test_nothing_to_go_on_from_is_said_before_the_warm_up(tmp_path, resume):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        pretrain(CONFIG, folder=tmp_path / "new", resume=resume, on_step=refuses_to_train)


def test_a_folder_of_another_kind_of_run_is_left_alone(tmp_path):
    model = gpt()
    config = TrainConfig(budget=Budget(steps=2))
    plain_train(model, Source(), make_optimizer(model), config=config, folder=tmp_path)
    with pytest.raises(RunMismatchError, match=r"without analysis/pretraining\.json"):
        pretrain(PLD, folder=tmp_path, on_step=refuses_to_train)
    with pytest.raises(ValueError, match="holds neither a run of `sbld train`"):
        measure_sensitivities(tmp_path)


def test_a_folder_that_is_written_is_not_measured_for(tmp_path):
    with FolderLock(tmp_path), pytest.raises(RunBusyError, match="is being written by process"):
        pretrain(CONFIG, folder=tmp_path, on_step=refuses_to_train)


def test_other_methods_need_no_analysis(tmp_path):
    run = pretrain(PLD, folder=tmp_path, checkpoints=CheckpointConfig(keep_last=1))
    assert [path.name for path in (tmp_path / "analysis").iterdir()] == ["pretraining.json"]
    assert run.configuration["callbacks"][0]["method"] == "pld"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000012"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"config": dataclasses.replace(CONFIG, saving=0.9)}, "mean_keep=0.1 asks for"),
        ({"resume": "sometimes"}, "resume='sometimes' is not known"),
        ({"folder": ""}, "folder='' must be a path"),
        ({"device": "tpu"}, "device='tpu' is not known"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, asked, message):
    arguments = {"config": CONFIG, "folder": tmp_path / "new", **asked}
    with pytest.raises(ValueError, match=message):
        pretrain(**arguments, on_stage=lambda *_: pytest.fail("work began"))
    assert not (tmp_path / "new").exists()


def test_a_device_that_is_not_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        pretrain(CONFIG, folder=tmp_path, device="cuda")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "tinny"}, "preset='tinny' is not known .*'tiny'"),
        ({"method": "sblt"}, "method='sblt' is not known .*'sbld'"),
        ({"saving": 1.0}, "saving=1.0 is outside"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"evaluate_every": -1}, "evaluate_every=-1 must be at least 0"),
        ({"sensitivity_batches": 1}, "sensitivity_batches=1 must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is outside"),
        ({"seed": -1}, "seed=-1"),
        ({"corpus": ""}, "corpus='' must be a path"),
        ({"dataset": 3}, "dataset=3 must be a list"),
        ({"dataset": [3]}, "dataset=3 must be a path"),
        ({"dataset": ["a.json"], "columns": "text"}, "columns='text' must be a list"),
        ({"dataset": ["a.json"], "columns": [3]}, "columns=3 must be the names of columns"),
        ({"dataset": ["a.json"], "max_bytes": 0.5}, "max_bytes=0.5 must be a whole number"),
        ({"dataset": "a.json", "corpus": "b"}, r"dataset=\('a.json',\) and corpus='b': give one"),
        ({"max_bytes": 5}, "max_bytes=5 is of a dataset; name one, such as 'open-web-math'"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**values)


def test_a_run_s_model_is_measured_at_the_step_asked(whole):
    folder = whole[1]
    model, config, done = load_pretrained(folder)
    assert config == dataclasses.replace(CONFIG, learning_rate=3e-3) and done == 12
    batches = unseen_batches(config.data(), 3)
    newest = measure_sensitivities(folder, num_batches=3)
    assert newest == calculate_sensitivities(model, batches=batches, iteration=12)
    earlier = measure_sensitivities(folder, num_batches=3, step=8, method="block_influence")
    assert earlier.iteration == 8 and earlier.method == "block_influence"
    best = measure_sensitivities(folder, num_batches=3, step="best")
    losses = {s.step + 1: s.evaluations["validation_loss"] for s in whole[0] if s.evaluations}
    assert best.iteration == min(losses, key=lambda step: losses[step])


def test_a_model_that_was_saved_is_measured(tmp_path):
    model = GPT.from_preset("tiny", seed=3)
    model.save(tmp_path)
    batches = unseen_batches(text_for(model.config), 2)
    expected = calculate_sensitivities(model, batches=batches)
    assert measure_sensitivities(tmp_path, num_batches=2) == expected
    with pytest.raises(ValueError, match="step=3 is for a run"):
        measure_sensitivities(tmp_path, step=3)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"step": 5}, CheckpointError, "step=5 has no checkpoint"),
        ({"method": "loss_detla"}, ValueError, "did you mean 'loss_delta'"),
        ({"num_batches": 1}, ValueError, "num_batches=1 must be at least 2"),
    ],
)
def test_what_cannot_be_measured_is_named(whole, asked, error, message):
    with pytest.raises(error, match=message):
        measure_sensitivities(whole[1], **{"num_batches": 2, **asked})
