"""The names of training styles, and when a question says its style in front.

The names are the released training code's: the released models know them, so what is trained on top goes by
them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molmo2_ground.train.rows import MediumKind, TaskName

POINT_TASKS: frozenset[TaskName] = frozenset({"point", "point_then_count", "count_then_point", "count"})
START_TASKS: frozenset[TaskName] = frozenset({"track_from_point", "track_from_box"})
MOVING_TASKS: frozenset[TaskName] = START_TASKS | {"track", "first_last"}
WORD_TASKS: frozenset[TaskName] = frozenset({"caption", "qa", "text"})

# What a person would ask in these words anyway: the question stands alone.
UNNAMED = frozenset(
    [
        "pointing",
        "point_count",
        "cosyn_point",
        "user_qa",
        "text_sft",
        "correction_qa",
        "long_caption",
        "short_caption",
        "video_long_caption",
        "video_short_caption",
        "video_transcript",
        "video_clip_caption_start_end",
        "video_clip_caption_start_end_in_seconds",
        "video_clip_transcript_start_end",
        "video_clip_transcript_start_end_in_seconds",
        "video_frame_caption_timestamp",
        "video_frame_caption_timestamp_in_seconds",
        "video_point",
        "video_point_count",
        "video_count",
        "video_count_point",
        "video_point_track_per_frame",
        "video_point_track_start_end",
        "video_point_track_all_frames",
        "video_single_point_track_start_end",
        "multi_image_pointing",
        "multi_image_counting",
        "multi_image_point_then_count",
        "multi_image_count_then_point",
    ]
)
# Questions with options to choose from stand alone too.
MULTIPLE_CHOICE = frozenset(
    [
        "video_multiple_choice",
        "video_multiple_choice_count_without_pointing",
        "video_multiple_choice_multiple_correct",
        "video_multiple_choice_w_subtitle",
        "a_okvqa_mc",
        "ai2_diagram_no_letter",
        "ai2_diagram",
        "science_qa",
        "eval_multiple_choice",
        "multi_image_mc",
        "multi_image_mc_exp",
        "mantis_instruct_mc",
        "eval_multi_image_mc",
    ]
)
# Bare questions that say no length: their answers have none to choose.
_NO_LENGTH = frozenset(
    [
        "pointing",
        "point_count",
        "cosyn_point",
        "text_sft",
        "video_point",
        "video_point_count",
        "video_count",
        "video_count_point",
        "count_then_point",
        "only_count",
        "multi_image_pointing",
        "multi_image_counting",
        "multi_image_point_then_count",
        "multi_image_count_then_point",
        "video_point_track_per_frame",
        "video_point_ground_start_end",
        "video_single_point_track_per_frame",
    ]
)
_PLACE_STYLES: dict[MediumKind, dict[TaskName, str]] = {
    "image": {
        "point": "pointing",
        "point_then_count": "point_count",
        "count_then_point": "count_then_point",
        "count": "only_count",
    },
    "images": {
        "point": "multi_image_pointing",
        "point_then_count": "multi_image_point_then_count",
        "count_then_point": "multi_image_count_then_point",
        "count": "multi_image_counting",
    },
    "video": {
        "point": "video_point",
        "point_then_count": "video_point_count",
        "count_then_point": "video_count_point",
        "count": "video_count",
        "track": "video_point_track_per_frame",
        "first_last": "video_point_ground_start_end",
        "track_from_point": "video_single_point_track_per_frame",
        "track_from_box": "video_single_point_track_per_frame",
    },
}


def style_of(task: TaskName, kind: MediumKind) -> str | None:
    """The style of a task where the data set names none; None when the medium cannot be asked for it."""
    if task == "caption":
        return {"image": "long_caption", "images": "long_caption", "video": "video_long_caption"}.get(kind)
    if task == "qa":
        return "user_qa"
    if task == "text":
        return "text_sft"
    return _PLACE_STYLES.get(kind, {}).get(task)


def named(style: str, words: str) -> str:
    """The question of a style in whole sentences: with the style's name in front unless it stands alone."""
    return words if style in UNNAMED or style in MULTIPLE_CHOICE else _behind(style, words)


def named_bare(style: str, words: str, *, length_hint: int | None = None) -> str:
    """The question as the first stage asks it: the style's name, a hint at the length, then what there is.

    length_hint  from `length_hint`; styles whose answers have no length of their own leave it out.
    """
    hint = "" if length_hint is None or style in _NO_LENGTH else f" {length_hint}"
    return _behind(f"{style}{hint}", words)


def length_hint(answer: str, noise: float) -> int:
    """How long an answer is, in steps of 15 letters, with a standard normal `noise` of 25 letters."""
    return max(0, (len(answer) + int(25 * noise)) // 15)


def _behind(name: str, words: str) -> str:
    return f"{name}: {words}" if words else f"{name}:"
