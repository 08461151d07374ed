"""`NativeBackend`: a checkpoint run in this process."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import time
from types import TracebackType
from typing import Self

import torch

from molmo2_ground.answer import RawAnswer
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.errors import BackendError, PromptTooLongError
from molmo2_ground.model.inputs import prompt_ids, visual_length
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.molmo2 import Molmo2, Prefix
from molmo2_ground.query import Decoding, Prompt

# A prompt that leaves room for fewer tokens than this could not be answered in any useful way.
_LEAST_ANSWER_TOKENS = 64
_POINTING = ("point", "count")


class NativeBackend:
    """Runs a loaded checkpoint; one question at a time."""

    def __init__(self, model: Molmo2, *, pointing_crops: int | None = None) -> None:
        """Take a model as `load_checkpoint` gives it.

        pointing_crops: high-resolution crops of a still image when the question is for points or a count, in
        place of the checkpoint's number. The released models were trained to point with up to 24.
        """
        if pointing_crops is not None and pointing_crops < 1:
            raise ValueError(f"pointing_crops must be 1 or more, or None; got {pointing_crops}")
        self._model = model
        self._pointing_crops = pointing_crops

    @property
    def model_id(self) -> str:
        """What the checkpoint was asked for as."""
        return self._model.model_id

    @property
    def limits(self) -> ModelLimits:
        """What the checkpoint reads at most."""
        return self._model.limits

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Stretch a video frame to the square that the model reads."""
        return self._model.resize_frame(rgb_hwc)

    def open(self, clip: Clip) -> NativeSession:
        """Take a clip for questions; its frames are encoded with the first of them."""
        return NativeSession(self._model, clip, pointing_crops=self._pointing_crops)


class NativeSession:
    """One clip: its pictures are read once, and every question continues from there."""

    def __init__(self, model: Molmo2, clip: Clip, *, pointing_crops: int | None) -> None:
        """Made by `NativeBackend.open`."""
        self._model = model
        self._clip: Clip | None = clip
        self._pointing_crops = pointing_crops
        # By number of crops: a pointing question may look closer than the others.
        self._prefixes: dict[int | None, Prefix] = {}

    def answer(self, prompt: Prompt, *, decoding: Decoding) -> RawAnswer:
        """Answer one question.

        The time for reading the pictures is counted with the first question. Raises `PromptTooLongError` when
        pictures and question leave no room for an answer, `BackendError` when memory runs out.
        """
        clip = self._clip
        if clip is None:
            raise ValueError("this session is closed; open the clip again to ask more")
        crops = self._crops(prompt, clip)
        self._check_length(prompt, clip, crops)
        try:
            return self._answer(prompt, clip, crops, decoding)
        except torch.OutOfMemoryError as error:
            self._prefixes.clear()
            raise BackendError(
                f"{self._model.device} has too little memory for {len(clip)} pictures; "
                "show fewer frames, or load the model with dtype='bfloat16' or on another device"
            ) from error

    def _answer(self, prompt: Prompt, clip: Clip, crops: int | None, decoding: Decoding) -> RawAnswer:
        timings_ms: dict[str, float] = {}
        prefix = self._prefixes.get(crops)
        if prefix is None:
            began = time.perf_counter()
            visual = self._model.build_visual(clip, max_crops=crops)
            timings_ms["preprocess"] = (time.perf_counter() - began) * 1000.0
            prefix = self._prefixes[crops] = Prefix(self._model, visual)
            timings_ms.update(prefix.timings_ms)
        generated = prefix.generate(
            prompt.text,
            max_new_tokens=decoding.max_new_tokens or prompt.default_max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed,
        )
        for stage, spent_ms in generated.timings_ms.items():
            timings_ms[stage] = timings_ms.get(stage, 0.0) + spent_ms
        return RawAnswer(
            text=generated.text,
            stop_reason=generated.stop_reason,
            tokens_in=generated.tokens_in,
            tokens_out=len(generated.token_ids),
            forwards=generated.forwards,
            model_id=self._model.model_id,
            revision=self._model.revision,
            backend="native",
            recipe=_recipe(decoding, crops),
            timings_ms=timings_ms,
        )

    def _crops(self, prompt: Prompt, clip: Clip) -> int | None:
        closer = prompt.task in _POINTING and clip.kind == "images"
        return self._pointing_crops if closer else None

    def _check_length(self, prompt: Prompt, clip: Clip, crops: int | None) -> None:
        model = self._model
        question = 1 + len(prompt_ids(model.codec, prompt.text))
        pictures = visual_length(clip, codec=model.codec, flags=model.flags, max_crops=crops)
        room = model.limits.context_tokens - _LEAST_ANSWER_TOKENS - question
        if pictures <= room:
            return
        raise PromptTooLongError(
            f"{clip.source}: the prompt needs {pictures + question:,} tokens and "
            f"{_LEAST_ANSWER_TOKENS} for an answer, the model reads {model.limits.context_tokens:,}: "
            f"{pictures - room:,} too many. {self._what_fits(prompt, clip, room)}"
        )

    def _what_fits(self, prompt: Prompt, clip: Clip, room: int) -> str:
        if room <= 0:
            return "The question alone is too long: shorten it."
        model = self._model
        length = functools.partial(visual_length, codec=model.codec, flags=model.flags)
        fitting = bisect.bisect_right(
            range(1, len(clip) + 1),
            room,
            key=lambda count: length(dataclasses.replace(clip, frames=clip.frames[:count])),
        )
        if clip.kind == "video":
            return (
                f"The first {fitting} of its {len(clip)} frames fit: ask about a shorter part, "
                "or at a lower fps."
            )
        if prompt.task in _POINTING:
            for crops in range(model.limits.max_crops, 0, -1):
                if length(clip, max_crops=crops) <= room:
                    return f"It fits with pointing_crops={crops}."
        return f"The first {fitting} of its {len(clip)} images fit: ask about fewer, or smaller ones."

    def close(self) -> None:
        """Let go of the clip and of what was read of it."""
        self._clip = None
        self._prefixes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _recipe(decoding: Decoding, crops: int | None) -> str:
    """How the answer was written, in a word for receipts; the number rises when the same word means more."""
    closer = "" if crops is None else f"+crops{crops}"
    if decoding.temperature == 0:
        return f"native/greedy/1{closer}"
    return f"native/sample-t{decoding.temperature:g}-p{decoding.top_p:g}-s{decoding.seed}/1{closer}"
