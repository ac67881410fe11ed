"""A checkpoint: whole, verified, or refused by name."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from sbldlib.storage import checkpoints
from sbldlib.storage.checkpoints import (
    CONTENT,
    MANIFEST,
    MODEL,
    STATE,
    CheckpointError,
    check_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    rescue,
    write_checkpoint,
)


def tree(step: int = 1) -> dict:
    return {"model": {"w": torch.full((4,), float(step))}, "step": step, "m": torch.arange(3)}


def test_there_and_back(tmp_path):
    found = read_checkpoint(write_checkpoint(tmp_path / "step-1", tree()))
    assert torch.equal(found["model"]["w"], torch.ones(4))
    assert torch.equal(found["m"], torch.arange(3)) and found["step"] == 1
    assert sorted(os.listdir(tmp_path / "step-1")) == sorted([*CONTENT, MANIFEST])
    assert os.listdir(tmp_path) == ["step-1"]


def test_one_of_the_same_name_is_replaced_whole(tmp_path):
    path = write_checkpoint(tmp_path / "step-1", tree(1))
    write_checkpoint(path, tree(2))
    assert read_checkpoint(path)["step"] == 2 and os.listdir(tmp_path) == ["step-1"]


@pytest.mark.parametrize("name", [*CONTENT, MANIFEST])
@pytest.mark.parametrize("how", ["gone", "empty", "short", "flipped", "longer", "a folder"])
def test_damage_is_named_with_its_file(name, how, tmp_path):
    path = write_checkpoint(tmp_path / "step-1", tree())
    file = path / name
    content = file.read_bytes()
    file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how != "gone":
        changed = {
            "empty": b"",
            "short": content[:-1],
            "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
            "longer": content + b" ",
        }
        file.write_bytes(changed[how])
    for read in (read_checkpoint, check_checkpoint):
        with pytest.raises(CheckpointError, match=name):
            read(path)


def test_a_refused_write_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "step-1", tree(1))

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync_file", refuse)
    for target in (path, tmp_path / "step-2"):
        with pytest.raises(CheckpointError, match=r"the disk is full \(\d+ MiB free"):
            write_checkpoint(target, tree(2))
    assert read_checkpoint(path)["step"] == 1 and os.listdir(tmp_path) == ["step-1"]


def test_a_value_that_cannot_be_kept_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="callbacks: set cannot be kept"):
        write_checkpoint(tmp_path / "step-1", {**tree(), "callbacks": {1}})
    assert os.listdir(tmp_path) == []


def test_another_format_is_named(tmp_path):
    path = write_checkpoint(tmp_path / "step-1", tree())
    body = json.loads((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_text(json.dumps({**body, "format": 9}, indent=1))
    with pytest.raises(CheckpointError, match=r"format=9 of .* is not this version's"):
        read_checkpoint(path)


def test_files_of_two_checkpoints_are_not_mixed(tmp_path):
    one, other = (write_checkpoint(tmp_path / f"step-{n}", tree(n)) for n in (1, 2))
    os.replace(other / MODEL, one / MODEL)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: its SHA-256"):
        read_checkpoint(one)


def test_of_a_killed_save_what_is_whole_is_put_in_place(tmp_path):
    part = write_checkpoint(tmp_path / ".step-1.9-0.part", tree(1))
    rescue(part, tmp_path / "step-1")
    assert read_checkpoint(tmp_path / "step-1")["step"] == 1
    # A second one of the same name, and one that is not whole, go.
    rescue(write_checkpoint(tmp_path / ".step-1.9-1.part", tree(2)), tmp_path / "step-1")
    broken = write_checkpoint(tmp_path / ".step-3.9-2.part", tree(3))
    (broken / STATE).unlink()
    rescue(broken, tmp_path / "step-3")
    assert os.listdir(tmp_path) == ["step-1"] and read_checkpoint(tmp_path / "step-1")["step"] == 1


def test_one_that_is_removed_is_never_half_there(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "step-1", tree())
    monkeypatch.setattr("sbldlib.storage.files.shutil.rmtree", lambda *_, **__: None)  # killed
    remove_checkpoint(path)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".step-1.") and left.name.endswith(".gone")
    remove_checkpoint(path)  # is gone already


def test_what_is_no_folder_is_not_put_in_place(tmp_path):
    part = tmp_path / ".step-1.5-0.part"
    part.write_text("x")
    rescue(part, tmp_path / "step-1")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [*CONTENT, MANIFEST])
@pytest.mark.parametrize("how", ["a pipe", "a device", "a link to the file itself"])
def test_only_plain_files_are_read(name, how, tmp_path):
    path = write_checkpoint(tmp_path / "step-1", tree())
    content = (path / name).read_bytes()
    (path / name).unlink()
    if how == "a pipe":
        os.mkfifo(path / name)
    else:
        (tmp_path / "elsewhere").write_bytes(content)
        (path / name).symlink_to("/dev/zero" if how == "a device" else tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


def test_one_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "step-1", tree())

    def read_plain(file):
        if file.name == MODEL:
            raise MemoryError
        return file.read_bytes()

    monkeypatch.setattr(checkpoints, "read_plain", read_plain)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read .*in memory"):
        read_checkpoint(path)
