from __future__ import annotations

import pickle

import pytest

from molmo2_ground import _optional, errors
from molmo2_ground.answer import RawAnswer
from molmo2_ground.errors import AnswerError, GroundError, MissingExtraError

RAW = RawAnswer(
    text="hm",
    stop_reason="end",
    tokens_in=1,
    tokens_out=1,
    forwards=1,
    model_id="tiny",
    revision=None,
    backend="scripted",
    recipe="greedy/1",
)


def test_every_error_is_a_ground_error_and_drawn_in_the_tree() -> None:
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert set(kinds) == {
        "AnswerError",
        "BackendError",
        "CheckpointError",
        "DeadlineError",
        "GroundError",
        "MissingExtraError",
        "PromptTooLongError",
        "SourceError",
        "TrainingError",
    }
    for name, kind in kinds.items():
        assert issubclass(kind, GroundError)
        assert name in (errors.__doc__ or "")
    # Those who catch Exception must not catch Ctrl-C with it.
    assert issubclass(errors.Interrupted, KeyboardInterrupt)
    assert not issubclass(errors.Interrupted, Exception)
    # Those who catch ValueError for a wrong argument must not catch a broken video with it.
    assert not issubclass(GroundError, ValueError | OSError)


def test_an_answer_error_holds_the_whole_answer() -> None:
    error = AnswerError("no place could be read", answer=RAW)
    assert str(error) == "no place could be read"
    assert error.answer.text == "hm"


def test_a_missing_library_is_named_with_what_to_install() -> None:
    with pytest.raises(
        MissingExtraError, match=r"no_such_library.*pip install 'molmo2-ground\[masks\]'"
    ) as caught:
        _optional.require("no_such_library", extra="masks")
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_library_that_is_there_is_handed_over() -> None:
    assert _optional.require("pickle", extra="masks") is pickle
