"""More text than memory: streams of it into token files, while resident memory is watched.

The text is made as it is asked for and never stored. Three streams, each in a process of its own:
bytes, the same as one document without a line end, and pairs of bytes merged (BPE), which takes
some hundred times as long a mebibyte, so that less of it is streamed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.outcome import Outcome

MIB = 2**20
WARM = 64  # MiB after which memory may not grow; a quarter of the stream where that is less
GROWTH_MIB = 16  # what may come and go: pieces in flight, and what the allocator keeps
STREAMS = {"bytes": 1, "one line": 16, "merged pairs": 64}  # of one in so many MiB
TESTS = Path(__file__).parents[1]


def run(num: int, *, seed: int, folder: Path) -> Outcome:
    """Stream `num` MiB of bytes, and parts of it in the two other forms."""
    began, failures, figures = time.perf_counter(), {}, {}
    for place, (name, part) in enumerate(STREAMS.items()):
        size = max(16, num // part)
        found = in_a_process(name, size, seed, folder / f"{place}.tokens")
        figures[name] = found
        failure = found.get("failure") or judge(found)
        if failure is not None:
            failures[place] = f"{name}, {size} MiB: {failure}"
    return Outcome.of(
        f"a stream of {num} MiB",
        f"a whole token file, and no more than {GROWTH_MIB} MiB of memory beyond the first {WARM}",
        failures,
        len(STREAMS),
        seconds=time.perf_counter() - began,
        figures=figures,
    )


def judge(found: dict[str, Any]) -> str | None:
    """Why a stream was not as promised, or None."""
    if found["growth_mib"] > GROWTH_MIB:
        return f"memory grew by {found['growth_mib']:.1f} MiB"
    if not found["is_whole"]:
        return "the token file is not what was streamed"
    return None


def in_a_process(name: str, size: int, seed: int, path: Path) -> dict[str, Any]:
    """`measure` where nothing else takes memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    done = subprocess.run(
        [sys.executable, "-m", "faults.streamed", name, str(size), str(seed), str(path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"failure": done.stderr.strip()[-400:] or f"ended with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, size: int, seed: int, path: Path) -> dict[str, Any]:
    """Stream this many MiB; what memory it took, how fast it was, and whether the file is whole."""
    from sbldlib.data import TokenFile, stream_tokens, train_tokenizer

    blocks = Blocks(seed, size)
    tokenizer = train_tokenizer([blocks.first], 512 if name == "merged pairs" else 256)
    memory: list[tuple[int, int]] = []
    began = time.perf_counter()
    written = stream_tokens(
        [iter(blocks)] if name == "one line" else blocks,
        tokenizer,
        path,
        on_bytes=lambda num_bytes: memory.append((num_bytes, resident_bytes())),
    )
    seconds = time.perf_counter() - began
    opened = TokenFile.open(path, verify=True)
    tokens = opened.tokens
    asked = tokenizer.encode(blocks.first[:1000])[:200]
    is_whole = opened == written and opened.num_bytes == blocks.given_bytes
    is_whole = is_whole and tokens[:200].tolist() == asked and tokens[-1] == tokenizer.end_of_text
    path.unlink()
    warm = min(WARM * MIB, size * MIB // 4)
    before = max(held for done, held in memory if done <= warm)
    after = max(held for done, held in memory if done > warm)
    return {
        "mib": size,
        "mib_per_second": round(size / seconds, 1),
        "resident_mib": round(before / MIB, 1),
        "growth_mib": round(max(0, after - before) / MIB, 2),
        "is_whole": bool(is_whole),
    }


class Blocks:
    """Mebibytes of words, a function of the seed, each made when it is asked for."""

    def __init__(self, seed: int, size: int):
        drawn = random.Random(seed)
        words = ["".join(drawn.choices("etaoinshrdlu", k=drawn.randint(1, 9))) for _ in range(5000)]
        self._words = " ".join(drawn.choices(words, k=MIB // 4))[:MIB]
        self._size, self.given_bytes = size, 0

    @property
    def first(self) -> str:
        """The first one."""
        return self._block(0)

    def __iter__(self) -> Iterator[str]:
        for number in range(self._size):
            block = self._block(number)
            self.given_bytes += len(block)
            yield block

    def _block(self, number: int) -> str:
        start = number * 7919 % len(self._words)
        return f"{self._words[start:]}{self._words[:start]} {number} "


def resident_bytes() -> int:
    """What this process holds in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    kind, size, seed, path = sys.argv[1:]
    print(json.dumps(measure(kind, int(size), int(seed), Path(path))))
