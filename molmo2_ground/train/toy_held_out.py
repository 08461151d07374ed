"""`HeldOut`: one clip of the toy street that was never trained on, what is asked about it, and what is right.

A clip is a function of its seed and length alone; what it shows is known every half second, and in any other
frame of its file when somebody asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from molmo2_ground.eval.example import Example, Truth, TruthFrame, TruthObject
from molmo2_ground.eval.metrics import Placed
from molmo2_ground.query import Query
from molmo2_ground.rle import Rle
from molmo2_ground.train.toy.actors import ActorState
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.questions import Group, Question
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.stamp import Bytes
from molmo2_ground.train.toy.street import make_scene

EXAM_FPS = 4.0
"""Frames a second of a clip that questions are asked about. Every half second is a frame of its own, with one
more in between, so that the clip's very end, which pointing and counting are shown too, is a picture that no
half second shows; a denser film costs more to write and to read, and the model is shown nothing of it."""

GRID_S = 0.5

Ask = Literal["track", "point", "count", "first_last", "follow"]

# How the objects are named, in words for readers of a report.
_ASKED_BY: Mapping[Group, str] = {
    "kind": "by kind",
    "colour": "by colour",
    "both": "by colour and kind",
    "motion": "by motion",
    "size": "by size",
    "position": "by position",
    "all": "everything",
    "none": "not there",
}
# What a report calls the task; others by their own name.
_TASKS: Mapping[Ask, str] = {"first_last": "first and last seen", "follow": "track from a point"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question of a clip, as a user puts it.

    name      tells it from the clip's others, within its key.
    ask       what is wanted: beside the tasks of a question, where things are first and last seen, and the
              rest of the way of what is clicked.
    after_s   only what comes later than this is judged, seconds; None judges the whole clip.
    compared  asked for by motion, size or position, and scored by that alone.
    """

    name: str
    ask: Ask
    question: Question
    query: Query
    after_s: float | None = None
    compared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """One clip: its scene, what each half second shows, and the questions about it.

    fps  frames a second of its file; every half second is a frame of its own. Frame i shows time i / fps.
         `ValueError` for a rate of which half a second is no whole number of frames.
    """

    scene: Scene
    id_maps: tuple[Bytes, ...]
    states: tuple[tuple[ActorState, ...], ...]
    asked: tuple[Asked, ...] = ()
    fps: float = EXAM_FPS

    def __post_init__(self) -> None:
        if not (self.fps > 0 and (GRID_S * self.fps).is_integer()):
            raise ValueError(
                f"every half second is a frame of a held-out clip; got {self.fps:g} frames a second, "
                f"which are {GRID_S * self.fps:g} in half a second: take an even number"
            )

    @property
    def visible_ids(self) -> list[int]:
        """Actors that count as visible in some half second."""
        return sorted({s.object_id for frame in self.states for s in frame if s.visible})

    def with_questions(self, asked: Sequence[Asked]) -> HeldOut:
        """The same clip with these questions about it."""
        return dataclasses.replace(self, asked=tuple(asked))

    def filmed_at(self, fps: float) -> HeldOut:
        """The same clip with a file of another rate, frames a second."""
        return dataclasses.replace(self, fps=fps)

    def time_s(self, source_index: int) -> float:
        """When a frame of the clip's file is shown, seconds."""
        return source_index / self.fps

    def source_index(self, half_second: int) -> int:
        """Which frame of the clip's file shows half second number `half_second`."""
        return round(half_second * GRID_S * self.fps)

    def id_map(self, source_index: int) -> Bytes:
        """Whose pixel each one of a frame of the clip's file is."""
        number = self._half_second(source_index)
        return self.scene.id_map(self.time_s(source_index)) if number is None else self.id_maps[number]

    def is_visible(self, object_id: int, source_index: int) -> bool:
        """Whether an actor counts as visible in a frame of the clip's file."""
        number = self._half_second(source_index)
        if number is None:
            states = self.scene.truth(self.time_s(source_index), self.id_map(source_index))
        else:
            states = self.states[number]
        return states[object_id - 1].visible

    def _half_second(self, source_index: int) -> int | None:
        """The number of the half second that a frame shows; None for frames in between."""
        number, between = divmod(source_index, self.source_index(1))
        return number if between == 0 and 0 <= number < len(self.states) else None


def clip_of(seed: int, *, duration_s: float) -> HeldOut:
    """The clip of a seed, `EXAM_FPS` frames a second, without questions."""
    scene = make_scene(seed, duration_s=duration_s)
    times = np.arange(0.0, scene.duration_s - 1e-6, GRID_S)
    id_maps = tuple(scene.id_map(float(t)) for t in times)
    states = tuple(scene.truth(float(t), ids) for t, ids in zip(times, id_maps, strict=True))
    return HeldOut(scene=scene, id_maps=id_maps, states=states)


def plainly(question: Question, *, compared: bool = False) -> Asked:
    """A question in the words of its task, named after it."""
    query = Query(task=question.task, phrase=question.phrase)
    return Asked(name=question.task, ask=question.task, question=question, query=query, compared=compared)


def example_of(held_out: HeldOut, asked: Asked, *, key: str, media: str) -> Example:
    """The question with its truth, every half second or of those half seconds that are judged."""
    wanted = sorted(set(asked.question.object_ids))
    times = (GRID_S * i for i in range(len(held_out.states)))
    objects = tuple(_truth_object(held_out, object_id, asked) for object_id in wanted)
    truth = Truth(
        size_px=(FRAME_WIDTH_PX, FRAME_HEIGHT_PX),
        duration_s=held_out.scene.duration_s,
        fps=held_out.fps,
        count=len(wanted),
        objects=tuple(item for item in objects if item.frames or asked.after_s is None),
        frame_times_s=tuple(t for t in times if _is_judged(asked, t)),
    )
    return Example(key=key, media=media, query=asked.query, truth=truth, tags=_tags(held_out, asked))


def truth_with(held_out: HeldOut, asked: Asked, truth: Truth, source_indices: Sequence[int]) -> Truth:
    """The truth with all that shows in these frames of the file too, however little.

    Of where things are first and last seen, the ends themselves are moved to a frame of these that is less
    than a half second away: the model need not have seen the half seconds.
    """
    maps = {i: held_out.id_map(i) for i in source_indices if _is_judged(asked, held_out.time_s(i))}
    add = _with_ends_at if asked.ask == "first_last" else _with_frames
    return dataclasses.replace(
        truth,
        objects=tuple(add(held_out, item, maps) for item in truth.objects),
        frame_times_s=tuple(sorted({*truth.frame_times_s, *(held_out.time_s(i) for i in maps)})),
    )


def under(ids: Bytes, place: Placed) -> int:
    """Whose pixel a place lies on, 0 for nobody's."""
    return int(ids[min(int(place.y_px), FRAME_HEIGHT_PX - 1), min(int(place.x_px), FRAME_WIDTH_PX - 1)])


def _is_judged(asked: Asked, time_s: float) -> bool:
    return asked.after_s is None or time_s > asked.after_s + 1e-6


def _truth_object(held_out: HeldOut, object_id: int, asked: Asked) -> TruthObject:
    """Where an actor counts as visible: every half second, or the first and the last of them."""
    frames = tuple(
        TruthFrame(
            time_s=state.time_s,
            source_index=held_out.source_index(number),
            xy_px=(state.x_px, state.y_px),
            mask=Rle.encode(ids == object_id),
        )
        for number, (frame, ids) in enumerate(zip(held_out.states, held_out.id_maps, strict=True))
        for state in frame
        if state.object_id == object_id and state.visible and _is_judged(asked, number * GRID_S)
    )
    if asked.ask == "first_last" and len(frames) > 2:
        frames = (frames[0], frames[-1])
    return TruthObject(object_id=object_id, frames=frames)


def _with_frames(held_out: HeldOut, item: TruthObject, maps: Mapping[int, Bytes]) -> TruthObject:
    """The object in more frames, by frame number, where any of it shows."""
    known = {frame.source_index for frame in item.frames}
    more = (
        _shown_frame(held_out, item, i, ids)
        for i, ids in maps.items()
        if i not in known and (ids == item.object_id).any()
    )
    return dataclasses.replace(item, frames=(*item.frames, *more))


def _with_ends_at(held_out: HeldOut, item: TruthObject, maps: Mapping[int, Bytes]) -> TruthObject:
    """The object at its ends, each in the nearest of these frames, if one is less than a half second away."""
    frames = []
    for end in item.frames:
        near = [
            i
            for i, ids in maps.items()
            if abs(i - end.source_index) < held_out.source_index(1) and (ids == item.object_id).any()
        ]
        nearest = min(near, key=lambda i: abs(i - end.source_index), default=end.source_index)
        known = nearest == end.source_index
        frames.append(end if known else _shown_frame(held_out, item, nearest, maps[nearest]))
    return dataclasses.replace(item, frames=tuple(frames))


def _shown_frame(held_out: HeldOut, item: TruthObject, source_index: int, ids: Bytes) -> TruthFrame:
    return TruthFrame(
        time_s=held_out.time_s(source_index),
        source_index=source_index,
        mask=Rle.encode(ids == item.object_id),
    )


def _tags(held_out: HeldOut, asked: Asked) -> dict[str, str | float]:
    """What results are grouped by; the shares only where something is asked for that is there."""
    question = asked.question
    tags: dict[str, str | float] = {
        "task": _TASKS.get(asked.ask, asked.ask),
        "category": "what is clicked" if asked.ask == "follow" else _ASKED_BY[question.group],
        "objects": float(len(question.object_ids)),
        "clip_s": held_out.scene.duration_s,
    }
    shares, hidden = [], []
    for object_id in question.object_ids:
        mine = [state for frame in held_out.states for state in frame if state.object_id == object_id]
        seen = [number for number, state in enumerate(mine) if state.visible]
        shares += [_share(held_out.id_maps[i] == object_id) for i in seen]
        hidden += [1.0 - min(1.0, state.visible_share) for state in mine[seen[0] : seen[-1] + 1]]
    if shares:
        tags["size_share"] = sum(shares) / len(shares)
        tags["occluded_share"] = sum(hidden) / len(hidden)
    return tags


def _share(mask: npt.NDArray[np.bool_]) -> float:
    """The part of the pixels that a mask covers; counting is many times as fast as a mean of truth values."""
    return float(np.count_nonzero(mask)) / mask.size
