"""`CameraClock`: whether a picture is stamped by the camera's own clock."""

from __future__ import annotations

import logging
import struct
from typing import Any

from molmo2_ground.sources.feeds.failures import StalledError

_LOG = logging.getLogger(__name__)

# A clock that is further from ours than this is not set. Arrival by our clock is nearer to the truth then,
# and stamps would leap: before the camera has told its time, pictures are stamped by their arrival.
_NEAR_NS = 2_000_000_000
# A clock that was near and is this far ahead was set anew, wrongly.
_LEAP_NS = 10_000_000_000


class CameraClock:
    """Follows one connection, whose camera may tell its clock late, never, or wrongly.

    RTSP cameras tell it in RTCP sender reports, the first of which may come after the first pictures. Those
    are stamped by their arrival; from the report on the camera's time counts, when it is near ours.

    each_tells  True when every picture tells its own time (a message with a header), so the first counts.
    """

    def __init__(self, name: str, *, each_tells: bool = False) -> None:
        self._name = name
        self._trusted: bool | None = None
        self._told_before = each_tells

    def stamp_ns(self, told_ns: int | None, *, recv_ns: int) -> int | None:
        """The stamp of a picture that arrived at `recv_ns`, by the camera; None: it is to be its arrival.

        Raises `StalledError` when the clock leaps ahead: the camera is to be connected anew.
        """
        if told_ns is None:
            return None
        if not self._told_before:
            # FFmpeg hangs the first time it learns on the picture before the one that it belongs to.
            self._told_before = True
            return None
        off_ns = told_ns - recv_ns
        if self._trusted is None:
            self._trusted = abs(off_ns) <= _NEAR_NS
            if not self._trusted:
                _LOG.warning(
                    "%s: its clock is %.1f s %s ours; pictures are stamped by their arrival",
                    self._name,
                    abs(off_ns) / 1e9,
                    "ahead of" if off_ns > 0 else "behind",
                )
        if self._trusted and off_ns > _LEAP_NS:
            raise StalledError(f"{self._name}: its clock leapt ahead by {off_ns / 1e9:.1f} s")
        return told_ns if self._trusted else None


def grabbed_ns(packet: Any) -> int | None:
    """Unix nanoseconds at which the system took a packet's picture, where it counts as clocks on walls do."""
    return None if packet.pts is None else int(packet.pts * packet.time_base * 1_000_000_000)


def told_ns(packet: Any) -> int | None:
    """Unix nanoseconds at which a packet's picture was taken, by its camera; None when the stream is silent.

    FFmpeg hands the camera's clock on as a producer reference time beside each packet: microseconds since
    1970 and flags (libavutil, AVProducerReferenceTime). An older PyAV may not show it.
    """
    if not hasattr(packet, "has_sidedata") or not packet.has_sidedata("prft"):
        return None
    data = bytes(packet.get_sidedata("prft"))
    return int(struct.unpack_from("=q", data)[0]) * 1000 if len(data) >= 8 else None
