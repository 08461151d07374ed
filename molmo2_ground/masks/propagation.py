"""Points in some frames become masks in every frame, in one pass over the video and bounded memory.

The model looks at a few frames a second. From a sighting an object is followed forward to the next look; when
it was not seen at the look before, also backward to that one, for it came into sight in between. Where the
model looked and did not see the object there is no mask: nothing is followed past a look that says nothing
of it, unless `follow="clip"` asks for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from molmo2_ground._amount import amount
from molmo2_ground.clip import Frame
from molmo2_ground.masks.doubts import Doubts
from molmo2_ground.masks.prompts import PointPrompt, Prompts
from molmo2_ground.masks.segmenter import BoolArray, Segmenter, Walk
from molmo2_ground.results import Mask, MaskFlag
from molmo2_ground.rle import Rle

Follow = Literal["sightings", "clip"]

# So many prepared frames are held for the way back from a sighting: more than lie between two looks at two
# looks a second and 120 frames a second. An object is not followed further back than that.
LONGEST_WAY_BACK = 64


@dataclass(kw_only=True)
class _Passed:
    """A frame that has been stepped through and may still be reached from a later sighting."""

    frame: Frame
    prepared: Any
    found: dict[int, _Found] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    rle: Rle
    observed: bool
    flags: tuple[MaskFlag, ...]


class Propagation:
    """One video on its way through a segmenter; `notes` says afterwards where an object was lost, and why."""

    def __init__(self, segmenter: Segmenter, prompts: Prompts, *, follow: Follow = "sightings") -> None:
        self.notes: list[str] = []
        self._segmenter, self._prompts, self._follow = segmenter, prompts, follow
        self._forward: Walk | None = None
        self._followed: set[int] = set()  # objects of the forward walk
        self._ever: set[int] = set()  # objects seen so far, for follow="clip"
        self._passed: list[_Passed] = []  # since the last look, in order
        self._forgotten_frames = False  # the way back was cut
        self._doubts = Doubts()

    def run(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, tuple[Mask, ...]], None, None]:
        """Each frame with its masks by object id, in order; a few frames behind the one being read.

        Ends early when nothing is followed any more and nothing is to come.
        """
        last = self._prompts.points[-1].source_index if self._prompts.points else -1
        try:
            for frame in frames:
                if frame.source_index > last and not self._followed:
                    break
                yield from self._take(frame)
            yield from self._released(0)
        finally:
            if self._forward is not None:
                self._forward.close()

    def _take(self, frame: Frame) -> Iterator[tuple[Frame, tuple[Mask, ...]]]:
        if self._forward is None:
            self._forward = self._start(frame)
        prepared = self._forward.prepare(frame)
        points = self._prompts.in_frame(frame.source_index)
        looked = frame.source_index in self._prompts.looked_set
        if looked and self._follow == "sightings":
            self._forget(self._followed - {point.object_id for point in points})
        before = self._followed.copy()
        masks = self._forward.step(prepared, points)
        self._followed |= {point.object_id for point in points}
        passed = _Passed(frame=frame, prepared=prepared)
        passed.found = self._checked(frame, masks, points, self._doubts, forget=True)
        if points:
            self._go_back(passed, points, before)
        self._ever |= {point.object_id for point in points}
        if looked and (self._follow == "sightings" or points):
            yield from self._released(0)
            self._forgotten_frames = False
        self._passed.append(passed)
        yield from self._released(LONGEST_WAY_BACK)

    def _start(self, frame: Frame) -> Walk:
        return self._segmenter.start(width_px=frame.width_px, height_px=frame.height_px)

    def _forget(self, object_ids: Iterable[int]) -> None:
        assert self._forward is not None
        for object_id in sorted(object_ids):
            self._forward.forget(object_id)
            self._followed.discard(object_id)
            self._doubts.forget(object_id)

    def _go_back(self, seen: _Passed, points: tuple[PointPrompt, ...], followed: set[int]) -> None:
        """Follow objects of this sighting back through the frames since the last look."""
        gap = [passed for passed in self._passed if self._between_looks(passed)]
        new = [p for p in points if p.object_id not in followed and self._may_go_back(p.object_id)]
        known = [p for p in points if p.object_id in followed] if self._segmenter.from_both_ends else []
        if not gap or not (new or known):
            return
        if new and self._forgotten_frames:
            ids = ", ".join(str(p.object_id) for p in new)
            self._note(
                f"object {ids}: followed back from {_when(seen.frame)} for {amount(len(gap), 'frame')} only"
            )
        walk = self._start(seen.frame)
        doubts = Doubts()
        try:
            wanted = tuple(sorted((*new, *known), key=lambda p: p.object_id))
            self._checked(seen.frame, walk.step(seen.prepared, wanted), wanted, doubts, walk=walk)
            left_ids = {p.object_id for p in wanted}
            known_ids = {p.object_id for p in known}
            middle = len(gap) // 2
            for place in range(len(gap) - 1, -1, -1):
                if place < middle and not left_ids - known_ids:
                    break
                passed = gap[place]
                found = self._checked(passed.frame, walk.step(passed.prepared), (), doubts, walk=walk)
                for object_id, mask in found.items():
                    ahead = passed.found.get(object_id)
                    # What came forward and was lost on the way is good as far as nothing speaks against it.
                    if ahead is None or ahead.flags or place >= middle:
                        passed.found[object_id] = mask
        finally:
            walk.close()

    def _may_go_back(self, object_id: int) -> bool:
        """In a clip followed whole, an object goes back from its first sighting only."""
        return self._follow == "sightings" or object_id not in self._ever

    def _between_looks(self, passed: _Passed) -> bool:
        return self._follow == "clip" or passed.frame.source_index not in self._prompts.looked_set

    def _checked(
        self,
        frame: Frame,
        masks: Mapping[int, BoolArray],
        points: tuple[PointPrompt, ...],
        doubts: Doubts,
        *,
        forget: bool = False,
        walk: Walk | None = None,
    ) -> dict[int, _Found]:
        """What was found, with what speaks against it; an object that was lost is followed no longer."""
        at = {point.object_id: point for point in points}
        found: dict[int, _Found] = {}
        for object_id, mask in sorted(masks.items()):
            point = at.get(object_id)
            flags = doubts.about(object_id, mask, point, area_px=int(np.count_nonzero(mask)))
            if point is None and not mask.any():
                continue
            found[object_id] = _Found(rle=Rle.encode(mask), observed=point is not None, flags=flags)
            if not flags:
                continue
            if forget:
                self._note(f"object {object_id}: lost at {_when(frame)} ({_WORDS[flags[0]]})")
                self._forget([object_id])
            elif walk is not None:
                walk.forget(object_id)
                doubts.forget(object_id)
        return found

    def _released(self, keep: int) -> Iterator[tuple[Frame, tuple[Mask, ...]]]:
        while len(self._passed) > keep:
            passed = self._passed.pop(0)
            self._forgotten_frames = True
            yield passed.frame, tuple(_mask(passed.frame, i, f) for i, f in sorted(passed.found.items()))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


_WORDS: dict[MaskFlag, str] = {
    "area_jump": "its area jumped between two frames",
    "point_outside": "its mask does not hold the model's point",
    "covers_frame": "its mask covers most of the picture",
}


def _mask(frame: Frame, object_id: int, found: _Found) -> Mask:
    counts = found.rle.counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=object_id,
        source_index=frame.source_index,
        time_s=frame.time_s,
        size_px=(frame.width_px, frame.height_px),
        counts=counts.decode("ascii"),
        state="observed" if found.observed else "propagated",
        flags=found.flags,
    )


def _when(frame: Frame) -> str:
    return f"image {frame.source_index + 1}" if frame.time_s is None else f"{frame.time_s:.2f} s"
