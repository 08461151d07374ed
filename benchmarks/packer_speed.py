"""Milliseconds of processor time that the packer takes for one pack, on one core, and how full its packs are.

Usage: OMP_NUM_THREADS=1 python benchmarks/packer_speed.py [PACKS]   (default: 200 packs a stage)

Sizes are made up, with a fixed seed: videos from an eighth of the most crops on, pictures of 3 to 9 crops,
text; so many videos that neither tokens nor crops are short all the time. Times are of the dearest case:
no example is due, so all of the pool and the newcomer are weighed. Goals: under 3 ms at 16,384 tokens, under
12 ms at 36,864. Fill and waits are those of the limits as they are.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from molmo2_ground.train.packer import STAGE1, STAGE2, STAGE3, Candidate, Pack, Packer, PackLimits

GOAL_MS = {"stage 2": 3.0, "stage 3": 12.0}
TOKENS_A_FRAME, TOKENS_A_CROP = 83, 150
FILL_UP = 50  # packs of the start, when the pool is not yet what it will be


def examples(limits: PackLimits, *, videos: float, seed: int) -> Iterator[Candidate]:
    """Examples without end, none longer than the limits."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        kind = rng.random()
        if kind < videos:
            crops = int(rng.integers(limits.max_crops // 8, limits.max_crops + 1))
            tokens = crops * TOKENS_A_FRAME + int(rng.integers(50, 1500))
        elif kind < 0.9:
            crops = int(rng.integers(3, 10))
            tokens = crops * TOKENS_A_CROP + int(rng.integers(50, 900))
        else:
            crops, tokens = 0, int(rng.integers(100, 2000))
        yield Candidate(key=str(number), tokens=min(tokens, limits.max_tokens), crops=crops)
        number += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Packs of one run, the time that each took, and how many packs had passed over each example."""

    packs: list[Pack]
    times_ms: list[float]
    waits: list[int]


def run(limits: PackLimits, *, videos: float, packs: int) -> Run:
    """Make so many packs, after those that fill the pool."""
    packer, came = Packer(limits), {}
    done = Run(packs=[], times_ms=[], waits=[])
    for example in examples(limits, videos=videos, seed=7):
        came[example.key] = packer.packs
        started = time.thread_time()
        pack = packer.offer(example)
        took_ms = (time.thread_time() - started) * 1000
        if not isinstance(pack, Pack):
            continue
        waits = [pack.number - came.pop(one.key) for one in pack.examples]
        if pack.number >= FILL_UP:
            done.packs.append(pack)
            done.times_ms.append(took_ms)
            done.waits.extend(waits)
        if len(done.packs) == packs:
            break
    return done


def measure(name: str, limits: PackLimits, *, videos: float, packs: int) -> None:
    """Print one row."""
    times_ms = run(replace(limits, patience=packs + FILL_UP + 1), videos=videos, packs=packs).times_ms
    usual = run(limits, videos=videos, packs=packs)
    goal = f"{GOAL_MS[name]:5.0f}" if name in GOAL_MS else "    -"
    print(
        f"{name} {limits.max_tokens:8} {limits.max_crops:7} {statistics.median(times_ms):8.2f} "
        f"{np.quantile(times_ms, 0.95):7.2f} {goal} "
        f"{statistics.mean(pack.tokens for pack in usual.packs) / limits.max_tokens:8.1%} "
        f"{statistics.mean(pack.crops for pack in usual.packs) / limits.max_crops:7.1%} "
        f"{statistics.mean(len(pack.examples) for pack in usual.packs):9.1f} {max(usual.waits):8}",
        flush=True,
    )


def main() -> None:
    """Print a row for each stage."""
    packs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("          tokens   crops   median     95%  goal   tokens   crops  examples  longest")
    print("stage    at most at most       ms      ms    ms     fill    fill    a pack     wait")
    measure("stage 1", STAGE1, videos=0.0, packs=packs)
    measure("stage 2", STAGE2, videos=0.2, packs=packs)
    measure("stage 3", STAGE3, videos=0.2, packs=packs)


if __name__ == "__main__":
    main()
