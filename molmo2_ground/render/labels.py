"""Where labels go: beside their object, inside the picture, over no dot and no other label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle, pixels; right and bottom are the first column and row outside it."""

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int

    def meets(self, other: Box) -> bool:
        """True when the two share a pixel."""
        return (
            self.left_px < other.right_px
            and other.left_px < self.right_px
            and self.top_px < other.bottom_px
            and other.top_px < self.bottom_px
        )

    @property
    def empty(self) -> bool:
        """True when it holds no pixel."""
        return self.left_px >= self.right_px or self.top_px >= self.bottom_px

    def clipped(self, width_px: int, height_px: int) -> Box:
        """The part of it inside a picture of this size."""
        return Box(
            left_px=max(0, self.left_px),
            top_px=max(0, self.top_px),
            right_px=min(width_px, self.right_px),
            bottom_px=min(height_px, self.bottom_px),
        )

    def within(self, width_px: int, height_px: int) -> bool:
        """True when it lies wholly inside a picture of this size."""
        return (
            self.left_px >= 0
            and self.top_px >= 0
            and self.right_px <= width_px
            and self.bottom_px <= height_px
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An object that wants a label, and the sizes (width, height) its label may have, the best first.

    dot     the box that its dot covers, None when it has no dot in this picture.
    around  the box around its pixels, None when they are not known. The label stands outside it where it can.
    """

    object_id: int
    dot: Box | None
    sizes_px: tuple[tuple[int, int], ...]
    around: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """The place given to a label: which of the sizes, and where."""

    size_index: int
    box: Box


# Directions from the dot, in the order tried: (horizontal, vertical), -1 left or above, 0 centred, 1 right
# or below.
_DIRECTIONS = ((1, -1), (1, 0), (1, 1), (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1))
# Around an object's pixels: above and below first, where the label is nearest to what it names.
_AROUND = ((0, -1), (0, 1), (1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1))


class Seating:
    """Gives labels their places, frame after frame; a label stays on its side of the object while it can."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}  # object id -> the direction it had

    def seat(
        self, wishes: Sequence[Wish], *, width_px: int, height_px: int, gap_px: int, taken: Iterable[Box] = ()
    ) -> list[Seat | None]:
        """One place a wish, in the same order; None where the picture is too full for any of its sizes.

        No label covers a dot, another label or what is `taken`; pixels of objects are covered only when there
        is no other place.
        """
        blocked = [*taken, *(wish.dot for wish in wishes if wish.dot is not None)]
        pixels = [wish.around for wish in wishes if wish.around is not None]
        seats: list[Seat | None] = []
        for wish in wishes:
            found = self._free(wish, blocked, pixels, width_px=width_px, height_px=height_px, gap_px=gap_px)
            if found is None:
                seats.append(None)
                continue
            self._last[wish.object_id], seat = found
            blocked.append(seat.box)
            seats.append(seat)
        return seats

    def _free(
        self,
        wish: Wish,
        blocked: Sequence[Box],
        pixels: Sequence[Box],
        *,
        width_px: int,
        height_px: int,
        gap_px: int,
    ) -> tuple[tuple[int, int], Seat] | None:
        """The first place that meets none of both, else the first that is not blocked."""
        second_best = None
        for direction, seat in self._places(wish, gap_px=gap_px):
            box = seat.box
            if not box.within(width_px, height_px) or any(box.meets(other) for other in blocked):
                continue
            if not any(box.meets(other) for other in pixels):
                return direction, seat
            second_best = second_best or (direction, seat)
        return second_best

    def _places(self, wish: Wish, *, gap_px: int) -> Iterator[tuple[tuple[int, int], Seat]]:
        """Every place that the label could have, the best first, with its direction."""
        last = self._last.get(wish.object_id)
        for size_index, size_px in enumerate(wish.sizes_px):
            for anchor, directions in ((wish.around, _AROUND), (wish.dot, _DIRECTIONS)):
                if anchor is None:
                    continue
                for direction in sorted(directions, key=lambda d: d != last):
                    box = _beside(anchor, size_px, direction, gap_px)
                    yield direction, Seat(size_index=size_index, box=box)


def _beside(dot: Box, size_px: tuple[int, int], direction: tuple[int, int], gap_px: int) -> Box:
    width_px, height_px = size_px
    across, down = direction
    # On a diagonal the label touches the dot's corner, which is empty: a dot is round.
    gap_x_px = gap_px if down == 0 else 0
    gap_y_px = gap_px if across == 0 else 0
    if across:
        left_px = dot.right_px + gap_x_px if across > 0 else dot.left_px - gap_x_px - width_px
    else:
        left_px = (dot.left_px + dot.right_px - width_px) // 2
    if down:
        top_px = dot.bottom_px + gap_y_px if down > 0 else dot.top_px - gap_y_px - height_px
    else:
        top_px = (dot.top_px + dot.bottom_px - height_px) // 2
    return Box(left_px=left_px, top_px=top_px, right_px=left_px + width_px, bottom_px=top_px + height_px)
