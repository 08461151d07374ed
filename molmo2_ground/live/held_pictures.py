"""`HeldPictures`: pictures kept for the answer about them that is still to come, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from molmo2_ground.live.carrier import (
    HELD_EVERY_S,
    HELD_S,
    LONG_STEP_S,
    LONGEST_LOOK_S,
    MOST_HELD,
    MOST_STEPS,
)

_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held(Generic[_Kept]):
    """One picture as a carrier needs it. places: of what was followed in it, shares of its size, by id."""

    source_index: int
    time_s: float
    sampled: bool
    kept: _Kept
    places: dict[int, tuple[float, float]] = field(default_factory=dict)


class HeldPictures(Generic[_Kept]):
    """A ring: every sampled picture, and of the others one each `HELD_EVERY_S`; the newest always.

    While a look takes so long that these are more than `MOST_HELD`, they are thinned evenly; those that it
    may be about stay.
    """

    def __init__(self) -> None:
        self._ring: deque[Held[_Kept]] = deque()
        self._expected: frozenset[int] = frozenset()

    def expect(self, source_indices: Iterable[int]) -> None:
        """Hold these pictures and all since for a look; none: no look is under way."""
        self._expected = frozenset(source_indices)

    def add(self, held: Held[_Kept]) -> None:
        """Keep the next picture, and let go of what is too old or too much."""
        ring = self._ring
        # The newest is always kept, so that a way ends in it; when the next comes, it may not be needed.
        if len(ring) >= 2 and not ring[-1].sampled and held.time_s - ring[-2].time_s < HELD_EVERY_S:
            ring.pop()
        ring.append(held)
        while held.time_s - ring[0].time_s > (LONGEST_LOOK_S if self._is_expected(ring[0]) else HELD_S):
            self._expected -= {ring.popleft().source_index}
        if len(ring) > MOST_HELD:
            del ring[self._superfluous() if self._is_expected(ring[0]) else 0]

    def _is_expected(self, held: Held[_Kept]) -> bool:
        """Whether the way from a picture that a look may be about leads over this one."""
        return bool(self._expected) and held.source_index >= min(self._expected)

    def _superfluous(self) -> int:
        """The place in the ring of the picture that leaves the smallest hole when it goes."""
        ring = list(self._ring)
        # The next look will be about the newest sampled picture, or the one before.
        stays = self._expected | {held.source_index for held in islice(_sampled(reversed(ring)), 2)}
        holes = [
            (ring[n + 1].time_s - ring[n - 1].time_s, n)
            for n in range(1, len(ring) - 1)
            if ring[n].source_index not in stays
        ]
        return min(holes)[1] if holes else 0

    def at(self, source_index: int) -> Held[_Kept] | None:
        """The picture of this number, None when it is not held."""
        return next((held for held in reversed(self._ring) if held.source_index == source_index), None)

    def way(self, source_index: int) -> tuple[Held[_Kept], ...]:
        """From the picture of this number to the newest, both included; empty when it is not held.

        At most `MOST_STEPS` steps, or over more than `HELD_S` such of about `LONG_STEP_S`, and one more: the
        newest sampled picture is on the way, because the next look is about it.
        """
        way = [held for held in self._ring if held.source_index >= source_index]
        if not way or way[0].source_index != source_index:
            return ()
        span_s, steps = way[-1].time_s - way[0].time_s, len(way) - 1
        stride = int(steps * LONG_STEP_S / span_s) if span_s > HELD_S else -(-steps // MOST_STEPS)
        stride = max(1, stride)
        sampled = next(_sampled(reversed(way)), None)
        return tuple(
            held for n, held in enumerate(way) if n % stride == 0 or held is way[-1] or held is sampled
        )

    def places_in(self, source_index: int) -> Mapping[int, tuple[float, float]]:
        """Places noted in the picture of this number, by id; none when it is not held."""
        held = self.at(source_index)
        return {} if held is None else dict(held.places)

    def move_places(self, object_id: int, *, since: int, by: tuple[float, float]) -> None:
        """Put a thing's places right from picture `since` on, by so many shares of width and height."""
        for held in self._ring:
            if held.source_index >= since and object_id in held.places:
                x_norm, y_norm = held.places[object_id]
                held.places[object_id] = (x_norm + by[0], y_norm + by[1])

    def forget_places(self, object_ids: Sequence[int], *, since: int) -> None:
        """Let go of the places of these things from picture `since` on."""
        for held in self._ring:
            if held.source_index >= since:
                for object_id in object_ids:
                    held.places.pop(object_id, None)

    @property
    def newest(self) -> Held[_Kept] | None:
        """The picture that came last."""
        return self._ring[-1] if self._ring else None

    def clear(self) -> None:
        """Let go of all of them; a look under way is about none of those to come."""
        self._ring.clear()
        self._expected = frozenset()

    def __len__(self) -> int:
        return len(self._ring)

    def __iter__(self) -> Iterator[Held[_Kept]]:
        return iter(self._ring)


def _sampled(held: Iterable[Held[_Kept]]) -> Iterator[Held[_Kept]]:
    return (one for one in held if one.sampled)
