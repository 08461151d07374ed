"""Toy scenes as training examples: a few frames, what is asked about them, and the exact answers.

Everything is a function of (seed, stage, step): any batch can be made again alone.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from molmo2_ground.answer import (
    Group,
    ParsedAnswer,
    ParsedPoint,
    count_answer,
    format_answer,
    number_answer,
    points_answer,
    tracks_answer,
)
from molmo2_ground.query import Query, build_prompt
from molmo2_ground.sources.sampling import rate_grid, uniform_last_frame
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths
from molmo2_ground.train.tiny_model import Batch, patches
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.questions import GROUP_SHARES, PLURALS, Question, make_questions
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED, Kind, View, show
from molmo2_ground.train.tree import Branch, BranchWriter, MessageTree, pack_slots
from molmo2_ground.train.visual_prefix import visual_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from molmo2_ground.clip import Clip
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.train.toy.actors import Actor, ActorState, Colour
    from molmo2_ground.train.toy.actors import Kind as ActorKind
    from molmo2_ground.train.toy.questions import ToyTask
    from molmo2_ground.train.toy.scene import Scene


Counting = Literal["by_points", "number"]


def _xy(state: ActorState) -> tuple[int, int]:
    return to_thousandths(state.x_px, FRAME_WIDTH_PX), to_thousandths(state.y_px, FRAME_HEIGHT_PX)


def answer_text(question: Question, view: View, *, counting: Counting = "by_points") -> str:
    """The exact answer in the training form.

    Tracks give every visible place; points and counts give each object once, where it is first seen.
    """
    groups = _visible_groups(view, set(question.object_ids))
    if question.task != "track":
        groups = _kept(groups, lambda number, _: number == 0)
    if question.task == "count" and counting == "number":
        return format_answer(number_answer(sum(len(group) for group in groups.values())))
    make = {"track": tracks_answer, "point": points_answer, "count": count_answer}[question.task]
    return _written(make, question.phrase, groups)


def first_last_text(question: Question, view: View) -> str:
    """The answer to where each is first and last seen: one place an object, or two."""
    groups = _visible_groups(view, set(question.object_ids))
    ends = _kept(groups, lambda number, count: number in (0, count - 1))
    return _written(tracks_answer, question.phrase, ends)


def _visible_groups(view: View, wanted: set[int]) -> dict[int | float, dict[int, ParsedPoint]]:
    """Visible places by frame and object."""
    # By the time as it is written: the forced last frame can share its tenth of a second with the one before.
    groups: dict[int | float, dict[int, ParsedPoint]] = {}
    for frame, states in zip(view.clip.frames, view.states, strict=True):
        key = 1 if frame.shown_time_s is None else round(frame.shown_time_s, 1)
        for state in states:
            if state.visible and state.object_id in wanted:
                x, y = _xy(state)
                place = ParsedPoint(object_id=state.object_id, x=x, y=y)
                groups.setdefault(key, {}).setdefault(state.object_id, place)
    return groups


def _kept(
    groups: dict[int | float, dict[int, ParsedPoint]], wanted: Callable[[int, int], bool]
) -> dict[int | float, dict[int, ParsedPoint]]:
    """Those places whose number among their object's places, and how many it has, are wanted."""
    totals = Counter(object_id for group in groups.values() for object_id in group)
    met: Counter[int] = Counter()
    kept: dict[int | float, dict[int, ParsedPoint]] = {}
    for key, group in groups.items():
        for object_id, place in group.items():
            if wanted(met[object_id], totals[object_id]):
                kept.setdefault(key, {})[object_id] = place
            met[object_id] += 1
    return kept


def _written(
    make: Callable[[str, list[Group]], ParsedAnswer],
    phrase: str,
    groups: dict[int | float, dict[int, ParsedPoint]],
) -> str:
    return format_answer(make(phrase, [Group(key=k, points=tuple(g.values())) for k, g in groups.items()]))


def _branch(
    question: Question, view: View, *, weight: float = 1.0, counting: Counting = "by_points"
) -> Branch:
    query = Query(task=question.task, phrase=question.phrase)
    text = build_prompt(query, view.clip).text
    return Branch(user_text=text, answer=answer_text(question, view, counting=counting), weight=weight)


def first_last_prompt(phrase: str) -> str:
    """Ask where each is first and last seen; the released models know the task by its style's name."""
    return f"video_point_ground_start_end: Point to {phrase} where each is first and last seen."


def _first_last_branches(view: View, rng: np.random.Generator, count: int) -> list[Branch]:
    questions = make_questions(view.scene, rng, view.visible_ids, count, tasks=("track",), states=view.states)
    return [Branch(user_text=first_last_prompt(q.phrase), answer=first_last_text(q, view)) for q in questions]


def _follow_branches(view: View, rng: np.random.Generator, count: int) -> list[Branch]:
    """`Track <points …> in 2 FPS.`: the rest of one thing's way, from a place on it at some moment."""
    seen = [
        (number, state) for number, states in enumerate(view.states[:-1]) for state in states if state.visible
    ]
    branches = []
    for index in rng.permutation(len(seen))[:count]:
        number, state = seen[index]
        actor = view.scene.actors[state.object_id - 1]
        phrase = follow_phrase(actor, rng)
        time_s = view.clip.frames[number].shown_time_s
        assert time_s is not None
        at = (time_s, *(float(v) for v in click_on(view.id_maps[number], state, rng)))
        text = build_prompt(Query.track(phrase, at=at), view.clip).text
        groups = _visible_groups(view, {state.object_id})
        later = {key: group for key, group in groups.items() if key > time_s}
        branches.append(Branch(user_text=text, answer=_written(tracks_answer, phrase, later)))
    return branches


def follow_phrase(actor: Actor, rng: np.random.Generator) -> str:
    """What a thing is called that is clicked: the click says which one it is."""
    return ("the object", f"the {actor.kind}", f"the {actor.colour} {actor.kind}")[int(rng.integers(3))]


def click_on(ids: npt.NDArray[np.uint8], state: ActorState, rng: np.random.Generator) -> tuple[float, float]:
    """A place on what shows of an actor, as a person would click it: mostly near its middle, pixels.

    ids: uint8[360, 640], whose pixel each one is.
    """
    for _ in range(4):
        x, y = state.x_px + rng.normal(0, 4), state.y_px + rng.normal(0, 4)
        inside = 0 <= x < FRAME_WIDTH_PX and 0 <= y < FRAME_HEIGHT_PX
        if inside and ids[int(y), int(x)] == state.object_id:
            return x, y
    return state.x_px, state.y_px


def _moment(view: View, rng: np.random.Generator) -> tuple[tuple[ActorState, ...], str]:
    """The truth of a frame drawn at random, and how a question names it (a single one has no name)."""
    number = int(rng.integers(len(view.clip)))
    shown_s = view.clip.frames[number].shown_time_s
    # Which frame a place belongs to is learnt slowly from tracks alone: asking for single moments ties
    # times to frames as `What is at …?` ties words to pixels.
    named = "" if len(view.clip) == 1 or shown_s is None else f" at {spell_seconds(shown_s)}"
    return view.states[number], named


def _look_branches(view: View, rng: np.random.Generator, count: int) -> list[Branch]:
    """`What is at x y at 1.5?`: ties words to places and moments."""
    by_id = {actor.object_id: actor for actor in view.scene.actors}
    branches = []
    for _ in range(count):
        states, when = _moment(view, rng)
        shown = [s for s in states if s.visible]
        if shown and rng.random() < 0.92:
            state = shown[int(rng.integers(len(shown)))]
            actor = by_id[state.object_id]
            x, y = _xy(state)
            x, y = (int(np.clip(v + int(rng.integers(-12, 13)), 0, 1000)) for v in (x, y))
            text = f"{actor.colour} {actor.kind}"
        else:
            x, y = (int(v) for v in rng.integers(0, 1001, 2))
            if any(abs(s.x_px - x * 0.64) < 90 and abs(s.y_px - y * 0.36) < 90 for s in states):
                continue
            text = "Nothing"
        asked = f"What is at {spell_coordinate(x)} {spell_coordinate(y)}{when}?"
        branches.append(Branch(user_text=asked, answer=text, weight=2.0))
    return branches


def _list_branch(view: View, rng: np.random.Generator) -> Branch:
    """`List what is where at 1.5.`: everything in sight from left to right."""
    by_id = {actor.object_id: actor for actor in view.scene.actors}
    states, when = _moment(view, rng)
    places = sorted((*_xy(s), s.object_id) for s in states if s.visible)
    parts = [
        f"{spell_coordinate(x)} {spell_coordinate(y)} {by_id[i].colour} {by_id[i].kind}" for x, y, i in places
    ]
    return Branch(
        user_text=f"List what is where{when}.", answer="At " + "; ".join(parts) if parts else "Nothing"
    )


# More of the questions that need a comparison than users and the held-out set ask.
SHARES = {**GROUP_SHARES, "motion": 0.11, "size": 0.08, "position": 0.12}
SPARE_S = 4.0
"""A scene is up to so much longer than what is shown of it: what was there before or comes after."""
TOKENS_PER_FRAME = 43  # 36 of pictures, their start and end, and the time in words
MOST_PICTURES = 640
"""In one step, so that long clips of few words do not become steps of pictures alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageData:
    """How a stage's batches are made.

    tokens      about so many a step; how many trees that makes follows from their length.
    frames      lengths of clips, frames; each step draws one of them.
    image_share share of single pictures shown in the still-image form (one picture, two views).
    looks       `What is at …?` branches a tree; `lists` chance of `List what is where.` a frame, up to 4.
    questions   pointing, counting and tracking branches a tree (as many as fit).
    slots       rows for branches a tree; half as many for clips of more than 8 frames, whose rows are long.
    first_last  branches a tree that ask where things are first and last seen.
    follow      branches that ask for the rest of the way from a given place; clips on the half-second grid.
    come_and_go tracks a tree of things that are in sight in some frames only, if there are such.
    hiding      share of clips that are cut where something gets hidden, if the scene has that.
    grid        share of steps with clips on the half-second grid, as tracking sees them.
    views       how many trees are made of one scene, at different times: scenes cost more than frames.
    counting    `by_points`: what is counted is pointed at, then the number is said; `number`: only that.
    """

    tokens: int
    frames: tuple[int, ...]
    image_share: float
    looks: int
    lists: float
    questions: int
    slots: int
    tasks: tuple[Literal["track", "point", "count"], ...]
    first_last: int = 0
    follow: int = 0
    come_and_go: int = 1
    hiding: float = 0.5
    grid: float = 0.6
    views: int = 1
    counting: Counting = "by_points"

    def slots_of(self, n_frames: int) -> int:
        """Rows for branches of clips of this length."""
        return self.slots if n_frames <= 8 else max(2, self.slots // 2)

    def slot_len(self, n_frames: int, *, grid: bool) -> int:
        """Tokens of a slot, a multiple of 8: the track of four things fits, or the places of a dozen."""
        return 152 + 40 * n_frames if grid else 192 + 8 * math.ceil(0.4 * n_frames)

    def trees(self, n_frames: int, *, grid: bool) -> int:
        """Trees of clips of this length that fill a step."""
        rows = self.slots_of(n_frames) * self.slot_len(n_frames, grid=grid)
        most = max(2, MOST_PICTURES // n_frames)
        return min(most, max(2, self.tokens // (TOKENS_PER_FRAME * n_frames + rows)))


class ToyBatches:
    """Batch number `step` of a stage; indexable, so that data workers can share the work."""

    def __init__(
        self, data: StageData, writer: BranchWriter, flags: InputFlags, *, seed: int, steps: int
    ) -> None:
        self.data, self.writer, self.flags, self.seed, self.steps = data, writer, flags, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        rng = np.random.default_rng([self.seed, step])
        n_frames = int(rng.choice(self.data.frames))
        grid = bool(rng.random() < self.data.grid)
        n_trees = self.data.trees(n_frames, grid=grid)
        trees: list[MessageTree] = []
        pictures: list[npt.NDArray[np.uint8]] = []
        while len(trees) < n_trees:
            for view in self._views(rng, n_frames, grid=grid):
                if len(trees) == n_trees:
                    break
                tree = self._tree(view, rng)
                trees.append(tree)
                # A still image is shown twice: the whole and, with one tile, the same again.
                repeats = 2 if view.clip.kind == "images" else 1
                pictures += [frame.rgb for frame in view.clip.frames for _ in range(repeats)]
        packed = pack_slots(
            trees,
            self.writer,
            slots=self.data.slots_of(n_frames),
            slot_len=self.data.slot_len(n_frames, grid=grid),
            pad_id=self.writer.codec.eos_id,
        )
        where = np.nonzero(packed.prefix_ids.reshape(-1) == self.flags.special.image_patch)[0]
        return Batch(
            frames_FNV=patches(np.stack(pictures)), visual_slots=where.astype(np.int64), trees=packed
        )

    def _views(self, rng: np.random.Generator, n_frames: int, *, grid: bool) -> list[View]:
        seed = FIRST_TRAINING_SEED + int(rng.integers(2**40))
        if n_frames == 1:
            scene = make_scene(seed, duration_s=8.0)
            if _dull(scene, rng):
                return []
            kind: Kind = "image" if rng.random() < self.data.image_share else "video"
            return [
                show(scene, np.array([t]), kind, rng)
                for t in rng.permutation(np.arange(self.data.views)) * (8.0 / self.data.views)
                + rng.uniform(0, 0.5)
            ]
        times = _clip_times(n_frames, rng, grid=grid)
        spare_s = float(rng.uniform(0.0, SPARE_S))
        scene = make_scene(seed, duration_s=float(times[-1]) + spare_s + 0.5)
        if _dull(scene, rng):
            return []
        views = []
        for _ in range(self.data.views):
            start_s = rng.uniform(0.0, spare_s)
            if rng.random() < self.data.hiding:
                start_s = _start_at_a_hiding(scene, float(times[-1]), spare_s, rng, otherwise=start_s)
            views.append(show(scene, times + start_s, "video", rng))
        return views

    def _tree(self, view: View, rng: np.random.Generator) -> MessageTree:
        prefix_ids, visual = visual_prefix(view.clip, self.writer.codec, self.flags)
        branches = _look_branches(view, rng, self.data.looks)
        # The chance is for one picture; longer clips have more moments to tell apart.
        lists = rng.binomial(min(len(view.clip), 6), self.data.lists)
        branches += [_list_branch(view, rng) for _ in range(lists)]
        tasks = self.data.tasks
        if view.clip.kind == "images" or not _on_grid(view.clip):
            tasks = tuple(task for task in tasks if task != "track") or ("point",)
        questions = make_questions(
            view.scene,
            rng,
            view.visible_ids,
            2 * self.data.questions,
            tasks=tasks,
            states=view.states,
            groups=SHARES,
        )
        questions = _fewer_nones(questions, self.data.questions)
        questions += _out_of_sight(view, rng, tasks)
        branches += [_branch(question, view, counting=self.data.counting) for question in questions]
        if "track" in tasks:
            for question in _for_a_while(view, rng, self.data.come_and_go):
                branches.append(_branch(question, view, weight=2.0))
            if len(view.clip) > 1:
                branches += _follow_branches(view, rng, self.data.follow)
        if view.clip.kind == "video" and len(view.clip) > 1:
            # The SDK asks this with the frames that pointing sees; on the grid it stands among tracks.
            branches += _first_last_branches(view, rng, self.data.first_last)
        order = rng.permutation(len(branches))
        return MessageTree(
            prefix_ids=prefix_ids, prefix_visual=visual, branches=tuple(branches[i] for i in order)
        )


def _clip_times(n_frames: int, rng: np.random.Generator, *, grid: bool) -> npt.NDArray[np.float64]:
    """Times of a clip of so many frames: the grid that tracking sees, or what pointing and counting see.

    Those see the grid and the very end; and now and then a longer clip in as many frames as fit.
    """
    if grid:
        return rate_grid(n_frames / 2, rate=2.0, max_frames=n_frames)
    whole_s = (n_frames - 2 + float(rng.uniform(0.05, 1.0))) / 2
    if rng.random() < 0.35:
        # As before a smaller cap on frames: the same clip in fewer, or a longer one.
        whole_s *= float(rng.uniform(1.0, 2.0))
    return uniform_last_frame(max(0.2, whole_s), max_fps=2.0, max_frames=n_frames)


def _dull(scene: Scene, rng: np.random.Generator) -> bool:
    """Most scenes with nothing or one thing are passed over: they teach little but `none`."""
    return len(scene.actors) < 2 and bool(rng.random() < 0.75)


def _fewer_nones(questions: list[Question], at_most: int) -> list[Question]:
    """The first questions, a fifth of them without an answer at the most (one at least)."""
    nones = [q for q in questions if not q.object_ids][: max(1, at_most // 5)]
    answered = [q for q in questions if q.object_ids][: at_most - len(nones)]
    return answered + nones


def _out_of_sight(view: View, rng: np.random.Generator, tasks: Sequence[ToyTask]) -> list[Question]:
    """One question about something of the scene that these frames do not show: it is hidden, gone or to come.

    Longer videos are asked about window by window, so this is the commonest kind of `none` there; left to
    chance it is rare, and the model points at whatever looks most like it.
    """
    glimpsed = {s.object_id for states in view.states for s in states if s.visible_share > 0.0}
    shown = {_look(a) for a in view.scene.actors if a.object_id in glimpsed}
    unseen = sorted({_look(a) for a in view.scene.actors} - shown)
    if not unseen:
        return []
    task = tasks[int(rng.integers(len(tasks)))]
    return [_by_look(task, unseen[int(rng.integers(len(unseen)))], (), rng)]


def _for_a_while(view: View, rng: np.random.Generator, count: int = 1) -> list[Question]:
    """Tracks, up to `count`, of things that are in sight in some of these frames and not in others.

    The model learns the next place from the last two long before it learns to look whether anything is
    there; without these it follows a car under a bridge, or goes on with another one.
    """
    visible = [{s.object_id for s in states if s.visible} for states in view.states]
    glimpsed = {s.object_id for states in view.states for s in states if s.visible_share > 0.0}
    seen, always = set().union(*visible), set.intersection(*visible)
    doubtful = {_look(a) for a in view.scene.actors if a.object_id in glimpsed - seen}
    # What a tree or a bridge hides is rarer, and harder, than what leaves the picture.
    hidden = {s.object_id for states in view.states for s in states if not s.visible and _in_picture(s)}
    some = (seen - always) & hidden or seen - always
    looks = sorted({_look(a) for a in view.scene.actors if a.object_id in some} - doubtful)
    questions = []
    for number in rng.permutation(len(looks))[:count]:
        look = looks[number]
        ids = tuple(a.object_id for a in view.scene.actors if a.object_id in seen and _look(a) == look)
        questions.append(_by_look("track", look, ids, rng))
    return questions


def _start_at_a_hiding(
    scene: Scene, span_s: float, spare_s: float, rng: np.random.Generator, *, otherwise: float
) -> float:
    """A start at most `spare_s` into the scene from which something is seen to be covered, if anything is.

    Few windows have that by chance: one in eight of two seconds.
    """
    grid = np.arange(0.0, span_s + spare_s + 1e-6, 0.5)
    moments: list[float] = []
    for actor in scene.actors:
        covered = _covered(scene, actor, grid)
        moments += grid[1:][covered[1:] & ~covered[:-1]].tolist()
    if not moments:
        return otherwise
    start_s = moments[int(rng.integers(len(moments)))] - float(rng.uniform(0.2, max(0.5, span_s)))
    return float(np.clip(start_s, 0.0, spare_s))


def _covered(scene: Scene, actor: Actor, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether an actor's centre lies under a tree or a bridge, bool[K]."""
    columns, rows, _ = actor.motion.poses(times_s)
    covered = np.zeros(len(times_s), dtype=np.bool_)
    for occluder in scene.occluders:
        solid = occluder.stamp.solid
        row, column = (rows - occluder.top_px).astype(int), (columns - occluder.left_px).astype(int)
        inside = (row >= 0) & (row < solid.shape[0]) & (column >= 0) & (column < solid.shape[1])
        covered[inside] |= solid[row[inside], column[inside]] > 0
    return covered


def _in_picture(state: ActorState) -> bool:
    return 20 < state.x_px < FRAME_WIDTH_PX - 20 and 20 < state.y_px < FRAME_HEIGHT_PX - 20


def _look(actor: Actor) -> tuple[Colour, ActorKind]:
    return actor.colour, actor.kind


def _by_look(
    task: ToyTask, look: tuple[Colour, ActorKind], object_ids: tuple[int, ...], rng: np.random.Generator
) -> Question:
    """A question by colour and kind; to count is always asked in the plural, which gives nothing away."""
    colour, kind = look
    many = f"{colour} {PLURALS[kind]}"
    one = len(object_ids) < 2 and rng.random() < 0.7
    phrase = many if task == "count" else f"the {colour} {kind}" if one else f"the {many}"
    return Question(task=task, phrase=phrase, object_ids=object_ids, group="both" if object_ids else "none")


def _on_grid(clip: Clip) -> bool:
    """Tracks are asked for on the half-second grid only."""
    return all(frame.shown_time_s is not None and frame.shown_time_s % 0.5 == 0 for frame in clip.frames)
