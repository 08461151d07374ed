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
    "count_f1": Words(title="Counting F1", meaning=f"The places that were counted. {_F1}"),
    "not_none": Words(
        title="Says that something is there",
        meaning="Something of what is asked for is there, and the answer does not say that nothing is.",
    ),
    "colour": Words(
        title="Right colour",
        meaning="One of several of a kind is asked for by its colour, and most of the answer lies on it.",
    ),
    "identity": Words(
        title="Keeps its number",
        meaning="While tracking, the share of right places with the same number as the one before.",
    ),
    "track_f1_8": Words(title="Tracking F1, 8 frames", meaning="Tracking F1 over clips of 8 half seconds."),
    "track_f1_32": Words(
        title="Tracking F1, 32 frames", meaning="Tracking F1 over clips of 32 half seconds."
    ),
    "identity_8": Words(
        title="Keeps its number, 8 frames", meaning="As above, over clips of 8 half seconds."
    ),
    "identity_32": Words(
        title="Keeps its number, 32 frames", meaning="As above, over clips of 32 half seconds."
    ),
    "first_last_f1": Words(
        title="First and last seen F1", meaning=f"Where each object is first and last seen. {_F1}"
    ),
    "first_last_precision": Words(
        title="First and last seen precision",
        meaning="Of the places named, the share on an object at the moment it is first or last seen.",
    ),
    "first_last_recall": Words(
        title="First and last seen recall", meaning="Of the first and last places, the share that was named."
    ),
    "follow_f1": Words(
        title="Following from a point F1",
        meaning=f"What lies under a point, followed in the half seconds after it. {_F1}",
    ),
    "follow_precision": Words(
        title="Following from a point precision",
        meaning="Of the places named after the click, the share on what was clicked.",
    ),
    "follow_recall": Words(
        title="Following from a point recall",
        meaning="Of the moments after the click at which it can be seen, the share that was found.",
    ),
    "motion_f1": Words(title="Asked for by motion, F1", meaning=f"Moving or parked ones. {_F1}"),
    "size_f1": Words(title="Asked for by size, F1", meaning=f"The largest or the smallest. {_F1}"),
    "position_f1": Words(
        title="Asked for by position, F1", meaning=f"The one on the left, at the top and so on. {_F1}"
    ),
    "none": Words(
        title="Says none", meaning="Nothing of what is asked for is there, and the answer says so."
    ),
    "f1": Words(title="F1", meaning=_F1),
    "precision": Words(title="Precision", meaning="Of the places named, the share that is right."),
    "recall": Words(title="Recall", meaning="Of the objects asked for, the share that was found."),
    "accuracy": Words(title="Accuracy", meaning="The answer is exactly right."),
    "close": Words(
        title="Close accuracy",
        meaning="The number is off by at most 1; in videos, by at most 1 plus 5 % of the right one.",
    ),
    "j": Words(title="J", meaning="How well masks overlap with the true ones."),
    "f": Words(title="F", meaning="How well the edges of masks lie on the true ones."),
    "j_and_f": Words(
        title="J&F", meaning="Mean of how well masks overlap (J) and how well their edges lie (F)."
    ),
    "true_point_j": Words(
        title="J from true points", meaning="How well masks overlap when every object is pointed to rightly."
    ),
    "true_point_f": Words(
        title="F from true points", meaning="How well edges lie when every object is pointed to rightly."
    ),
    "true_point_j_and_f": Words(
        title="J&F from true points",
        meaning="Mean of J and F when every object is pointed to rightly: the segmenter without the model.",
    ),
    "correct": Words(title="Correct", meaning="The answer is right in every part."),
    "detre": Words(title="DetRe", meaning="HOTA's detection recall."),
    "detpr": Words(title="DetPr", meaning="HOTA's detection precision."),
    "assre": Words(title="AssRe", meaning="HOTA's association recall."),
    "asspr": Words(title="AssPr", meaning="HOTA's association precision."),
    "loca": Words(
        title="LocA", meaning="How exactly matched places agree; 100 % where a place is in or out."
    ),
    "owta": Words(title="OWTA", meaning="As HOTA, but naming more than was asked for costs nothing."),
    "readable": Words(title="Answers read", meaning="The model's text could be read as an answer at all."),
}
_SCORES["close_accuracy"] = _SCORES["close"]
_SCORES["count_accuracy"] = _SCORES["count"]

# Prefixes of names: (what is added to the title, what is added to the meaning).
_PREFIXES = {
    "pooled_": ("all together", "All questions are counted together, so long ones weigh more."),
    "reference_": ("as released", "As the evaluator released with Molmo2 counts it; see docs/evaluation.md."),
}

_TAGS = {
    "objects": Words(title="Number of objects", meaning="how many objects the question is about"),
    "clip_s": Words(title="Length of the clip", meaning="length of the clip"),
    "size_share": Words(title="Size of the objects", meaning="share of the picture that an object covers"),
    "occluded_share": Words(title="Hidden behind other things", meaning="share of an object that is hidden"),
    "category": Words(title="Kind of question", meaning="kind of question"),
    "task": Words(title="Task", meaning="task"),
}
_TASKS = {"track": "Track", "point": "Point to", "count": "Count", "ask": "Asked in its own words:"}
# A number and its unit stay on one line.
_PERCENT = "\N{NO-BREAK SPACE}%"


def score_words(name: str) -> Words:
    """A score in words; an unknown one by its name."""
    for prefix, (added, why) in _PREFIXES.items():
        if name.startswith(prefix):
            plain = score_words(name.removeprefix(prefix))
            return Words(title=f"{plain.title}, {added}", meaning=f"{plain.meaning} {why}".strip())
    if name not in _SCORES and name.startswith("accuracy_"):
        return Words(title=f"Accuracy, {_spelled_group(name.removeprefix('accuracy_'))}")
    return _SCORES.get(name, Words(title=_spelled(name)))


def tag_words(name: str) -> Words:
    """A tag in words; an unknown one by its name."""
    return _TAGS.get(name, Words(title=_spelled(name), meaning=_spelled(name).lower()))


def question(task: str, phrase: str) -> str:
    """A question as one would say it: Track the red car."""
    return f"{_TASKS.get(task, task)} {phrase}"


def percent(share: float) -> str:
    """A share as a percentage with one decimal: 0.731 is 73.1 %."""
    return f"{100 * share:.1f}{_PERCENT}"


def examples(count: int) -> str:
    """How many examples: 1 example, 8 examples."""
    return f"{count} example{'s' * (count != 1)}"


def between(low: float, high: float) -> str:
    """A range of shares: 70.2 to 75.9 %."""
    return f"{100 * low:.1f} to {percent(high)}"


def change(shares: float) -> str:
    """The difference of two shares in percentage points: +5.0, −3.2, and 0.0 without a sign."""
    value = round(100 * shares, 1)
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if value else "0.0"


def said(tag: str, value: str | float) -> str:
    """One tag of one example in a few words: clip of 4.5 s."""
    if isinstance(value, str):
        return f"{tag_words(tag).title.lower()}: {value}"
    shown = amount(value, tag)
    match tag:
        case "objects":
            return f"{shown} object{'' if value == 1 else 's'} asked for"
        case "clip_s":
            return f"clip of {shown}"
        case "size_share":
            return f"{shown} of the picture covered"
        case "occluded_share":
            return f"{shown} hidden"
    return f"{tag_words(tag).title.lower()}: {shown}"


def amount(value: float, tag: str) -> str:
    """A tag's value with its unit: 4.5 s, 0.34 %, 3."""
    return f"{bare(value, tag)}\N{NO-BREAK SPACE}{unit(tag)}".strip()


def bare(value: float, tag: str) -> str:
    """A tag's value without its unit, which `unit` gives."""
    return _short(100 * value if tag.endswith("_share") else value)


def unit(tag: str) -> str:
    """What a tag is measured in: s, %, or nothing."""
    return "%" if tag.endswith("_share") else "s" if tag.endswith("_s") else ""


def _short(value: float) -> str:
    """Two digits that matter and two decimals at most, whole numbers whole."""
    if value == round(value) or abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) >= 0.1 else f"{value:.2f}".rstrip("0").rstrip(".")


def _spelled_group(name: str) -> str:
    """A group of examples as it stands in a score's name: 5_9 is 5 to 9, 25_up is 25 and more."""
    first, _, last = name.partition("_")
    if first.isdigit() and (last.isdigit() or last == "up"):
        return f"{first} and more" if last == "up" else f"{first} to {last}"
    return name.replace("_", " ")


def _spelled(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
