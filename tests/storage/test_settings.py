"""Settings on disk: as written, or refused; and the field that differs is named."""

from __future__ import annotations

import pytest

from sbldlib.storage.settings import first_difference, read_signed, write_signed


def test_there_and_back(tmp_path):
    body = {"a": {"b": (1, 2.5, None)}, "path": tmp_path}
    assert read_signed(write_signed(tmp_path / "s.json", body)) == {
        "a": {"b": [1, 2.5, None]},
        "path": str(tmp_path),
    }


def test_every_change_is_found(tmp_path):
    path = write_signed(tmp_path / "s.json", {"steps": 10, "name": "x"})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 2
        path.write_bytes(damaged)
        try:
            found = read_signed(path)
        except ValueError as error:
            assert "s.json is damaged" in str(error)
        else:  # white space between the values
            assert found == {"steps": 10, "name": "x"}


@pytest.mark.parametrize(
    ("there", "asked", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ("a.b", "1", "2")),
        ({"a": 1}, {}, ("a", "1", "nothing")),
        ({"a_sha256": "x", "z": 1}, {"a_sha256": "y", "z": 2}, ("z", "1", "2")),
        ({"a_sha256": "x", "z": 1}, {"a_sha256": "y", "z": 1}, ("a_sha256", '"x"', '"y"')),
        ({"a": [1, 2]}, {"a": (1, 2)}, None),
    ],
)
def test_the_first_difference_is_the_one_that_says_most(there, asked, difference):
    assert first_difference(there, asked) == difference
