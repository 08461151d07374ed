"""Several questions about one clip, written side by side, against the library's `generate` once for each.

`python benchmarks/questions.py [--questions 8] [--frames 16] [--rounds 3] [--model M]`. Both read the same
prepared frames with the same weights on one thread, in turns; times are from prepared frames to text, the
best round of each. Peak memory is that of a fresh process for each number of questions, above what it holds
with the model loaded (Linux). Exits with 1 when an answer differs from the library's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.inputs import VisualInputs
from molmo2_ground.model.prefix import Prefix, answer_together
from molmo2_ground.model.vision import TorchTower, VisionEncoder, normalised
from molmo2_ground.query import Query, build_prompt
from molmo2_ground.train.toy.street import make_scene

MOST_WORDS = 256
PHRASES = ("the red car", "buses", "the blue bike", "people", "yellow cars", "balls", "moving cars", "bikes")


def clip_of(frames: int) -> Clip:
    """A street, a frame each half second."""
    scene = make_scene(11, duration_s=frames / 2 + 1)
    return Clip.from_arrays(np.stack([scene.render(n / 2)[0] for n in range(frames)]), fps=2.0)


def prompts_of(clip: Clip, count: int) -> list[str]:
    """Questions to count and to point, in turns."""
    make = (Query.point, Query.count)
    queries = [make[n % 2](PHRASES[n % len(PHRASES)]) for n in range(count)]
    return [build_prompt(query, clip).text for query in queries]


def side_by_side(model: Molmo2, visual: VisualInputs, prompts: list[str]) -> list[str]:
    """One reading of the frames, all answers in step."""
    prefix = Prefix(model, visual)
    turns = [prefix.turn(text, max_new_tokens=MOST_WORDS) for text in prompts]
    return [answer.text for answer in answer_together(turns, sampling=Sampling())]


@torch.inference_mode()
def one_by_one(model: Molmo2, clip: Clip, visual: VisualInputs, prompts: list[str]) -> list[str]:
    """The library's own way: everything again for each question."""
    network: Any = model.network
    answers = []
    for text in prompts:
        inputs = model.build_inputs(clip, text)
        written = network.generate(
            input_ids=inputs.input_ids[None],
            attention_mask=torch.ones(1, len(inputs), dtype=torch.int64),
            mm_token_type_ids=inputs.visual_L.long()[None],
            pixel_values_videos=normalised(visual.patches_CNP, flags=model.flags, dtype=torch.float32),
            video_token_pooling=visual.pooling_TK,
            video_grids=torch.tensor(visual.grids),
            max_new_tokens=MOST_WORDS,
            do_sample=False,
            eos_token_id=sorted(model.codec.stop_ids),
            pad_token_id=min(model.codec.stop_ids),
        )
        ids = written[0, len(inputs) :].tolist()
        answers.append(model.codec.decode([token for token in ids if token not in model.codec.stop_ids]))
    return answers


def loaded(name: str) -> Molmo2:
    """The model, keeping nothing of one round for the next."""
    model = load_checkpoint(name, device="cpu")
    model.vision = VisionEncoder(TorchTower(model.network, flags=model.flags, crops_at_once=8))
    return model


def peak_mib(options: argparse.Namespace, questions: int) -> float:
    """Peak of a process that asks so many, above what it holds once the model is loaded."""
    command = [sys.executable, __file__, "--peak", "--questions", str(questions)]
    command += ["--frames", str(options.frames), "--model", options.model]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_peak(options: argparse.Namespace) -> None:
    """Print this process's peak for one round, MiB."""
    model, clip = loaded(options.model), clip_of(options.frames)
    visual = model.build_visual(clip)
    assert visual is not None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = status_kib("VmRSS")
    side_by_side(model, visual, prompts_of(clip, options.questions))
    print((status_kib("VmHWM") - before) / 1024)


def status_kib(name: str) -> int:
    """A figure of this process's memory, KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def main() -> int:
    """Ask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        own_peak(options)
        return 0
    model, clip = loaded(options.model), clip_of(options.frames)
    visual = model.build_visual(clip)
    assert visual is not None
    prompts = prompts_of(clip, options.questions)
    spent_s: dict[str, list[float]] = {"generate, one by one": [], "side by side": []}
    for _ in range(options.rounds):
        began = time.perf_counter()
        library = one_by_one(model, clip, visual, prompts)
        spent_s["generate, one by one"].append(time.perf_counter() - began)
        began = time.perf_counter()
        ours = side_by_side(model, visual, prompts)
        spent_s["side by side"].append(time.perf_counter() - began)
    best = {name: min(times) for name, times in spent_s.items()}
    ratio = best["generate, one by one"] / best["side by side"]
    print(f"{options.questions} questions, {options.frames} frames, {time.strftime('%Y-%m-%d')}")
    print(f"side by side is {ratio:.1f} times as fast as generate for each")
    one, many = peak_mib(options, 1), peak_mib(options, options.questions)
    print(f"peak memory above the loaded model: {many:.0f} MiB, {many / one:.2f} times that of one question")
    differing = [text for text, a, b in zip(prompts, library, ours, strict=True) if a != b]
    print(f"answers that differ: {len(differing)} {differing or ''}")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
