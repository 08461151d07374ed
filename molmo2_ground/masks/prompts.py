"""What a segmenter is told: where an object was seen, and which frames were looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from molmo2_ground.results import RESULT, Answer, Count, Point, Points, Receipt, Track, Tracks

PointedAt = Points | Tracks | Count | Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPrompt:
    """The model pointed to an object in this frame: x and y in pixels of the source picture."""

    object_id: int
    source_index: int
    x_px: float
    y_px: float


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Everything the model pointed to.

    points   in order of frame, then of object.
    labels   what each object is called, by id.
    looked   source index of every frame that the model looked at, rising.
    """

    points: tuple[PointPrompt, ...]
    labels: dict[int, str]
    looked: tuple[int, ...]
    receipt: Receipt
    looked_set: frozenset[int] = field(init=False, repr=False, compare=False)
    _by_frame: dict[int, tuple[PointPrompt, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        frames: dict[int, list[PointPrompt]] = {}
        for point in self.points:
            frames.setdefault(point.source_index, []).append(point)
        object.__setattr__(self, "looked_set", frozenset(self.looked))
        object.__setattr__(self, "_by_frame", {index: tuple(points) for index, points in frames.items()})

    @classmethod
    def of(cls, result: PointedAt) -> Prompts:
        """The prompts that points, tracks, a count or an answer hold; carried samples are left out."""
        tracks, points = _parts(result)
        receipt = result.receipt
        found = [
            PointPrompt(object_id=track.object_id, source_index=s.source_index, x_px=s.x_px, y_px=s.y_px)
            for track in tracks
            for s in track.samples
            if s.state == "observed"
        ]
        found += [
            PointPrompt(object_id=p.object_id, source_index=p.source_index, x_px=p.x_px, y_px=p.y_px)
            for p in points
            if p.state == "observed"
        ]
        labels = {track.object_id: track.label for track in tracks} | {p.object_id: p.label for p in points}
        looked = {index for r in (receipt, *receipt.windows) for index in r.frame_source_indices}
        looked |= {prompt.source_index for prompt in found}
        return cls(
            points=tuple(sorted(found, key=lambda prompt: (prompt.source_index, prompt.object_id))),
            labels=labels,
            looked=tuple(sorted(looked)),
            receipt=receipt,
        )

    def in_frame(self, source_index: int) -> tuple[PointPrompt, ...]:
        """The points of one frame, by object."""
        return self._by_frame.get(source_index, ())


def _parts(result: PointedAt) -> tuple[Iterable[Track], Iterable[Point]]:
    if isinstance(result, Tracks):
        return result.tracks, ()
    if isinstance(result, Points):
        return (), result.points
    if isinstance(result, Count):
        return (), result.points.points
    RESULT.check("result", result)
    points = result.points.points if result.points is not None else ()
    tracks = result.tracks.tracks if result.tracks is not None else ()
    return tracks, points
