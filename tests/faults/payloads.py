"""What somebody who means harm could put into a run's folder; each has a manifest that agrees."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sbldlib.storage import checkpoints as storage
from sbldlib.storage.checkpoints import CONTENT, MANIFEST, MODEL, STATE, TRAINING
from sbldlib.storage.settings import write_signed

DEPTH = 100_000
TERABYTE = 2**40


class Place:
    """Where a payload goes.

    Attributes:
        run, checkpoint: the run's folder, and its newest checkpoint's.
        victim: a file outside, which must stay as it is.
        canary: a file that would be there if code had run.
    """

    def __init__(self, run: Path, victim: Path, canary: Path):
        self.run, self.victim, self.canary = run, victim, canary
        self.checkpoint = max((run / "checkpoints").glob("step-*"))

    def put(self, name: str, content: bytes) -> None:
        """A file of the checkpoint, with a manifest that agrees."""
        (self.checkpoint / name).write_bytes(content)
        self.sign()

    def sign(self, **facts: dict[str, Any]) -> None:
        """Write the manifest that the kit would have written."""
        files = {}
        for name in CONTENT:
            content = b"" if name in facts else (self.checkpoint / name).read_bytes()
            own = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            files[name] = facts.get(name, own)
        (self.checkpoint / MANIFEST).write_bytes(storage._manifest(files))

    def edit_state(self, edit: Callable[[Any], Any]) -> None:
        """Another state, that says what it likes."""
        state = json.loads((self.checkpoint / STATE).read_text())
        changed = edit(state)
        self.put(STATE, json.dumps(state if changed is None else changed).encode())

    def link(self, path: Path, target: str | Path) -> None:
        """A link in place of a file."""
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def pipe(self, path: Path) -> None:
        """A pipe that nobody writes in place of a file."""
        path.unlink(missing_ok=True)
        os.mkfifo(path)


class Code:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def header(values: Any, data: bytes = b"\0" * 64, *, num_bytes: int | None = None) -> bytes:
    """A safetensors file with this header."""
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text) if num_bytes is None else num_bytes) + text + data


def one(dtype: str = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    """A header of one tensor."""
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def torch_archive(place: Place) -> bytes:
    """What torch.save writes, with code in it."""
    content = io.BytesIO()
    torch.save({"w": torch.zeros(2), "code": Code(place.canary)}, content)
    return content.getvalue()


def zip_bomb(place: Place) -> bytes:
    """A small archive of much more."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(64 * 2**20))
    return content.getvalue()


def sparse(place: Place, name: str) -> None:
    """A file that says it holds a terabyte, as the manifest does."""
    with open(place.checkpoint / name, "wb") as file:
        file.truncate(TERABYTE)
    place.sign(**{name: {"num_bytes": TERABYTE, "sha256": "0" * 64}})


def put_state(field: str, value: Any) -> Callable[[Place], None]:
    """A state whose dotted field is this."""

    def edit(state: Any) -> None:
        *above, last = field.split(".")
        for name in above:
            state = state[int(name) if isinstance(state, list) else name]
        state[int(last) if isinstance(state, list) else last] = value

    return lambda place: place.edit_state(edit)


def named_manifest(name: str) -> Callable[[Place], None]:
    """A manifest with one more file, of this name."""

    def put(place: Place) -> None:
        path = place.checkpoint / MANIFEST
        body = json.loads(path.read_text())
        body["files"][name] = {"num_bytes": 1, "sha256": "0" * 64}
        text = json.dumps(body["files"], sort_keys=True)
        body["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(body, indent=1))

    return put


def stolen_ledger(place: Place) -> None:
    """A ledger that is a file outside, of which a checkpoint says that nothing is to be kept."""
    empty = hashlib.sha256(b"").hexdigest()
    position = {"steps": 0, "num_bytes": 0, "sha256": empty, "controls_bytes": 0}
    put_state("position", position)(place)
    place.link(place.run / "ledger.jsonl", place.victim)


def folder_elsewhere(place: Place) -> None:
    """A checkpoint that is a link to a folder outside."""
    outside = place.victim.parent / "checkpoint"
    place.checkpoint.rename(outside)
    place.checkpoint.symlink_to(outside)


def odd_names(place: Place) -> None:
    """Names that a listing or a message could stumble over."""
    folder = place.checkpoint.parent
    for name in ("step-00000099\n", "step-0000\n0099", "step-٠٠٠٠٠٠٩٩", "\x1b[2J", "..part"):
        (folder / name).mkdir()
        (folder / name / "a\nb").write_text("x")
    (place.run / ".x\ny.part").mkdir()


def half_done(what: str) -> Callable[[Place], None]:
    """A save that seems to have been killed, whose manifest is a pipe, or that lies outside."""

    def put(place: Place) -> None:
        part = place.checkpoint.with_name(".step-00000099.1-0.part")
        if what == "outside":
            shutil.copytree(place.checkpoint, place.victim.parent / "checkpoint")
            part.symlink_to(place.victim.parent / "checkpoint")
        else:
            shutil.copytree(place.checkpoint, part)
            place.pipe(part / MANIFEST)

    return put


def odd_newest(place: Place) -> None:
    """A newer checkpoint that is a file."""
    (place.checkpoint.parent / "step-99999999999999999999999").write_text("x")


def deep(opening: str, closing: str) -> Callable[[Place], None]:
    """A state nested far deeper than any stack."""
    return lambda place: place.put(STATE, (opening * DEPTH + "0" + closing * DEPTH).encode())


def bytes_in(name: str, make: Callable[[Place], bytes]) -> Callable[[Place], None]:
    """A file with this content."""
    return lambda place: place.put(name, make(place))


def tensors(values: Any, data: bytes = b"\0" * 64, **more: Any) -> Callable[[Place], None]:
    """A model with this header."""
    return lambda place: place.put(MODEL, header(values, data, **more))


def in_place_of(name: str, what: str) -> Callable[[Place], None]:
    """A pipe, a device, or a link to a file outside, in place of a file of the run."""

    def put(place: Place) -> None:
        path = (place.checkpoint if name in (*CONTENT, MANIFEST) else place.run) / name
        if what == "a pipe":
            place.pipe(path)
        else:
            place.link(path, place.victim if what == "a file outside" else what)

    return put


def linked_as_signed(place: Place) -> None:
    """A model that is a link to a file outside, whose size and digest the manifest knows."""
    content = Path("/etc/passwd").read_bytes()
    place.link(place.checkpoint / MODEL, "/etc/passwd")
    facts = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    place.sign(**{MODEL: facts})


def pickled(place: Place) -> bytes:
    """A pickle with code in it."""
    return pickle.dumps({"model": Code(place.canary)})


def duplicate(place: Place) -> bytes:
    """One name twice."""
    two = json.dumps(one())[:-1] + ", " + json.dumps(one(offsets=(16, 32)))[1:]
    return header(two.encode(), b"\0" * 32)


OURS = ("ledger.jsonl", "controls.jsonl", "settings.json", "run.json", ".lock")
CODE = {"__reduce__": ["os.mkdir", ["canary"]], "py/object": "os.mkdir", "!!python/object": "os"}
PAYLOADS: dict[str, Callable[[Place], None]] = {
    "a pickle as the model": bytes_in(MODEL, pickled),
    "a pickle as the training state": bytes_in(TRAINING, pickled),
    "a pickle as state.json": bytes_in(STATE, pickled),
    "a torch archive as the model": bytes_in(MODEL, torch_archive),
    "a torch archive as the training state": bytes_in(TRAINING, torch_archive),
    "a zip bomb as the model": bytes_in(MODEL, zip_bomb),
    "a header of 2^63 bytes": tensors({}, num_bytes=2**63),
    "a header longer than the file": tensors({}, num_bytes=10_000_000),
    "a header that is no JSON": tensors(b"\xff" * 50),
    "a header nested deep": tensors(b"[" * DEPTH),
    "negative offsets": tensors(one(offsets=(-16, 0))),
    "huge offsets": tensors(one(offsets=(0, 2**62))),
    "offsets outside": tensors(one(shape=(2**40,), offsets=(0, 2**42))),
    "offsets that overlap": tensors({**one(), "v": one(offsets=(8, 24))["w"]}, b"\0" * 24),
    "a shape that overflows": tensors(one(shape=(2**32, 2**32), offsets=(0, 0)), b""),
    "an unknown type": tensors(one(dtype="PICKLE")),
    "a name twice": bytes_in(MODEL, duplicate),
    "a name with a newline": tensors({"a\nb": one()["w"]}, b"\0" * 16),
    "lists nested deep": deep("[", "]"),
    "dicts nested deep": deep('{"a":', "}"),
    "marks nested deep": deep('{"$tuple":[', "]}"),
    "an integer of a million digits": bytes_in(STATE, lambda _: b"9" * 1_000_000),
    "calls in JSON": lambda place: place.edit_state(lambda state: {**state, "model": CODE}),
    "only calls in JSON": lambda place: place.edit_state(lambda state: CODE),
    "an unknown mark": put_state("model", {"$pickle": "gASVKAAAAAAAAACMBXBvc2l4lA=="}),
    "a tensor outside": put_state("model", {"$tensor": "../../../etc/passwd"}),
    "a number that is none": put_state("progress.flops", {"$float": "__import__('os')"}),
    "items that are none": put_state("model", {"$items": [[["a"], 1], [{}, 2]]}),
    "infinitely many steps": put_state("progress.steps", {"$float": "inf"}),
    "fewer than no steps": put_state("progress.steps", -5),
    "a random state that points outside": put_state("generators.numpy.2", 10**9),
    "a place outside in the ledger": put_state("position.num_bytes", 2**60),
    "a best elsewhere": put_state("best", ["../../..", 0.0]),
    "a manifest with a way out": named_manifest("../../../settings.json"),
    "a manifest with an absolute name": named_manifest("/etc/passwd"),
    "a manifest with a newline": named_manifest("a\nb"),
    "a linked file that is signed": linked_as_signed,
    "a terabyte of model": lambda place: sparse(place, MODEL),
    "a terabyte of state": lambda place: sparse(place, STATE),
    "odd names": odd_names,
    "a newer checkpoint that is a file": odd_newest,
    "a checkpoint elsewhere": folder_elsewhere,
    "a save half done elsewhere": half_done("outside"),
    "a save half done with a pipe": half_done("a pipe"),
    "a ledger that is a file outside": stolen_ledger,
    "settings nested deep": lambda place: (place.run / "settings.json").write_text("[" * DEPTH),
    "settings of another kind": lambda place: write_signed(
        place.run / "settings.json", {"run": [], "environment": 1}
    ),
    **{
        f"{what} as {name}": in_place_of(name, what)
        for name in (MODEL, STATE, MANIFEST, *OURS)
        for what in ("a pipe", "/dev/zero", "a file outside")
    },
}
