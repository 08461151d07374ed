"""`LiveSource`: what `open_feed`, the door to all live sources, takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from molmo2_ground.clocks import Clocks
from molmo2_ground.messages.header import StampClock
from molmo2_ground.sources.feeds.address import Address, SourceAddress
from molmo2_ground.sources.feeds.failures import RefusedError
from molmo2_ground.sources.feeds.feed import Feed

if TYPE_CHECKING:
    from molmo2_ground.sources.feeds.given_feed import GivenPictures

LiveSource: TypeAlias = "SourceAddress | GivenPictures | Feed"


def open_feed(
    source: LiveSource,
    *,
    name: str | None = None,
    speed: float | None = 1.0,
    loop: bool = False,
    clock: StampClock = "unix",
    options: Mapping[str, str] | None = None,
    clocks: Clocks | None = None,
) -> Feed:
    """The feed of a source; nothing is opened yet. Raises `RefusedError` (a `SourceError`) for no source.

    source   a camera's number or device, an address, a file, an iterator or function of pictures, or a feed.
    name     what logs and messages call it; else made of the address, without its secrets.
    speed, loop  of a file: how many times faster than filmed, None for as fast as it is taken; over and over.
    clock    of an iterator or function that gives seconds: by which clock.
    options  FFmpeg's, for a stream or a device, by its own names.
    """
    if not isinstance(source, str | int | os.PathLike):
        if hasattr(source, "connect") and hasattr(source, "paced"):
            return cast(Feed, source)
        if callable(source) or hasattr(source, "__iter__"):
            from molmo2_ground.sources.feeds.given_feed import GivenFeed

            return GivenFeed(source, name=name or "frames", clock=clock, clocks=clocks)
        raise RefusedError(
            f"expected a camera, an address, a file, or an iterator of pictures; got {type(source).__name__}"
        )
    address = Address.of(source)
    feed = _feed_of(address, speed=speed, loop=loop, options=options, clocks=clocks)
    if name is not None:
        feed.name = name
    return feed


def _feed_of(
    address: Address,
    *,
    speed: float | None,
    loop: bool,
    options: Mapping[str, str] | None,
    clocks: Clocks | None,
) -> Feed:
    # Each kind with its libraries, when it is asked for.
    if address.kind == "file":
        from molmo2_ground.sources.feeds.file_feed import FileFeed

        path = Path(address.location.reveal()).expanduser()
        return FileFeed(path, speed=speed, loop=loop, name=address.name, clocks=clocks)
    if address.kind == "device":
        from molmo2_ground.sources.feeds.usb_feed import device_feed

        return device_feed(address, options=options, clocks=clocks)
    if address.kind == "zmq":
        from molmo2_ground.sources.feeds.zmq_feed import ZmqFeed

        return ZmqFeed(address, clocks=clocks)
    from molmo2_ground.sources.feeds.av_feed import AvFeed

    return AvFeed(address, options=options, clocks=clocks)
