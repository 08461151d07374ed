"""`Carrier`: what takes places from picture to picture between two answers of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.results import Mask, MaskFlag, State

PREDICT_S = 1.0
"""What can no longer be followed is moved straight on for so long at most, seconds; after that it is not
reported until the model sees it again. At walking pace and at the pace of a car in a street a thing goes
straight for about so long, and a robot that acts on a place wants it to be one."""

VELOCITY_MEMORY_S = 0.4
"""The speed that is expected next is the mean over about so long: shorter is noise, longer misses a turn."""

HELD_S = 10.0
"""Pictures are held for so long for the answer about them, seconds: longer than a look may take to be of
use."""

HELD_EVERY_S = 0.08
"""Of the pictures held one for every so many seconds is enough: what moves across a street moves a few
hundredths of the picture meanwhile. With `HELD_S` it bounds what is held to some 125 pictures and those
sampled."""

MOST_HELD = 160
"""No more pictures are held than so many, whatever their times say."""

MOST_STEPS = 12
"""An answer is caught up with in at most so many steps, so that a slow model does not hold up the next
picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where the model saw a thing: shares of width and height, and how fast it went, shares a second.

    velocity_norm_s  None when one picture alone shows it.
    """

    object_id: int
    source_index: int
    x_norm: float
    y_norm: float
    velocity_norm_s: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A thing in the newest picture, shares of width and height. flags: why its mask is not to be trusted."""

    object_id: int
    x_norm: float
    y_norm: float
    state: State
    mask: Mask | None = None
    flags: tuple[MaskFlag, ...] = ()


class Carrier(Protocol):
    """Follows things through the pictures of one connection; give it every carried picture in order."""

    def take(self, picture: LivePicture) -> tuple[Carried, ...]:
        """Carry everything into the next picture; by object id."""
        ...

    def restart(self, anchors: Sequence[Anchor]) -> tuple[Carried, ...]:
        """The model saw these things in earlier pictures: follow them from there to the newest picture.

        What is followed and not among them goes on as it is. A thing whose picture is no longer held is moved
        straight on for up to `PREDICT_S`.
        """
        ...

    def forget(self, object_ids: Iterable[int]) -> None:
        """Follow these no longer; those that are not followed do not matter."""
        ...

    def restart_pictures(self) -> None:
        """Another connection or another scene: nothing is followed across it."""
        ...

    def close(self) -> None:
        """Let go of everything; closing again does nothing."""
        ...

    @property
    def held_bytes(self) -> int:
        """About how many bytes of pictures are held."""
        ...
