"""Files: whole or absent, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from sbldlib.storage.files import sha256_of, write_atomically


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_write_replaces_a_file_whole(tmp_path):
    path = tmp_path / "record.json"
    write_atomically(path, b"a long old content")
    assert write_atomically(str(path), b"new") == path
    assert path.read_bytes() == b"new"


def test_threads_that_write_one_file_at_once_leave_one_of_their_contents_whole(tmp_path):
    path = tmp_path / "record.json"
    contents = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    threads = [threading.Thread(target=write_atomically, args=(path, c)) for c in contents * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_digest_is_that_of_the_whole_content(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"x" * (2**20 + 1))
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
