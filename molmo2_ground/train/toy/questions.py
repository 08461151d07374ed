"""`Question`: what is asked about a scene, and which actors are the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from molmo2_ground.train.toy.actors import COLOURS, KINDS, Actor, ActorState, Colour, Kind
from molmo2_ground.train.toy.scene import Scene

ToyTask = Literal["track", "point", "count"]
TASKS: tuple[ToyTask, ...] = get_args(ToyTask)
Group = Literal["kind", "colour", "both", "motion", "size", "position", "all", "none"]

PLURALS: dict[Kind, str] = {
    "car": "cars",
    "bus": "buses",
    "bike": "bikes",
    "person": "people",
    "ball": "balls",
    "dog": "dogs",
}
# Only of vehicles does one say that they are parked.
_PARKING: tuple[Kind, ...] = ("car", "bus", "bike")

_NONE_SHARE = 0.15
GROUP_SHARES: Mapping[Group, float] = {
    "kind": 0.2,
    "colour": 0.17,
    "both": 0.38,
    "motion": 0.07,
    "size": 0.05,
    "position": 0.06,
    "all": 0.07,
}
# A question about motion needs a shift that shows after shrinking the frame to the model's size.
_CLEAR_SHIFT_PX = 24.0
_CLEAR_LEAD_PX = 60.0
_CLEAR_AREA_RATIO = 1.5
_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A phrase to track, point at or count, and the ids it means, none when nothing in sight is meant."""

    task: ToyTask
    phrase: str
    object_ids: tuple[int, ...]
    group: Group = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """A description in the singular and the plural ("" when it has none), and the ids it means."""

    singular: str
    plural: str
    object_ids: tuple[int, ...]
    group: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The actors that a question may be about.

    seen      visible in some frame that is shown.
    doubtful  something of them shows, but never enough to count: no question may depend on them.
    """

    seen: tuple[Actor, ...]
    doubtful: tuple[Actor, ...]
    states: tuple[tuple[ActorState, ...], ...]


def make_questions(
    scene: Scene,
    rng: np.random.Generator,
    visible_ids: Sequence[int],
    n: int,
    *,
    tasks: Sequence[ToyTask] = TASKS,
    states: Sequence[Sequence[ActorState]] | None = None,
    groups: Mapping[Group, float] = GROUP_SHARES,
) -> list[Question]:
    """Up to `n` questions about a scene, no two alike.

    groups: in what shares places are asked for by kind, by colour and so on, as far as a scene allows.

    visible_ids: actors visible in at least one of the frames that are shown.
    states: `Scene.truth` of each frame shown, in order. With them, actors of which only a little shows are
    kept out of every question, and questions about motion and place refer to just these frames; without
    them, to the whole scene, a frame every half second.
    """
    if states is None:
        states = _states_of_whole_scene(scene)
    view = _view(scene, visible_ids, states)
    meanings = _meanings(view)
    found: dict[tuple[ToyTask, str], Question] = {}
    for _ in range(n * _TRIES):
        if len(found) == n:
            break
        task = tasks[int(rng.integers(len(tasks)))]
        question = (
            _count_question(meanings, rng)
            if task == "count"
            else _place_question(task, meanings, rng, groups)
        )
        if question is not None:
            found.setdefault((question.task, question.phrase), question)
    return list(found.values())


def all_phrases() -> tuple[str, ...]:
    """Every phrase that a question can hold, sorted: what a vocabulary must cover."""
    names: list[tuple[str, str]] = [("object", "objects")]
    names += [(kind, PLURALS[kind]) for kind in KINDS]
    coloured = [(f"{c} {one}", f"{c} {many}") for c in COLOURS for one, many in names]
    moved = [(f"{word} {one}", f"{word} {many}") for one, many in names for word in ("moving", "parked")]
    phrases = {f"everything {colour}" for colour in COLOURS}
    for one, many in names + coloured + moved:
        phrases |= {f"the {one}", f"every {one}", f"the {many}", f"all {many}", many}
    for one, _ in names:
        phrases |= {f"the {size} {one}" for size in ("largest", "smallest")}
        phrases |= {f"the {one} {place}" for place in _PLACES}
    return tuple(sorted(phrases))


_PLACES: tuple[str, ...] = ("on the left", "on the right", "at the top", "at the bottom")


def _states_of_whole_scene(scene: Scene) -> list[tuple[ActorState, ...]]:
    times = np.arange(0.0, scene.duration_s + 1e-6, 0.5)
    return [scene.truth(float(time), scene.id_map(float(time))) for time in times]


def _view(scene: Scene, visible_ids: Sequence[int], states: Sequence[Sequence[ActorState]]) -> _View:
    seen = set(visible_ids)
    glimpsed = {s.object_id for frame in states for s in frame if s.visible_share > 0.0} - seen
    return _View(
        seen=tuple(a for a in scene.actors if a.object_id in seen),
        doubtful=tuple(a for a in scene.actors if a.object_id in glimpsed),
        states=tuple(tuple(frame) for frame in states),
    )


def _meanings(view: _View) -> list[_Meaning]:
    """Everything that can be asked, with and without an answer."""
    found = _named(view)
    if len(view.states) > 1:
        found += _by_motion(view)
    if not view.doubtful:
        found += _by_size(view) + _by_position(view)
    return found


def _named(view: _View) -> list[_Meaning]:
    """By kind, colour, both, and everything."""
    kinds: list[tuple[Kind | None, str, str]] = [(kind, kind, PLURALS[kind]) for kind in KINDS]
    found = []
    for kind, one, many in [*kinds, (None, "object", "objects")]:
        for colour in [*COLOURS, None]:
            if any(_fits(actor, kind, colour) for actor in view.doubtful):
                continue
            ids = tuple(a.object_id for a in view.seen if _fits(a, kind, colour))
            group: Group = "both" if kind and colour else "kind" if kind else "colour" if colour else "all"
            words = f"{colour} " if colour else ""
            found.append(
                _Meaning(
                    singular=words + one, plural=words + many, object_ids=ids, group=group if ids else "none"
                )
            )
    return found


def _fits(actor: Actor, kind: Kind | None, colour: Colour | None) -> bool:
    return kind in (None, actor.kind) and colour in (None, actor.colour)


def _by_motion(view: _View) -> list[_Meaning]:
    """Moving and parked ones of a kind, where every one of the kind is clearly one of the two."""
    moves = {actor.object_id: _moves(actor, view) for actor in view.seen}
    found = []
    kinds: list[tuple[Kind | None, str, str]] = [(kind, kind, PLURALS[kind]) for kind in KINDS]
    for kind, one, many in [*kinds, (None, "object", "objects")]:
        of_kind = [a for a in view.seen if _fits(a, kind, None)]
        unclear = any(moves[a.object_id] is None for a in of_kind)
        if not of_kind or unclear or any(_fits(a, kind, None) for a in view.doubtful):
            continue
        for word, wanted in (("moving", True), ("parked", False)):
            if not wanted and kind not in _PARKING:
                continue
            ids = tuple(a.object_id for a in of_kind if moves[a.object_id] is wanted)
            found.append(
                _Meaning(singular=f"{word} {one}", plural=f"{word} {many}", object_ids=ids, group="motion")
            )
    return found


def _moves(actor: Actor, view: _View) -> bool | None:
    """Whether an actor clearly moves or clearly does not in the frames shown; None when one cannot tell."""
    shown = [s for frame in view.states for s in frame if s.object_id == actor.object_id and s.visible]
    if len(shown) < 2:
        return None
    if not actor.moving:
        return False
    # Where it is cut by an edge the visible part shifts less than the thing itself: whole ones only.
    whole = [s for s in shown if s.visible_share > 0.9]
    if len(whole) < 2:
        return None
    spans = [max(v) - min(v) for v in ([s.x_px for s in whole], [s.y_px for s in whole])]
    return True if max(spans) >= _CLEAR_SHIFT_PX else None


def _by_size(view: _View) -> list[_Meaning]:
    """The largest and the smallest of all or of a kind, where it clearly is."""
    found = []
    kinds: list[tuple[Kind | None, str]] = [(kind, kind) for kind in KINDS]
    for kind, one in [*kinds, (None, "object")]:
        group = [a for a in view.seen if _fits(a, kind, None)]
        if len(group) < 2:
            continue
        ranked = sorted(group, key=lambda a: a.size_px[0] * a.size_px[1])
        areas = [a.size_px[0] * a.size_px[1] for a in ranked]
        if areas[-1] >= areas[-2] * _CLEAR_AREA_RATIO:
            found.append(_one(f"largest {one}", ranked[-1], "size"))
        if areas[1] >= areas[0] * _CLEAR_AREA_RATIO:
            found.append(_one(f"smallest {one}", ranked[0], "size"))
    return found


def _by_position(view: _View) -> list[_Meaning]:
    """The outermost of all or of a kind in the first frame, where it clearly is."""
    if not view.states:
        return []
    first = {s.object_id: s for s in view.states[0]}
    found = []
    kinds: list[tuple[Kind | None, str]] = [(kind, kind) for kind in KINDS]
    for kind, one in [*kinds, (None, "object")]:
        group = [a for a in view.seen if _fits(a, kind, None)]
        # All of the kind must be there from the first frame: one that comes in later could be meant too.
        if len(group) < 2 or not all(first[a.object_id].visible for a in group):
            continue
        for place, axis, sign in zip(_PLACES, ("x_px", "x_px", "y_px", "y_px"), (1, -1, 1, -1), strict=True):
            ranked = sorted(group, key=lambda a: sign * float(getattr(first[a.object_id], axis)))
            ends = [float(getattr(first[a.object_id], axis)) for a in ranked[:2]]
            if abs(ends[0] - ends[1]) >= _CLEAR_LEAD_PX:
                found.append(_one(f"{one} {place}", ranked[0], "position"))
    return found


def _one(singular: str, actor: Actor, group: Group) -> _Meaning:
    return _Meaning(singular=singular, plural="", object_ids=(actor.object_id,), group=group)


def _place_question(
    task: ToyTask, meanings: Sequence[_Meaning], rng: np.random.Generator, shares: Mapping[Group, float]
) -> Question | None:
    """A question to track or to point."""
    if rng.random() < _NONE_SHARE or not any(m.object_ids for m in meanings):
        meaning = _absent(meanings, rng)
    else:
        meaning = _present(meanings, rng, shares)
    if meaning is None:
        return None
    phrase = _worded(meaning, rng)
    return Question(task=task, phrase=phrase, object_ids=meaning.object_ids, group=meaning.group)


def _present(
    meanings: Sequence[_Meaning], rng: np.random.Generator, shares: Mapping[Group, float]
) -> _Meaning | None:
    """A description that means something, all groups that are there in their shares."""
    answered = [m for m in meanings if m.object_ids]
    groups = sorted({m.group for m in answered})
    weights = np.array([shares.get(g, 0.0) for g in groups])
    group = groups[int(rng.choice(len(groups), p=weights / weights.sum()))]
    choices = [m for m in answered if m.group == group]
    if group == "both" and rng.random() < 0.6:
        # One of several of a kind: only its colour tells which.
        kinds = {m.singular: len(m.object_ids) for m in answered if m.group == "kind"}
        twins = [m for m in choices if kinds.get(m.singular.split()[-1], 0) > len(m.object_ids)]
        choices = twins or choices
    return choices[int(rng.integers(len(choices)))]


def _absent(meanings: Sequence[_Meaning], rng: np.random.Generator) -> _Meaning | None:
    """A description that means nothing in sight, mostly one that something there almost fits."""
    empty = [m for m in meanings if not m.object_ids]
    if not empty:
        return None
    if rng.random() < 0.7:
        answered = [m for m in meanings if m.object_ids and m.group in ("kind", "colour")]
        words = {word for meaning in answered for word in meaning.singular.split()}
        words.discard("object")
        near = [m for m in empty if m.group == "motion" or _near(m, words)]
        empty = near or empty
    return empty[int(rng.integers(len(empty)))]


def _near(meaning: _Meaning, words: set[str]) -> bool:
    parts = meaning.singular.split()
    return len(parts) == 2 and "object" not in parts and any(part in words for part in parts)


def _count_question(meanings: Sequence[_Meaning], rng: np.random.Generator) -> Question | None:
    """How many: every number that a scene offers gets asked for, large ones more, for they are rare."""
    choices = [m for m in meanings if m.plural]
    numbers = sorted({len(m.object_ids) for m in choices})
    weights = np.array([0.7 if number == 0 else 0.4 + 0.3 * number for number in numbers])
    number = numbers[int(rng.choice(len(numbers), p=weights / weights.sum()))]
    meaning: _Meaning | None
    if number == 0:
        meaning = _absent(choices, rng)
    else:
        fitting = [m for m in choices if len(m.object_ids) == number]
        meaning = fitting[int(rng.integers(len(fitting)))]
    if meaning is None:
        return None
    # Always the plural: the singular would give the answer away.
    return Question(task="count", phrase=meaning.plural, object_ids=meaning.object_ids, group=meaning.group)


def _worded(meaning: _Meaning, rng: np.random.Generator) -> str:
    """Put a description in words; the plural also stands for one thing and for none."""
    plural = [f"the {meaning.plural}", f"all {meaning.plural}", f"every {meaning.singular}"]
    words = meaning.singular.split()
    if len(words) == 2 and words[1] == "object" and words[0] in COLOURS:
        plural.append(f"everything {words[0]}")
    if not meaning.plural or (len(meaning.object_ids) < 2 and rng.random() < 0.55):
        return f"the {meaning.singular}"
    return plural[int(rng.choice(len(plural), p=_shares(len(plural))))]


def _shares(count: int) -> list[float]:
    """The plain plural is half of all, the rest shares the other half."""
    return [0.5, *[0.5 / (count - 1)] * (count - 1)]
