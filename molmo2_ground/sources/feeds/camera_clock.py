"""`CameraClock`: whether a picture is stamped by the camera's own clock."""

from __future__ import annotations

import logging
import struct
from typing import Any

_LOG = logging.getLogger(__name__)

# Before 2000: a camera that was never told the time and counts from its start.
_NEVER_SET_NS = 946_684_800 * 1_000_000_000
# A clock told after the first pictures may be behind their arrival by this much: they were on their way.
_ON_THE_WAY_NS = 2_000_000_000


class CameraClock:
    """Follows one connection, whose camera may tell its clock late, never, or wrongly.

    RTSP cameras tell it in RTCP sender reports, the first of which may come after the first pictures. Those
    are stamped by their arrival; from the report on the camera's time counts, unless that is a leap back.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._newest_arrival_ns: int | None = None
        self._trusted: bool | None = None
        self._told_before = False

    def stamp_ns(self, told_ns: int | None, *, recv_ns: int) -> int | None:
        """The stamp of a picture that arrived at `recv_ns`, by the camera; None: it is to be its arrival."""
        if told_ns is not None and not self._told_before:
            # FFmpeg hangs the first time it learns on the picture before the one that it belongs to.
            self._told_before, told_ns = True, None
        if told_ns is not None and self._trusted is None and told_ns > _NEVER_SET_NS:
            before_ns = self._newest_arrival_ns
            self._trusted = before_ns is None or told_ns > before_ns - _ON_THE_WAY_NS
            if not self._trusted:
                _LOG.warning(
                    "%s: its clock is %.1f s behind ours; pictures are stamped by their arrival",
                    self._name,
                    (recv_ns - told_ns) / 1e9,
                )
        if self._trusted and told_ns is not None:
            return told_ns
        self._newest_arrival_ns = recv_ns
        return None


def told_ns(packet: Any) -> int | None:
    """Unix nanoseconds at which a packet's picture was taken, by its camera; None when the stream is silent.

    FFmpeg hands the camera's clock on as a producer reference time beside each packet: microseconds since
    1970 and flags (libavutil, AVProducerReferenceTime). PyAV before 17 does not show it.
    """
    if not hasattr(packet, "has_sidedata") or not packet.has_sidedata("prft"):
        return None
    data = bytes(packet.get_sidedata("prft"))
    return int(struct.unpack_from("=q", data)[0]) * 1000 if len(data) >= 8 else None
