"""`Carrier`: what takes places from picture to picture between two answers of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
"""Pictures are held for so long, seconds, and longer only for a look that is under way."""

LONGEST_LOOK_S = 120.0
"""The pictures since the one that a look under way was asked about are held until it has answered, for so
long at most, seconds: twice what a large model takes on a CPU. `MOST_HELD` over so long is a picture every
second, and over more nothing could be followed from one to the next."""

HELD_EVERY_S = 0.08
"""Of the pictures held one for every so many seconds is enough: what moves across a street moves a few
hundredths of the picture meanwhile. With `HELD_S` it bounds what is held to some 125 pictures and those
sampled."""

MOST_HELD = 160
"""No more pictures are held than so many, whatever their times say; for a look that takes long they are
thinned evenly."""

MOST_STEPS = 12
"""An answer is caught up with in at most so many steps, so that a slow model does not hold up the next
picture. A look that took longer than `HELD_S` is caught up with in steps of about `LONG_STEP_S`, seconds."""
LONG_STEP_S = HELD_S / MOST_STEPS


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

        What is followed and not among them goes on as it is. So does a thing whose picture is not held: that
        of another scene or connection, or of a look that took longer than `LONGEST_LOOK_S`. One that is not
        followed yet is not told then, for nothing says where it went since.
        """
        ...

    def expect(self, source_indices: Iterable[int]) -> None:
        """A look is under way that may say where things are in these pictures; in none: no look is.

        They are held, and the way from them to now, until this is called again, up to `LONGEST_LOOK_S`.
        """
        ...

    def places_in(self, source_index: int) -> Mapping[int, tuple[float, float]]:
        """Where things were followed to in a picture that is held, shares of width and height; else none."""
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
