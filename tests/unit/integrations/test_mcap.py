from __future__ import annotations

import base64
import errno
import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from mcap.reader import make_reader
from mcap.writer import Writer

from molmo2_ground.clip import RgbArray
from molmo2_ground.errors import SourceError
from molmo2_ground.integrations.mcap import McapRecorder, recover_mcap
from molmo2_ground.live.recording import Contents
from molmo2_ground.live.saying import Numbering, messages_of
from molmo2_ground.live.update import Update
from tests.json_schema import faults, foxglove_refuses
from tests.live_updates import QUESTIONS, START_NS, health, ticking, toy_updates
from tests.recordings import MANIFEST, PASSWORD, RecordingProcess, close_to, contents

Read = dict[str, list[tuple[int, int, dict[str, Any]]]]


def record(path: Path, updates: list[Update], **options: Any) -> McapRecorder:
    options.setdefault("contents", contents())
    with McapRecorder(path, when_full="wait", **options) as recorder:
        for update in updates:
            recorder.write(update)
        recorder.write_health(health(START_NS))
    assert recorder.problem is None
    return recorder


def read(path: Path) -> Read:
    """By MCAP's own reader: topic -> (log time, publish time, message), in order of log time."""
    topics: Read = {}
    with open(path, "rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            assert schema is not None
            assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
            value = json.loads(message.data)
            assert faults(value, json.loads(schema.data)) == []
            topics.setdefault(channel.topic, []).append((message.log_time, message.publish_time, value))
    return topics


def decode(messages: list[tuple[int, int, dict[str, Any]]]) -> list[RgbArray]:
    reader = av.CodecContext.create("h264", "r")
    assert isinstance(reader, VideoCodecContext)
    frames = [f for *_, value in messages for f in reader.decode(av.Packet(base64.b64decode(value["data"])))]
    frames += reader.decode(None)
    return [np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8) for frame in frames]


def stamp(value: dict[str, Any]) -> int:
    return int(value["timestamp"]["sec"]) * 10**9 + int(value["timestamp"]["nsec"])


@pytest.mark.slow
@pytest.mark.parametrize("cropped", [False, True], ids=["even", "odd-size"])
def test_video_comes_back_picture_for_picture_with_its_own_stamps(tmp_path: Path, cropped: bool) -> None:
    updates = [*toy_updates(12, cropped=cropped)]
    record(tmp_path / "run.mcap", updates)
    video = read(tmp_path / "run.mcap")["/molmo2/door/video"]
    assert [stamp(value) for *_, value in video] == [update.stamp_ns for update in updates]
    assert [log_ns for log_ns, *_ in video] == [update.capture.recv_ns for update in updates]
    pictures = decode(video)
    assert len(pictures) == len(updates)
    assert all(close_to(shown, update) for shown, update in zip(pictures, updates, strict=True))


def test_every_message_comes_back_with_its_times(tmp_path: Path) -> None:
    updates = [*toy_updates(8, masks=True)]
    record(tmp_path / "run.mcap", updates)
    topics = read(tmp_path / "run.mcap")
    numbering, clock = Numbering(), contents().clocks
    wanted: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}
    for update in updates:
        pub_ns = clock.unix_ns()
        for said in messages_of(update, questions=QUESTIONS, numbering=numbering):
            message = said.handed_over(pub_ns).message
            value = message.model_dump(mode="json", exclude_none=True)
            wanted.setdefault(f"/molmo2/door/{said.kind}", []).append((message.header.recv_ns, pub_ns, value))
    assert wanted.keys() == {f"/molmo2/door/{kind}" for kind in ("tracks", "masks", "count", "events")}
    for topic, rows in wanted.items():
        assert topics[topic] == sorted(rows, key=lambda row: row[0])
    assert {name: len(rows) for name, rows in topics.items() if name not in wanted} == {
        "/molmo2/door/video": 8,
        "/molmo2/door/annotations": 8,
        "/molmo2/door/ledger": 1,
        "/molmo2/door/looks": 4,
        "/molmo2/door/health": 1,
    }
    assert topics["/molmo2/door/ledger"][0][2]["reason"] == "new"
    assert [value.get("error") for *_, value in topics["/molmo2/door/looks"][:2]] == [
        "",
        "no places in the answer",
    ]
    assert topics["/molmo2/door/health"][0][:2] == (START_NS, START_NS)


def test_health_spells_the_stream_as_its_topic_does(tmp_path: Path) -> None:
    with McapRecorder(tmp_path / "run.mcap", contents=contents()) as recorder:
        recorder.write_health(health(START_NS).model_copy(update={"source": "my cam/1"}))
    (row,) = read(tmp_path / "run.mcap")["/molmo2/my%20cam%2F1/health"]
    assert row[2]["source"] == "my%20cam%2F1"


def test_channels_schemas_and_counts_are_in_the_summary(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", [*toy_updates(5, masks=True)])
    with open(tmp_path / "run.mcap", "rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert summary.statistics is not None
    names = {
        channel.topic.rsplit("/", 1)[-1]: summary.schemas[channel.schema_id].name
        for channel in summary.channels.values()
    }
    assert (names["video"], names["annotations"]) == ("foxglove.CompressedVideo", "foxglove.ImageAnnotations")
    assert names["tracks"] == "molmo2-ground/live-tracks/1"
    for schema in summary.schemas.values():
        assert foxglove_refuses(json.loads(schema.data)) == []
    counts = Counter({name: len(rows) for name, rows in read(tmp_path / "run.mcap").items()})
    assert summary.statistics.message_count == counts.total()


def test_the_manifest_is_metadata_and_holds_no_password(tmp_path: Path) -> None:
    record(tmp_path / "run.mcap", [*toy_updates(2)])
    with open(tmp_path / "run.mcap", "rb") as stream:
        (told,) = make_reader(stream).iter_metadata()
    assert told.name == "molmo2-ground"
    assert (told.metadata["model"], told.metadata["source"]) == ("tiny", "door")
    assert told.metadata["address"] == "rtsp://…"
    whole = (tmp_path / "run.mcap").read_bytes()
    assert MANIFEST["address"].count(PASSWORD) == 1
    assert not any(secret in whole for secret in (PASSWORD.encode(), b"s3cret"))


@pytest.mark.parametrize(("pictures", "count"), [("every", 11), ("sampled", 3), ("none", 0)])
def test_only_the_pictures_asked_for_are_kept(tmp_path: Path, pictures: Any, count: int) -> None:
    inside = Contents(questions=lambda: QUESTIONS, pictures=pictures, clocks=ticking())
    record(tmp_path / "run.mcap", [*toy_updates(11)], contents=inside)
    video = read(tmp_path / "run.mcap").get("/molmo2/door/video", [])
    assert len(decode(video)) == len(video) == count


@pytest.mark.slow
@pytest.mark.parametrize("size_changes", [(2, 3), (2, 4), (1, 2), (0, 1), (1, 4)])
def test_a_picture_of_another_size_midway_is_decoded_too(
    tmp_path: Path, size_changes: tuple[int, int]
) -> None:
    large, small = [*toy_updates(8)], [*toy_updates(8, cropped=True)]
    first, last = size_changes
    updates = [*large[:first], *small[first:last], *large[last:]]
    record(tmp_path / "run.mcap", updates)
    pictures = decode(read(tmp_path / "run.mcap")["/molmo2/door/video"])
    assert [picture.shape[1] for picture in pictures] == [640] * 8
    assert all(close_to(shown, update) for shown, update in zip(pictures, updates, strict=True))


@pytest.mark.slow
def test_files_of_a_chosen_size_can_each_be_read_alone(tmp_path: Path) -> None:
    # Clocks that put away at each update, so that the size on the disk is known at each.
    inside = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=3_000_000_000))
    updates = [*toy_updates(16)]
    record(tmp_path / "run.mcap", updates, contents=inside, max_mb=0.06)
    files = sorted(tmp_path.iterdir())
    names = [file.name for file in files]
    assert len(names) > 2
    assert names == [
        "run-002.mcap",
        *(f"run-{number:03d}.mcap" for number in range(3, len(names) + 1)),
        "run.mcap",
    ]
    stamps = []
    for file in (files[-1], *files[:-1]):
        video = read(file)["/molmo2/door/video"]
        assert len(decode(video)) == len(video)
        stamps += [stamp(value) for *_, value in video]
    assert stamps == [update.stamp_ns for update in updates]


@pytest.mark.slow
def test_numbers_of_files_that_are_taken_are_passed_over(tmp_path: Path) -> None:
    inside = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=3_000_000_000))
    (tmp_path / "run-002.mcap").write_text("mine")
    updates = [*toy_updates(16)]
    record(tmp_path / "run.mcap", updates, contents=inside, max_mb=0.06)
    assert (tmp_path / "run-002.mcap").read_text() == "mine"
    files = [tmp_path / "run.mcap", *sorted(tmp_path.glob("run-*.mcap"))[1:]]
    assert files[1].name == "run-003.mcap"
    stamps = [stamp(value) for file in files for *_, value in read(file)["/molmo2/door/video"]]
    assert stamps == [update.stamp_ns for update in updates]


@pytest.mark.slow
def test_a_recording_that_stops_between_two_files_names_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=3_000_000_000))
    recorder = McapRecorder(tmp_path / "run.mcap", contents=inside, max_mb=0.06, when_full="wait")

    def full(self: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("molmo2_ground.integrations.mcap.recorder._McapTape._open", full)
    for update in toy_updates(16):
        recorder.write(update)
    recorder.close()
    assert recorder.problem is not None
    assert recorder.problem.endswith(f"what there is so far is in {tmp_path / 'run.mcap'}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.mcap"]


def test_nothing_is_written_over_and_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "run.mcap").write_text("mine")
    with pytest.raises(FileExistsError, match=r"run\.mcap exists"):
        McapRecorder(tmp_path / "run.mcap")
    with pytest.raises(FileNotFoundError, match="folder"):
        McapRecorder(tmp_path / "none" / "run.mcap")
    with pytest.raises(ValueError, match="megabytes"):
        McapRecorder(tmp_path / "new.mcap", max_mb=0)
    assert [file.name for file in tmp_path.iterdir()] == ["run.mcap"]


def test_the_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    with McapRecorder(tmp_path / "run.mcap", contents=contents()) as recorder:
        recorder.write(next(iter(toy_updates(1))))
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.name.startswith("run.mcap.")
        assert unfinished.suffix == ".part"
    assert [file.name for file in tmp_path.iterdir()] == ["run.mcap"]


def test_the_library_can_still_end_a_chunk_early() -> None:
    # It is not public there; without it a quiet stream would lose minutes when its process is killed.
    assert callable(Writer._Writer__finalize_chunk)  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.999])
def test_a_file_cut_anywhere_is_recovered_up_to_its_last_whole_chunk(tmp_path: Path, share: float) -> None:
    inside = Contents(questions=lambda: QUESTIONS, clocks=ticking(step_ns=1_000_000_000))
    record(tmp_path / "run.mcap", [*toy_updates(16)], contents=inside)
    whole = (tmp_path / "run.mcap").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    with open(tmp_path / "run.mcap", "rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunks = [chunk.chunk_start_offset + chunk.chunk_length for chunk in summary.chunk_indexes]
    assert len(chunks) > 5
    count = recover_mcap(tmp_path / "cut", tmp_path / "recovered.mcap")
    before, after = read(tmp_path / "run.mcap"), read(tmp_path / "recovered.mcap")
    assert count == sum(map(len, after.values()))
    for topic, rows in after.items():
        assert rows == before[topic][: len(rows)]
    video = after.get("/molmo2/door/video", [])
    # An update that is put away is a chunk; with these clocks every second one is.
    whole_chunks = sum(end <= int(len(whole) * share) for end in chunks)
    assert len(decode(video)) == len(video) >= min(2 * whole_chunks - 1, 16)
    assert whole_chunks or not video


@pytest.mark.parametrize(
    "content", [b"", b"no MCAP at all", b"\x89MCAP0\r\n"], ids=["empty", "text", "magic"]
)
def test_what_is_no_mcap_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match=r"is no MCAP file: [^ ]"):
        recover_mcap(tmp_path / "x", tmp_path / "y.mcap")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_two_streams_share_a_file(tmp_path: Path) -> None:
    other = [replace(update, source="yard") for update in toy_updates(3)]
    with McapRecorder(tmp_path / "run.mcap", contents=contents(), when_full="wait") as recorder:
        for update in other:
            recorder.write(update)
    assert "/molmo2/yard/video" in read(tmp_path / "run.mcap")


@pytest.mark.slow
def test_ctrl_c_leaves_a_whole_file(tmp_path: Path) -> None:
    written = RecordingProcess(tmp_path / "run.mcap").after(40, signal.SIGINT)
    assert [file.name for file in tmp_path.iterdir()] == ["run.mcap"]
    topics = read(tmp_path / "run.mcap")
    assert len(topics["/molmo2/door/annotations"]) in (written, written + 1)
    assert len(decode(topics["/molmo2/door/video"])) == len(topics["/molmo2/door/video"])


@pytest.mark.slow
def test_kill_9_loses_no_more_than_the_last_two_seconds(tmp_path: Path) -> None:
    written = RecordingProcess(tmp_path / "run.mcap").after(60, signal.SIGKILL)
    (unfinished,) = tmp_path.iterdir()
    assert unfinished.suffix == ".part"
    recover_mcap(unfinished, tmp_path / "recovered.mcap")
    kept = len(read(tmp_path / "recovered.mcap")["/molmo2/door/video"])
    # Eight updates in two seconds of the child's clock, and those that still waited for their turn.
    assert written - 8 - 17 <= kept <= written + 1
