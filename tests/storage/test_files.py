"""Files: whole or absent, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from sbldlib.storage.files import open_plain, read_plain, remove_path, sha256_of, write_atomically


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


def test_only_a_plain_file_is_opened(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    assert read_plain(plain) == b"x"
    (tmp_path / "link").symlink_to(plain)
    os.mkfifo(tmp_path / "pipe")
    odd = {"link": "a link", "pipe": "not a plain file", ".": "not a plain file"}
    for name, words in odd.items():
        with pytest.raises(OSError, match=words):
            open_plain(tmp_path / name)
    with pytest.raises(OSError, match="a link"):
        open_plain(tmp_path / "link", os.O_RDWR | os.O_CREAT)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "nothing")


def test_what_a_link_leads_to_is_not_removed(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "link", tmp_path / "nothing"):
        remove_path(path)
    assert folder.exists() and not (tmp_path / "link").is_symlink()
    remove_path(folder)
    assert list(tmp_path.iterdir()) == []
