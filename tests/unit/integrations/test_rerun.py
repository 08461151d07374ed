from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from rerun.chunk import RrdReader

from molmo2_ground.integrations.rerun import RerunLogger
from molmo2_ground.live.update import Update
from tests.live_updates import START_NS, health, toy_updates
from tests.recordings import PASSWORD, RecordingProcess, close_to, contents


def record(path: Path, updates: list[Update], **options: Any) -> None:
    with RerunLogger(path, contents=contents(), when_full="wait", **options) as recorder:
        for update in updates:
            recorder.write(update)
        recorder.write_health(health(START_NS))
    assert recorder.problem is None


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """By Rerun's own reader: entity -> its rows in order of arrival, times as nanoseconds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        columns: dict[str, list[Any]] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            is_time = str(column.type).startswith("timestamp")
            columns[name] = (column.cast("int64") if is_time else column).to_pylist()
        found.setdefault(chunk.entity_path, []).extend(
            {name: values[row] for name, values in columns.items()} for row in range(batch.num_rows)
        )
    return {name: sorted(some, key=lambda row: row.get("arrived") or 0) for name, some in found.items()}


@pytest.mark.slow
def test_points_come_back_by_id_with_stamps_to_the_nanosecond(tmp_path: Path) -> None:
    updates = [*toy_updates(8)]
    record(tmp_path / "run.rrd", updates)
    points = rows(tmp_path / "run.rrd")["/door/video/points/people"]
    assert [row["stamp"] for row in points] == [update.stamp_ns for update in updates]
    assert [row["arrived"] for row in points] == [update.capture.recv_ns for update in updates]
    assert [row["picture"] for row in points] == [update.capture.index for update in updates]
    for row, update in zip(points, updates, strict=True):
        assert row["Points2D:class_ids"] == [track.object_id for track in update.tracks]
        assert row["Points2D:labels"] == [f"{track.object_id} person" for track in update.tracks]
        assert row["state"] == [track.state for track in update.tracks]
        assert row["observed_ns"] == [track.observed_ns for track in update.tracks]
        places = [(track.x_px, track.y_px) for track in update.tracks]
        assert np.allclose(row["Points2D:positions"], places, atol=1e-3)


@pytest.mark.slow
def test_video_comes_back_picture_for_picture(tmp_path: Path) -> None:
    updates = [*toy_updates(8)]
    record(tmp_path / "run.rrd", updates)
    video = rows(tmp_path / "run.rrd")["/door/video"]
    assert [row["stamp"] for row in video if row.get("VideoStream:sample")] == [
        one.stamp_ns for one in updates
    ]
    reader = av.CodecContext.create("h264", "r")
    assert isinstance(reader, VideoCodecContext)
    frames = [f for row in video for f in reader.decode(av.Packet(bytes(row["VideoStream:sample"][0])))]
    frames += reader.decode(None)
    assert len(frames) == len(updates)
    for frame, update in zip(frames, updates, strict=True):
        assert close_to(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), update)


@pytest.mark.slow
def test_health_spells_the_stream_as_its_headers_do(tmp_path: Path) -> None:
    with RerunLogger(tmp_path / "run.rrd", contents=contents()) as recorder:
        recorder.write_health(health(START_NS).model_copy(update={"source": "my cam/1"}))
    (told,) = [found for name, found in rows(tmp_path / "run.rrd").items() if name.endswith("/health")]
    assert '"source":"my%20cam%2F1"' in told[0]["TextLog:text"][0]


@pytest.mark.slow
def test_trails_masks_and_texts_are_there_and_what_is_gone_is_cleared(tmp_path: Path) -> None:
    *updates, last = toy_updates(6, masks=True)
    record(tmp_path / "run.rrd", [*updates, replace(last, tracks=())], masks=True)
    found = rows(tmp_path / "run.rrd")
    trails = found["/door/video/trails/people"]
    assert [len((row["LineStrips2D:strips"] or [[]])[0]) for row in trails] == [0, 2, 3, 0, 2, 0]
    assert found["/door/video/points/people"][-1]["Points2D:positions"] in ([], None)
    assert len(found["/door/video/masks"]) == 6
    assert "new" in found["/door/ledger"][0]["TextLog:text"][0]
    assert "connected" in found["/door/health"][0]["TextLog:text"][0]
    assert found["/door/health"][0]["arrived"] == START_NS


@pytest.mark.slow
def test_the_file_is_verified_by_rerun_and_holds_no_password(tmp_path: Path) -> None:
    record(tmp_path / "run.rrd", [*toy_updates(3)])
    assert [path.name for path in tmp_path.iterdir()] == ["run.rrd"]
    command = [sys.executable, "-m", "rerun", "rrd", "verify", str(tmp_path / "run.rrd")]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0, verified.stderr
    assert PASSWORD.encode() not in (tmp_path / "run.rrd").read_bytes()


def test_a_file_or_a_viewer_is_named_and_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path or viewer"):
        RerunLogger()
    with pytest.raises(ValueError, match="path or viewer"):
        RerunLogger(tmp_path / "run.rrd", viewer="spawn")
    (tmp_path / "run.rrd").write_text("mine")
    with pytest.raises(FileExistsError, match=r"run\.rrd exists"):
        RerunLogger(tmp_path / "run.rrd")


@pytest.mark.slow
def test_kill_9_loses_no_more_than_the_last_two_seconds(tmp_path: Path) -> None:
    written = RecordingProcess(tmp_path / "run.rrd").after(60, signal.SIGKILL)
    (unfinished,) = tmp_path.iterdir()
    part = unfinished.rename(tmp_path / "part.rrd")
    command = [sys.executable, "-m", "rerun", "rrd", "merge", str(part), "-o", str(tmp_path / "run.rrd")]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    # Eight updates in two seconds of the child's clock, and those that still waited for their turn.
    assert written - 8 - 17 <= len(rows(tmp_path / "run.rrd")["/door/video"]) <= written + 1


# A viewer that listens and never answers, as one that is stopped, or behind a network that is gone.
_FROZEN = """
import socket
from molmo2_ground.integrations import rerun
from tests.live_updates import toy_updates
rerun._FLUSH_S = 2.0
with socket.create_server(("127.0.0.1", 0)) as frozen:
    address = f"rerun+http://127.0.0.1:{frozen.getsockname()[1]}/proxy"
    recorder = rerun.RerunLogger(viewer=address, when_full="wait")
    for update in toy_updates(3):
        recorder.write(update)
    recorder.close()
    print(recorder.problem)
"""


@pytest.mark.slow
def test_a_viewer_that_never_answers_holds_up_neither_close_nor_the_end_of_the_program() -> None:
    command = [sys.executable, "-c", _FROZEN]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("recording to viewer stopped: ")
