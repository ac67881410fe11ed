"""Lines: whole ones come back, one cut off does not, and a damaged one is named."""

from __future__ import annotations

from contextlib import closing

import pytest

from sbldlib.storage.lines import Lines, encode_line, read_lines, starts_with

VALUES = [{"step": number, "text": "x" * number} for number in range(5)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "lines"
    with closing(Lines(path)) as lines:
        for values in VALUES:
            lines.append(values)
    return path


def test_lines_are_there_as_soon_as_they_are_written(path):
    with closing(Lines(path)) as lines:
        lines.append({"step": 5})
        assert read_lines(path) == [*VALUES, {"step": 5}]
        assert lines.num_bytes == path.stat().st_size
        assert starts_with(path, num_bytes=lines.num_bytes, sha256=lines.sha256)


def test_opened_again_they_go_on_and_what_is_not_kept_goes(path):
    place = len(b"".join(map(encode_line, VALUES[:2])))
    with closing(Lines(path, keep=place)) as again:
        again.append({"step": 9})
    assert read_lines(path) == [*VALUES[:2], {"step": 9}]
    assert read_lines(path, start=place) == [{"step": 9}]
    assert starts_with(path, num_bytes=again.num_bytes, sha256=again.sha256)


@pytest.mark.parametrize("cut", range(2, 20))
def test_a_line_cut_off_is_left_out_and_the_next_goes_in_its_place(cut, path):
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_lines(path) == VALUES[:-1]
    with closing(Lines(path)) as lines:
        lines.append({"step": 7})
    assert read_lines(path) == [*VALUES[:-1], {"step": 7}]


def test_a_line_that_lost_its_end_alone_is_whole(path):
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\x8a"):
        path.write_bytes(damaged)
        assert read_lines(path) == VALUES


def test_every_flipped_bit_is_found(path):
    content = path.read_bytes()
    last_line = len(b"".join(map(encode_line, VALUES[:-1])))
    for place in range(len(content)):
        for bit in (0, 3, 5, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = read_lines(path)
            except ValueError as error:
                assert str(path) in str(error)
            else:  # the end of the file may read as a line that was cut off, and no other
                assert found == VALUES or (found == VALUES[:-1] and place >= last_line - 1)


def test_a_full_disk_leaves_no_part_of_a_line(path, monkeypatch):
    before = path.read_bytes()

    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, content):
            return self._file.write(content[:3])

        def __getattr__(self, name):
            return getattr(self._file, name)

    with closing(Lines(path)) as lines:
        monkeypatch.setattr(lines, "_file", Full(lines._file))
        with pytest.raises(OSError, match="No space left"):
            lines.append({"step": 5})
    assert path.read_bytes() == before


def test_what_is_damaged_can_be_left_out(path):
    content = path.read_bytes()
    place = content.index(b'"step": 2')
    path.write_bytes(content[:place] + b"\0" + content[place + 1 :])
    assert read_lines(path, leave_out_damaged=True) == [*VALUES[:2], *VALUES[3:]]


def test_a_link_is_neither_read_nor_written(path, tmp_path):
    content = path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="is a link"):
        Lines(link, keep=0)
    with pytest.raises(ValueError, match="link is damaged: it is a link"):
        read_lines(link)
    assert not starts_with(link, num_bytes=0, sha256="")
    assert path.read_bytes() == content
