"""`Query`, what a user wants to know, and `Prompt`, the words that the model gets to read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from molmo2_ground._wanted import NUMBER, WHOLE, YES_OR_NO, Wanted
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import SourceError
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths

Task = Literal["point", "count", "track", "ask"]

# The lengths that the released models are evaluated with; free text rarely needs more than 1024.
_MAX_NEW_TOKENS: dict[Task, int] = {"point": 2048, "count": 2048, "track": 4096, "ask": 1024}

# Asked without a rate, the model follows objects on a half-second grid.
DEFAULT_TRACK_FPS = 2.0
# Times are written with one decimal, so a denser grid would give two frames the same name.
MAX_TRACK_FPS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question about a clip.

    task         what is wanted: places, a number, places over time, or free text.
    phrase       what to look for, in words; for `ask` the question itself.
    fps          places a second for `track`, above 0 and at most 10; the other tasks do not use it.
    max_objects  at most so many objects in the result, the first ones that the model names; None for all.
    at           (time_s, x_px, y_px): follow what is under this point; only for `track`.
    show_fps     frames a second that the model may see while it is asked for `fps` places, from `fps` to 10;
                 `sources.sampling.shown_rate` says how many it does see. None shows the times asked for and
                 no others; only for `track`.
    """

    task: Task
    phrase: str
    fps: float = DEFAULT_TRACK_FPS
    max_objects: int | None = None
    at: tuple[float, float, float] | None = None
    show_fps: float | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"task is one of {', '.join(get_args(Task))}; got {self.task!r}")
        if not isinstance(self.phrase, str) or not self.phrase.strip():
            raise ValueError(f"say in words what to look for; got {self.phrase!r}")
        if not (isinstance(self.fps, Real) and 0 < self.fps <= MAX_TRACK_FPS):
            raise ValueError(
                f"fps is above 0 and at most {MAX_TRACK_FPS:g} places a second; got {self.fps!r}"
            )
        most = self.max_objects
        if most is not None and not (isinstance(most, Integral) and most > 0):
            raise ValueError(f"max_objects is at least 1, or None for no limit; got {most!r}")
        if self.at is not None:
            self._check_at(self.at)
        if self.show_fps is not None:
            self._check_show_fps(self.show_fps)

    def _check_at(self, at: tuple[float, float, float]) -> None:
        if self.task != "track":
            raise ValueError(f"at= says what to follow, so it goes with a track question; got {self.task!r}")
        numbers = tuple(at) if isinstance(at, Iterable) else ()
        if len(numbers) != 3 or not all(isinstance(n, Real) and math.isfinite(n) for n in numbers):
            raise ValueError(f"at= is (time_s, x_px, y_px), three finite numbers; got {at!r}")

    def _check_show_fps(self, show_fps: float) -> None:
        if self.task != "track":
            raise ValueError(f"show_fps= goes with a track question; got {self.task!r}")
        if not (isinstance(show_fps, Real) and self.fps <= show_fps <= MAX_TRACK_FPS):
            raise ValueError(
                f"show_fps is at least the {self.fps:g} places a second that are asked for (fps) and at most "
                f"{MAX_TRACK_FPS:g}; got {show_fps!r}"
            )

    @classmethod
    def track(
        cls,
        phrase: str,
        *,
        fps: float = DEFAULT_TRACK_FPS,
        max_objects: int | None = None,
        at: tuple[float, float, float] | None = None,
        show_fps: float | None = None,
    ) -> Query:
        """Follow everything that `phrase` names, or what is under the point `at` (time_s, x_px, y_px).

        Places are asked for `fps` times a second; up to `show_fps` frames a second are shown to the model.
        """
        return cls(task="track", phrase=phrase, fps=fps, max_objects=max_objects, at=at, show_fps=show_fps)

    @classmethod
    def point(cls, phrase: str, *, max_objects: int | None = None) -> Query:
        """Point to everything that `phrase` names."""
        return cls(task="point", phrase=phrase, max_objects=max_objects)

    @classmethod
    def count(cls, phrase: str) -> Query:
        """Count everything that `phrase` names."""
        return cls(task="count", phrase=phrase)

    @classmethod
    def ask(cls, text: str) -> Query:
        """Ask freely, in the words of `text`."""
        return cls(task="ask", phrase=text)


QUESTION = Wanted('a Query such as Query.track("the red car")', (Query,))
"""What is checked where a question is handed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the answer is written, token by token.

    max_new_tokens  stop after so many tokens; None takes the prompt's own default.
    temperature     0 takes the likeliest token each time; above 0 draws, the flatter the higher.
    top_p           when drawing: only from the likeliest tokens that together have this share, above 0 to 1.
    seed            when drawing: the same seed gives the same answer.
    constrained     places are written by the answer grammar and for the frames shown: no malformed place, no
                    time that was not shown. Around them the model is free. False lets it write anything.
    cut_runaways    places end where the model runs in circles; `molmo2_ground.runaway` has the rules.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    constrained: bool = True
    cut_runaways: bool = True

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            NUMBER.check(name, getattr(self, name))
        for name in ("constrained", "cut_runaways"):
            YES_OR_NO.check(name, getattr(self, name))
        WHOLE.check("seed", self.seed)
        WHOLE.or_nothing().check("max_new_tokens", self.max_new_tokens)
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is at least 1, or None; got {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is 0 or above; got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1; got {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is from 0 to 2^63 - 1; got {self.seed}")

    @classmethod
    def given(cls, decoding: Decoding | None) -> Decoding:
        """What `decoding=` was given, the default for None. Raises `ValueError` for anything else."""
        Wanted("a Decoding", (cls,), or_none=True).check("decoding", decoding)
        return decoding or cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The user's turn, exactly as the model reads it.

    template                name and version of the wording, for the receipt.
    label                   what is asked for, in the words that an answer repeats; empty for free text.
    most_objects            no more are asked for; None for no limit.
    default_max_new_tokens  how long an answer to this may grow when nobody said otherwise.
    """

    text: str
    task: Task
    template: str
    default_max_new_tokens: int
    label: str = ""
    most_objects: int | None = None


def build_prompt(query: Query, clip: Clip) -> Prompt:
    """Word `query` about `clip` as the model learned to be asked.

    Raises `SourceError` when the clip has no picture or is of a kind that the question cannot be asked of,
    `ValueError` when the point to follow lies outside the clip.
    """
    if query.task == "ask":
        return _prompt(query, query.phrase, "ask/1")
    if not clip.frames:
        raise SourceError(
            f"{clip.source} has no picture to look at; expected at least one frame or image. "
            "Check that the file plays, or ask about another one."
        )
    if query.task == "track":
        return _track_prompt(query, clip)
    phrase = in_sentence(query.phrase)
    if clip.kind == "video":
        scene, pointing, counting = "video", " in the video", "in the video"
    elif len(clip) > 1:
        scene, pointing, counting = "images", " in all images", "in all images"
    else:
        scene, pointing, counting = "image", "", "in the picture"
    if query.task == "point":
        return _prompt(query, f"Point to {phrase}{pointing}.", f"point-{scene}/1")
    return _prompt(query, f"How many {phrase} are there {counting}?", f"count-{scene}/1")


def _prompt(query: Query, text: str, template: str) -> Prompt:
    return Prompt(
        text=text,
        task=query.task,
        template=template,
        default_max_new_tokens=_MAX_NEW_TOKENS[query.task],
        label="" if query.task == "ask" else in_sentence(query.phrase),
        most_objects=query.max_objects,
    )


def in_sentence(phrase: str) -> str:
    """The phrase as it stands inside a sentence: on one line, without a full stop of its own."""
    words = " ".join(phrase.split())
    return words[:-1].rstrip() or words if words.endswith(".") else words


def _track_prompt(query: Query, clip: Clip) -> Prompt:
    if clip.kind != "video":
        raise SourceError(
            f"tracking needs a video, whose pictures have times; {clip.source} holds still images. "
            "Use a video, or point() and count() for images."
        )
    phrase = in_sentence(query.phrase)
    if query.at is not None:
        # The released models tell this question by the name of its training style in front.
        text = (
            "video_single_point_track_per_frame: "
            f"Track {_point_element(query, clip, phrase)} in {query.fps:g} FPS."
        )
        return _prompt(query, text, "track-at/1")
    if query.fps == DEFAULT_TRACK_FPS:
        return _prompt(query, f"Track {phrase}.", "track-default/1")
    return _prompt(query, f"Track {phrase} at {query.fps:g} FPS.", "track-fps/1")


def _point_element(query: Query, clip: Clip, phrase: str) -> str:
    """The point to follow, in the markup in which the model writes points itself."""
    assert query.at is not None
    time_s, x_px, y_px = query.at
    frame, shown_s = _nearest_frame(clip, time_s)
    # Beyond one step of the grid nothing that the model sees shows the place the user meant.
    reach_s = 1 / query.fps + 0.05
    if abs(shown_s - time_s) > reach_s:
        raise ValueError(
            f"at= names the time {time_s:g} s, and the nearest frame seen is at {shown_s:g} s; "
            f"expected a time within {reach_s:.2f} s of a frame of {clip.source}"
        )
    if not (0 <= x_px <= frame.width_px and 0 <= y_px <= frame.height_px):
        raise ValueError(
            f"at= names the place ({x_px:g}, {y_px:g}), outside the picture of "
            f"{frame.width_px} x {frame.height_px} pixels"
        )
    x = spell_coordinate(to_thousandths(x_px, frame.width_px))
    y = spell_coordinate(to_thousandths(y_px, frame.height_px))
    return f'<points coords="{spell_seconds(shown_s)} 1 {x} {y}">{phrase}</points>'


def _nearest_frame(clip: Clip, time_s: float) -> tuple[Frame, float]:
    shown = [(frame, frame.shown_time_s) for frame in clip.frames if frame.shown_time_s is not None]
    return min(shown, key=lambda pair: abs(pair[1] - time_s))
