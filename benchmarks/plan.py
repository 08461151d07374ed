"""What `plan` foretells against what a run needs and takes: tokens, peak memory, time; one table.

`python benchmarks/plan.py [--only WORD] [--no-memory] [--rounds 3]`. Peak memory is that of a fresh process,
from loading the model to the answer, above what it held with the libraries imported (Linux). Times are of a
model that is loaded and warm, on one thread, medians of some rounds of foretelling and running; the time of
the answer is foretold for the runs of the network that it took, because nobody knows before how much there is
to say. Exits with 1 when a prompt's length was not the one
foretold.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

import molmo2_ground as mg
from molmo2_ground.grounder import plan
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.planning.plan import Plan
from molmo2_ground.query import Task
from molmo2_ground.replay import Result
from molmo2_ground.results import Count, Receipt
from molmo2_ground.train.toy.street import make_scene

PHRASE = "the red car"
_SCENE_S = 8.0
SIZES: dict[str, dict[str, Any]] = {
    "text_config": {
        "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
        "num_hidden_layers": 8, "intermediate_size": 1024, "max_position_embeddings": 16384,
    },
    "vit_config": {
        "hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 32,
        "intermediate_size": 768, "num_hidden_layers": 8,
    },
    "adapter_config": {
        "hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 32,
        "intermediate_size": 1024, "text_hidden_size": 256,
    },
}  # fmt: skip
"""Of a random checkpoint of 49 MB, between the bundled one and the released ones."""


CASES: dict[str, tuple[str, str, Task, int | None, str]] = {
    "tiny, count in a picture": ("tiny", "picture", "count", None, "auto"),
    "tiny, point in 8 s": ("tiny", "street", "point", None, "auto"),
    "tiny, track in 8 s": ("tiny", "street", "track", None, "auto"),
    "tiny, track in 60 s": ("tiny", "minute", "track", None, "auto"),
    "tiny, track in 12 s of 1080p": ("tiny", "sharp", "track", None, "auto"),
    "49 MB, track in 60 s": ("larger", "minute", "track", 60, "auto"),
    "49 MB, stored in 16 bits": ("halves", "minute", "track", 60, "auto"),
    "49 MB, whole numbers": ("halves", "minute", "track", 60, "int8"),
}
"""Model, what is looked at, task, most tokens of the answer, type of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question and what it is asked about. most: the answer is cut after so many tokens."""

    name: str
    model: str
    media: str
    task: Task
    most: int | None = None
    dtype: str = "auto"

    @property
    def query(self) -> mg.Query:
        """As the package takes it."""
        return mg.Query(task=self.task, phrase=PHRASE)


def cases(folder: Path) -> list[Case]:
    """Pictures, short and long videos; the bundled model and a larger one that writes nonsense."""
    videos = {name: str(folder / f"{name}.mp4") for name in ("street", "minute", "sharp")}
    write_street(Path(videos["street"]), duration_s=8)
    write_street(Path(videos["minute"]), duration_s=60)
    write_street(Path(videos["sharp"]), duration_s=12, size_px=(1920, 1080))
    picture = str(folder / "street.png")
    Image.fromarray(make_scene(11, duration_s=2.0).render(0.0)[0]).save(picture)
    shape: dict[str, Any] = {"image_size_px": 168, "max_frames": 384}
    larger = str(write_random_checkpoint(folder / "larger", sizes=SIZES, **shape))
    halves = str(write_random_checkpoint(folder / "halves", sizes=SIZES, dtype=torch.bfloat16, **shape))
    clips = {**videos, "picture": picture}
    models = {"tiny": "tiny", "larger": larger, "halves": halves}
    return [
        Case(name=name, model=models[model], media=clips[media], task=task, most=most, dtype=dtype)
        for name, (model, media, task, most, dtype) in CASES.items()
    ]


def write_street(path: Path, *, duration_s: float, size_px: tuple[int, int] | None = None) -> None:
    """A toy street, six frames a second, enlarged to `size_px` (width, height).

    Every eight seconds another one, where something is going on: a street with nothing in it has the same
    picture over and over, which is looked at once, and a plan does not know.
    """
    scenes = [
        make_scene(seed, duration_s=_SCENE_S) for seed in range(11, 11 + math.ceil(duration_s / _SCENE_S))
    ]
    height, width = scenes[0].render(0.0)[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"preset": "ultrafast"})
        stream.width, stream.height = size_px or (width, height)
        stream.pix_fmt = "yuv420p"
        for number in range(round(duration_s * 6)):
            which, frame_number = divmod(number, round(_SCENE_S * 6))
            picture = scenes[which].render(frame_number / 6)[0]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(width=stream.width, height=stream.height)))
        container.mux(stream.encode(None))


RUN = """
import sys
from pathlib import Path
import av, cv2, torch
import molmo2_ground as mg
import molmo2_ground.grounder, molmo2_ground.sources.video
from molmo2_ground.backends.native import NativeBackend
from transformers import Molmo2ForConditionalGeneration

model, media, task, phrase, most, dtype = sys.argv[1:]
torch.set_num_threads(1)
def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS")
try:
    decoding = mg.Decoding(max_new_tokens=int(most) or None)
    with mg.load(model, dtype=dtype).open(media) as session:
        session.answer(mg.Query(task=task, phrase=phrase), decoding=decoding)
except mg.AnswerError:
    pass  # a random model's nonsense
print((kib("VmHWM") - before) * 1024)
"""


def peak_bytes(case: Case) -> int:
    """Of a fresh process that loads, reads and answers."""
    words = [case.model, case.media, case.task, PHRASE, str(case.most or 0), case.dtype]
    done = subprocess.run([sys.executable, "-c", RUN, *words], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def ask(grounder: mg.Grounder, case: Case) -> tuple[float, int, int, int]:
    """Seconds from the file to the answer, and what was spent: tokens in and out, runs of the network."""
    began = time.perf_counter()
    try:
        with grounder.open(case.media) as session:
            receipt = receipt_of(session.answer(case.query, decoding=mg.Decoding(max_new_tokens=case.most)))
        spent = receipt.tokens_in, receipt.tokens_out, receipt.forwards
    except mg.AnswerError as error:
        spent = error.answer.tokens_in, error.answer.tokens_out, error.answer.forwards
    return time.perf_counter() - began, *spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Foretold once and run once. ratio: of foretold to measured time."""

    foretold: Plan
    taken_s: float
    ratio: float
    tokens_in: int
    tokens_out: int


def go_round(case: Case) -> Round:
    """Foretell and run with a model of its own."""
    grounder = mg.load(case.model, device="cpu", dtype=case.dtype)
    # Warm, by other frames: those that were seen before are not looked at again.
    noise = np.random.default_rng(0).integers(0, 256, (4, 90, 120, 3), dtype=np.uint8)
    with contextlib.suppress(mg.AnswerError):  # nonsense, of a random model
        grounder.track(mg.Clip.from_arrays(noise, fps=2.0), PHRASE)
    foretold = plan(case.media, case.query, model=grounder)
    times = foretold.time
    assert times is not None, foretold.problem
    taken_s, tokens_in, tokens_out, runs = ask(grounder, case)
    answer_s = runs / foretold.frames.together * times.run_s
    ratio = (times.total_s - times.answer_s + answer_s) / taken_s
    return Round(foretold=foretold, taken_s=taken_s, ratio=ratio, tokens_in=tokens_in, tokens_out=tokens_out)


def receipt_of(result: Result) -> Receipt:
    """The receipt of any kind of result."""
    return result.points.receipt if isinstance(result, Count) else result.receipt


def main() -> int:
    """Foretell, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of timing (default: 3); medians are printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    head = f"{'tokens':>7} {'ratio':>6}  {'memory':>7} {'ratio':>6}  {'time':>6} {'ratio':>6}"
    print(f"{time.strftime('%Y-%m-%d'):28}  {head}  answer")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            if options.only not in case.name:
                continue
            rounds = [go_round(case) for _ in range(options.rounds)]
            first, tokens = rounds[0], rounds[0].foretold.tokens
            # The machine's other work slows one round and not the next.
            taken_s, ratio = (median(getattr(one, part) for one in rounds) for part in ("taken_s", "ratio"))
            measured = float("nan") if options.no_memory else peak_bytes(case)
            wrong += tokens.prompt_total != first.tokens_in
            print(
                f"{case.name:28}  {first.tokens_in:7,} {tokens.prompt_total / first.tokens_in:6.2f}  "
                f"{measured / 1e6:4.0f} MB {first.foretold.memory.peak_bytes / measured:6.2f}  "
                f"{taken_s:4.1f} s {ratio:6.2f}  {first.tokens_out} tokens, foretold {tokens.answers}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
