"""What `plan` foretells against what a run needs and takes: tokens, peak memory, time; one table.

`python benchmarks/plan.py [--only WORD] [--no-memory]`. Peak memory is that of a fresh process, from loading
the model to the answer, above what it held with the libraries imported (Linux). Times are of a model that is
loaded and warm, on one thread; the time of the answer is foretold for the runs of the network that it took,
because nobody knows before how much there is to say. Exits with 1 when a prompt's length was not the one
foretold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image

import molmo2_ground as mg
from molmo2_ground.grounder import plan
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.query import Task
from molmo2_ground.replay import Result
from molmo2_ground.results import Count, Receipt
from molmo2_ground.train.toy.street import make_scene

PHRASE = "the red car"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question and what it is asked about. most: the answer is cut after so many tokens."""

    name: str
    model: str
    media: str
    task: Task
    most: int | None = None

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
    return [
        Case(name="tiny, count in a picture", model="tiny", media=picture, task="count"),
        Case(name="tiny, point in 8 s", model="tiny", media=videos["street"], task="point"),
        Case(name="tiny, track in 8 s", model="tiny", media=videos["street"], task="track"),
        Case(name="tiny, track in 60 s", model="tiny", media=videos["minute"], task="track"),
        Case(name="tiny, track in 12 s of 1080p", model="tiny", media=videos["sharp"], task="track"),
        Case(name="49 MB, track in 60 s", model=larger, media=videos["minute"], task="track", most=60),
        Case(name="49 MB, stored in 16 bits", model=halves, media=videos["minute"], task="track", most=60),
    ]


def write_street(path: Path, *, duration_s: float, size_px: tuple[int, int] | None = None) -> None:
    """A toy street, six frames a second, enlarged to `size_px` (width, height)."""
    scene = make_scene(11, duration_s=duration_s + 1)
    height, width = scene.render(0.0)[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"preset": "ultrafast"})
        stream.width, stream.height = size_px or (width, height)
        stream.pix_fmt = "yuv420p"
        for number in range(round(duration_s * 6)):
            frame = av.VideoFrame.from_ndarray(scene.render(number / 6)[0], format="rgb24")
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

model, media, task, phrase, most = sys.argv[1:]
torch.set_num_threads(1)
def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS")
try:
    decoding = mg.Decoding(max_new_tokens=int(most) or None)
    with mg.load(model).open(media) as session:
        session.answer(mg.Query(task=task, phrase=phrase), decoding=decoding)
except mg.AnswerError:
    pass  # a random model's nonsense
print((kib("VmHWM") - before) * 1024)
"""


def peak_bytes(case: Case) -> int:
    """Of a fresh process that loads, reads and answers."""
    words = [case.model, case.media, case.task, PHRASE, str(case.most or 0)]
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


def receipt_of(result: Result) -> Receipt:
    """The receipt of any kind of result."""
    return result.points.receipt if isinstance(result, Count) else result.receipt


def main() -> int:
    """Foretell, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    head = f"{'tokens':>7} {'ratio':>6}  {'memory':>7} {'ratio':>6}  {'time':>6} {'ratio':>6}"
    print(f"{time.strftime('%Y-%m-%d'):28}  {head}  answer")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            if options.only not in case.name:
                continue
            grounder = mg.load(case.model, device="cpu")
            foretold = plan(case.media, case.query, model=grounder)
            assert foretold.time is not None, foretold.problem
            # Once: a second time, features of the same frames would be there already.
            taken_s, tokens_in, tokens_out, runs = ask(grounder, case)
            times, tokens = foretold.time, foretold.tokens
            steps = runs / foretold.frames.together
            time_s = times.total_s - times.answer_s + steps * times.run_s
            measured = float("nan") if options.no_memory else peak_bytes(case)
            wrong += tokens.prompt_total != tokens_in
            print(
                f"{case.name:28}  {tokens_in:7,} {tokens.prompt_total / tokens_in:6.2f}  "
                f"{measured / 1e6:4.0f} MB {foretold.memory.peak_bytes / measured:6.2f}  "
                f"{taken_s:4.1f} s {time_s / taken_s:6.2f}  {tokens_out} tokens, foretold {tokens.answers}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
