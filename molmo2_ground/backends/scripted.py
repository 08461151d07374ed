"""`ScriptedBackend`: recorded answers in place of a model, for tests, examples and demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.errors import BackendError
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt

_LIMITS = ModelLimits(max_frames=384, max_fps=2.0, max_crops=8, context_tokens=36864)


class ScriptedBackend:
    """Gives the answers of a list, one a question, in order.

    prompts: every question asked so far, with its clip, for a look at what a caller sent.
    """

    def __init__(
        self,
        answers: Sequence[str | RawAnswer],
        *,
        model_id: str = "scripted",
        limits: ModelLimits = _LIMITS,
    ) -> None:
        """Take the answers: a `RawAnswer` comes back as it is, a text as an answer that ended by itself."""
        self._answers = tuple(answers)
        self._model_id = model_id
        self._limits = limits
        self.prompts: list[tuple[Prompt, Clip]] = []

    @property
    def model_id(self) -> str:
        """The name given at the start."""
        return self._model_id

    @property
    def limits(self) -> ModelLimits:
        """Those given at the start; without any, those of the released models."""
        return self._limits

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Leave the frame as it is: nobody looks at it."""
        return rgb_hwc

    def open(self, clip: Clip) -> ScriptedSession:
        """Take a clip for questions; all sessions draw from the one list."""
        return ScriptedSession(self, clip)

    def at_once(self, clip: Clip) -> int:
        """One: the answers come in order."""
        return 1

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        """The next answers of the list, in order."""
        return [session.answer(prompt, decoding=decoding) for session, prompt in asked]

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        """The next answer of the list. Raises `BackendError` when it is used up."""
        number = len(self.prompts)
        if number >= len(self._answers):
            raise BackendError(
                f"the script holds {len(self._answers)} answers and question {number + 1} was asked: "
                f"{prompt.text!r}; give it one answer a question"
            )
        self.prompts.append((prompt, clip))
        answer = self._answers[number]
        if isinstance(answer, RawAnswer):
            return answer
        return RawAnswer(
            text=answer,
            stop_reason="end",
            tokens_in=0,
            tokens_out=0,
            forwards=0,
            model_id=self._model_id,
            revision=None,
            backend="scripted",
            recipe="scripted/1",
            timings_ms={},
        )


class ScriptedSession:
    """One clip of a `ScriptedBackend`."""

    def __init__(self, backend: ScriptedBackend, clip: Clip) -> None:
        """Made by `ScriptedBackend.open`."""
        self._backend = backend
        self._clip: Clip | None = clip

    def answer(self, prompt: Prompt, *, decoding: Decoding) -> RawAnswer:
        """The script's next answer. Raises `BackendError` when it is used up."""
        if self._clip is None:
            raise ValueError("this session is closed; open the clip again to ask more")
        return self._backend.next_answer(prompt, self._clip)

    def close(self) -> None:
        """Let go of the clip."""
        self._clip = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
