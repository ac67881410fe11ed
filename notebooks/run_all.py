"""Execute the notebooks in order, in place: what `make notebooks` runs.

Each is written back only when every cell ran. Widget state is stripped (a viewer without a kernel
cannot use it), execution counts and outputs stay, so that a reader on the web sees the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from sbldlib.storage.files import write_atomically

HERE = Path(__file__).parent
MAX_BYTES = 1_500_000


def run(path: Path, *, timeout_seconds: int = 1800) -> int:
    """Execute one notebook and write it back; returns its size in bytes."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=timeout_seconds, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # wall-clock stamps: noise in every diff
    content = nbformat.writes(notebook).encode()
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path.name} is {len(content):,} bytes; at most {MAX_BYTES:,}")
    write_atomically(path, content)
    return len(content)


def main() -> None:
    """Run the notebooks named, or all of them."""
    os.environ.setdefault("SBLD_PANEL", "inline")  # nobody is here to steer
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all, in order")
    paths = parser.parse_args().notebooks or sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        sys.exit("no notebooks here")
    for path in paths:
        print(f"{path.name} ...", end=" ", flush=True)
        print(f"{run(path) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
