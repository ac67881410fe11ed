"""The core on a bare GPU machine: torch, numpy, tokenizers and safetensors, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
BARE = {"torch", "numpy", "tokenizers", "safetensors"}
CORE = ["errors", "records", "environment", "losses", "data", "models", "dropping", "sensitivity"]
CORE += ["measure", "training", "methods"]
# The variance curve is fitted beforehand, on a machine that has scipy.
FITTING = {f"sbldlib.dropping.{name}" for name in ("pwegd", "pwegd_fit", "fits", "fit_band")}
FITTING |= {"sbldlib.dropping.variance"}
IMPORT_WITHOUT = """
import importlib, json, sys
absent, modules = json.loads(sys.argv[1])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
"""


def core_modules() -> list[str]:
    """The dotted names of every module on floors 1 to 6, the curve fit left out."""
    files: list[Path] = []
    for room in CORE:
        folder = ROOT / "sbldlib" / room
        files += sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    names = [".".join(part).removesuffix(".__init__") for part in parts]
    return [name for name in names if name not in FITTING]


def others() -> set[str]:
    """The import names of everything else that the kit may install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    names = {Requirement(line).name for line in lines} | {"tqdm", "yaml", "IPython"}
    return {name.replace("-", "_") for name in names} - BARE - {project["name"], "setuptools"}


def import_without(absent: set[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    told = json.dumps([sorted(absent), modules])
    return subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, told], cwd=ROOT, capture_output=True, text=True
    )


def test_core_imports_where_only_torch_and_its_like_are_installed() -> None:
    modules = core_modules()
    assert {"sbldlib.models.gpt", "sbldlib.methods", "sbldlib.records"} <= set(modules)
    run = import_without(others(), modules)
    assert run.returncode == 0, run.stderr


def test_the_absence_is_real() -> None:
    run = import_without(others(), ["sbldlib.dropping.pwegd"])
    assert "No module named 'scipy" in run.stderr
