"""How one answer about a held-out clip of the toy street is marked; `toy_suite` and `toy_tasks` say by what.

Two things never share a pixel, so whose a place is needs no matching by distance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from molmo2_ground.eval.example import Result, Truth
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
from molmo2_ground.results import Count, Tracks
from molmo2_ground.train.toy.questions import Question
from molmo2_ground.train.toy.scene import Scene
from molmo2_ground.train.toy_held_out import HeldOut, under

_TRACK_SCORES = ("track_precision", "track_recall", "track_f1", "hota", "deta", "assa")
_SHARES = ("precision", "recall", "f1")


def says_none(result: Result) -> bool:
    """The answer is that there is nothing."""
    return int(result) == 0 if isinstance(result, Count) else len(result) == 0


def count_marks(right: int, result: Result | None) -> dict[str, float]:
    """`count` and `count_close`; both 0 for an answer without a number."""
    number = int(result) if isinstance(result, Count) else None
    return {"count": count_accuracy(number, right), "count_close": close_accuracy(number, right)}


def track_marks(
    held_out: HeldOut, question: Question, truth: Truth, result: Result | None
) -> dict[str, float]:
    """Tracks against the visible pixels of the truth's frames, with `identity` where it can be said."""
    if not isinstance(result, Tracks):
        return dict.fromkeys(_TRACK_SCORES, 0.0)
    placed = [p for p in placed_of(result) if not _is_doubtful(held_out, question, p)]
    matched_frames = track_scores(truth, placed)
    frames = track_frames(truth, placed)
    parts = hota(frames).scores()
    scores = {f"track_{name}": value for name, value in matched_frames.scores().items()}
    scores |= {name: parts[name] for name in ("hota", "deta", "assa")}
    return scores | _identity(frames)


def point_marks(held_out: HeldOut, question: Question, result: Result | None) -> dict[str, float]:
    """Each object asked for is found once, in any frame and by any of its pixels that show there."""
    if result is None:
        return {f"point_{name}": 0.0 for name in _SHARES}
    placed = placed_of(result)
    maps = {index: held_out.id_map(index) for index in {p.source_index for p in placed}}
    hit = {under(maps[p.source_index], p) for p in placed} & set(question.object_ids)
    found = matched(len(hit), len(placed), len(question.object_ids))
    return {f"point_{name}": value for name, value in found.scores().items()}


def first_last_marks(held_out: HeldOut, question: Question, result: Result | None) -> dict[str, float]:
    """The places where each object is first and last seen, one or two an object, against those given.

    A place is right on the object's visible pixels at one of its ends. An end is the first or last frame, of
    those that the model was shown, in which the object counts as visible; or the shown frame nearest to its
    first or last visible half second, for users' questions are shown the very end of a clip too, and
    training is not.
    """
    if not isinstance(result, Tracks):
        return {f"first_last_{name}": 0.0 for name in _SHARES}
    placed = placed_of(result)
    shown = sorted(set(result.receipt.frame_source_indices))
    maps = {index: held_out.id_map(index) for index in {*shown, *(p.source_index for p in placed)}}
    on = {(under(maps[p.source_index], p), p.source_index) for p in placed}
    wanted = hits = 0
    for object_id in question.object_ids:
        ends = _ends(held_out, shown, object_id)
        wanted += len(ends)
        hits += _hit(ends, {index for whose, index in on if whose == object_id})
    found = matched(hits, len(placed), wanted)
    return {f"first_last_{name}": value for name, value in found.scores().items()}


def _ends(held_out: HeldOut, shown: Sequence[int], object_id: int) -> list[set[int]]:
    """The frames that are right for each end, by number: two ends, one or none as it is seen in the shown."""
    seen = [index for index in shown if held_out.is_visible(object_id, index)]
    halves = [
        held_out.source_index(number)
        for number, states in enumerate(held_out.states)
        if states[object_id - 1].visible
    ]
    if not seen:
        return []
    ends = [{own, _nearest(half, shown)} for own, half in ((seen[0], halves[0]), (seen[-1], halves[-1]))]
    return ends if len(seen) > 1 else [ends[0] | ends[1]]


def _nearest(source_index: int, shown: Iterable[int]) -> int:
    return min(shown, key=lambda index: abs(index - source_index))


def _hit(ends: Sequence[set[int]], at: set[int]) -> int:
    """How many ends are met, each by a frame of its own."""
    met = [end & at for end in ends if end & at]
    return min(len(met), len(set().union(*met)))


def is_one_of_several(question: Question, scene: Scene) -> bool:
    """One thing is asked for by colour and kind, and there are more of its kind."""
    if len(question.object_ids) != 1 or question.group != "both":
        return False
    kind = scene.actors[question.object_ids[0] - 1].kind
    return sum(actor.kind == kind for actor in scene.actors) > 1


def means_it(held_out: HeldOut, question: Question, result: Result) -> bool:
    """More of the answer's places lie on what is asked for than on any other thing."""
    placed = placed_of(result)
    maps = {index: held_out.id_map(index) for index in {p.source_index for p in placed}}
    hits = Counter(under(maps[p.source_index], p) for p in placed)
    hits.pop(0, None)
    return bool(hits) and hits.most_common(1)[0][0] in question.object_ids


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


def _is_doubtful(held_out: HeldOut, question: Question, place: Placed) -> bool:
    """On something asked for that shows too little to be asked for."""
    object_id = under(held_out.id_map(place.source_index), place)
    return object_id in question.object_ids and not held_out.is_visible(object_id, place.source_index)
