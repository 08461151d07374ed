from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.messages import (
    BoundingBox2D,
    Detection,
    Header,
    Pose2D,
    Position2D,
    Result,
    TracksMessage,
    ros2,
)

STAMP_NS = 1_790_000_000_123_456_789


def header(stamp_ns: int = STAMP_NS) -> Header:
    return Header.model_validate(
        {
            "schema": TracksMessage.SCHEMA,
            "source": "door",
            "seq": 4,
            "epoch": 1,
            "stamp_ns": stamp_ns,
            "recv_ns": stamp_ns + 5,
            "infer_ns": stamp_ns + 6,
            "pub_ns": stamp_ns + 7,
            "frame_id": "door_optical_frame",
            "source_index": 3,
            "size_px": (640, 360),
            "age_ms": 1.0,
            "valid_until_ns": stamp_ns + 8,
        }
    )


def tracks() -> TracksMessage:
    boxed = BoundingBox2D(center=Pose2D(position=Position2D(x=20.0, y=30.5)), size_x=8.0, size_y=5.0)
    bare = BoundingBox2D(center=Pose2D(position=Position2D(x=1.25, y=2.0)))
    times = {"observed_ns": STAMP_NS, "born_ns": STAMP_NS}
    return TracksMessage(
        header=header(),
        detections=(
            Detection(
                id="7",
                results=(Result(class_id="person"),),
                bbox=boxed,
                point=Position2D(x=21.0, y=31.0),
                state="observed",
                **times,
            ),
            Detection(
                id="12",
                results=(Result(class_id="person", score=0.5),),
                bbox=bare,
                point=bare.center.position,
                state="propagated",
                **times,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("stamp_ns", "sec", "nanosec"),
    [
        pytest.param(STAMP_NS, 1_790_000_000, 123_456_789, id="today"),
        pytest.param(0, 0, 0, id="zero"),
        pytest.param(-1, -1, 999_999_999, id="just-before-1970"),
        pytest.param((2**31 - 1) * 10**9 + 999_999_999, 2**31 - 1, 999_999_999, id="last-that-fits"),
    ],
)
def test_a_stamp_is_split_in_seconds_and_nanoseconds(stamp_ns: int, sec: int, nanosec: int) -> None:
    assert ros2.time_of(stamp_ns) == ros2.Time(sec=sec, nanosec=nanosec)


@given(st.integers(min_value=-(2**31) * 10**9, max_value=(2**31 - 1) * 10**9))
def test_no_nanosecond_is_lost(stamp_ns: int) -> None:
    time = ros2.time_of(stamp_ns)
    assert time.sec * 10**9 + time.nanosec == stamp_ns
    assert 0 <= time.nanosec < 10**9


def test_a_stamp_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2147483647"):
        ros2.time_of(2**31 * 10**9)


def test_detections_keep_ids_labels_boxes_stamp_and_frame() -> None:
    made = ros2.detections_of(tracks())
    assert made.header == ros2.Header(
        stamp=ros2.Time(sec=1_790_000_000, nanosec=123_456_789), frame_id="door_optical_frame"
    )
    first, second = made.detections
    assert [one.header for one in made.detections] == [made.header, made.header]
    assert (first.id, second.id) == ("7", "12")
    assert (first.bbox.center.position, first.bbox.size_x, first.bbox.size_y) == (
        ros2.Point2D(x=20.0, y=30.5),
        8.0,
        5.0,
    )
    assert (second.bbox.size_x, second.bbox.size_y) == (0.0, 0.0)
    assert first.results[0].hypothesis.class_id == "person"
    assert math.isnan(first.results[0].hypothesis.score)
    assert second.results[0].hypothesis.score == 0.5


def test_a_point_is_the_place_itself_in_pixels_and_not_the_middle_of_its_box() -> None:
    found = ros2.point_of(tracks(), object_id="7")
    assert found is not None
    assert found.point == ros2.Point(x=21.0, y=31.0, z=0.0)
    assert ros2.point_of(tracks(), object_id="8") is None


def test_an_image_keeps_its_bytes_and_stamp() -> None:
    image = ros2.image_of(header(), jpeg=b"\xff\xd8")
    assert (image.format, image.data, image.header.stamp.nanosec) == ("jpeg", b"\xff\xd8", 123_456_789)
