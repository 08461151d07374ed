"""An hour of a live stream at four times its speed: does anything grow, and how long do we take ourselves?

`python benchmarks/live_soak.py [--minutes 60] [--speed 4] [--fps 30] [--plot soak.png]` makes a toy street
film, plays it in a loop as a camera would, and follows what is in it by answers written down beforehand, so
that the model takes no time. Updates are published over ZeroMQ, a subscriber listens, figures are served, and
watches look on. Every few seconds the process's resident memory, threads and open files are noted.

Printed: the slope of the memory after the warm-up, fitted, with its 95 % interval; threads and files; how
long a picture takes from arriving to being published, without the model; and whether every picture is
accounted for. Exits with 1 when memory grows by more than `MOST_MIB_AN_HOUR`, threads or files grow, the
slowest hundredth takes longer than `MOST_MS`, or the count is off.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import psutil

from molmo2_ground._heap import return_freed_blocks
from molmo2_ground.analytics import Line, Zone
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.eval.slope import fit_slope
from molmo2_ground.grounder import Grounder
from molmo2_ground.integrations.zeromq import Publisher, Subscriber
from molmo2_ground.live.metrics_page import MetricsPage
from molmo2_ground.live.watch import Watch
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt
from molmo2_ground.sources.feeds.file_feed import FileFeed
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.street import make_scene

SEED, FILM_S = 31, 16.0
WARM_UP_SHARE = 0.2
NOTE_EVERY_S = 5.0
MOST_MIB_AN_HOUR = 2.0
MOST_MS = 15.0


class WrittenBackend:
    """Answers at once with the places that a scene has at the frames' own times; obeys `Backend`."""

    model_id = "written down"
    limits = ModelLimits(max_frames=64, max_fps=2.0, max_crops=4, context_tokens=8192, track_frames=8)

    def __init__(self, scene: Scene, *, kind: str, speed: float) -> None:
        self._scene, self._speed = scene, speed
        self._ids = [actor.object_id for actor in scene.actors if actor.kind == kind]

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Every fourth pixel: about what the tiny model keeps."""
        return np.ascontiguousarray(rgb_hwc[::4, ::4])

    def open(self, clip: Clip) -> WrittenSession:
        """Take a clip for questions."""
        return WrittenSession(self, clip)

    def at_once(self, clip: Clip) -> int:
        """As many as wished."""
        return 8

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        """One after the other."""
        return [session.answer(prompt, decoding=decoding) for session, prompt in asked]

    def written(self, clip: Clip, label: str) -> str:
        """The answer about these frames."""
        groups = []
        for frame in clip.frames:
            time_s = (frame.time_s or 0.0) * self._speed % FILM_S
            spots = []
            for object_id in self._ids:
                pose = self._scene.pose(object_id, time_s)
                if 0 <= pose.x_px <= frame.width_px and 0 <= pose.y_px <= frame.height_px:
                    x, y = (
                        to_thousandths(pose.x_px, frame.width_px),
                        to_thousandths(pose.y_px, frame.height_px),
                    )
                    spots.append(f"{object_id} {spell_coordinate(x)} {spell_coordinate(y)}")
            if spots:
                groups.append(f"{spell_seconds(frame.shown_time_s or 0.0)} {' '.join(spots)}")
        return f'<tracks coords="{";".join(groups)}">{label}</tracks>' if groups else "There are none."


class WrittenSession:
    """One clip of a `WrittenBackend`."""

    def __init__(self, backend: WrittenBackend, clip: Clip) -> None:
        self._backend, self._clip = backend, clip

    def answer(self, prompt: Prompt, *, decoding: Decoding) -> RawAnswer:
        """The answer that was written down."""
        return RawAnswer(
            text=self._backend.written(self._clip, prompt.label),
            stop_reason="end",
            tokens_in=100,
            tokens_out=20,
            forwards=1,
            model_id="written down",
            revision=None,
            backend="written",
            recipe="written/1",
            timings_ms={},
        )

    def close(self) -> None:
        """Nothing is kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Notes:
    """What was noted while it ran: seconds, MiB of resident memory, threads, open files."""

    at_s: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def take(self, process: psutil.Process, at_s: float) -> None:
        """Note this moment."""
        self.at_s.append(at_s)
        self.mib.append(process.memory_info().rss / 2**20)
        self.threads.append(process.num_threads())
        self.files.append(process.num_fds())

    def after(self, begin_s: float) -> Notes:
        """Those from a time on."""
        first = next(n for n, at_s in enumerate(self.at_s) if at_s >= begin_s)
        return Notes(self.at_s[first:], self.mib[first:], self.threads[first:], self.files[first:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print what was seen; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of the camera's time (default: 60)")
    parser.add_argument("--speed", type=float, default=4.0, help="times faster than that (default: 4)")
    parser.add_argument("--fps", type=float, default=30.0, help="pictures a second of the film (default: 30)")
    parser.add_argument("--plot", type=Path, help="draw memory over time there")
    parser.add_argument("--notes", type=Path, help="write what was noted there, as CSV")
    options = parser.parse_args(argv)
    scene = make_scene(SEED, duration_s=FILM_S)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "street.mp4"
        write_clip(scene, film, fps=options.fps)
        notes, overhead_ms, ending = _run(scene, film, options)
    settled = notes.after(WARM_UP_SHARE * notes.at_s[-1])
    slope = fit_slope(settled.at_s, settled.mib)
    # A second here is `speed` seconds of the camera.
    hour = 3600 / options.speed
    p50, p99, most = np.percentile(overhead_ms, [50, 99, 100])
    print(
        f"{options.minutes:g} minutes of a camera of {options.fps:g} pictures a second, at {options.speed:g}x"
    )
    print(f"{ending}")
    rise, half = slope.value * hour, slope.half * hour
    print(f"resident memory: {settled.mib[-1]:.1f} MiB, {rise:+.2f} ± {half:.2f} MiB an hour")
    print(f"threads: {_range(settled.threads)}; open files: {_range(settled.files)}")
    print(
        f"from arriving to published, without the model: median {p50:.1f} ms, 99 % within {p99:.1f} ms, "
        f"at most {most:.1f} ms, over {len(overhead_ms)} updates"
    )
    if options.notes is not None:
        columns = np.column_stack([notes.at_s, notes.mib, notes.threads, notes.files])
        np.savetxt(
            options.notes, columns, delimiter=",", header="seconds,mib,threads,files", comments="", fmt="%g"
        )
    if options.plot is not None:
        _draw(notes, options.plot, speed=options.speed)
    grows = rise - half > MOST_MIB_AN_HOUR or rise > 2 * MOST_MIB_AN_HOUR
    more = _more(settled.threads) or _more(settled.files)
    return int(grows or more or p99 > MOST_MS or "off" in ending)


def _run(scene: Scene, film: Path, options: argparse.Namespace) -> tuple[Notes, npt.NDArray[np.float64], str]:
    backend = WrittenBackend(scene, kind="person", speed=options.speed)
    feed = FileFeed(film, loop=True, speed=options.speed)
    area = Zone(name="the lawn", polygon=((100, 20), (420, 20), (420, 120), (100, 120)))
    kerb = Line(name="the kerb", start=(0, 180), end=(640, 180))
    watches = [Watch.enters(area), Watch.crosses(kerb), Watch.count_at_least(None, 3)]
    seconds = 60 * options.minutes / options.speed
    # All of it is there from the start, so that what is measured is not the measuring.
    notes, overhead_ms, count = Notes(), np.ones(round(1.1 * seconds * options.speed * options.fps) + 100), 0
    process = psutil.Process()
    with (
        Grounder(backend).stream(feed, "people", watches=watches, name="soak") as stream,
        Publisher("tcp://127.0.0.1:*", stream_name="soak") as publisher,
        MetricsPage(stream.meter, port=0),
        Subscriber(publisher.endpoint) as subscriber,
    ):
        publisher.start_health(stream.meter.message)
        began, noted, heard = time.monotonic(), -NOTE_EVERY_S, 0
        for update in stream:
            publisher.publish(update, questions=stream.questions)
            overhead_ms[count] = (time.monotonic_ns() - update.capture.monotonic_ns) / 1e6
            count += 1
            # A subscriber keeps up to a thousand events until somebody takes them.
            while (received := subscriber.receive(0)) is not None:
                heard += received.kind == "tracks"
            passed = time.monotonic() - began
            if passed - noted >= NOTE_EVERY_S:
                noted = passed
                # The first picture of every showing of the film lies in a ring of PyAV's (its side data),
                # which Python takes apart every few minutes: a saw's teeth that would be fitted for a slope.
                gc.collect()
                return_freed_blocks()
                notes.take(process, passed)
            if passed >= seconds:
                break
    totals = stream.totals
    missing = totals.received - totals.taken - totals.waiting - sum(totals.dropped.values())
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(totals.dropped.items())) or "none"
    ending = (
        f"pictures: {totals.received} received, {totals.taken} used, left out: {dropped}; "
        f"{'every one accounted for' if not missing else f'off by {missing}'}; "
        f"a subscriber took {heard} messages about tracks"
    )
    return notes, overhead_ms[:count], ending


def _more(values: Sequence[int]) -> bool:
    """Whether there are more at the end than at the beginning; between two showings there are fewer."""
    quarter = max(1, len(values) // 4)
    return max(values[-quarter:]) > max(values[:quarter])


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _draw(notes: Notes, path: Path, *, speed: float) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axes.plot(np.array(notes.at_s) * speed / 60, notes.mib)
    axes.set_xlabel("minutes of the camera")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
