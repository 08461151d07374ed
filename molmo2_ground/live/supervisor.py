"""`Supervisor`: when the model is asked again, by cheap signs, and which of them wait.

Everything here follows from pictures, times and answers: the same stream gives the same looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from molmo2_ground.live.carrier import Carried
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.newcomers import Newcomers
from molmo2_ground.live.scene_cut import is_cut
from molmo2_ground.live.token_budget import TokenBudget
from molmo2_ground.masks.point_flow import Gray

_SAME_TIME_S = 1e-3  # times of a grid are sums of floats

LEAST_INTERVAL_S: Mapping[str, float] = {
    # Asked once each time they happen; nothing makes them come in a stream.
    "first": 0.0,
    "question": 0.0,
    "reconnect": 0.0,
    "every": 0.0,
    # A flickering picture may cut again and again; each time after this the model gets to see it.
    "scene_cut": 1.0,
    # What is in doubt or lost stays so until the model looks; oftener than a step or two of the grid shows it
    # no new picture.
    "area_jump": 1.0,
    "point_outside": 1.0,
    "swap": 1.0,
    "lost": 0.5,
    # Most of what moves in a street is not what was asked for: looks that find nothing new make it wait
    # longer.
    "newcomer": 2.0,
    "age": 0.0,  # it has its own interval, `look_every_s`
}
"""Seconds of the stream between two looks for one sign at least."""

LONGEST_INTERVAL_S: Mapping[str, float] = {"newcomer": 30.0, "lost": 1.0}
"""The interval of these doubles with every look that they caused in vain, up to this; something born or
taken up again puts it back."""

NEAR_NORM = 0.04
PART_NORM = 0.07
"""Two things of one question that came nearer than `NEAR_NORM` and are farther apart than `PART_NORM` again
may have changed names on the way; shares of the picture. Apart by less than the size of things, their
corners mix."""


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Gathers signs until they are looked at.

    look_every_s  places may be so old, seconds of the stream, before the model is asked for that alone.
    """

    look_every_s: float
    budget: TokenBudget
    waiting: tuple[str, ...] = ()
    # From the sign to the picture that showed it first.
    _pending: dict[str, int] = field(default_factory=dict)
    _looked_s: dict[str, float] = field(default_factory=dict)
    _last_s: float | None = None
    _last_index: int = -1
    _interval_s: dict[str, float] = field(default_factory=lambda: dict(LEAST_INTERVAL_S))
    _lost: set[int] = field(default_factory=set)
    _close: set[tuple[int, int]] = field(default_factory=set)
    _thumb: Gray | None = None
    _newcomers: Newcomers = field(default_factory=Newcomers)

    def sign(self, name: str, source_index: int) -> None:
        """Something speaks for asking again, from this picture on."""
        assert name in LEAST_INTERVAL_S, f"no sign is called {name}"
        self._pending.setdefault(name, source_index)

    def cut(self, picture: LivePicture) -> bool:
        """Compare the next picture with the one before; True, and a sign, at a cut."""
        before, self._thumb = self._thumb, picture.thumb
        if before is None or not is_cut(before, picture.thumb):
            return False
        self._newcomers.restart()
        self.sign("scene_cut", picture.index)
        return True

    def look_at(
        self, picture: LivePicture, carried: Sequence[Carried], question_of: Mapping[int, str]
    ) -> None:
        """Gather the signs of one picture, in which everything has been carried to its place."""
        for thing in carried:
            for flag in thing.flags:
                if flag in ("area_jump", "point_outside"):
                    self.sign(flag, picture.index)
        lost = {thing.object_id for thing in carried if thing.state == "predicted"}
        if lost - self._lost:
            self.sign("lost", picture.index)
        self._lost = lost
        if self._parted(carried, question_of):
            self.sign("swap", picture.index)
        if picture.sampled:
            places = [(thing.x_norm, thing.y_norm) for thing in carried]
            if self._newcomers.take(picture.thumb, places):
                self.sign("newcomer", picture.index)

    def restart_pictures(self, source_index: int) -> None:
        """Another connection: what is compared starts anew, and the model is asked."""
        self._thumb = None
        self._newcomers.restart()
        self._lost, self._close = set(), set()
        self.sign("reconnect", source_index)

    def due(self, *, newest_index: int, newest_s: float, now_s: float) -> tuple[str, ...]:
        """Why the model is to be asked about the newest sampled picture now; empty when it is not.

        A sign waits for a sampled picture that shows what it is about, for its least interval, and for the
        budget; signs that wait for the budget are in `waiting`.
        """
        if self._last_s is None:
            self._pending = {"first": newest_index}
        elif newest_s - self._last_s >= self.look_every_s - _SAME_TIME_S:
            self.sign("age", newest_index)
        asked_anew = "question" in self._pending
        if newest_index <= self._last_index and not asked_anew:
            return ()
        reasons = tuple(
            name
            for name, index in self._pending.items()
            if (index <= newest_index or name == "question") and self._rested(name, newest_s)
        )
        allowed = not reasons or self.budget.allows(now_s)
        self.waiting = () if allowed else reasons
        return reasons if allowed else ()

    def asked(self, reasons: Sequence[str], *, newest_index: int, newest_s: float) -> None:
        """The model is being asked for these reasons."""
        self._last_s, self._last_index = newest_s, max(newest_index, self._last_index)
        for name in reasons:
            self._pending.pop(name, None)
            self._looked_s[name] = newest_s
        # What was seen before this picture is answered by it, whatever the sign.
        self._pending = {name: index for name, index in self._pending.items() if index > newest_index}

    def answered(self, reasons: Sequence[str], *, tokens: int, found_new: bool, now_s: float) -> None:
        """An answer is there. found_new: something was born or came back with it."""
        self.budget.spend(tokens, now_s)
        for name, longest_s in LONGEST_INTERVAL_S.items():
            if found_new:
                self._interval_s[name] = LEAST_INTERVAL_S[name]
            elif name in reasons:
                self._interval_s[name] = min(longest_s, 2 * self._interval_s[name])

    def _rested(self, name: str, time_s: float) -> bool:
        return (
            name not in self._looked_s
            or time_s - self._looked_s[name] >= self._interval_s[name] - _SAME_TIME_S
        )

    def _parted(self, carried: Sequence[Carried], question_of: Mapping[int, str]) -> bool:
        """Whether two things of one question that had come close are apart again."""
        if len(carried) < 2:
            self._close.clear()
            return False
        places = np.array([(thing.x_norm, thing.y_norm) for thing in carried])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        ids = [thing.object_id for thing in carried]
        for a, b in np.argwhere(np.triu(apart < NEAR_NORM, k=1)):
            if question_of.get(ids[a]) == question_of.get(ids[b]):
                self._close.add((ids[a], ids[b]))
        row = {object_id: number for number, object_id in enumerate(ids)}
        self._close = {pair for pair in self._close if pair[0] in row and pair[1] in row}
        parted = {(a, b) for a, b in self._close if apart[row[a], row[b]] > PART_NORM}
        self._close -= parted
        return bool(parted)
