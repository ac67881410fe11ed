"""Tables and sentences in a terminal: text, whatever it holds."""

from __future__ import annotations

import io
import os

import pytest
import typer
from hostile import NAMES
from rich.console import Console
from typer.testing import CliRunner

from sbldlib import cli, terminal
from sbldlib.doctor import Finding
from sbldlib.errors import printable
from sbldlib.terminal import plain, print_rows, progress_bar, say, writable, writable_file

SHORT = [name for name in NAMES if len(name) < 60]


@pytest.fixture
def printed(monkeypatch):
    """What goes to the terminal."""
    stream = io.StringIO()
    console = Console(file=stream, width=400, force_terminal=True, color_system="truecolor")
    monkeypatch.setattr(terminal, "console", console)
    return stream


def without_style(text: str) -> str:
    """The text without the console's own colours."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_sentence_is_printed_as_it_is(printed, name):
    say(f"runs in {name}", style="dim")
    shown = without_style(printed.getvalue())
    assert shown.replace("\n", " ").split() == f"runs in {printable(name)}".split()
    assert "\x1b" not in shown and "\x07" not in shown
    shown.encode()


@pytest.mark.parametrize("name", SHORT, ids=range(len(SHORT)))
def test_a_table_holds_names_as_they_are(printed, name):
    print_rows([(name, "steps"), ("sbld", name)], name)
    shown = without_style(printed.getvalue())
    parts = [printable(part) for part in name.split("\n")]
    assert all(shown.count(part) >= 3 for part in parts)
    assert "\x1b" not in shown
    shown.encode()


def test_markup_is_not_read():
    assert plain("[red]x[/red] [/]").plain == "[red]x[/red] [/]"
    assert plain("[red]x[/red]").spans == []


def test_a_progress_bar_reads_no_markup():
    with progress_bar() as progress:
        progress.add_task("[/] [bold]x", total=2)
        assert "[/] [bold]x" in str(progress.columns[0].render(progress.tasks[0]))


def test_the_doctor_names_the_extras_to_install(monkeypatch):
    mend = "pip install 'sbldlib[lab]'"
    finding = Finding(part="x", state="limited", found="[bold]no", mend=mend)
    monkeypatch.setattr(cli, "examine", lambda: [finding])
    output = " ".join(CliRunner().invoke(cli.app, ["doctor"], terminal_width=200).output.split())
    assert mend in output and "[bold]no" in output


# ---- folders


def test_a_folder_that_is_new_or_there_is_taken(tmp_path):
    assert writable(None) is None
    assert writable(tmp_path) == tmp_path
    assert writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()  # only looked at


def test_a_file_in_the_way_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        with pytest.raises(typer.BadParameter, match="file' is a file; name a folder"):
            writable(path)
    with pytest.raises(typer.BadParameter, match="File name too long; name a folder"):
        writable(tmp_path / ("x" * 3000))


def test_a_file_to_write_is_looked_at_the_same_way(tmp_path):
    assert writable_file(None) is None
    for path in (tmp_path / "new.json", tmp_path / "new" / "deep.json"):
        assert writable_file(path) == path and not path.exists()
    (tmp_path / "there.json").write_text("old")
    assert writable_file(tmp_path / "there.json") == tmp_path / "there.json"
    for path, words in (
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "there.json" / "below", "there.json' is a file; name a folder"),
        (tmp_path / ("x" * 3000), "File name too long; name a file"),
    ):
        with pytest.raises(typer.BadParameter, match=words):
            writable_file(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(typer.BadParameter, match="may not be written to"):
        writable(tmp_path / "new")
    tmp_path.chmod(0o700)
