"""Everything this package raises on purpose, in one tree.

GroundError
├── SourceError          the video, image or stream cannot be opened or read
├── CheckpointError      the model's files are missing, damaged or of another kind
├── PromptTooLongError   the question and its frames do not fit the model's context
├── AnswerError          the model answered, and no place could be read from what it wrote
├── BackendError         the model could not be run
├── DeadlineError        the time that a call may take was over before anything was found
├── TrainingError        a training run stopped, or cannot go on from what was saved
└── MissingExtraError    an optional library is needed and not installed

Each message says what went wrong, what was expected, what was found, and what to do.
Wrong arguments (an empty phrase, a negative rate) raise `ValueError`, as everywhere in Python.
Beside the tree stands `Interrupted`: Ctrl-C, with what was found by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molmo2_ground.answer import RawAnswer
    from molmo2_ground.results import Tracks


class GroundError(Exception):
    """Base of every error that this package raises on purpose."""


class SourceError(GroundError):
    """A video, image or stream that cannot be opened, ended early, or is of an unsupported kind."""


class CheckpointError(GroundError):
    """A checkpoint whose files are missing, damaged, or describe another model."""


class PromptTooLongError(GroundError):
    """The frames and the question need more tokens than the model can read."""


class AnswerError(GroundError):
    """The model wrote something in which no answer could be read; `answer` holds its text."""

    def __init__(self, message: str, *, answer: RawAnswer) -> None:
        super().__init__(message)
        self.answer = answer


class BackendError(GroundError):
    """The model could not be run, or the server that runs it did not answer."""


class DeadlineError(GroundError, TimeoutError):
    """The time that a call may take was over before anything was found."""


class TrainingError(GroundError):
    """A training run stopped itself, or cannot go on from what was saved."""


class MissingExtraError(GroundError):
    """An optional library is needed; the message says what to install."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a long video was tracked; `partial` holds the tracks of the windows answered by then.

    It is a `KeyboardInterrupt`, so a program that does not catch it ends, with a traceback. Its exit code is
    then 1: Python keeps an end by the signal itself for the plain class.
    """

    def __init__(self, message: str, *, partial: Tracks) -> None:
        super().__init__(message)
        self.partial = partial


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read, in the system's words without its number and the file's name."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return error.strerror or str(error)
