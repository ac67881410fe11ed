"""`make` with a pretended Python: what it sets up, what it starts, what it says when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = [
    "lab",
    "test",
    "test-colab",
    "check",
    "demo",
    "notebooks",
    "faults",
    "figures",
    "bench",
    "bench-gpu",
    "clean",
    "help",
]
READ = ["Makefile", "pyproject.toml", "constraints.txt", "requirements-colab.txt"]
# What the recipes call beside Python. A PATH of these alone hides the machine's own Pythons.
TOOLS = [
    "awk",
    "cksum",
    "cp",
    "cut",
    "find",
    "id",
    "ls",
    "make",
    "mkdir",
    "rm",
    "sh",
    "tail",
    "touch",
]
# Answers the version question as told, makes a venv of itself, and notes what else it was asked.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
  *"(3, 10) <= sys.version_info"*) exit {out_of_range} ;;
  *"print("*) echo 3.12 ;;
  *"import ensurepip"*) exit {no_ensurepip} ;;
  "-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python
     cp "$0" .venv/bin/lint-imports
     echo "$*" >> asked ;;
  *) echo "$*" >> asked ;;
esac
"""


class Folder:
    """A copy of what `make` reads, on a machine with only the Pythons that a test puts there."""

    def __init__(self, path: Path) -> None:
        self.path = path / "kit with a space"
        self.tools = path / "tools"
        self.path.mkdir()
        self.tools.mkdir()
        for name in READ:
            shutil.copy(ROOT / name, self.path)
        for tool in TOOLS:
            (self.tools / tool).symlink_to(str(shutil.which(tool)))

    def add_python(self, name: str, *, out_of_range: bool = False, ensurepip: bool = True) -> None:
        python = self.tools / name
        python.write_text(
            FAKE_PYTHON.format(out_of_range=int(out_of_range), no_ensurepip=int(not ensurepip))
        )
        python.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make there, keeping what Python was asked to do in `asked`."""
        (self.path / "asked").write_text("")
        environment = {"PATH": str(self.tools), "HOME": str(self.path), "LC_ALL": "C"}
        return subprocess.run(
            ["make", *arguments], cwd=self.path, env=environment, capture_output=True, text=True
        )

    @property
    def asked(self) -> list[str]:
        return (self.path / "asked").read_text().splitlines()

    def installs(self) -> list[str]:
        return [call for call in self.asked if call.startswith("-m pip") and " install " in call]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_help_names_every_target(folder: Folder) -> None:
    described = [line.split()[1] for line in folder.make().stdout.splitlines()]
    assert sorted(described) == sorted(TARGETS)


def test_lab_sets_up_once_and_serves_this_machine_only(folder: Folder) -> None:
    folder.add_python("python3.12")
    first = folder.make("lab", "PORT=9123")
    assert first.returncode == 0, first.stderr
    assert "Making .venv with Python 3.12" in first.stdout
    (install,) = folder.installs()
    assert "--constraint constraints.txt" in install
    assert install.endswith("--editable .[lab]")
    server = folder.asked[-1].split()
    assert server[:2] == ["-m", "jupyterlab"]
    assert {"--ip=127.0.0.1", "--port=9123"} <= set(server)
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in server
    assert ("--allow-root" in server) == (os.getuid() == 0)
    assert not [word for word in server if "token" in word or "password" in word]

    second = folder.make("lab")
    assert second.returncode == 0
    assert len(folder.asked) == 1, "the second call only starts the server"


def test_news_are_declined_for_the_reader(folder: Folder) -> None:
    folder.add_python("python3")
    folder.make("lab")
    settings = folder.path / ".venv/share/jupyter/lab/settings/overrides.json"
    assert '"fetchNews": "false", "checkForUpdates": false' in settings.read_text()


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(folder: Folder, changed: str) -> None:
    folder.add_python("python3")
    folder.make("lab")
    stamp = folder.path / ".venv/.stamp-lab"
    os.utime(folder.path / changed, (stamp.stat().st_mtime + 5,) * 2)
    assert folder.make("lab").returncode == 0
    assert len(folder.installs()) == 1
    assert not [call for call in folder.asked if call.startswith("-m venv")]


def test_check_installs_the_tools_and_lab_needs_nothing_after_it(folder: Folder) -> None:
    folder.add_python("python3")
    run = folder.make("check")
    assert run.returncode == 0, run.stderr
    (install,) = folder.installs()
    assert install.endswith("--editable .[lab,e2e,dev]")
    assert folder.asked[-4:] == [
        "-m ruff check --quiet .",
        "-m ruff format --check --quiet .",
        "-m pyright",
        "--no-logo",  # lint-imports
    ]
    folder.make("lab")
    assert not folder.installs()


def test_a_moved_folder_gets_a_venv_of_its_own(folder: Folder) -> None:
    folder.add_python("python3")
    folder.make("lab")
    folder.path = folder.path.rename(folder.path.with_name("moved"))
    assert folder.make("lab").returncode == 0
    assert [call for call in folder.asked if call.startswith("-m venv")]
    assert len(folder.installs()) == 1


def test_a_venv_whose_python_is_gone_is_made_again(folder: Folder) -> None:
    folder.add_python("python3")
    folder.make("lab")
    (folder.path / ".venv/bin/python").unlink()
    assert folder.make("lab").returncode == 0
    assert len(folder.installs()) == 1


def test_a_venv_made_by_hand_is_kept(folder: Folder) -> None:
    folder.add_python("python3")
    (folder.path / ".venv/bin").mkdir(parents=True)
    shutil.copy(folder.tools / "python3", folder.path / ".venv/bin/python")
    run = folder.make("lab")
    assert "Using the .venv that is already here" in run.stdout
    assert not [call for call in folder.asked if call.startswith("-m venv")]
    assert len(folder.installs()) == 1


def test_the_newest_python_in_range_is_taken(folder: Folder) -> None:
    folder.add_python("python3.13", out_of_range=True)  # a shim of pyenv's that leads nowhere
    folder.add_python("python3.11")
    folder.add_python("python3", out_of_range=True)
    assert folder.make("lab").returncode == 0


def test_no_python_in_range_is_said_and_nothing_is_made(folder: Folder) -> None:
    folder.add_python("python3", out_of_range=True)
    run = folder.make("lab")
    assert run.returncode != 0
    assert "No Python from 3.10 to 3.13 here (tried: python3 python3.13" in run.stderr
    assert "make lab PYTHON=/path/to/python3" in run.stderr
    assert not (folder.path / ".venv").exists()


def test_a_python_that_the_caller_names_is_the_only_one_tried(folder: Folder) -> None:
    folder.add_python("python3")
    run = folder.make("lab", "PYTHON=/nowhere/python3")
    assert run.returncode != 0
    assert "(tried: /nowhere/python3)" in run.stderr


def test_debians_missing_venv_package_is_named(folder: Folder) -> None:
    folder.add_python("python3", ensurepip=False)
    run = folder.make("lab")
    assert run.returncode != 0
    assert "sudo apt install python3.12-venv" in run.stderr
    assert not (folder.path / ".venv").exists()


def test_test_says_loudly_what_it_skips(folder: Folder) -> None:
    folder.add_python("python3")
    run = folder.make("test")
    assert run.returncode == 0, run.stderr
    assert "!! There is no chromium here" in run.stdout
    assert "!! SKIPPED: there is no notebook yet" in run.stdout
    assert [call for call in folder.asked if call.startswith("-m pytest tests --ignore")]


def test_colabs_kernel_goes_before_our_own_and_is_installed_once(folder: Folder) -> None:
    folder.add_python("python3")
    (folder.path / "notebooks").mkdir()
    (folder.path / "notebooks/08_sbld_live.ipynb").write_text("{}")
    first = folder.make("test-colab")
    assert first.returncode == 0, first.stderr
    ours, colabs = folder.installs()
    assert "--constraint constraints.txt" in ours
    assert "constraints.txt" not in colabs and "--no-deps" in colabs
    assert colabs.endswith("--target .venv/colab --requirement requirements-colab.txt")
    assert [call for call in folder.asked if "--nbval-lax" in call] == [
        f"-m pytest {FLAGS} notebooks/08_sbld_live.ipynb"
    ]
    assert folder.asked[-1] == "-m pytest tests/colab -r s"
    assert folder.make("test-colab").returncode == 0
    assert not folder.installs()
    changed = folder.path / "requirements-colab.txt"
    os.utime(changed, ((folder.path / ".venv/.stamp-colab").stat().st_mtime + 5,) * 2)
    folder.make("test")
    assert folder.installs() == [colabs]


FLAGS = "--nbval-lax --nbval-current-env --nbval-cell-timeout=120"


def test_colabs_packages_are_pinned_and_are_those_that_are_tested() -> None:
    lines = (ROOT / "requirements-colab.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    found = dict(pins)
    assert list(found) == sorted(found) and len(found) == len(pins)
    named = ("ipykernel", "ipywidgets", "ipython")
    assert [found[name] for name in named] == ["6.17.1", "7.7.1", "7.34.0"]


@pytest.mark.parametrize(
    "failing",
    [
        "-m ruff check",
        "-m pyright",
        "-m pytest tests --ignore",
        "--nbval",
        "--target",
    ],
)
def test_any_failure_fails_the_whole(folder: Folder, failing: str) -> None:
    folder.add_python("python3")
    python = folder.tools / "python3"
    python.write_text(
        python.read_text().replace("  *) echo", f'  *"{failing}"*) exit 3 ;;\n  *) echo')
    )
    (folder.path / "notebooks").mkdir()
    (folder.path / "notebooks/00_start_here.ipynb").write_text("{}")
    assert folder.make("test").returncode != 0


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "make test"
    assert sum("make" in line for line in lines) == 1
