"""The vision tower by onnxruntime against the one by torch: the same frames, side by side, on the CPU.

`python benchmarks/onnx_vision.py [--model M] [--frames 8] [--threads 1 2] [--rounds 5]`. Without `--model` it
takes the bundled checkpoint and a random one of the 4B model's depth and picture size, about 32 times
narrower. Both read the same bytes, in turns, and the best round of each counts; making the export and opening
it are printed apart. Exits with 1 when the features differ by more than 1e-4 of the largest value.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.model.inputs import VisualInputs
from molmo2_ground.model.onnx_export import ALLOWED_DIFFERENCE, GRAPH_FILE, export_vision, relative_difference
from molmo2_ground.model.onnx_vision import OnnxVision
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.model.vision import TorchTower, VisionEncoder
from molmo2_ground.train.toy.street import make_scene


def clip_of(frames: int) -> Clip:
    """A street, a frame each half second."""
    scene = make_scene(11, duration_s=frames / 2 + 1)
    return Clip.from_arrays(np.stack([scene.render(n / 2)[0] for n in range(frames)]), fps=2.0)


def spent_s(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.inference_mode()
def compared(name: str, title: str, work: Path, options: argparse.Namespace) -> bool:
    """Print one model's table; False when the features differ too much."""
    model = load_checkpoint(name, device="cpu", dtype="float32")
    visual = model.build_visual(clip_of(options.frames))
    assert visual is not None
    exporting_s = spent_s(lambda: export_vision(open_checkpoint(name), work))
    megabytes = sum(path.stat().st_size for path in work.iterdir()) / 1e6
    print(f"{title}: exported in {exporting_s:.0f} s, {megabytes:.1f} MB")
    graph = work / GRAPH_FILE
    same = [side_by_side(model, visual, graph, threads, options) for threads in options.threads]
    return all(same)


def side_by_side(
    model: Molmo2, visual: VisualInputs, graph: Path, threads: int, options: argparse.Namespace
) -> bool:
    """Print one line for a number of threads; False when the features differ too much."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    tower = OnnxVision(graph, device=torch.device("cpu"), dtype=torch.float32, provider="cpu")
    opening_s = time.perf_counter() - began
    plain = VisionEncoder(TorchTower(model.network, flags=model.flags, crops_at_once=8))
    exported = VisionEncoder(tower)
    difference = relative_difference(exported.encode(visual), plain.encode(visual))
    torch_s, onnx_s = float("inf"), float("inf")
    for _ in range(options.rounds):
        torch_s = min(torch_s, spent_s(lambda: plain.encode(visual)))
        onnx_s = min(onnx_s, spent_s(lambda: exported.encode(visual)))
    print(
        f"  {threads} threads: torch {torch_s:.3f} s, {tower} {onnx_s:.3f} s, "
        f"{torch_s / onnx_s:.2f} times as fast; opened in {opening_s:.2f} s; "
        f"relative difference {difference:.1e}",
        flush=True,
    )
    return difference <= ALLOWED_DIFFERENCE


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="tiny, a folder or a hub id")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.frames} frames, best of {options.rounds} rounds, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.model is not None:
            models = {options.model: options.model}
        else:
            shape = write_random_checkpoint(work / "random", kind="qwen-4b")
            models = {"tiny": "tiny", "the 4B's depth, narrow": str(shape)}
        results = [
            compared(name, title, work / f"export{n}", options)
            for n, (title, name) in enumerate(models.items())
        ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
