"""What this machine can run of the kit, what not, and how to mend it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass

import torch

from .environment import installed_version

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: of the kit.
        state: "ok", "limited" (the kit works, this part less), or "missing" (it does not).
        found: what is there.
        mend: what to do; empty where nothing is to be done.
    """

    part: str
    state: str
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at Python, torch, the devices, the notebooks' widgets, the compiler and the browser."""
    return [
        _python(),
        _torch(),
        _device(),
        _kernel(),
        _package("ipywidgets", "live panels", "pip install 'sbldlib[lab]'"),
        _package("jupyterlab", "notebooks at a desk", "pip install 'sbldlib[lab]'"),
        _package("transformers", "other people's models", "pip install 'sbldlib[interop]'"),
        _compiler(),
        _browser(),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Finding(part="Python", state="ok", found=version)
    return Finding(part="Python", state="limited", found=version, mend="tested on 3.10 to 3.13")


def _torch() -> Finding:
    threads = torch.get_num_threads()
    return Finding(part="torch", state="ok", found=f"{torch.__version__}, {threads} threads")


def _device() -> Finding:
    if not torch.cuda.is_available():
        cores = os.cpu_count()
        mend = "GPT-2 124M and above want a CUDA GPU; the lessons do not"
        return Finding(part="device", state="limited", found=f"CPU, {cores} cores", mend=mend)
    name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)[1] / 2**30
    bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
    return Finding(part="device", state="ok", found=f"{name}, {memory:.0f} GiB, {bf16}")


def _kernel() -> Finding:
    version = installed_version("ipykernel")
    if version is None:
        return _package("ipykernel", "notebooks", "pip install 'sbldlib[lab]'")
    if version == "7.0.0":
        mend = "its threads die and live panels stand still: pip install 'ipykernel>7.0.0'"
        return Finding(part="ipykernel", state="missing", found=version, mend=mend)
    return Finding(part="ipykernel", state="ok", found=version)


def _package(name: str, purpose: str, mend: str) -> Finding:
    version = installed_version(name)
    if version is None:
        return Finding(part=name, state="limited", found=f"absent: no {purpose}", mend=mend)
    return Finding(part=name, state="ok", found=version)


def _compiler() -> Finding:
    found = next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)
    if found is None:
        mend = "compile_blocks=True wants a C++ compiler on a CPU; nothing else does"
        return Finding(part="C++ compiler", state="limited", found="absent", mend=mend)
    return Finding(part="C++ compiler", state="ok", found=os.path.basename(found))


def _browser() -> Finding:
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    driver = importlib.util.find_spec("playwright") is not None
    if found and driver:
        return Finding(part="browser tests", state="ok", found=f"{found} and playwright")
    lacking = [n for n, there in (("chromium", found), ("playwright", driver)) if not there]
    mend = "for `make test` alone: install chromium, and pip install 'sbldlib[e2e]'"
    return Finding(
        part="browser tests", state="limited", found=f"no {' or '.join(lacking)}", mend=mend
    )
