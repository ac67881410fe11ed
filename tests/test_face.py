from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import textwrap

import pytest

import sbldlib

# Name, arguments that may be given by place, and some of those by name alone with their defaults.
REQUIRED = inspect.Parameter.empty
COMMANDS = {
    "train": (("model", "data", "optimizer"), {"callbacks": ()}),
    "skip_layers": (("model", "layers_to_skip"), {}),
    "sbld": (("model", "sensitivity_data"), {"scheduler": None, "seed": 0}),
    "adjust_probability": (("model", "scheduler"), {}),
    "calculate_sensitivity": (("model", "layer"), {"batches": REQUIRED, "method": "loss_delta"}),
    "create_block_allow_lists": (("sensitivity_data",), {}),
    "create_variance_based_scheduler": (("training_data",), {}),
    "update_keep_probability": (("sensitivity_data", "optimal_keep_probability"), {}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_eight_commands_by_name_and_leading_arguments(name):
    leading, by_name = COMMANDS[name]
    parameters = dict(inspect.signature(getattr(sbldlib, name)).parameters)
    parameters.pop("draws", None)  # what every method passes on
    by_place = [p for p in parameters.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert tuple(p.name for p in by_place) == leading
    assert all(p.default is REQUIRED for p in by_place)
    for other in list(parameters.values())[len(leading) :]:
        assert by_name.get(other.name, other.default) == other.default
        assert other.default is not REQUIRED or by_name.get(other.name) is REQUIRED, (
            f"{name}: {other.name} needs a default that works"
        )
    assert by_name.keys() <= parameters.keys()


def test_every_name_of_the_face_leads_somewhere_and_is_documented():
    for name in sbldlib.__all__:
        assert getattr(sbldlib, name) is not None
        if name != "__version__":
            assert inspect.getdoc(getattr(sbldlib, name)), name
    assert set(dir(sbldlib)) == set(sbldlib.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sbldlib' has no attribute 'trian'"):
        sbldlib.trian  # noqa: B018


def test_type_checkers_see_the_same_face():
    source = inspect.getsource(sbldlib)
    block = source[source.index("if TYPE_CHECKING:") : source.index("def __getattr__")]
    seen: dict[str, str] = {}
    for line in block.splitlines()[1:]:
        if line.strip().startswith("from ."):
            home, _, names = line.strip().removeprefix("from .").partition(" import ")
            seen |= dict.fromkeys((name.strip() for name in names.split(",")), home)
    assert seen == sbldlib._HOMES
    for name, home in sbldlib._HOMES.items():
        assert hasattr(importlib.import_module(f"sbldlib.{home}"), name)


def run_python(program: str) -> str:
    """What a fresh interpreter prints; no warning passes."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_face_alone_imports_nothing():
    program = """
        import sys
        before = set(sys.modules)
        import sbldlib
        sbldlib.__version__, dir(sbldlib)
        outside = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(outside - set(sys.stdlib_module_names)))
    """
    assert run_python(program) == "sbldlib"


def test_a_run_needs_torch_numpy_tokenizers_and_safetensors_alone():
    # What is imported late, in the midst of a run, must be there too.
    program = """
        import importlib.util, sys

        ABSENT = {"scipy", "pandas", "matplotlib", "seaborn", "ipywidgets", "IPython", "typer"}
        ABSENT |= {"rich", "transformers", "accelerate", "datasets", "sklearn", "PIL"}

        class Hiding:
            def __init__(self, finder):
                self.finder = finder

            def __getattr__(self, name):
                return getattr(self.finder, name)

            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ABSENT:
                    return None
                return self.finder.find_spec(name, path, target)

        sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
        assert importlib.util.find_spec("scipy") is None

        import torch
        import sbldlib
        model = sbldlib.GPT(sbldlib.GPTConfig(
            vocabulary_size=8, context_length=4, num_layers=4, num_heads=1, width=4))
        tokens = torch.arange(8).view(2, 4)
        data = [(tokens, tokens)] * 2
        sensitivity = sbldlib.calculate_sensitivities(model, batches=data)
        run = sbldlib.train(
            model, data, sbldlib.make_optimizer(model),
            config=sbldlib.TrainConfig(budget=sbldlib.Budget(steps=2)),
            callbacks=[sbldlib.sbld(model, sensitivity)],
        )
        assert sbldlib.RunRecord.from_json(run.to_json()) == run
        with sbldlib.skip_layers(model, {0}):
            model(tokens)
        sbldlib.adjust_probability(model, 0.9)
        print(len(run), *sorted(ABSENT & set(sys.modules)))
    """
    assert run_python(program) == "2"
