"""Peak memory and time of a loss over a vocabulary of 152,064 words: in chunks, and all logits at once.

Usage: OMP_NUM_THREADS=1 python benchmarks/loss_memory.py [TOKENS ...]   (default: 512 2048)

Forward and backward on a CPU in fp32, 64 channels, table and states both learning; each in a process of its
own, memory over what the inputs take.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from molmo2_ground.train.loss import weighted_loss

WORDS, CHANNELS, Z_LOSS = 152_064, 64, 1e-4


def run_once(way: str, tokens: int) -> dict[str, float]:
    """One forward and backward pass; `way` is `chunks` or `at once`."""
    generator = torch.Generator().manual_seed(0)
    hidden_MC = torch.randn(tokens, CHANNELS, generator=generator).requires_grad_()
    table_VC = (torch.randn(WORDS, CHANNELS, generator=generator) / 10).requires_grad_()
    targets_M = torch.randint(WORDS, (tokens,), generator=generator)
    weights_M = torch.rand(tokens, generator=generator) + 0.1
    before_mib, start = _peak_mib(), time.perf_counter()
    if way == "chunks":
        weight_sum = float(weights_M.sum())
        loss = weighted_loss(
            hidden_MC, table_VC, targets_M, weights_M, weight_sum=weight_sum, z_loss=Z_LOSS
        ).loss
    else:
        logits_MV = F.linear(hidden_MC, table_VC)
        losses_M = F.cross_entropy(logits_MV, targets_M, reduction="none")
        losses_M = losses_M + Z_LOSS * torch.logsumexp(logits_MV, -1).square()
        loss = (losses_M * weights_M).sum() / weights_M.sum()
    loss.backward()
    return {
        "mib": _peak_mib() - before_mib,
        "seconds": time.perf_counter() - start,
        "loss": float(loss.detach()),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(way: str, tokens: int) -> dict[str, float]:
    """The same in a fresh process, whose peak is its own."""
    command = [sys.executable, __file__, "--one", way, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print both ways side by side for each number of tokens."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(run_once(sys.argv[2], int(sys.argv[3]))))
        return
    print("tokens    chunks              at once             ratio of memory  losses differ by")
    for tokens in [int(word) for word in sys.argv[1:]] or [512, 2048]:
        ours, plain = in_a_process("chunks", tokens), in_a_process("at once", tokens)
        print(
            f"{tokens:6d}  {ours['mib']:6.0f} MiB {ours['seconds']:5.1f} s  "
            f"{plain['mib']:6.0f} MiB {plain['seconds']:5.1f} s  {plain['mib'] / ours['mib']:15.1f}"
            f"  {abs(ours['loss'] - plain['loss']):.1e}"
        )


if __name__ == "__main__":
    main()
