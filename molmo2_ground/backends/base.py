"""`Backend`: the one border between questions and whatever runs the model."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from molmo2_ground.answer import RawAnswer
from molmo2_ground.clip import Clip, RgbArray
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Decoding, Prompt


class BackendSession(Protocol):
    """One clip, open for questions; a context manager that lets go of the clip at its end."""

    def answer(self, prompt: Prompt, *, decoding: Decoding) -> RawAnswer:
        """Answer one question about the clip, as if it were the only one."""
        ...

    def close(self) -> None:
        """Let go of what is kept for the clip; closing again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """A model that can be asked about clips."""

    @property
    def model_id(self) -> str:
        """The model's name for receipts."""
        ...

    @property
    def limits(self) -> ModelLimits:
        """What the model reads at most."""
        ...

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Shrink a video frame to what the model reads, so that a long clip fits in memory."""
        ...

    def open(self, clip: Clip) -> BackendSession:
        """Take a clip for questions. Every frame of it is shown to the model."""
        ...

    def at_once(self, clip: Clip) -> int:
        """How many clips like this one may be open and asked together; at least 1."""
        ...

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        """Answer questions about open clips, several about one if wished; each as if asked alone."""
        ...
