from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import json
import os
import platform
import sys

import pytest
import torch

from sbldlib.environment import PACKAGES, environment, installed_version, is_colab


def test_it_says_versions_and_machine_in_plain_values():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert found["packages"].keys() <= set(PACKAGES)
    assert found["processor_cores"] == os.cpu_count()
    assert found["torch_threads"] == torch.get_num_threads()
    assert platform.machine() in found["system"]
    if not torch.cuda.is_available():
        assert found["device"] == "cpu"


def test_it_names_no_person_host_or_folder():
    text = json.dumps(environment())
    private = [platform.node(), os.getcwd(), os.path.expanduser("~"), sys.prefix]
    with contextlib.suppress(KeyError, OSError):  # where there is no name to give away
        private.append(getpass.getuser())
    for name in private:
        assert len(name) < 4 or name not in text


def test_a_package_that_is_missing_has_no_version(monkeypatch):
    assert installed_version("no-such-package-anywhere") is None

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert environment()["packages"] == {}


@pytest.mark.parametrize("there", [True, False])
def test_colab_is_known_by_its_module(there, monkeypatch):
    if there:
        monkeypatch.setitem(sys.modules, "google.colab", object())
    else:
        monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    assert is_colab() is there
