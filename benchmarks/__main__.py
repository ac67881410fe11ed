"""Measure what is missing on this machine, print one table, renew the README and the figure."""

from __future__ import annotations

import argparse
import sys

import torch

from . import report
from .common import ON_CPU, ON_CUDA, say
from .results import QUESTIONS, answer_missing


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="on CUDA, at 124M and GPT-3 Medium")
    parser.add_argument("--only", choices=list(QUESTIONS), help="this question alone")
    parser.add_argument("--force", action="store_true", help="measure again what is present")
    parser.add_argument("--redraw", action="store_true", help="only renew what is shown")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU (default 1)")
    asked = parser.parse_args(arguments)
    if asked.gpu and not torch.cuda.is_available():
        say("--gpu: torch sees no CUDA device here; without --gpu the CPU is measured")
        return 2
    if not asked.redraw:
        torch.set_num_threads(asked.threads)
        questions = [QUESTIONS[asked.only]] if asked.only else list(QUESTIONS.values())
        answer_missing(ON_CUDA if asked.gpu else ON_CPU, questions, force=asked.force)
    print(report.plain_table(report.rows(report.redraw())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
