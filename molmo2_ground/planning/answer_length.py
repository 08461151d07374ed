"""How long an answer will probably be: a usual answer is written out and its words are counted."""

from __future__ import annotations

from dataclasses import dataclass

from molmo2_ground.answer import Group, ParsedPoint, count_answer, format_answer, points_answer, tracks_answer
from molmo2_ground.clip import Clip
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.query import Prompt, Query

_USUAL_PLACES = 5
_USUAL_TEXT_TOKENS = 120
# Runs of the network a token, with words guessed ahead: benchmarks/decode.py on the toy street, 2026-11-27.
_RUNS_A_TOKEN = 0.32
# Words of such a run: the one before and the guesses, on average over 1,040 runs for tracks in a minute of
# the toy street, 2026-11-27, when `writing.Drafter` made at most 9.
_WORDS_A_RUN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLength:
    """Of one look's answer. basis: what is supposed, in words.

    runs: of the network, each of `words_a_run` words.
    """

    tokens: int
    runs: float
    words_a_run: int
    basis: str


def answer_length(query: Query, prompt: Prompt, clip: Clip, *, codec: TextCodec, room: int) -> AnswerLength:
    """An estimate for the answer about one clip; room: tokens that the context leaves for it."""
    most = max(1, min(room, prompt.default_max_new_tokens))
    if query.task == "ask":
        tokens = min(most, _USUAL_TEXT_TOKENS)
        basis = f"an answer in words of about {_USUAL_TEXT_TOKENS} tokens"
        return AnswerLength(tokens=tokens, runs=float(tokens), words_a_run=1, basis=basis)
    text, basis = _places(query, prompt, clip)
    tokens = min(most, len(codec.encode(text)))
    return AnswerLength(tokens=tokens, runs=_RUNS_A_TOKEN * tokens, words_a_run=_WORDS_A_RUN, basis=basis)


def _places(query: Query, prompt: Prompt, clip: Clip) -> tuple[str, str]:
    if query.task == "track":
        times_s = clip.shown_times_s.tolist()
        # Between the times asked for, more frames may be shown.
        asked = [t for t in times_s if abs(t * query.fps - round(t * query.fps)) < 1e-6] or times_s
        keys = dict.fromkeys(round(t, 1) for t in asked)
        text = format_answer(tracks_answer(prompt.label, [_group(key, 1) for key in keys]))
        return text, "one object in sight all the time"
    count = _USUAL_PLACES if query.max_objects is None else min(query.max_objects, _USUAL_PLACES)
    key = 0.0 if clip.kind == "video" else 1
    write = points_answer if query.task == "point" else count_answer
    return format_answer(write(prompt.label, [_group(key, count)])), f"{count} places"


def _group(key: float, count: int) -> Group:
    places = (ParsedPoint(object_id=n + 1, x=500, y=100 + n) for n in range(count))
    return Group(key=key, points=tuple(places))
