"""`row_tree`: a row of training data and the frames that are shown, as one message tree.

    made = row_tree(row, clip, codec=codec, flags=flags, rng=example_rng(seed, key))
    made.tree      what is learnt
    made.asked     which annotation became what, branch by branch
    made.left_out  what of the row is not learnt from this time, and why

All chance comes from `rng`: the same row, clip and generator give the same tree in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from molmo2_ground.train.asked import Asked, LeftOut, ask
from molmo2_ground.train.styles import POINT_TASKS
from molmo2_ground.train.task_rules import FINE_TUNING
from molmo2_ground.train.tree import Branch, MessageTree
from molmo2_ground.train.visual_prefix import shown_subtitles, subtitle_text, visual_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molmo2_ground.clip import Clip
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.train.rows import Row
    from molmo2_ground.train.task_rules import TaskRules

_TRANSCRIPTS = frozenset({"transcript", "video_transcript"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTree:
    """A row as it is learnt from.

    tree      has no branch when nothing of the row can be asked; `left_out` says why.
    asked     for each branch of the tree, the annotations it asks about, in order of its turns.
    left_out  all of the row that is not in the tree.
    """

    tree: MessageTree
    asked: tuple[tuple[Asked, ...], ...]
    left_out: tuple[LeftOut, ...]


def row_tree(
    row: Row,
    clip: Clip | None,
    *,
    codec: TextCodec,
    flags: InputFlags,
    rng: np.random.Generator,
    rules: TaskRules = FINE_TUNING,
    max_crops: int | None = None,
) -> RowTree:
    """Ask everything of a row about the frames that are shown of it.

    clip       what the model sees: of a video some frames, whose shown times count from the start of
               `row.clip_s`; of still images all, in order of `row.media`; None or empty for text alone.
    rules      the stage's, see `task_rules`.
    max_crops  of still images, as for `model.inputs.visual_inputs`; the pixels must be cut alike.

    Annotations that bring the tree over `rules.max_points` are left out, others in each epoch; `split_row`
    makes trees of their own for them. Raises `ValueError` when clip and row are not of one kind.
    """
    _check_kind(row, clip)
    seeds = rng.integers(2**63, size=len(row.annotations) + 1)
    layout_rng = np.random.default_rng(seeds[-1])
    asked: list[Asked] = []
    left_out: list[LeftOut] = []
    for number, seed in enumerate(seeds[:-1]):
        made, lost = ask(number, row, clip, rng=np.random.default_rng(seed), rules=rules)
        asked += [] if made is None else [made]
        left_out += lost
    asked = [asked[int(i)] for i in layout_rng.permutation(len(asked))]
    asked = _one_transcript(asked, left_out)
    asked = _within(asked, rules.max_points, left_out)
    join = row.kind == "video" and layout_rng.random() < rules.joined_share
    conversations = _joined(asked) if join else [(one,) for one in asked]
    prefix_ids, prefix_visual = _prefix(row, clip, codec, flags, max_crops, left_out)
    return RowTree(
        tree=MessageTree(
            prefix_ids=prefix_ids,
            prefix_visual=prefix_visual,
            branches=tuple(_branch(conversation) for conversation in conversations),
        ),
        asked=tuple(conversations),
        left_out=tuple(left_out),
    )


def _check_kind(row: Row, clip: Clip | None) -> None:
    shown = "none" if clip is None or not len(clip) else clip.kind
    wanted = "images" if row.kind == "image" else row.kind
    if shown != wanted:
        raise ValueError(f"row {row.row_id} is of kind {row.kind}; the clip that goes with it is {shown}")
    if row.kind == "image" and clip is not None and len(clip) != 1:
        raise ValueError(f"row {row.row_id} is about one image; the clip has {len(clip)}")


def _one_transcript(asked: list[Asked], left_out: list[LeftOut]) -> list[Asked]:
    """Of several spoken accounts of one picture the first: they say the same in other words."""
    spoken = [one for one in asked if one.style in _TRANSCRIPTS]
    left_out += [
        LeftOut(annotation=one.annotation, reason="another transcript of the row was drawn")
        for one in spoken[1:]
    ]
    return [one for one in asked if one not in spoken[1:]]


def _within(asked: Sequence[Asked], max_points: int, left_out: list[LeftOut]) -> list[Asked]:
    """The annotations whose points fit into one tree, taken in order while they fit."""
    kept, total = [], 0
    for one in asked:
        if one.points > max_points:
            reason = f"its answer has {one.points} points; at most {max_points} are asked for"
        elif total + one.points > max_points:
            reason = f"with its {one.points} points the tree would have more than {max_points}"
        else:
            kept.append(one)
            total += one.points
            continue
        left_out.append(LeftOut(annotation=one.annotation, reason=reason))
    return kept


def _joined(asked: Sequence[Asked]) -> list[tuple[Asked, ...]]:
    """Pointing questions as one conversation, where the first of them stands; the others as they are.

    Only those that weigh the same are joined: a branch has one weight.
    """
    pointing = [one for one in asked if one.task in POINT_TASKS]
    alike = tuple(one for one in pointing if one.weight == pointing[0].weight)
    return [alike if alike and one is alike[0] else (one,) for one in asked if one not in alike[1:]]


def _branch(conversation: tuple[Asked, ...]) -> Branch:
    first, *later = (turn for one in conversation for turn in one.turns)
    return Branch(
        user_text=first.user_text,
        answer=first.answer,
        weight=conversation[0].weight,
        kind=conversation[0].kind,
        later_turns=tuple(later),
    )


def _prefix(
    row: Row,
    clip: Clip | None,
    codec: TextCodec,
    flags: InputFlags,
    max_crops: int | None,
    left_out: list[LeftOut],
) -> tuple[np.ndarray, np.ndarray]:
    if clip is None or not len(clip):
        return visual_prefix(None, codec, flags)
    if row.kind != "video":
        return visual_prefix(clip, codec, flags, max_crops=max_crops)
    start_s = 0.0 if row.clip_s is None else row.clip_s[0]
    lines = shown_subtitles(row.subtitles, clip, start_s=start_s)
    unseen = len(row.subtitles) - len(lines)
    if unseen:
        reason = f"{unseen} of {len(row.subtitles)} subtitles are spoken while no frame is shown"
        left_out.append(LeftOut(annotation=None, reason=reason))
    return visual_prefix(clip, codec, flags, subtitle_text=subtitle_text(lines))
