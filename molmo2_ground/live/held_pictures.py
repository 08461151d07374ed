"""`HeldPictures`: pictures kept for the answer about them that is still to come, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from molmo2_ground.live.carrier import HELD_EVERY_S, HELD_S, MOST_HELD, MOST_STEPS

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
    """A ring: every sampled picture, and of the others one each `HELD_EVERY_S`; the newest always."""

    def __init__(self) -> None:
        self._ring: deque[Held[_Kept]] = deque()

    def add(self, held: Held[_Kept]) -> None:
        """Keep the next picture, and let go of what is too old or too much."""
        ring = self._ring
        # The newest is always kept, so that a way ends in it; when the next comes, it may not be needed.
        if len(ring) >= 2 and not ring[-1].sampled and held.time_s - ring[-2].time_s < HELD_EVERY_S:
            ring.pop()
        ring.append(held)
        while len(ring) > MOST_HELD or held.time_s - ring[0].time_s > HELD_S:
            ring.popleft()

    def at(self, source_index: int) -> Held[_Kept] | None:
        """The picture of this number, None when it is not held."""
        return next((held for held in reversed(self._ring) if held.source_index == source_index), None)

    def way(self, source_index: int) -> tuple[Held[_Kept], ...]:
        """From the picture of this number to the newest, both included, at most `MOST_STEPS` steps.

        Empty when it is not held.
        """
        way = [held for held in self._ring if held.source_index >= source_index]
        if not way or way[0].source_index != source_index:
            return ()
        stride = -(-(len(way) - 1) // MOST_STEPS) or 1
        return (*way[:-1:stride], way[-1])

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
        """Let go of all of them."""
        self._ring.clear()

    def __len__(self) -> int:
        return len(self._ring)

    def __iter__(self) -> Iterator[Held[_Kept]]:
        return iter(self._ring)
