"""Camera messages over ZeroMQ, ours and lerobot's, written and read."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import ValidationError

from molmo2_ground.clip import RgbArray
from molmo2_ground.messages.camera import CameraMessage, Encoding
from molmo2_ground.messages.header import StampClock
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.picture_arrival import is_time, nanoseconds
from molmo2_ground.sources.picture import MAX_SIDE_PX

# A camera's picture; a file of this many may still be read, but nobody films it live.
MAX_LIVE_PIXELS = 64_000_000
_RAW_CHANNELS: dict[Encoding, int] = {"rgb8": 3, "bgr8": 3, "mono8": 1}


_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


class MalformedError(ValueError):
    """A message that holds no picture, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPicture:
    """A picture as a message brought it; `paint` decodes it."""

    stamp_ns: int | None
    clock: StampClock
    epoch: int
    width_px: int
    height_px: int
    paint: Callable[[], RgbArray]


def camera_parts(
    picture: RgbArray | bytes,
    *,
    stamp_ns: int,
    clock: StampClock = "unix",
    camera: str = "",
    seq: int = 0,
    epoch: int = 0,
    quality: int = 85,
) -> tuple[bytes, bytes]:
    """Our message in its two parts, ready for `socket.send_multipart`; joined by a line feed it is one part.

    picture: uint8[height, width, 3] RGB, which becomes a JPEG of this quality, or the bytes of a JPEG.
    """
    if not isinstance(picture, bytes):
        written = io.BytesIO()
        Image.fromarray(picture).save(written, "JPEG", quality=quality)
        picture = written.getvalue()
    header = CameraMessage(
        camera=camera, seq=seq, epoch=epoch, stamp_ns=stamp_ns, clock=clock, size_px=_size_of(picture)[1]
    )
    return header.model_dump_json().encode(), picture


def read_parts(parts: Sequence[bytes], *, camera: str = "") -> SentPicture | None:
    """What a message brings; None when it is of another camera than the one asked for.

    Raises `MalformedError` for anything that is no camera message, before memory is set aside for pixels.
    camera: name of the camera; empty takes the only one there is, and raises `RefusedError` when a message
    holds several.
    """
    head, body = _head_and_body(parts)
    try:
        said = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise MalformedError("no JSON") from error
    if not isinstance(said, dict):
        raise MalformedError("no JSON object")
    if "images" in said:
        return _read_lerobot(said, camera)
    try:
        header = CameraMessage.model_validate(said)
    except ValidationError as error:
        raise MalformedError(f"no camera message ({error.error_count()} fields are wrong)") from error
    if camera and header.camera != camera:
        return None
    if body is None:
        raise MalformedError("a header without a picture")
    paint = _painting(body, header.encoding, header.size_px)
    return SentPicture(
        stamp_ns=header.stamp_ns,
        clock=header.clock,
        epoch=header.epoch,
        width_px=header.size_px[0],
        height_px=header.size_px[1],
        paint=paint,
    )


def _head_and_body(parts: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    parts = parts[1:] if len(parts) > 1 and parts[0].lstrip()[:1] != b"{" else parts
    if not parts or len(parts) > 2:
        raise MalformedError(f"a message of {len(parts)} parts")
    if len(parts) == 2:
        return parts[0], parts[1]
    start = parts[0].find(b"{")
    if start < 0:
        raise MalformedError("no JSON")
    head, line_feed, body = parts[0][start:].partition(b"\n")
    if not line_feed or _is_whole(parts[0]):
        return parts[0][start:], None
    return head, body


def _is_whole(part: bytes) -> bool:
    # JSON written over several lines ends as it began; a picture's bytes do not.
    return part.rstrip()[-1:] == b"}" and b"\0" not in part


def _read_lerobot(said: dict[str, object], camera: str) -> SentPicture | None:
    """The message of lerobot: {"timestamps": {camera: seconds}, "images": {camera: base64 of a JPEG}}."""
    images, times = said["images"], said.get("timestamps", {})
    if not isinstance(images, dict) or not isinstance(times, dict):
        raise MalformedError("images and timestamps are not objects")
    if not camera and len(images) > 1:
        known = ", ".join(sorted(str(name) for name in images)[:8])
        raise RefusedError(f"the messages hold several cameras ({known}); choose one with ?camera=NAME")
    name = camera or next(iter(images), "")
    if name not in images:
        return None
    text, time_s = images[name], times.get(name)
    if not isinstance(text, str):
        raise MalformedError("the picture is no text")
    if time_s is not None and (
        not isinstance(time_s, int | float) or isinstance(time_s, bool) or not is_time(time_s)
    ):
        raise MalformedError("the time is no number of seconds")
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("the picture is no base64") from error
    size = _size_of(body)[1]
    return SentPicture(
        stamp_ns=None if time_s is None else nanoseconds(time_s),
        clock="unix",
        epoch=0,
        width_px=size[0],
        height_px=size[1],
        paint=_painting(body, "jpeg", size),
    )


def _painting(body: bytes, encoding: Encoding, size_px: tuple[int, int]) -> Callable[[], RgbArray]:
    width, height = size_px
    _check(width, height)
    if encoding in _RAW_CHANNELS:
        channels = _RAW_CHANNELS[encoding]
        if len(body) != width * height * channels:
            raise MalformedError(f"{len(body)} bytes for {width}×{height} {encoding}")
        return lambda: _raw(body, encoding, size_px)
    kind, size = _size_of(body)
    if _ENDS[kind] not in body[-64:]:
        raise MalformedError(f"a {kind} that was cut off")
    if kind.lower() != encoding or size != size_px:
        raise MalformedError(
            f"a {kind} of {size[0]}×{size[1]} where {encoding} of {width}×{height} is announced"
        )

    def paint() -> RgbArray:
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)

    return paint


def _raw(body: bytes, encoding: Encoding, size_px: tuple[int, int]) -> RgbArray:
    width, height = size_px
    array = np.frombuffer(body, np.uint8).reshape(height, width, -1)
    if encoding == "mono8":
        return np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[:, :, ::-1]) if encoding == "bgr8" else array


def _size_of(body: bytes) -> tuple[str, tuple[int, int]]:
    """Kind and size of a picture file, from its head; nothing is decoded."""
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
            kind, size = image.format or "", image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MalformedError("the picture is neither JPEG nor PNG") from error
    _check(*size)
    return kind, size


def _check(width_px: int, height_px: int) -> None:
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_LIVE_PIXELS:
        raise MalformedError(f"a picture of {width_px}×{height_px} pixels")
