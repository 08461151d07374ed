"""`TaskRules`: the shares and limits by which rows become questions, one value for each stage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from molmo2_ground.answer import GroupSeparator


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRules:
    """How questions are worded and answers are written. Shares are chances from 0 to 1.

    prompting          `templates`: whole sentences, and the style's name in front where the model is told it.
                       `bare`: the style's name and what is looked for, no sentence; captions with a hint at
                       their length. The first stage trains so.
    separator          what stands between the groups of an answer.
    max_points         the most points of one tree's pointing and counting answers.
    match_s            a moment and a frame closer than this are one, seconds.
    asked_share        share of questions in the very words of `query.build_prompt`, where it has words for
                       them; the rest draws evenly from `train.phrasings`.
    none_tail_share    share of pointing sentences that go on with what to say when nothing is there.
    default_rate_share share of tracks at two places a second that are asked for without a rate.
    random_start_share share of tracks from a point that start at any sighting, not the first.
    all_images_share   share of questions about several pictures that ask about all of them.
    joined_share       share of videos with several pointing questions that have them as one conversation.
    hint_share         share of bare captions that say how long they are.
    """

    prompting: Literal["bare", "templates"] = "templates"
    separator: GroupSeparator = GroupSeparator.SEMICOLON
    max_points: int = 60
    match_s: float = 0.01
    asked_share: float = 0.3
    none_tail_share: float = 0.1
    default_rate_share: float = 0.5
    random_start_share: float = 0.2
    all_images_share: float = 0.5
    joined_share: float = 0.2
    hint_share: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} is a share from 0 to 1; got {value}")
        if self.max_points < 1 or not self.match_s > 0:
            raise ValueError(
                f"max_points is 1 or more and match_s above 0; got {self.max_points} and {self.match_s}"
            )


PRETRAINING = TaskRules(prompting="bare", separator=GroupSeparator.TAB)
"""Stage 1: pictures, captions and points."""

FINE_TUNING = TaskRules()
"""Stages 2 and 3."""
