"""`Losses`: what could not be read, gathered while reading and told in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["undecoded", "damaged", "unreadable", "backwards"]

# A stretch that begins this soon after the last one of its kind is told together with it.
_SAME_STRETCH_S = 1.0
# A file that is broken in a thousand places is told by its first ones and their number.
_MAX_STRETCHES = 20


@dataclass(slots=True)
class _Stretch:
    kind: Kind
    first_s: float
    last_s: float
    count: int

    def line(self, damaged: str) -> str:
        one = self.count == 1
        what = "the frame" if one else f"{self.count} frames"
        where = f"at {self.first_s:.2f} s" if one else f"between {self.first_s:.2f} s and {self.last_s:.2f} s"
        if self.kind == "undecoded":
            return f"{what} {where} could not be decoded"
        if self.kind == "damaged":
            return f"{what} {where} {'is' if one else 'are'} damaged and {damaged}"
        if self.kind == "backwards":
            return f"{what} {where} {'has a time' if one else 'have times'} before the frame ahead; left out"
        return f"nothing could be read between {self.first_s:.2f} s and {self.last_s:.2f} s"


class Losses:
    """Collects; its memory does not grow with the damage."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._notes: list[str] = []
        self._stretches: list[_Stretch] = []
        self._untold = 0
        self._unseen_times = 0

    def note(self, line: str) -> None:
        """Add a line as it is."""
        self._notes.append(line)

    def frames(self, kind: Kind, *, first_s: float, last_s: float, count: int = 1) -> None:
        """Add `count` frames of one kind between two times, seconds."""
        for stretch in reversed(self._stretches):
            if stretch.kind == kind and first_s - stretch.last_s <= _SAME_STRETCH_S and kind != "unreadable":
                stretch.first_s = min(stretch.first_s, first_s)
                stretch.last_s = max(stretch.last_s, last_s)
                stretch.count += count
                return
        if len(self._stretches) < _MAX_STRETCHES:
            self._stretches.append(_Stretch(kind, first_s, last_s, count))
        else:
            self._untold += 1

    def unseen_time(self) -> None:
        """Count one wanted time that falls where no picture could be read."""
        self._unseen_times += 1

    def take(self, *, damaged: str = "shown as far as readable") -> tuple[str, ...]:
        """The lines since the last call, notes first and then by time; starts anew.

        damaged: what became of damaged frames.
        """
        lines = [*self._notes, *(s.line(damaged) for s in sorted(self._stretches, key=lambda s: s.first_s))]
        if self._untold:
            lines.append(f"{self._untold} more places like these")
        if self._unseen_times:
            plural = "s" if self._unseen_times > 1 else ""
            lines.append(f"{self._unseen_times} wanted time{plural} left out: no picture could be read there")
        self._clear()
        return tuple(lines)
