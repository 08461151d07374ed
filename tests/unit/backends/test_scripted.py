from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends import Backend, ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import BackendError
from molmo2_ground.query import Decoding, Query, build_prompt

CLIP = Clip.from_arrays(np.zeros((2, 4, 6, 3), np.uint8), fps=2.0)
PROMPT = build_prompt(Query.track("the red car"), CLIP)


def test_answers_come_in_order_over_all_sessions() -> None:
    backend = ScriptedBackend(["one", "two", "three"])
    with backend.open(CLIP) as first, backend.open(CLIP) as second:
        texts = [session.answer(PROMPT, decoding=Decoding()).text for session in (first, second, first)]
    assert texts == ["one", "two", "three"]
    assert [prompt.text for prompt, _ in backend.prompts] == ["Track the red car."] * 3
    assert all(clip is CLIP for _, clip in backend.prompts)


def test_a_text_is_an_answer_that_ended() -> None:
    raw = ScriptedBackend(["There are none."], model_id="demo").open(CLIP).answer(PROMPT, decoding=Decoding())
    assert (raw.text, raw.stop_reason, raw.model_id) == ("There are none.", "end", "demo")
    assert (raw.backend, raw.recipe, raw.tokens_out) == ("scripted", "scripted/1", 0)


def test_a_recorded_answer_comes_back_as_it_is() -> None:
    recorded = RawAnswer(
        text="<tracks", stop_reason="length", tokens_in=9, tokens_out=2, forwards=1, model_id="x",
        revision="abc", backend="native", recipe="native/greedy/1", timings_ms={"vision": 1.0},
    )  # fmt: skip
    assert ScriptedBackend([recorded]).open(CLIP).answer(PROMPT, decoding=Decoding()) is recorded


def test_a_used_up_script_says_what_was_asked() -> None:
    session = ScriptedBackend(["only"]).open(CLIP)
    session.answer(PROMPT, decoding=Decoding())
    with pytest.raises(
        BackendError, match=r"holds 1 answers and question 2 was asked: 'Track the red car\.'"
    ):
        session.answer(PROMPT, decoding=Decoding())


def test_a_closed_session_answers_no_more() -> None:
    session = ScriptedBackend(["one"]).open(CLIP)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.answer(PROMPT, decoding=Decoding())


def test_frames_stay_as_they_are() -> None:
    backend: Backend = ScriptedBackend([])
    assert backend.resize_frame(CLIP.frames[0].rgb) is CLIP.frames[0].rgb
    assert backend.limits.max_frames == 384


@pytest.mark.slow
def test_a_script_needs_no_torch() -> None:
    code = "import sys, molmo2_ground.backends; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=100, check=False).returncode == 0
