"""Nothing here runs what a file holds; nothing tells a reader to open JupyterLab to others."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("sbldlib", "benchmarks", "tests", "notebooks", "figures")
NOT_OURS = {".venv", ".git", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__", "build"}

# ---- code

# What runs code that a file or a message holds.
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NAMES = {"eval", "exec"}
CALLS = {
    "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system",
    "pandas.read_pickle", "pd.read_pickle", "numpy.lib.format.read_pickle",
}  # fmt: skip
METHODS = {
    "gather_object", "all_gather_object", "broadcast_object_list", "scatter_object_list",
    "send_object_list", "recv_object_list", "to_pickle", "gather_for_metrics_object",
}  # fmt: skip
KEYWORDS = {"weights_only": False, "allow_pickle": True, "shell": True, "trust_remote_code": True}
# file -> what it may do, and why
EXEMPT = {
    "tests/dropping/test_partial.py": ({"pickle"}, "copies of a model are plain models"),
    "tests/dropping/test_export.py": ({"pickle"}, "a pruned model is a plain model"),
    "tests/dropping/test_skipping.py": (
        {"pickle", "torch.save", "torch.load", "weights_only=False"},
        "copies, pickles and whole saved models are plain models",
    ),
    "tests/faults/payloads.py": ({"pickle", "torch.save"}, "files with code in them, to refuse"),
    "tests/data/test_arithmetic.py": ({"eval"}, "Python's own answer to a generated sum"),
    "tests/ground/test_readme.py": ({"eval"}, "runs the README's snippets, which await"),
    "tests/notebooks/test_exercises.py": ({"exec"}, "runs the exercises' cells"),
}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; what is no plain name becomes "?"."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def dangers(source: str) -> set[str]:
    """What in this code would run what a file holds."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} & MODULES
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & CALLS
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.rpartition(".")[2]
            found |= {name} & (NAMES | CALLS)
            found |= {last} & METHODS
            if last in ("__import__", "import_module") and node.args:
                found |= {getattr(node.args[0], "value", None)} & MODULES
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in KEYWORDS and value is KEYWORDS[keyword.arg]:
                    found.add(f"{keyword.arg}={value}")
    return found


def sources() -> Iterator[tuple[str, str]]:
    """Every file of code with its text; a notebook's cells as one text, magics left out."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if NOT_OURS & set(path.parts) or ".ipynb_checkpoints" in path.parts:
                continue
            name = path.relative_to(ROOT).as_posix()
            if path.suffix == ".py":
                yield name, path.read_text(encoding="utf-8")
            elif path.suffix == ".ipynb":
                lines = [line for cell in cells(path, "code") for line in cell.split("\n")]
                plain = [re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines]
                yield name, "\n".join(plain)


def cells(path: Path, *kinds: str) -> list[str]:
    """A notebook's cells of these kinds."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] in kinds]


SOURCES = dict(sources())


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_is_read_in_a_way_that_runs_it(name):
    allowed, _ = EXEMPT.get(name, (set(), ""))
    code = SOURCES[name].replace("await ", "") if name.endswith(".ipynb") else SOURCES[name]
    assert dangers(code) - allowed == set()


def test_every_exemption_is_used_and_has_a_reason():
    for name, (allowed, reason) in EXEMPT.items():
        assert name.startswith("tests/") and reason
        assert dangers(SOURCES[name]) == allowed, name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("__import__('pickle').loads(x)", {"pickle"}),
        ("importlib.import_module('dill')", {"dill"}),
        ("import joblib.memory", {"joblib.memory"}),
        ("from cloudpickle import loads", {"cloudpickle"}),
        ("from torch import load", {"torch.load"}),
        ("import torch\ntorch.load('x')", {"torch.load"}),
        ("torch.load('x', weights_only=False)", {"torch.load", "weights_only=False"}),
        ("np.load('x', allow_pickle=True)", {"allow_pickle=True"}),
        ("eval('1')", {"eval"}),
        ("exec('1')", {"exec"}),
        ("yaml.load(text)", {"yaml.load"}),
        ("dist.broadcast_object_list(x)", {"broadcast_object_list"}),
        ("torch.distributed.gather_object(x)", {"gather_object"}),
        ("subprocess.run('x', shell=True)", {"shell=True"}),
        ("model.eval()", set()),
        ("Record.load('x'); yaml.safe_load(text); re.compile('x')", set()),
        ("np.load('x', allow_pickle=False)", set()),
    ],
)
def test_what_is_looked_for_is_found(source, found):
    assert dangers(source) == found


def test_the_code_looked_at_is_all_of_it():
    assert {name.partition("/")[0] for name in SOURCES} == set(CODE)
    assert "sbldlib/models/files.py" in SOURCES and "notebooks/08_sbld_live.ipynb" in SOURCES


# ---- JupyterLab

# Each opens a reader's JupyterLab to whoever reaches their machine, or to any page they visit.
OPENED = (
    r"""token\s*[=:]\s*(''|""|None\b|$)""",
    r"""password\s*[=:]\s*(''|""|None\b|$)""",
    r"password_required\s*[=:]\s*False",
    r"allow_unauthenticated_access\s*[=:]\s*True",
    r"""ip\s*[= ]\s*['"]?(0\.0\.0\.0|\*|::)""",
    r"""allow_origin(_pat)?\s*[=:]\s*['"]?(\*|\.\*)""",
    r"allow_remote_access\s*[=:]\s*True",
    r"disable_check_xsrf\s*[=:]\s*True",
    r"disable_check_xsrf\b(?!\s*[=:]\s*False)",
)
DOCUMENTS = ("*.md", "*.ipynb", "*.yml", "*.yaml", "*.toml", "*.sh", "*.cfg", "*.txt", "*.rst")
NAMED = ("Makefile", "Dockerfile", "run", "Procfile")


def documents() -> Iterator[Path]:
    """What a reader may follow, or a machine may run."""
    for path in sorted(ROOT.rglob("*")):
        if NOT_OURS & set(path.parts) or not path.is_file() or "results" in path.parts:
            continue
        is_named = path.name.startswith(NAMED) and path.suffix not in (".py", ".json")
        if is_named or any(path.match(pattern) for pattern in DOCUMENTS):
            yield path


def opened(text: str) -> list[str]:
    """Every line that would open JupyterLab."""
    lines = text.splitlines()
    return [line for line in lines for pattern in OPENED if re.search(pattern, line, re.I)]


DOCUMENTS_HERE = {path.relative_to(ROOT).as_posix(): path for path in documents()}


@pytest.mark.parametrize("name", DOCUMENTS_HERE)
def test_no_document_says_to_open_jupyterlab(name):
    path = DOCUMENTS_HERE[name]
    if path.suffix == ".ipynb":
        text = "\n".join(cells(path, "code", "markdown", "raw"))
    else:
        text = path.read_text(encoding="utf-8")
    assert opened(text) == []


def test_the_documents_looked_at_are_all_there():
    assert {"README.md", "Makefile", "CONTRIBUTING.md", ".ci/run"} <= DOCUMENTS_HERE.keys()
    assert sum(name.endswith(".ipynb") for name in DOCUMENTS_HERE) >= 6


def test_make_lab_serves_this_machine_alone():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (start,) = re.findall(r"-m jupyterlab.*?(?=\n\n|\n\t@|\n[a-z])", makefile, re.S)
    assert "--ip=127.0.0.1" in start
    assert not re.search("token|password|origin|remote", start)


@pytest.mark.parametrize(
    "line",
    [
        "jupyter lab --ServerApp.token=''",
        'jupyter lab --IdentityProvider.token=""',
        "jupyter lab --NotebookApp.token= ",
        "c.ServerApp.password = ''",
        "jupyter lab --ip=0.0.0.0",
        "jupyter lab --ip 0.0.0.0",
        "jupyter lab --ip='*'",
        "c.ServerApp.ip = '0.0.0.0'",
        "c.ServerApp.allow_origin = '*'",
        "--ServerApp.allow_origin=*",
        "--ServerApp.disable_check_xsrf=True",
        "c.ServerApp.allow_remote_access = True",
    ],
)
def test_a_line_that_opens_it_is_found(line):
    assert opened(line)


@pytest.mark.parametrize(
    "line",
    [
        "open the address with the token that it prints below",
        "jupyter lab --ip=127.0.0.1 --port=8888",
        "a chip of 8 cores, 3.7 characters a token: see below",
    ],
)
def test_a_line_that_opens_nothing_is_left(line):
    assert not opened(line)
