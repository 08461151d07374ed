from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from molmo2_ground.messages.camera import CameraMessage
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.sent_picture import MalformedError, camera_parts, read_parts

RED = np.zeros((8, 16, 3), np.uint8)
RED[..., 0] = 220


def jpeg(array: Any = RED) -> bytes:
    written = io.BytesIO()
    Image.fromarray(array).save(written, "JPEG", quality=95)
    return written.getvalue()


def lerobot(**changes: Any) -> list[bytes]:
    message: dict[str, Any] = {
        "timestamps": {"head": 1_790_000_000.25},
        "images": {"head": base64.b64encode(jpeg()).decode()},
    }
    return [json.dumps(message | changes).encode()]


def ours(body: bytes = b"", **changes: Any) -> list[bytes]:
    header = {"schema": "molmo2-ground/camera/1", "stamp_ns": 5, "size_px": [16, 8]}
    return [json.dumps(header | changes).encode(), body or jpeg()]


def raw(encoding: str, array: Any) -> list[bytes]:
    return ours(array.tobytes(), encoding=encoding)


@pytest.mark.parametrize("joined", ["two-parts", "one-part", "topic-part", "topic-in-front"])
def test_what_is_written_is_read(joined: str) -> None:
    head, body = camera_parts(RED, stamp_ns=7, clock="ros", camera="left", seq=3, epoch=9)
    parts = {
        "two-parts": [head, body],
        "one-part": [head + b"\n" + body],
        "topic-part": [b"camera/left", head, body],
        "topic-in-front": [b"camera/left " + head + b"\n" + body],
    }[joined]
    sent = read_parts(parts, camera="left")
    assert sent is not None
    assert (sent.stamp_ns, sent.clock, sent.epoch, sent.width_px, sent.height_px) == (7, "ros", 9, 16, 8)
    assert np.abs(sent.paint().astype(int) - RED).max() < 12
    assert CameraMessage.model_validate_json(head).seq == 3


def test_bytes_of_a_jpeg_are_sent_as_they_are() -> None:
    assert camera_parts(jpeg(), stamp_ns=1)[1] == jpeg()


@pytest.mark.parametrize(
    ("encoding", "array"),
    [
        pytest.param("rgb8", RED, id="rgb8"),
        pytest.param("bgr8", RED[:, :, ::-1], id="bgr8"),
        pytest.param("mono8", np.full((8, 16), 66, np.uint8), id="mono8"),
    ],
)
def test_raw_pictures(encoding: str, array: Any) -> None:
    sent = read_parts(raw(encoding, array))
    assert sent is not None
    expected = RED if encoding != "mono8" else np.full((8, 16, 3), 66)
    assert (sent.paint() == expected).all()


def test_lerobots_message_keeps_the_senders_time() -> None:
    sent = read_parts(lerobot())
    assert sent is not None
    assert (sent.stamp_ns, sent.width_px, sent.height_px) == (1_790_000_000_250_000_000, 16, 8)
    assert sent.paint()[0, 0, 0] > 200
    untimed = read_parts(lerobot(timestamps={}))
    assert untimed is not None
    assert untimed.stamp_ns is None


def test_of_several_cameras_one_must_be_chosen() -> None:
    image = base64.b64encode(jpeg()).decode()
    two = lerobot(images={"head": image, "hand": image})
    with pytest.raises(RefusedError, match=r"hand, head.*camera=NAME"):
        read_parts(two)
    assert read_parts(two, camera="hand") is not None
    assert read_parts(two, camera="foot") is None
    assert read_parts(ours(camera="left"), camera="right") is None


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nothing"),
        pytest.param([b""], id="empty"),
        pytest.param([b"hello"], id="words"),
        pytest.param([b"[1]"], id="list"),
        pytest.param([b"{" * 100_000], id="deep"),
        pytest.param([b"{}", b"x"], id="no-fields"),
        pytest.param([b"a", b"b", b"c", b"d"], id="four-parts"),
        pytest.param(ours()[:1], id="no-picture"),
        pytest.param(ours(b"GIF89a"), id="no-jpeg"),
        pytest.param(ours(jpeg()[:-40]), id="cut-off"),
        pytest.param(ours(size_px=[99, 99]), id="another-size"),
        pytest.param(ours(size_px=[0, 8]), id="no-width"),
        pytest.param(ours(size_px=[10**9, 10**9], encoding="rgb8"), id="enormous"),
        pytest.param(ours(b"123", encoding="rgb8"), id="too-few-bytes"),
        pytest.param(ours(encoding="tiff"), id="unknown-encoding"),
        pytest.param(ours(encoding="png"), id="another-encoding"),
        pytest.param(ours(stamp_ns="now"), id="no-time"),
        pytest.param(ours(stamp_ns=2**63), id="time-that-no-clock-shows"),
        pytest.param(ours(stamp_ns=-1), id="time-before-all-clocks"),
        pytest.param(ours(surprise=1), id="unknown-field"),
        pytest.param(lerobot(images=[1]), id="lerobot-list"),
        pytest.param(lerobot(images={}, timestamps=3), id="lerobot-times"),
        pytest.param(lerobot(images={"head": 3}), id="lerobot-number"),
        pytest.param(lerobot(images={"head": "%%%"}), id="lerobot-no-base64"),
        pytest.param(lerobot(timestamps={"head": "now"}), id="lerobot-words-for-time"),
        pytest.param(lerobot(timestamps={"head": float("inf")}), id="lerobot-endless-time"),
    ],
)
def test_what_is_no_picture_is_malformed(parts: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        read_parts(parts)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
def test_noise_is_malformed_and_nothing_else(parts: list[bytes], framed: bool) -> None:
    parts = [b"{" + part for part in parts] if framed else parts
    try:
        sent = read_parts(parts)
    except MalformedError:
        return
    assert sent is None


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_message_is_a_picture_or_malformed(at: int, byte: int) -> None:
    whole = b"\n".join(camera_parts(RED, stamp_ns=7))
    hurt = bytearray(whole)
    hurt[at % len(hurt)] = byte
    try:
        sent = read_parts([bytes(hurt)])
    except MalformedError:
        return
    assert sent is not None
    assert sent.width_px == 16
