"""What to install is said in four places: pyproject, constraints, conda and Colab agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec, Version, VersionSpec

import sbldlib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# What a Colab machine carries: a base install must be content with it.
COLAB = {
    "python": "3.13.0",
    "torch": "2.11.0",
    "numpy": "2.1.0",
    "pandas": "2.2.0",
    "ipywidgets": "7.7.1",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
}


def requirements(*extras: str) -> list[Requirement]:
    """The base requirements and those of some extras, without the kit's references to itself."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = map(Requirement, lines)
    return [requirement for requirement in parsed if requirement.name != PROJECT["name"]]


def pins(python: str) -> dict[str, list[str]]:
    """The versions that constraints.txt gives each distribution on Linux under one Python."""
    where = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(where):
                (clause,) = pin.specifier
                assert clause.operator == "==", line
                found.setdefault(canonicalize_name(pin.name), []).append(clause.version)
    return found


def conda_specs() -> dict[str, MatchSpec]:
    """The conda packages of environment.yml by name; MatchSpec raises on a line it cannot parse."""
    specs = [MatchSpec(line) for line in CONDA["dependencies"] if isinstance(line, str)]
    return {spec.name.normalized: spec for spec in specs}


def clauses(specifier: object) -> set[str]:
    """ ">=1,<2" as {">=1", "<2"}; an absent range as the empty set."""
    return set(str(specifier or "").split(",")) - {""}


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_requirement_once_within_its_range(python: str) -> None:
    pinned = pins(python)
    for requirement in requirements(*PROJECT["optional-dependencies"]):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert len(versions) == 1, f"{requirement.name} on Python {python}: {versions}"
        assert requirement.specifier.contains(versions[0]), f"{requirement} excludes {versions[0]}"


def test_declared_pythons_are_those_that_are_constrained() -> None:
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(8, 20) if supported.contains(f"3.{minor}.1")] == [
        int(python.split(".")[1]) for python in PYTHONS
    ]
    listed = [name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if " 3." in name]
    assert tuple(listed) == PYTHONS


def test_base_install_leaves_colab_as_it_is() -> None:
    assert SpecifierSet(PROJECT["requires-python"]).contains(COLAB["python"])
    met = [requirement for requirement in requirements() if requirement.name in COLAB]
    assert {"torch", "numpy", "pandas", "ipywidgets"} <= {requirement.name for requirement in met}
    for requirement in met:
        assert requirement.specifier.contains(COLAB[requirement.name]), f"{requirement} on Colab"


def test_conda_file_has_only_keys_that_conda_knows() -> None:
    assert set(CONDA) == {"name", "channels", "dependencies"}
    assert CONDA["channels"] == ["conda-forge"]


def test_conda_ranges_are_those_of_pyproject() -> None:
    expected = {
        CONDA_NAMES.get(requirement.name, requirement.name): clauses(requirement.specifier)
        for requirement in requirements("lab")
    }
    expected |= {"python": clauses(PROJECT["requires-python"]), "pip": set()}
    assert {name: clauses(spec.version) for name, spec in conda_specs().items()} == expected


@pytest.mark.parametrize("python", PYTHONS)
def test_conda_accepts_the_versions_that_make_installs(python: str) -> None:
    specs, pinned = conda_specs(), pins(python)
    assert VersionSpec(specs["python"].version).matches(Version(python))
    for requirement in requirements("lab"):
        (version,) = pinned[canonicalize_name(requirement.name)]
        spec = specs[CONDA_NAMES.get(requirement.name, requirement.name)]
        assert VersionSpec(spec.version).matches(Version(version)), f"{spec} excludes {version}"


def test_pip_section_resolves_from_what_is_installed(tmp_path: Path) -> None:
    (section,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    lines, report = tmp_path / "requirements.txt", tmp_path / "report.json"
    lines.write_text("\n".join(section), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run"]
    pip += ["--no-index", "--no-build-isolation", "--report", str(report), "-r", str(lines)]
    run = subprocess.run(pip, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (installed,) = json.loads(report.read_text(encoding="utf-8"))["install"]
    assert installed["metadata"]["name"] == PROJECT["name"]
    assert Path(installed["download_info"]["url"].removeprefix("file://")) == ROOT
    # pip before 23.1, such as Debian's, does not report them.
    assert installed.get("requested_extras", ["lab"]) == ["lab"]


def test_release_is_named_alike_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert sbldlib.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
