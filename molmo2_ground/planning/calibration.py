"""`measured_time`: how long a question takes, from running small parts of it on this machine.

A part of each stage is timed at the size that the whole has, because a run's cost depends on it: words are
read behind as many others as there will be, whose keys and values are made up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model.branch_room import BranchRoom
from molmo2_ground.model.decoding import keep_prompt, run_answers, word_logits
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.molmo2 import Molmo2
from molmo2_ground.model.vision import VisionEncoder, crops_at_once
from molmo2_ground.planning.plan import PlannedTime
from molmo2_ground.sources import MediaLike, open_clip

_PART_S = 0.4  # about what a stage may take, when a part of it is enough
_PART_TOKENS = 256
_PART_VIDEO_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """How much there is to do.

    times: of the frames of a file that are read, from its duration, as `open_clip` takes them.
    read_s: that reading the source took, where it is read already. crops: that the picture tower runs.
    tokens: of one look's prompt, `turn_tokens` of them the question's; all_tokens: of all `looks`. together:
    looks in one run.
    words: that one run of the language model writes or checks for each look; runs: of it, in all.
    """

    media: MediaLike
    times: Callable[[float], npt.NDArray[np.float64]]
    read_s: float
    crops: int
    tokens: int
    all_tokens: int
    turn_tokens: int
    looks: int
    together: int
    words: int
    runs: float


@torch.inference_mode()
def measured_time(model: Molmo2, course: Course) -> PlannedTime:
    """Run a part of each stage and say how long the whole will take."""
    head = course.tokens - course.turn_tokens
    heads = (course.all_tokens - course.looks * course.turn_tokens) / head
    turns_s = _run_s(model, course, course.turn_tokens) * math.ceil(course.looks / course.together)
    return PlannedTime(
        reading_s=_reading_s(model, course),
        vision_s=_vision_s(model, course.crops),
        prefill_s=_prefill_s(model, head) * heads + turns_s,
        runs=course.runs,
        run_s=_run_s(model, course, course.words),
    )


def _timed(model: Molmo2, work: Callable[[], object]) -> float:
    """Seconds, with the device's work done."""
    _wait(model)
    began = time.perf_counter()
    work()
    _wait(model)
    return time.perf_counter() - began


def _wait(model: Molmo2) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _vision_s(model: Molmo2, crops: int) -> float:
    """Of cutting and encoding so many crops: one is timed, and a full run of the tower if that is quick."""
    if not crops:
        return 0.0
    at_once = crops_at_once(model.device)
    encoder = VisionEncoder(model.vision.tower)  # without what it keeps of earlier pictures
    one_s = min(_timed(model, lambda: _encode(model, encoder, 1)) for _ in range(2))
    some = min(crops, at_once)
    if some == 1 or one_s * some > 4 * _PART_S:
        return one_s * crops
    _encode(model, encoder, some)
    return _timed(model, lambda: _encode(model, encoder, some)) / some * crops


def _encode(model: Molmo2, encoder: VisionEncoder, crops: int) -> None:
    side = model.flags.image_size_px
    noise = np.random.default_rng(0).integers(0, 256, (crops, side, side, 3), dtype=np.uint8)
    visual = model.build_visual(Clip.from_arrays(noise, fps=1.0))
    assert visual is not None, "a clip with frames has pictures"
    encoder.encode(visual)


def _prefill_s(model: Molmo2, tokens: int) -> float:
    """Of reading a prompt: its last part is read behind the rest, and counted as often as it fits."""
    part = min(tokens, _PART_TOKENS)
    _read(model, part, tokens)
    part_s = _timed(model, lambda: _read(model, part, tokens))
    if part < tokens and part_s * tokens / part < 2 * _PART_S:
        part = tokens
        part_s = _timed(model, lambda: _read(model, part, tokens))
    return part_s * tokens / part


def _read(model: Molmo2, part: int, tokens: int) -> None:
    weight = model.network.lm_head.weight
    cache = _filled(model, tokens - part)
    embeds = torch.zeros(part, weight.shape[1], dtype=weight.dtype, device=weight.device)
    visual = torch.ones(tokens, dtype=torch.bool)
    keep_prompt(model.network, embeds, visual_L=visual, cache=cache)


def _filled(model: Molmo2, tokens: int) -> BranchCache:
    """A cache that holds so many words of no meaning."""
    text: Any = model.network.config.text_config
    weight = model.network.lm_head.weight
    cache = BranchCache(layers=text.num_hidden_layers)
    if tokens:
        heads, width = text.num_key_value_heads, text.head_dim
        nothing = torch.zeros(1, heads, tokens, width, dtype=weight.dtype, device=weight.device)
        for layer in range(text.num_hidden_layers):
            cache.update(nothing, nothing, layer)
    return cache


def _run_s(model: Molmo2, course: Course, count: int) -> float:
    """Of one run of so many words of each look, all looks that are answered together."""
    caches = [_filled(model, course.tokens) for _ in range(course.together)]
    for cache in caches:
        cache.reserve(course.tokens + 8 * count)
    rooms = [BranchRoom(cache) for cache in caches]
    table = model.network.model.language_model.embed_tokens
    ids = torch.zeros(count * course.together, dtype=torch.int64, device=table.weight.device)

    def run() -> None:
        words = [(room, [(0, range(-1, count - 1))]) for room in rooms]
        hidden = run_answers(model.network, table(ids), rooms=words, layers=model.layers)
        [int(row.argmax()) for row in word_logits(model.network, hidden)]
        for room in rooms:
            room.settle([[0]])

    run()
    return min(_timed(model, run) for _ in range(4))


def _reading_s(model: Molmo2, course: Course) -> float:
    """Of finding out about a file and reading its frames: the first seconds, more if that is quick."""
    media = course.media
    if isinstance(media, Clip):
        return course.read_s
    last_s = 0.0

    def read(until_s: float) -> float:
        def times(duration_s: float) -> npt.NDArray[np.float64]:
            nonlocal last_s
            every = course.times(duration_s)
            last_s = float(every[-1]) if len(every) else 0.0
            return every[every <= until_s]  # none gives the first frame

        return _timed(model, lambda: open_clip(media, times=times, resize=model.resize_frame))

    opening_s = read(-1.0)
    until_s = _PART_VIDEO_S
    spent_s = read(until_s)
    while spent_s - opening_s < _PART_S / 2 and until_s < last_s:
        until_s *= 4
        spent_s = read(until_s)
    share = min(until_s, last_s) / last_s if last_s else 1.0
    # A session looks at the file once before it reads it.
    return 2 * opening_s + max(0.0, spent_s - opening_s) / share
