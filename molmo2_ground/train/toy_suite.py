"""`ToySuite`: the toy street as an evaluation suite, asked about held-out clips as a user would ask.

Every clip is a real H.264 file, written when it is needed, and gives two examples: one to track, and one to
point at or to count. A clip, its questions and its truth are a function of the seed alone, the same on every
machine; all seeds lie below the training seeds.

What is scored (shares, means over the examples that have the score):

track_f1, hota, …  tracks against the visible pixels, every half second; questions with an answer.
point_f1, …        points against the pixels visible in the very frame that the model pointed into, each
                   object asked for once in the whole clip; questions with an answer.
count, count_close the number, also when it is 0.
count_f1           the places that were counted, as point_f1.
none               nothing is there and the answer says so.
not_none           something is there and the answer does not say that nothing is.
colour             one of several of a kind is asked for by its colour: most of the answer lies on that one.
identity           of two right samples of one object that follow each other, the share with the same id;
                   answers with two such samples.
readable           the answer could be read.

A place on something asked for that hardly shows (less than `VISIBLE_SHARE`) is neither right nor wrong in a
track.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from molmo2_ground.eval.example import (
    Example,
    Problem,
    Result,
    Settings,
    Truth,
    TruthFrame,
    TruthObject,
    mean_summary,
)
from molmo2_ground.eval.metrics import (
    Placed,
    close_accuracy,
    count_accuracy,
    hota,
    identity_switches,
    placed_of,
    track_frames,
    track_scores,
)
from molmo2_ground.eval.metrics.hota import FrameSimilarity
from molmo2_ground.eval.metrics.matched import matched
from molmo2_ground.eval.pace import OnProgress
from molmo2_ground.masks import Rle
from molmo2_ground.query import Query
from molmo2_ground.results import Count, Tracks
from molmo2_ground.train.toy.actors import ActorState
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.questions import Group, Question, ToyTask, make_questions
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy.stamp import Bytes
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED

# Every half second is a frame of its own at this rate, and writing costs a third of 30 frames a second.
CLIP_FPS = 10.0
_GRID_S = 0.5
# Clips last 4 to 8 seconds: 8 to 16 places a track.
_HALF_SECONDS = (8, 17)

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

_TRACK_SCORES = ("track_precision", "track_recall", "track_f1", "hota", "deta", "assa")
_POINT_SCORES = ("point_precision", "point_recall", "point_f1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _HeldOut:
    """One clip: its scene, what each half second shows, and the two questions about it."""

    scene: Scene
    id_maps: tuple[Bytes, ...]
    states: tuple[tuple[ActorState, ...], ...]
    questions: tuple[Question, ...]


class ToySuite:
    """Held-out clips of the toy street; see the module's text for what is scored.

    clips: how many, two examples each. first_seed: the seed of the first one.
    Raises ValueError when a seed would be one that training draws from.
    """

    name = "toy"
    settings = Settings(max_new_tokens=1024, note="held-out clips of the toy street, asked as in training")
    headline: tuple[str, ...] = ("track_f1", "hota", "point_f1", "count", "none")

    def __init__(self, clips: int = 500, *, first_seed: int = 0) -> None:
        if clips < 1:
            raise ValueError(f"a suite has at least one clip; got {clips}")
        if first_seed < 0 or first_seed + clips > FIRST_TRAINING_SEED:
            raise ValueError(
                f"held-out seeds lie from 0 below {FIRST_TRAINING_SEED}, where training starts; "
                f"got {first_seed} to {first_seed + clips - 1}"
            )
        self.clips = clips
        self.first_seed = first_seed

    def check(self, *, on_progress: OnProgress | None = None) -> tuple[Problem, ...]:
        """Nothing can be wrong with clips that are made on the spot."""
        return ()

    def examples(self) -> Sequence[Example]:
        """Two a clip, made when they are looked at."""
        return _Examples(clips=self.clips, first_seed=self.first_seed)

    def prepare(self, example: Example, folder: Path) -> Path:
        """Write the example's clip into `folder`, unless it is there; both examples of a clip share it."""
        path = folder / example.media
        if not path.exists():
            write_clip(_held_out(_seed(example.key)).scene, path, fps=CLIP_FPS)
        return path

    def score(self, example: Example, result: Result | None) -> dict[str, float]:
        """Scores of one answer; an unreadable one gets 0 for all that its question is scored by."""
        held_out, question = _asked(example.key)
        scores = {"readable": float(result is not None)}
        if question.task == "count":
            number = int(result) if isinstance(result, Count) else None
            scores |= _count_scores(len(question.object_ids), number)
        if not question.object_ids:
            return scores | {"none": float(result is not None and _says_none(result))}
        scores["not_none"] = float(result is not None and not _says_none(result))
        if _is_one_of_several(question, held_out.scene):
            scores["colour"] = float(result is not None and _means_it(held_out, question, result))
        if question.task == "track":
            tracks = result if isinstance(result, Tracks) else None
            return scores | _track_scores(held_out, question, example.truth, tracks)
        found = _point_scores(held_out, question, result)
        return scores | (found if question.task == "point" else {"count_f1": found["point_f1"]})

    def truth_at(self, example: Example, source_indices: Sequence[int]) -> Truth:
        """The example's truth with all that shows in these frames of the clip, however little.

        For a look at an answer: a place on what hardly shows is not a wrong one.
        """
        held_out, _ = _asked(example.key)
        maps = {index: _id_map(held_out.scene, index) for index in source_indices}
        return dataclasses.replace(
            example.truth,
            objects=tuple(_with_frames(item, maps) for item in example.truth.objects),
            frame_times_s=tuple(sorted({*example.truth.frame_times_s, *(i / CLIP_FPS for i in maps)})),
        )

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Mean of each score over the examples that have it."""
        return mean_summary(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examples(Sequence[Example]):
    """The examples of some clips; nothing is kept, each is made again when it is asked for."""

    clips: int
    first_seed: int

    def __len__(self) -> int:
        return 2 * self.clips

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} examples; got number {index}")
        clip, number = divmod(place, 2)
        return _example(self.first_seed + clip, number)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))


def _key(seed: int, task: ToyTask) -> str:
    return f"street-{seed:06d}-{task}"


def _seed(key: str) -> int:
    return int(key.split("-")[1])


def _asked(key: str) -> tuple[_HeldOut, Question]:
    held_out = _held_out(_seed(key))
    return held_out, next(q for q in held_out.questions if q.task == key.rsplit("-", 1)[1])


# Both examples of a clip come one after the other, and each is looked at several times: made, asked, scored.
@functools.lru_cache(maxsize=4)
def _held_out(seed: int) -> _HeldOut:
    rng = np.random.default_rng([seed, 77])
    scene = make_scene(seed, duration_s=float(rng.integers(*_HALF_SECONDS)) * _GRID_S)
    times = np.arange(0.0, scene.duration_s - 1e-6, _GRID_S)
    id_maps = tuple(scene.render(float(t))[1] for t in times)
    states = tuple(scene.truth(float(t), ids) for t, ids in zip(times, id_maps, strict=True))
    visible = sorted({s.object_id for frame in states for s in frame if s.visible})
    second: ToyTask = "point" if seed % 2 == 0 else "count"
    questions = []
    for task in ("track", second):
        # More than one is drawn because a scene may have nothing of the sort that a draw wants.
        found = make_questions(scene, rng, visible, 4, tasks=(task,), states=states)
        assert found, f"no question to {task} about scene {seed}"
        questions.append(found[0])
    return _HeldOut(scene=scene, id_maps=id_maps, states=states, questions=tuple(questions))


def _example(seed: int, number: int) -> Example:
    held_out = _held_out(seed)
    question = held_out.questions[number]
    wanted = set(question.object_ids)
    truth = Truth(
        size_px=(FRAME_WIDTH_PX, FRAME_HEIGHT_PX),
        duration_s=held_out.scene.duration_s,
        fps=CLIP_FPS,
        count=len(wanted),
        objects=tuple(_truth_object(held_out, object_id) for object_id in sorted(wanted)),
        frame_times_s=tuple(_GRID_S * i for i in range(len(held_out.states))),
    )
    return Example(
        key=_key(seed, question.task),
        media=f"street-{seed:06d}.mp4",
        query=Query(task=question.task, phrase=question.phrase),
        truth=truth,
        tags=_tags(held_out, question),
    )


def _truth_object(held_out: _HeldOut, object_id: int) -> TruthObject:
    """Where an actor counts as visible, every half second."""
    return TruthObject(
        object_id=object_id,
        frames=tuple(
            _truth_frame(state, ids, source_index=round(number * _GRID_S * CLIP_FPS))
            for number, (frame, ids) in enumerate(zip(held_out.states, held_out.id_maps, strict=True))
            for state in frame
            if state.object_id == object_id and state.visible
        ),
    )


def _with_frames(item: TruthObject, maps: Mapping[int, Bytes]) -> TruthObject:
    """The object in more frames, by frame number, where any of it shows."""
    known = {frame.source_index for frame in item.frames}
    more = (
        TruthFrame(time_s=i / CLIP_FPS, source_index=i, mask=Rle.encode(ids == item.object_id))
        for i, ids in maps.items()
        if i not in known and (ids == item.object_id).any()
    )
    return dataclasses.replace(item, frames=(*item.frames, *more))


def _truth_frame(state: ActorState, ids: Bytes, *, source_index: int) -> TruthFrame:
    return TruthFrame(
        time_s=source_index / CLIP_FPS,
        source_index=source_index,
        xy_px=(state.x_px, state.y_px),
        mask=Rle.encode(ids == state.object_id),
    )


def _tags(held_out: _HeldOut, question: Question) -> dict[str, str | float]:
    """What results are grouped by; the shares only where something is asked for that is there."""
    tags: dict[str, str | float] = {
        "task": question.task,
        "category": _ASKED_BY[question.group],
        "objects": float(len(question.object_ids)),
        "clip_s": held_out.scene.duration_s,
    }
    shares, hidden = [], []
    for object_id in question.object_ids:
        mine = [state for frame in held_out.states for state in frame if state.object_id == object_id]
        seen = [number for number, state in enumerate(mine) if state.visible]
        shares += [float((held_out.id_maps[i] == object_id).mean()) for i in seen]
        hidden += [1.0 - min(1.0, state.visible_share) for state in mine[seen[0] : seen[-1] + 1]]
    if shares:
        tags["size_share"] = sum(shares) / len(shares)
        tags["occluded_share"] = sum(hidden) / len(hidden)
    return tags


def _says_none(result: Result) -> bool:
    return int(result) == 0 if isinstance(result, Count) else len(result) == 0


def _count_scores(right: int, number: int | None) -> dict[str, float]:
    return {"count": count_accuracy(number, right), "count_close": close_accuracy(number, right)}


def _track_scores(
    held_out: _HeldOut, question: Question, truth: Truth, tracks: Tracks | None
) -> dict[str, float]:
    if tracks is None:
        return dict.fromkeys(_TRACK_SCORES, 0.0)
    placed = [p for p in placed_of(tracks) if not _is_doubtful(held_out, question, p)]
    matched_frames = track_scores(truth, placed)
    parts = hota(track_frames(truth, placed))
    scores = {f"track_{name}": value for name, value in matched_frames.scores().items()}
    scores |= {name: parts.scores()[name] for name in ("hota", "deta", "assa")}
    return scores | _identity(track_frames(truth, placed))


def _identity(frames: Sequence[FrameSimilarity]) -> dict[str, float]:
    """How often an object keeps its id from one right sample to its next; nothing without such a pair."""
    met = Counter(
        truth_id
        for frame in frames
        for truth_id, row in zip(frame.truth_ids, frame.similarity, strict=True)
        if row.any()
    )
    pairs = sum(met.values()) - len(met)
    return {"identity": 1 - identity_switches(frames) / pairs} if pairs else {}


def _is_one_of_several(question: Question, scene: Scene) -> bool:
    """One thing is asked for by colour and kind, and there are more of its kind."""
    if len(question.object_ids) != 1 or question.group != "both":
        return False
    kind = scene.actors[question.object_ids[0] - 1].kind
    return sum(actor.kind == kind for actor in scene.actors) > 1


def _means_it(held_out: _HeldOut, question: Question, result: Result) -> bool:
    """More of the answer's places lie on what is asked for than on any other thing."""
    placed = placed_of(result)
    maps = {index: _id_map(held_out.scene, index) for index in {p.source_index for p in placed}}
    hits = Counter(_under(maps[p.source_index], p) for p in placed)
    hits.pop(0, None)
    return bool(hits) and hits.most_common(1)[0][0] in question.object_ids


def _is_doubtful(held_out: _HeldOut, question: Question, place: Placed) -> bool:
    """On something asked for that shows too little to be asked for."""
    ids = _id_map(held_out.scene, place.source_index)
    under = _under(ids, place)
    if under not in question.object_ids:
        return False
    states = held_out.scene.truth(place.source_index / CLIP_FPS, ids)
    return not states[under - 1].visible


def _point_scores(held_out: _HeldOut, question: Question, points: Result | None) -> dict[str, float]:
    """Each object asked for is found once, in any frame and by any of its pixels that show there.

    Two things never share a pixel, so whose a place is needs no matching by distance.
    """
    if points is None:
        return dict.fromkeys(_POINT_SCORES, 0.0)
    placed = placed_of(points)
    maps = {index: _id_map(held_out.scene, index) for index in {p.source_index for p in placed}}
    hit = {_under(maps[p.source_index], p) for p in placed} & set(question.object_ids)
    found = matched(len(hit), len(placed), len(question.object_ids))
    return {f"point_{name}": value for name, value in found.scores().items()}


def _under(ids: Bytes, place: Placed) -> int:
    """Whose pixel a place lies on, 0 for nobody's."""
    return int(ids[min(int(place.y_px), FRAME_HEIGHT_PX - 1), min(int(place.x_px), FRAME_WIDTH_PX - 1)])


def _id_map(scene: Scene, source_index: int) -> Bytes:
    """Whose pixel each one of a frame of the clip's file is."""
    return scene.render(source_index / CLIP_FPS)[1]
