"""`Session`: one video or some images, open for questions.

`Session.asking` is the whole way, top to bottom:
open_clip -> build_prompt -> the backend answers -> make_receipt -> derive (parse_answer, then placement).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from molmo2_ground._heap import return_freed_blocks, return_large_blocks
from molmo2_ground._wanted import FUNCTION
from molmo2_ground.asking import Ask, Asking, Outcome, ask_one, gather
from molmo2_ground.clip import Clip
from molmo2_ground.deadline import Deadline
from molmo2_ground.errors import Interrupted
from molmo2_ground.look import Looking
from molmo2_ground.placement import make_receipt
from molmo2_ground.query import QUESTION, Decoding, Query, build_prompt
from molmo2_ground.replay import Result, derive, keep_first
from molmo2_ground.results import Answer, Count, Points, Tracks
from molmo2_ground.sources import MediaLike, open_clip, open_windows, probe
from molmo2_ground.windows import OnProgress, track_windows

if TYPE_CHECKING:
    from molmo2_ground.backends.base import Backend, BackendSession

_Kind = TypeVar("_Kind", Points, Tracks, Count, Answer)

# Of frames as filmed: fewer leave little behind, and pages that were given back cost time to get again.
_MANY_PIXELS = 2**24


class Session:
    """One video or some images, open for questions; use it in a `with` block or close it.

    Frames are read when the first question needs them and kept, shrunk to what the model takes. Tracking
    looks at a steady grid of times, every other question at evenly spread times and the last frame, as the
    model was trained; each of the two is read and encoded once. A video too long to be tracked at one look
    is read again for each tracking question, window by window, so that memory does not grow with it.
    """

    def __init__(self, backend: Backend, media: MediaLike, *, on_progress: OnProgress | None = None) -> None:
        FUNCTION.or_nothing().check("on_progress", on_progress)
        self._backend = backend
        self._media = media
        self._info = probe(media)
        self._looking = Looking.at(media, info=self._info, limits=backend.limits)
        self._on_progress = on_progress
        self._clips: dict[float | None, Clip] = {}
        self._sessions: dict[float | None, BackendSession] = {}
        self._open_sessions = ExitStack()
        self._closed = False

    def run(self, queries: Sequence[Query], *, decoding: Decoding | None = None) -> list[Result]:
        """The answers to several questions, in their order; each is what the question alone would give.

        They are written in step over one reading of the frames. Raises what the first question that fails
        raises, and `Interrupted` on Ctrl-C during the windows of a long video.
        """
        self._check_open()
        decoding = Decoding.given(decoding)
        outcomes = ask_one(self._backend, self.asking_all(queries, decoding=decoding), decoding=decoding)
        return [outcome.get() for outcome in outcomes]

    def asking_all(self, queries: Sequence[Query], *, decoding: Decoding) -> Asking[list[Outcome[Result]]]:
        """Several questions on their way, as `asking`; returns what came of each.

        They are asked together; a video too long for one look is tracked for each question by itself.
        """
        QUESTION.all_of("queries", queries)
        alone = [n for n, query in enumerate(queries) if self._looking.by_windows(query)]
        askings = {n: self.asking(query, decoding=decoding) for n, query in enumerate(queries)}
        together = [n for n in askings if n not in alone]
        found: dict[int, Outcome[Result]] = {}
        for group in (together, *([n] for n in alone)):
            outcomes = yield from gather([askings[n] for n in group])
            found |= zip(group, outcomes, strict=True)
        return [found[n] for n in range(len(queries))]

    def asking(self, query: Query, *, decoding: Decoding, deadline: Deadline | None = None) -> Asking[Result]:
        """The question on its way to its answer, for `asking.ask_in_step`; what `answer` gives is returned.

        Its frames are read when it starts.
        """
        self._check_open()
        QUESTION.check("query", query)
        if self._looking.by_windows(query):
            return (yield from self._track_by_windows(query, decoding, deadline=deadline))
        clip, read_ms = self._clip_for(query)
        prompt = build_prompt(query, clip)
        session = self._session_for(query, clip)
        self._tell("answering", 0.0)
        (raw,) = yield [Ask(clip=clip, session=session, prompt=prompt)]
        self._tell("answering", 1.0)
        receipt = make_receipt(query, prompt, raw, clip, decoding=decoding)
        return derive(
            receipt.model_copy(
                update={
                    "recipe": f"{receipt.recipe}; {self._looking.sampling(query)}",
                    "timings_ms": {"decode": read_ms, **receipt.timings_ms},
                    "notes": (*receipt.notes, *self._notes(query, clip)),
                }
            )
        )

    def track(
        self,
        phrase: str,
        *,
        fps: float = 2.0,
        max_objects: int | None = None,
        at: tuple[float, float, float] | None = None,
        show_fps: float | None = None,
        decoding: Decoding | None = None,
        deadline_s: float | None = None,
    ) -> Tracks:
        """As `Grounder.track`, over the frames that this session holds."""
        query = Query.track(phrase, fps=fps, max_objects=max_objects, at=at, show_fps=show_fps)
        deadline = None if deadline_s is None else Deadline.after(deadline_s)
        return expect(Tracks, self.answer(query, decoding=decoding, deadline=deadline))

    def point(
        self, phrase: str, *, max_objects: int | None = None, decoding: Decoding | None = None
    ) -> Points:
        """As `Grounder.point`, over the frames that this session holds."""
        return expect(Points, self.answer(Query.point(phrase, max_objects=max_objects), decoding=decoding))

    def count(self, phrase: str, *, decoding: Decoding | None = None) -> Count:
        """As `Grounder.count`, over the frames that this session holds."""
        return expect(Count, self.answer(Query.count(phrase), decoding=decoding))

    def ask(self, text: str, *, decoding: Decoding | None = None) -> Answer:
        """As `Grounder.ask`, over the frames that this session holds."""
        return expect(Answer, self.answer(Query.ask(text), decoding=decoding))

    def answer(
        self, query: Query, *, decoding: Decoding | None = None, deadline: Deadline | None = None
    ) -> Result:
        """Answer one question: `Tracks`, `Points`, `Count` or `Answer`, as the query's task says.

        deadline: looked at between the windows of a long video, as `Grounder.track` says of `deadline_s`; a
        question that one look answers takes the time it takes.
        """
        self._check_open()
        decoding = Decoding.given(decoding)
        asking = self.asking(query, decoding=decoding, deadline=deadline)
        return ask_one(self._backend, asking, decoding=decoding)

    def close(self) -> None:
        """Let go of the frames and of what the model keeps for them."""
        self._closed = True
        self._clips.clear()
        self._sessions.clear()
        self._open_sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, what: str, share: float) -> None:
        if self._on_progress is not None:
            self._on_progress(what, share)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this session is closed; open another with Grounder.open(media)")

    def _clip_for(self, query: Query) -> tuple[Clip, float]:
        """The frames that this query looks at, and the milliseconds spent on reading them now."""
        rate = self._looking.rate(query)
        if rate in self._clips:
            return self._clips[rate], 0.0
        return_large_blocks()
        began = time.perf_counter()
        clip = open_clip(
            self._media,
            times=self._looking.times(query),
            resize=self._backend.resize_frame,
            on_progress=functools.partial(self._tell, "reading"),
        )
        self._clips[rate] = clip
        if sum(frame.width_px * frame.height_px for frame in clip.frames) > _MANY_PIXELS:
            return_freed_blocks()
        return clip, 1000 * (time.perf_counter() - began)

    def _session_for(self, query: Query, clip: Clip) -> BackendSession:
        rate = self._looking.rate(query)
        if rate not in self._sessions:
            self._sessions[rate] = self._open_sessions.enter_context(self._backend.open(clip))
        return self._sessions[rate]

    def _track_by_windows(
        self, query: Query, decoding: Decoding, *, deadline: Deadline | None = None
    ) -> Asking[Tracks]:
        frames, overlap = self._looking.window(query)
        return_large_blocks()
        windows = open_windows(
            self._media,
            rate=self._looking.shown_fps(query),
            window_frames=frames,
            overlap_frames=overlap,
            resize=self._backend.resize_frame,
        )
        recipe = f"{self._looking.sampling(query)}; windows-{frames}-{overlap}/2"
        try:
            joined = yield from track_windows(
                self._backend,
                windows,
                query,
                decoding=decoding,
                duration_s=self._info.duration_s,
                on_progress=self._on_progress,
                deadline=deadline,
            )
        except Interrupted as stop:
            raise Interrupted(str(stop), partial=self._finished(stop.partial, query, recipe)) from None
        return self._finished(joined, query, recipe)

    def _finished(self, joined: Tracks, query: Query, recipe: str) -> Tracks:
        """The tracks of some windows with what the session knows about how they came about."""
        notes = (*joined.receipt.notes, *self._notes_on_rate(query))
        update = {"recipe": f"{joined.receipt.recipe}; {recipe}", "notes": notes}
        return keep_first(joined.model_copy(update={"receipt": joined.receipt.model_copy(update=update)}))

    def _notes(self, query: Query, clip: Clip) -> tuple[str, ...]:
        limits = self._backend.limits
        times_s = clip.shown_times_s
        if self._looking.rate(query) is not None:
            return self._notes_on_rate(query)
        if isinstance(self._media, Clip) or len(times_s) < limits.max_frames:
            return ()
        step_s = float(times_s[-1] - times_s[0]) / max(1, len(times_s) - 1)
        if step_s <= 1 / limits.max_fps:
            return ()
        return (
            f"the model sees at most {limits.max_frames} frames, so it was shown one every {step_s:.1f} s "
            f"instead of one every {1 / limits.max_fps:.1f} s",
        )

    def _notes_on_rate(self, query: Query) -> tuple[str, ...]:
        if query.show_fps is None or self._looking.rate(query) != query.fps or query.fps == query.show_fps:
            return ()
        own = "is not known" if self._info.fps is None else f"is {self._info.fps:g} a second"
        return (
            f"the model was shown no more than the {query.fps:g} frames a second asked for: no multiple of "
            f"them up to {query.show_fps:g} divides the video's own rate, which {own}, and spans the clip "
            f"within {self._backend.limits.frames_tracked_at_once} frames",
        )


def expect(kind: type[_Kind], result: Result) -> _Kind:
    """The result, which is of the kind that its question asked for."""
    assert isinstance(result, kind), f"a {kind.__name__} was asked for; got {type(result).__name__}"
    return result
