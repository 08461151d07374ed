"""Tracking through an hour of the toy street: are ids kept across windows, and does memory stay flat?

`python benchmarks/long.py [--minutes 60] [--kind car] [--model tiny] [--keep DIR]`. The film is made here:
held-out street scenes of 24 seconds one after the other, so that things come, pass under bridges and trees,
and go. It is tracked once as a whole, in a process of its own whose memory is read at each report of progress
(Linux), and once in pieces of 8 seconds, each tracked alone. Both look at the same frames. Right is what the
scenes themselves say, every half second.

The result of a longer film is larger: a receipt for each window lies in memory until the end. What these
take is weighed by itself, in a third process that makes them again one by one, and what is left is the slope
of the work. Exits with 1 when the whole film scores more than a hundredth below its pieces, or the work's
memory surely grows by more than `MOST_MIB_A_MINUTE`.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

import molmo2_ground as mg
from molmo2_ground._atomic import atomic_path
from molmo2_ground._heap import return_freed_blocks
from molmo2_ground.eval.example import Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import Placed, identity_switches, placed_of, track_frames, track_scores
from molmo2_ground.eval.slope import FEWEST_NOTES, Slope, fit_slope
from molmo2_ground.export import read_result, write_result
from molmo2_ground.results import Receipt, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.sources import open_windows
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.questions import PLURALS
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import make_scene

SCENE_S, PIECE_S, GRID_S = 24, 8, 0.5
FPS = 10
FIRST_SEED = 500_000  # below those that training draws from, above those of the suites
# The tiny model's cache of frame features, 32 MiB, is full after about 8 minutes of film and grows no more.
WARM_UP_MINUTES = 9.0
NOTE_EVERY_MINUTES = 0.5
MOST_MIB_A_MINUTE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """The film as the scenes tell it.

    truth      the objects of the kind asked for, where they count as visible; ids over the whole film.
    doubtful   places that are neither right nor wrong, by frame number: what of these objects hardly shows.
    """

    truth: Truth
    doubtful: dict[int, Rle]


def scenes_of(minutes: float, kind: str) -> list[Scene]:
    """Scenes in order of their seeds, those without anything of the kind left out."""
    found: list[Scene] = []
    seed = FIRST_SEED
    while len(found) * SCENE_S < minutes * 60:
        scene = make_scene(seed, duration_s=SCENE_S)
        seed += 1
        if any(actor.kind == kind for actor in scene.actors):
            found.append(scene)
    return found


def write_film(scenes: Sequence[Scene], path: Path) -> None:
    """One H.264 file, frame by frame; hardly compressed, since the time goes into encoding."""
    with atomic_path(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as container:
        options = {"preset": "ultrafast", "crf": "20"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = FRAME_WIDTH_PX, FRAME_HEIGHT_PX, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, scene in enumerate(scenes):
            for index in range(SCENE_S * FPS):
                frame = av.VideoFrame.from_ndarray(scene.render(index / FPS)[0], format="rgb24")
                frame.pts, frame.time_base = number * SCENE_S * FPS + index, Fraction(1, FPS)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def film_of(scenes: Sequence[Scene], kind: str) -> Film:
    """What is right, every half second of the film."""
    frames: dict[int, list[TruthFrame]] = {}
    doubtful: dict[int, Rle] = {}
    times_s = []
    for number, scene in enumerate(scenes):
        wanted = {actor.object_id for actor in scene.actors if actor.kind == kind}
        for half in range(round(SCENE_S / GRID_S)):
            time_s = number * SCENE_S + half * GRID_S
            times_s.append(time_s)
            _, ids = scene.render(half * GRID_S)
            states = [s for s in scene.truth(half * GRID_S, ids) if s.object_id in wanted]
            source_index = round(time_s * FPS)
            hardly = np.isin(ids, [s.object_id for s in states if not s.visible])
            if hardly.any():
                doubtful[source_index] = Rle.encode(hardly)
            for state in states:
                if state.visible:
                    mask = Rle.encode(ids == state.object_id)
                    seen = TruthFrame(
                        time_s=time_s,
                        source_index=source_index,
                        xy_px=(state.x_px, state.y_px),
                        mask=mask,
                    )
                    frames.setdefault(number * 256 + state.object_id, []).append(seen)
    truth = Truth(
        size_px=(FRAME_WIDTH_PX, FRAME_HEIGHT_PX),
        duration_s=float(len(scenes) * SCENE_S),
        fps=float(FPS),
        objects=tuple(TruthObject(object_id=i, frames=tuple(seen)) for i, seen in frames.items()),
        frame_times_s=tuple(times_s),
    )
    return Film(truth=truth, doubtful=doubtful)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident memory of a process, MiB, by minutes of film."""

    minutes: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    def note(self, minute: float) -> None:
        """Note this moment, unless the last note is of the same half minute of film."""
        if not self.minutes or minute - self.minutes[-1] >= NOTE_EVERY_MINUTES:
            gc.collect()
            return_freed_blocks()
            self.minutes.append(minute)
            self.mib.append(status_mib("VmRSS"))

    def slope(self) -> Slope | None:
        """MiB a minute once caches are full; None for a film that ends soon after."""
        kept = [pair for pair in zip(self.minutes, self.mib, strict=True) if pair[0] >= WARM_UP_MINUTES]
        return fit_slope(*zip(*kept, strict=True)) if len(kept) >= 2 * FEWEST_NOTES else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The film tracked as a whole: memory on the way, that of the receipts alone, and how long it took."""

    tracks: Tracks
    memory: Memory
    receipts: Memory
    spent_s: float


def track_whole(path: Path, options: argparse.Namespace) -> Whole:
    """In a fresh process, so that nothing else is in its memory."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "tracks.json"
        command = [sys.executable, __file__, "--kind", options.kind, "--model", options.model]
        said = _told([*command, "--film", str(path), "--result", str(result)])
        tracks = read_result(result)
        assert isinstance(tracks, Tracks)
        receipts = Path(folder) / "receipts.jsonl"
        # A line each, so that no room is free in that process which the next receipts would fill unseen.
        receipts.write_text("".join(f"{one.model_dump_json()}\n" for one in tracks.receipt.windows), "utf-8")
        weighed = _told([sys.executable, __file__, "--receipts", str(receipts)])
    return Whole(
        tracks=tracks,
        memory=Memory(minutes=said["minutes"], mib=said["mib"]),
        receipts=Memory(minutes=weighed["minutes"], mib=weighed["mib"]),
        spent_s=said["spent_s"],
    )


def _told(command: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return told


def track_here(options: argparse.Namespace) -> None:
    """Track `options.film`, write the result and print the memory."""
    torch.set_num_threads(1)
    ask = mg.load(options.model, device="cpu")
    duration_s = mg.open_clip(options.film, times=lambda _: np.zeros(1)).duration_s
    assert duration_s is not None
    memory = Memory()
    began = time.perf_counter()
    tracks = ask.track(
        options.film,
        phrase_of(options.kind),
        on_progress=lambda what, share: memory.note(share * duration_s / 60),
    )
    spent_s = time.perf_counter() - began
    write_result(tracks, options.result)
    print(json.dumps({"minutes": memory.minutes, "mib": memory.mib, "spent_s": spent_s}))


def weigh_here(receipts: Path) -> None:
    """Make the receipts again, one by one, from a file with one a line; print the memory."""
    kept, memory = [], Memory()
    with receipts.open(encoding="utf-8") as lines:
        for line in lines:
            # As on the way: words that all windows share are there once, and no answer is read yet.
            fields = {n: sys.intern(v) if isinstance(v, str) else v for n, v in json.loads(line).items()}
            kept.append(Receipt.model_validate(fields | {"report": {}}))
            memory.note(kept[-1].frame_times_s[-1] / 60)
    print(json.dumps({"minutes": memory.minutes, "mib": memory.mib}))


def status_mib(name: str) -> float:
    """A figure of this process's memory, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def track_pieces(path: Path, options: argparse.Namespace) -> tuple[list[Placed], int]:
    """Each piece as if it were all there is: places with ids of their own, and pieces without an answer."""
    torch.set_num_threads(1)
    ask = mg.load(options.model, device="cpu")
    pieces = open_windows(path, rate=1 / GRID_S, window_frames=round(PIECE_S / GRID_S), overlap_frames=0)
    placed: list[Placed] = []
    failed = 0
    for found in ask.batch(pieces, mg.Query.track(phrase_of(options.kind))):
        if isinstance(found, mg.Failed):
            failed += 1
            continue
        assert isinstance(found, Tracks)
        base = 1 + max((place.object_id for place in placed), default=-1)
        placed += [
            Placed(
                object_id=base + place.object_id,
                x_px=place.x_px,
                y_px=place.y_px,
                source_index=place.source_index,
                time_s=place.time_s,
                shown_time_s=place.shown_time_s,
            )
            for place in placed_of(found)
        ]
    return placed, failed


def phrase_of(kind: str) -> str:
    """What is asked for."""
    return f"all {PLURALS[kind]}"  # type: ignore[index]  # argparse has checked that it is a kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How the tracks do against the film.

    switches   how often an object has another id than at its last right place.
    across     of these, how often between two pieces of `PIECE_S` seconds, where pieces cannot keep an id.
    """

    f1: float
    precision: float
    recall: float
    switches: int
    across: int
    found: int


def score_of(film: Film, placed: Iterable[Placed]) -> Score:
    """Against the visible pixels, every half second; places on what hardly shows are left out."""
    judged = [p for p in placed if not p.lies_in(film.doubtful.get(p.source_index))]
    matched = track_scores(film.truth, judged)
    frames = track_frames(film.truth, judged)
    size = round(PIECE_S / GRID_S)
    within = sum(identity_switches(frames[n : n + size]) for n in range(0, len(frames), size))
    return Score(
        f1=matched.f1,
        precision=matched.precision,
        recall=matched.recall,
        switches=identity_switches(frames),
        across=identity_switches(frames) - within,
        found=len({p.object_id for p in judged}),
    )


def report(film: Film, whole: Whole, pieces: Sequence[Placed], failed: int, kind: str) -> bool:
    """Print the table; True when nothing is worse than it should be."""
    objects = film.truth.objects
    in_sight_s = GRID_S * sum(len(item.frames) for item in objects)
    duration_s = film.truth.duration_s or 0.0
    print(
        f"{duration_s / 60:.0f} minutes, {len(objects)} times a {kind} is there, in sight for "
        f"{in_sight_s / 60:.1f} minutes in all, {time.strftime('%Y-%m-%d')}"
    )
    scores = {"as a whole": score_of(film, placed_of(whole.tracks)), "in pieces": score_of(film, pieces)}
    print(
        "             F1     precision  recall  objects found  id switches  an object in 10 minutes in sight"
    )
    for name, score in scores.items():
        # Between pieces an id cannot be kept, so only what happens within them is counted.
        switches = score.switches - (score.across if name == "in pieces" else 0)
        print(
            f"{name:11} {score.f1:.3f}   {score.precision:.3f}      {score.recall:.3f}   {score.found:8}"
            f"       {switches:8}     {switches / in_sight_s * 600:8.2f}"
        )
    first, second = scores.values()
    print(f"of the switches of the whole, {first.across} lie where the pieces end, each {PIECE_S} seconds")
    if failed:
        print(f"{failed} pieces could not be answered")
    print(f"{duration_s / whole.spent_s:.1f} times as fast as the film plays")
    return first.f1 > second.f1 - 0.01 and report_memory(whole)


def report_memory(whole: Whole) -> bool:
    """Print how the memory went; True unless the work itself takes ever more."""
    took, result = whole.memory.slope(), whole.receipts.slope()
    print(
        f"memory: {whole.memory.mib[0]:.0f} MiB after the first windows, at most {max(whole.memory.mib):.0f}"
    )
    if took is None or result is None:
        print("the film is too short to tell a slope")
        return True
    net, half = took.value - result.value, float(np.hypot(took.half, result.half))
    print(
        f"after {WARM_UP_MINUTES:g} minutes it grows by {took.value:.3f} MiB a minute, of which the windows' "
        f"receipts are {result.value:.3f}; the rest is {net:+.3f} ± {half:.3f}"
    )
    return net - half <= MOST_MIB_A_MINUTE and net <= 2 * MOST_MIB_A_MINUTE


def main() -> int:
    """Make the film, track it both ways, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kind", choices=sorted(PLURALS), default="car")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the film and the tracks there")
    parser.add_argument("--film", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--receipts", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.film is not None:
        track_here(options)
        return 0
    if options.receipts is not None:
        weigh_here(options.receipts)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"street-{options.kind}-{options.minutes:g}.mp4"
        scenes = scenes_of(options.minutes, options.kind)
        if not path.exists():
            write_film(scenes, path)
        whole = track_whole(path, options)
        if options.keep is not None:
            write_result(whole.tracks, path.with_suffix(".json"))
        pieces, failed = track_pieces(path, options)
        return 0 if report(film_of(scenes, options.kind), whole, pieces, failed, options.kind) else 1


if __name__ == "__main__":
    raise SystemExit(main())
