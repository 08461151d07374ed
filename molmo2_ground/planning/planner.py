"""`plan_question`: from a source, a question and a checkpoint to a `Plan`, without running the question."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from molmo2_ground.backends.prompt_room import PromptRoom
from molmo2_ground.look import Times
from molmo2_ground.model.memory import Memory
from molmo2_ground.model.molmo2 import Molmo2
from molmo2_ground.planning.calibration import Course, measured_time
from molmo2_ground.planning.free_memory import free_bytes
from molmo2_ground.planning.options import fitting_option
from molmo2_ground.planning.plan import Plan, PlannedFrames, PlannedMemory, PlannedTime, PlannedTokens
from molmo2_ground.planning.prospect import Look, Prospect
from molmo2_ground.query import QUESTION, Query
from molmo2_ground.sources import MediaLike
from molmo2_ground.sources.windowed import grid_times


def plan_question(
    media: MediaLike,
    query: Query,
    *,
    room: PromptRoom,
    loaded: Molmo2 | None = None,
    calibrate: bool = True,
    free: int | None = None,
) -> Plan:
    """What asking `query` about `media` looks at, needs and takes.

    room: the checkpoint, its device and type of numbers. loaded: the same checkpoint ready to run; with it
    and `calibrate`, the time is measured on a small part. free: bytes of memory to plan for, in place of what
    the device has free. Raises what asking would raise before the model runs, but for a prompt that is too
    long, which is the plan's `problem`.
    """
    QUESTION.check("query", query)
    prospect = Prospect.of(media, query, room=room)
    looks = prospect.looks()
    memory = prospect.memory(looks)
    if free is None:
        free = free_bytes(room.device)
        if free is not None and loaded is not None:
            free += memory.weights  # they are there already
    problem = _problem(prospect, looks, memory, free)
    time = None
    if loaded is not None and calibrate and problem is None:
        time = measured_time(loaded, _course(prospect, looks))
    return Plan(
        task=query.task,
        query=query.phrase,
        source=prospect.name,
        model_id=room.checkpoint.model_id,
        frames=_frames(prospect, looks),
        tokens=_tokens(prospect, looks),
        memory=_memory(prospect, memory, free),
        time=time,
        problem=problem,
        notes=tuple(_notes(prospect, looks, time)),
    )


def _problem(prospect: Prospect, looks: Sequence[Look], memory: Memory, free: int | None) -> str | None:
    """Why it cannot be run as it is, with the option that fits, on one line."""
    why = prospect.too_long(looks)
    if why is None and (free is None or memory.total <= free):
        return None
    if why is not None and "It fits with" in why:
        return why  # the error knows the option itself
    option = fitting_option(prospect, free_bytes=free)
    if why is None:
        why = (
            f"{prospect.name}: {size_words(memory.total)} of memory are needed at the peak and "
            f"{prospect.room.device} has {size_words(free or 0)} free."
        )
        if option is None:
            why += f" No option is small enough: the weights alone take {size_words(memory.weights)}."
    return why if option is None else f"{why} It would fit with {option}."


def _frames(prospect: Prospect, looks: Sequence[Look]) -> PlannedFrames:
    shared = prospect.overlap * (len(looks) - 1)
    return PlannedFrames(
        count=sum(len(look.clip) for look in looks) - shared,
        fps=prospect.looking.rate(prospect.query),
        windows=len(looks),
        window_frames=prospect.looking.window(prospect.query)[0] if prospect.by_windows else None,
        overlap_frames=prospect.overlap,
        together=prospect.together(looks),
        sampling=prospect.looking.sampling(prospect.query),
    )


def _tokens(prospect: Prospect, looks: Sequence[Look]) -> PlannedTokens:
    return PlannedTokens(
        prompts=tuple(look.tokens for look in looks),
        exact=prospect.query.at is None or len(looks) == 1,
        answers=sum(look.answer.tokens for look in looks),
        answers_basis=looks[0].answer.basis,
    )


def _memory(prospect: Prospect, memory: Memory, free: int | None) -> PlannedMemory:
    return PlannedMemory(
        device=str(prospect.room.device),
        dtype="int8" if prospect.room.int8 else str(prospect.room.dtype).removeprefix("torch."),
        weights_bytes=memory.weights,
        keys_values_bytes=memory.keys_values,
        features_bytes=memory.features,
        pixels_bytes=memory.pixels,
        working_bytes=memory.working,
        free_bytes=free,
    )


def _notes(prospect: Prospect, looks: Sequence[Look], time: PlannedTime | None) -> list[str]:
    notes = []
    if prospect.query.at is not None and len(looks) > 1:
        notes.append(
            "each window goes on from a place found in the one before; its prompt may differ a little"
        )
    if prospect.looking.info.lost:
        notes.append("the file is damaged; frames that cannot be read are not shown")
    if time is None:
        notes.append("time: not measured, the model was not run")
    return notes


def _course(prospect: Prospect, looks: Sequence[Look]) -> Course:
    """What is to be timed: sizes of the longest look, and how much of each stage there is in all."""
    sight = prospect.sight(looks)
    longest = max(looks, key=lambda look: look.tokens)
    pictures = sum(len(look.clip) for look in looks)
    distinct = pictures - prospect.overlap * (len(looks) - 1)
    crops = sight.crops * distinct / max(1, len(longest.clip))
    # The two crops of a small image are one picture; see `VisionEncoder`.
    alone = longest.clip.kind == "images" and len(longest.clip) == 1 and sight.crops == 2
    rounds = math.ceil(len(looks) / sight.together)
    return Course(
        media=prospect.media,
        times=_times(prospect),
        crops=1 if alone else round(crops),
        read_s=prospect.read_s,
        tokens=longest.tokens,
        all_tokens=sum(look.tokens for look in looks),
        turn_tokens=prospect.room.turn_tokens(longest.prompt),
        looks=len(looks),
        together=sight.together,
        words=longest.answer.words_a_run,
        runs=rounds * longest.answer.runs,
    )


def _times(prospect: Prospect) -> Times:
    if not prospect.by_windows:
        return prospect.looking.times(prospect.query)
    rate = prospect.looking.shown_fps(prospect.query)
    return lambda duration_s: np.fromiter(grid_times(duration_s, rate=rate), np.float64)


def size_words(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
