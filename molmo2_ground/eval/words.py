"""Names of scores and tags in words, for readers who know neither the code nor the field."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A short title, and one sentence that explains it."""

    title: str
    meaning: str = ""


_F1 = "Both at once: how many places are right, and how many right places were found (harmonic mean)."
_SCORES = {
    "track_f1": Words(title="Tracking F1", meaning=f"Followed objects, moment by moment. {_F1}"),
    "track_precision": Words(
        title="Tracking precision",
        meaning="Of the places named while tracking, the share that lie on an object.",
    ),
    "track_recall": Words(
        title="Tracking recall", meaning="Of the objects to be seen at each moment, the share that was found."
    ),
    "hota": Words(
        title="HOTA",
        meaning="Tracking as a whole: objects are found, and each keeps its number over time.",
    ),
    "deta": Words(title="DetA", meaning="The part of HOTA that asks only whether objects are found."),
    "assa": Words(
        title="AssA", meaning="The part of HOTA that asks whether an object keeps its number over time."
    ),
    "point_f1": Words(title="Pointing F1", meaning=f"Objects pointed at. {_F1}"),
    "point_precision": Words(
        title="Pointing precision",
        meaning="Of the places pointed at, the share that lie on an object asked for.",
    ),
    "point_recall": Words(
        title="Pointing recall", meaning="Of the objects asked for, the share that was pointed at."
    ),
    "count": Words(title="Count exactly right", meaning="The number is exactly right."),
    "count_close": Words(
        title="Count nearly right", meaning="The number is off by at most 1 plus 5 % of the right one."
    ),
    "none": Words(
        title="Says none", meaning="Nothing of what is asked for is there, and the answer says so."
    ),
    "f1": Words(title="F1", meaning=_F1),
    "precision": Words(title="Precision", meaning="Of the places named, the share that is right."),
    "recall": Words(title="Recall", meaning="Of the objects asked for, the share that was found."),
    "accuracy": Words(title="Accuracy", meaning="The answer is exactly right."),
    "close": Words(
        title="Close accuracy", meaning="The number is off by at most 1 plus 5 % of the right one."
    ),
    "j": Words(title="J", meaning="How well masks overlap with the true ones."),
    "f": Words(title="F", meaning="How well the edges of masks lie on the true ones."),
    "j_and_f": Words(
        title="J&F", meaning="Mean of how well masks overlap (J) and how well their edges lie (F)."
    ),
    "readable": Words(title="Answers read", meaning="The model's text could be read as an answer at all."),
}
_SCORES["close_accuracy"] = _SCORES["close"]
_SCORES["count_accuracy"] = _SCORES["count"]

_TAGS = {
    "objects": Words(title="Number of objects", meaning="how many objects the question is about"),
    "clip_s": Words(title="Length of the clip", meaning="length of the clip"),
    "size_share": Words(title="Size of the objects", meaning="share of the picture that an object covers"),
    "occluded_share": Words(title="Hidden behind other things", meaning="share of an object that is hidden"),
    "category": Words(title="Kind of question", meaning="kind of question"),
    "task": Words(title="Task", meaning="task"),
}
_TASKS = {"track": "Track", "point": "Point to", "count": "Count"}


def score_words(name: str) -> Words:
    """A score in words; an unknown one by its name."""
    return _SCORES.get(name, Words(title=_spelled(name)))


def tag_words(name: str) -> Words:
    """A tag in words; an unknown one by its name."""
    return _TAGS.get(name, Words(title=_spelled(name), meaning=_spelled(name).lower()))


def question(task: str, phrase: str) -> str:
    """A question as one would say it: Track the red car."""
    return f"{_TASKS.get(task, task)} {phrase}"


def percent(share: float, *, signed: bool = False) -> str:
    """A share as a percentage with one decimal: 0.731 is 73.1 %."""
    value = round(100 * share, 1) + 0.0  # never "-0.0"
    return f"{value:{'+' if signed else ''}.1f} %".replace("-", "\N{MINUS SIGN}")


def between(low: float, high: float, *, signed: bool = False) -> str:
    """A range of shares: 70.2 to 75.9 %."""
    return f"{percent(low, signed=signed).removesuffix(' %')} to {percent(high, signed=signed)}"


def amount(value: float, tag: str) -> str:
    """A tag's value with its unit: 4.5 s, 0.34 %, 3."""
    if tag.endswith("_share"):
        return f"{_short(100 * value)} %"
    return f"{_short(value)} s" if tag.endswith("_s") else _short(value)


def _short(value: float) -> str:
    """Two digits that matter, whole numbers whole."""
    return f"{value:.0f}" if value == round(value) or abs(value) >= 10 else f"{value:.2g}"


def _spelled(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
