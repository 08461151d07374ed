from __future__ import annotations

import gc
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from molmo2_ground._heap import return_freed_blocks
from molmo2_ground.integrations import rerun
from molmo2_ground.integrations.mcap import McapRecorder
from molmo2_ground.integrations.recording import recorder_for
from molmo2_ground.integrations.rerun import RerunLogger
from molmo2_ground.integrations.rosbag import BagRecorder
from molmo2_ground.live.recording import Contents, Recorder
from molmo2_ground.live.update import Update
from tests.live_updates import QUESTIONS, ticking, toy_updates


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        pytest.param("run.mcap", McapRecorder, "run.mcap", id="mcap"),
        pytest.param("run.MCAP", McapRecorder, "run.MCAP", id="capitals"),
        pytest.param("run.rrd", RerunLogger, "run.rrd", id="rerun"),
        pytest.param("run", BagRecorder, "run", id="folder"),
        pytest.param("run.db3", BagRecorder, "run", id="db3"),
    ],
)
def test_the_name_chooses(tmp_path: Path, name: str, kind: type[Recorder], path: str) -> None:
    with recorder_for(tmp_path / name, wait=True) as recorder:
        recorder.write(next(iter(toy_updates(1))))
    assert isinstance(recorder, kind)
    assert (recorder.problem, recorder.path) == (None, tmp_path / path)
    assert [found.name for found in tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("name", ["run.mp4", "run.bag", "run.json"])
def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.mcap .*\.rrd .*\.db3"):
        recorder_for(tmp_path / name)
    assert not [*tmp_path.iterdir()]


def test_a_size_is_refused_where_it_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"only \.mcap"):
        recorder_for(tmp_path / "run.rrd", max_mb=5)


# A limit on the size of a file stands in for a full disk: writing fails midway, with another number.
_FULL = """
import resource, sys
from pathlib import Path
from molmo2_ground.integrations.recording import recorder_for
from tests.live_updates import toy_updates
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
recorder = recorder_for(Path(sys.argv[1]), wait=True)
for update in toy_updates(60):
    recorder.write(update)
recorder.close()
print(recorder.problem)
print("the stream went on")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.mcap", "run", "run.rrd"])
def test_a_full_disk_is_one_line_and_the_stream_goes_on(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    problem, *rest = done.stdout.splitlines()
    assert rest == ["the stream went on"]
    assert problem.startswith(f"recording to {tmp_path / name} stopped: ")
    assert done.stderr.splitlines() == [problem]
    assert not (tmp_path / name).exists()


HALF_AN_HOUR = 3600  # updates, two a second


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def tiny_updates(number: int) -> Iterator[Update]:
    """Small pictures, so that many of them are little work."""
    first = [*toy_updates(12, masks=True)][:5]
    pixels = np.random.default_rng(1).integers(0, 255, (5, 36, 64, 3), dtype=np.uint8)
    for index in range(number):
        like = first[index % 5]
        after_ns = index * 500_000_000
        capture = replace(
            like.capture,
            index=index,
            stamp_ns=first[0].stamp_ns + after_ns,
            recv_ns=first[0].capture.recv_ns + after_ns,
            width_px=64,
            height_px=36,
            paint=lambda index=index: pixels[index % 5],  # type: ignore[misc]
        )
        # Things come and go, with ever new numbers.
        tracks = tuple(
            replace(track, object_id=track.object_id + 10 * (index // 20)) for track in like.tracks
        )
        yield replace(like, seq=index, capture=capture, tracks=tracks)


def growth_mb(path: Path) -> float:
    """MB an hour by which recording to `path` grows, by a straight line through the last three quarters."""
    sizes_mb: list[float] = []
    contents = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=500_000_000))
    with recorder_for(path, contents=contents, wait=True) as recorder:
        for update in tiny_updates(HALF_AN_HOUR):
            recorder.write(update)
            if update.seq % 200 == 199 and update.seq >= HALF_AN_HOUR // 4:
                gc.collect()
                return_freed_blocks()  # in a process of many tests, what malloc keeps wanders by megabytes
                sizes_mb.append(resident_mb())
    assert recorder.problem is None
    slope_mb = float(np.polyfit(np.arange(len(sizes_mb)) * 200 / (2 * HALF_AN_HOUR), sizes_mb, 1)[0])
    print(f"{path.name}: {slope_mb:.2f} MB an hour, {sizes_mb[0]:.0f} to {sizes_mb[-1]:.0f} MB")
    return slope_mb


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.mcap", "run"])
def test_recording_for_long_takes_no_more_memory(tmp_path: Path, name: str) -> None:
    assert growth_mb(tmp_path / name) < 4  # an index of a few hundred bytes a chunk


class RerunsOwnFile:
    """Stands in for `PipedFile`: Rerun writes the file itself."""

    def __init__(self, path: Path, writer: Callable[[Path], None]) -> None:
        writer(path)

    def check(self) -> None:
        """Rerun keeps what goes wrong to itself."""

    def end(self) -> None:
        """Rerun has ended it."""


@pytest.mark.slow
def test_recording_for_rerun_takes_no_more_memory_than_rerun_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours_mb = growth_mb(tmp_path / "run.rrd")
    monkeypatch.setattr(rerun, "PipedFile", RerunsOwnFile)
    own_mb = growth_mb(tmp_path / "own.rrd")
    # Rerun keeps an index of all chunks until the end, about 20 MB an hour.
    assert ours_mb < own_mb + 4
    assert ours_mb < 30


def test_what_is_recorded_at_this_limit_would_have_worked_without_it(tmp_path: Path) -> None:
    with recorder_for(tmp_path / "run.mcap", wait=True) as recorder:
        for update in toy_updates(10):
            recorder.write(update)
    assert (tmp_path / "run.mcap").stat().st_size > 50_000
    with open(tmp_path / "run.mcap", "rb") as stream:
        assert make_reader(stream).get_summary() is not None
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
