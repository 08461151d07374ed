"""`NativeBackend`: a checkpoint run in this process."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.errors import BackendError, PromptTooLongError
from molmo2_ground.model.answer_rules import AnswerRules
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.drafting import Expected
from molmo2_ground.model.inputs import prompt_ids, visual_length
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.molmo2 import Molmo2
from molmo2_ground.model.prefix import Generated, Prefix, Turn, answer_together
from molmo2_ground.query import Decoding, Prompt
from molmo2_ground.thousandths import spell_seconds

# A prompt that leaves room for fewer tokens than this could not be answered in any useful way.
_LEAST_ANSWER_TOKENS = 64
_POINTING = ("point", "count")
# Clips that are asked together hold their keys and values at the same time: at most so many bytes of them.
_TOGETHER_BYTES = 2 * 2**30
_TOGETHER_BYTES_CPU = 128 * 2**20
_TOGETHER_CLIPS = 16  # a run is well filled by then
_ROOM_FOR_ANSWER = 1024  # tokens of question and answer; an answer may grow longer


class NativeBackend:
    """Runs a loaded checkpoint; one caller at a time."""

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

    def at_once(self, clip: Clip) -> int:
        """How many clips of this length may be asked together, by the memory for their keys and values."""
        model = self._model
        text: Any = model.checkpoint.config.text_config
        tokens = visual_length(clip, codec=model.codec, flags=model.flags) + _ROOM_FOR_ANSWER
        size = model.network.lm_head.weight.element_size()
        token_bytes = 2 * size * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        budget = _TOGETHER_BYTES_CPU if model.device.type == "cpu" else _TOGETHER_BYTES
        return min(_TOGETHER_CLIPS, max(1, int(budget // (tokens * token_bytes))))

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        """Answer questions about one clip or several, word by word in step.

        When memory runs out they are asked one by one. Raises what `NativeSession.answer` raises.
        """
        sessions = [session for session, _ in asked if isinstance(session, NativeSession)]
        if len(sessions) != len(asked) or len(asked) == 1:
            return [session.answer(prompt, decoding=decoding) for session, prompt in asked]
        try:
            begun = [
                session.begin(prompt, decoding=decoding)
                for session, (_, prompt) in zip(sessions, asked, strict=True)
            ]
            generated = answer_together([one.turn for one in begun], sampling=sampling_of(decoding))
        except torch.OutOfMemoryError:
            for session in sessions:
                session.forget()
            return [session.answer(prompt, decoding=decoding) for session, prompt in asked]
        return [one.raw_answer(answer) for one, answer in zip(begun, generated, strict=True)]


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
        try:
            begun = self.begin(prompt, decoding=decoding)
            return begun.raw_answer(answer_together([begun.turn], sampling=sampling_of(decoding))[0])
        except torch.OutOfMemoryError as error:
            self.forget()
            raise BackendError(
                f"{self._model.device} has too little memory for {len(self._clip or ())} pictures; "
                "show fewer frames, or load the model with dtype='bfloat16' or on another device"
            ) from error

    def begin(self, prompt: Prompt, *, decoding: Decoding) -> Begun:
        """Read the pictures, unless they are read already, and make the question ready.

        Raises `PromptTooLongError` when pictures and question leave no room for an answer.
        """
        clip = self._clip
        if clip is None:
            raise ValueError("this session is closed; open the clip again to ask more")
        crops = self._crops(prompt, clip)
        self._check_length(prompt, clip, crops)
        timings_ms: dict[str, float] = {}
        prefix = self._prefixes.get(crops)
        if prefix is None:
            began = time.perf_counter()
            visual = self._model.build_visual(clip, max_crops=crops)
            timings_ms["preprocess"] = (time.perf_counter() - began) * 1000.0
            prefix = self._prefixes[crops] = Prefix(self._model, visual)
            timings_ms.update(prefix.timings_ms)
        last_s = float(clip.shown_times_s[-1]) if clip.kind == "video" and len(clip) else None
        turn = prefix.turn(
            prompt.text,
            max_new_tokens=decoding.max_new_tokens or prompt.default_max_new_tokens,
            expected=Expected(label=prompt.label, last_s=last_s),
            rules=_rules(prompt, clip, decoding),
        )
        return Begun(model=self._model, turn=turn, recipe=_recipe(decoding, crops), timings_ms=timings_ms)

    def forget(self) -> None:
        """Let go of what was read of the pictures; the next question reads them again."""
        self._prefixes.clear()

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Begun:
    """A question ready to be answered. timings_ms: what reading the pictures took, if it was the first."""

    model: Molmo2
    turn: Turn
    recipe: str
    timings_ms: Mapping[str, float]

    def raw_answer(self, generated: Generated) -> RawAnswer:
        """The answer as the rest of the package takes it."""
        timings_ms = dict(self.timings_ms)
        for stage, spent_ms in generated.timings_ms.items():
            timings_ms[stage] = timings_ms.get(stage, 0.0) + spent_ms
        return RawAnswer(
            text=generated.text,
            stop_reason=generated.stop_reason,
            tokens_in=generated.tokens_in,
            tokens_out=len(generated.token_ids),
            forwards=generated.forwards,
            model_id=self.model.model_id,
            revision=self.model.revision,
            backend="native",
            recipe=self.recipe,
            timings_ms=timings_ms,
            notes=tuple(f"an answer was ended early: {cut}" for cut in generated.cuts),
        )


def sampling_of(decoding: Decoding) -> Sampling:
    """How words are chosen, in the model's terms."""
    return Sampling(temperature=decoding.temperature, top_p=decoding.top_p, seed=decoding.seed)


def _rules(prompt: Prompt, clip: Clip, decoding: Decoding) -> AnswerRules | None:
    """What an answer about this clip may look like; None when the model may write anything."""
    if not decoding.constrained:
        return None
    numbers = [str(number) for number in range(1, len(clip) + 1)]
    keys = [spell_seconds(time_s) for time_s in clip.shown_times_s] if clip.kind == "video" else numbers
    return AnswerRules(keys, most=prompt.most_objects, cut_runaways=decoding.cut_runaways)


def _recipe(decoding: Decoding, crops: int | None) -> str:
    """How the answer was written, in a word for receipts; the number rises when the same word means more."""
    closer = "" if crops is None else f"+crops{crops}"
    if decoding.constrained:
        closer = f"{'+rules' if decoding.cut_runaways else '+rules-uncut'}{closer}"
    if decoding.temperature == 0:
        return f"native/greedy/1{closer}"
    return f"native/sample-t{decoding.temperature:g}-p{decoding.top_p:g}-s{decoding.seed}/1{closer}"
