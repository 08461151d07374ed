"""`NativeBackend`: a checkpoint run in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.prompt_room import PromptRoom
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.errors import BackendError
from molmo2_ground.model.answer_rules import AnswerRules
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.drafting import Expected
from molmo2_ground.model.int8 import is_int8
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.molmo2 import Molmo2
from molmo2_ground.model.prefix import Generated, Prefix, Turn, answer_together
from molmo2_ground.query import Decoding, Prompt
from molmo2_ground.thousandths import spell_seconds


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
        self.room = PromptRoom(
            checkpoint=model.checkpoint,
            device=model.device,
            dtype=model.network.lm_head.weight.dtype,
            int8=is_int8(model.network),
            pointing_crops=pointing_crops,
        )

    @property
    def model(self) -> Molmo2:
        """The loaded checkpoint that answers."""
        return self._model

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
        return NativeSession(self._model, clip, room=self.room)

    def at_once(self, clip: Clip) -> int:
        """How many clips of this length may be asked together, by the memory for their keys and values."""
        return self.room.at_once(clip)

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

    def __init__(self, model: Molmo2, clip: Clip, *, room: PromptRoom) -> None:
        """Made by `NativeBackend.open`."""
        self._model = model
        self._clip: Clip | None = clip
        self._room = room
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
        crops = self._room.crops(prompt, clip)
        self._room.check(prompt, clip)
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
            recipe=self.recipe + _seen_by(self.model),
            timings_ms=timings_ms,
            notes=tuple(f"an answer was ended early: {cut}" for cut in generated.cuts),
        )


def _seen_by(model: Molmo2) -> str:
    """Features of another runtime differ in the last digits, and with them, now and then, a word."""
    name = model.vision.tower.name
    return "" if name == "torch" else f"+vision-{name}"


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
