"""What would fit when a question does not: the first of a few changes that does, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model.molmo2 import chosen_numbers
from molmo2_ground.planning.prospect import Prospect

_LOWEST_FPS = 0.25
_SHORTEST_S = 1.0


def fitting_option(prospect: Prospect, *, free_bytes: int | None) -> str | None:
    """The mildest change with which the question fits context and memory; None when none does."""
    return next((words for words, other in _changes(prospect) if _fits(other, free_bytes)), None)


def _fits(prospect: Prospect, free_bytes: int | None) -> bool:
    looks = prospect.looks()
    if prospect.too_long(looks) is not None:
        return False
    return free_bytes is None or prospect.memory(looks).total <= free_bytes


def _changes(prospect: Prospect) -> Iterator[tuple[str, Prospect]]:
    """Ways of asking for less, from those that change the answer least; each is tried alone, then smaller."""
    lighter = list(_smaller_numbers(prospect))
    yield from lighter
    yield from _less_to_see(prospect)
    for with_words, light in lighter:
        for words, other in _less_to_see(light):
            yield f"{with_words} and {words}", other


def _smaller_numbers(prospect: Prospect) -> Iterator[tuple[str, Prospect]]:
    room = prospect.room
    if room.dtype == torch.float32 and not room.int8:
        yield "dtype='bfloat16'", replace(prospect, room=replace(room, dtype=torch.bfloat16))
    if not room.int8:
        numbers, _ = chosen_numbers("int8", room.device)
        yield "dtype='int8'", replace(prospect, room=replace(room, dtype=numbers, int8=True))


def _less_to_see(prospect: Prospect) -> Iterator[tuple[str, Prospect]]:
    media, query = prospect.media, prospect.query
    if prospect.looking.info.kind == "images":
        yield from _fewer_images(prospect)
        return
    if query.task == "track" and not isinstance(media, Clip):
        fps = query.fps / 2
        while fps >= _LOWEST_FPS:
            yield f"fps={fps:g}", replace(prospect, query=replace(query, fps=fps, show_fps=None))
            fps /= 2
    duration_s = prospect.looking.info.duration_s
    if isinstance(media, Clip) or duration_s is None:
        return
    after_s = 0.0 if query.at is None else query.at[0]
    shorter_s = _tenths(duration_s * 0.75)
    while shorter_s > max(_SHORTEST_S, after_s):
        info = replace(prospect.looking.info, duration_s=shorter_s)
        other = replace(prospect, looking=replace(prospect.looking, info=info))
        yield f"a part of at most {shorter_s:g} s", other
        shorter_s = _tenths(shorter_s * 0.75)


def _tenths(time_s: float) -> float:
    return math.floor(10 * time_s) / 10


def _fewer_images(prospect: Prospect) -> Iterator[tuple[str, Prospect]]:
    media, room = prospect.media, prospect.room
    assert isinstance(media, Clip), "pictures are read before they are planned for"
    if prospect.query.task in ("point", "count"):
        most = room.pointing_crops or room.checkpoint.flags.max_crops
        for crops in range(most - 1, 0, -1):
            yield f"pointing_crops={crops}", replace(prospect, room=replace(room, pointing_crops=crops))
    for count in range(len(media) - 1, 0, -1):
        some = replace(media, frames=media.frames[:count])
        yield f"{count} of the {len(media)} images", replace(prospect, media=some)
