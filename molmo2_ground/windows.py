"""Videos longer than the model can see at once: overlapping windows, and one identity across all of them.

A window is a clip of its own to the model: its times start at 0, as in training. Its objects come back in
frames and seconds of the whole video, because placement uses the frames' own times. Two windows share a few
frames, and an object that both saw there at the same place is the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from molmo2_ground.answer import parse_answer
from molmo2_ground.asking import Ask, Asking
from molmo2_ground.backends.base import Backend
from molmo2_ground.clip import Clip
from molmo2_ground.deadline import Deadline
from molmo2_ground.errors import AnswerError, DeadlineError, Interrupted, SourceError
from molmo2_ground.placement import frame_refs, make_receipt, place_tracks
from molmo2_ground.query import Decoding, Query, build_prompt
from molmo2_ground.results import ParseReport, Receipt, Tracks
from molmo2_ground.stitcher import Stitcher

WINDOW_S = 60.0
"""Longest window, seconds: the released models were trained to track in clips of about a minute."""

OVERLAP_SHARE = 1 / 8
MIN_OVERLAP_FRAMES = 2  # with one, the car of `molmo2-ground demo` comes from under its bridge as a new one

_MOST_TOGETHER = 16

OnProgress = Callable[[str, float], None]
"""Told what is being done, in words, and the share that is done, 0 to 1."""


def window_rule(*, rate: float, max_frames: int, shown_a_place: int = 1) -> tuple[int, int]:
    """Frames a window and frames that neighbours share, at `rate` places asked for per second.

    shown_a_place: frames shown for each place asked for. Windows start at times that are asked for, so that
    all of them ask about one grid, and the shared frames hold some of its times.
    """
    places = max(1, min(max_frames // shown_a_place, round(WINDOW_S * rate)))
    overlap = max(MIN_OVERLAP_FRAMES, int(places * OVERLAP_SHARE))
    return places * shown_a_place, min(overlap, places - 1) * shown_a_place


def windows_together(at_once: int) -> int:
    """How many windows of one video are asked in one go, of a backend that takes `at_once` clips.

    A run is well filled by then, and progress, deadline and Ctrl-C are looked at between two goes.
    """
    return min(at_once, _MOST_TOGETHER)


def shift_to_zero(clip: Clip) -> Clip:
    """The same frames with the times told to the model starting at 0; their own times stay."""
    if not clip.frames or clip.frames[0].shown_time_s is None:
        return clip
    start_s = clip.frames[0].shown_time_s
    frames = tuple(replace(f, shown_time_s=(f.shown_time_s or 0.0) - start_s) for f in clip.frames)
    return replace(clip, frames=frames)


def track_windows(
    backend: Backend,
    windows: Iterable[Clip],
    query: Query,
    *,
    decoding: Decoding,
    duration_s: float | None = None,
    on_progress: OnProgress | None = None,
    deadline: Deadline | None = None,
) -> Asking[Tracks]:
    """Track in one window after the other and join what they found.

    As many windows of pixels are held at a time as are asked together (`windows_together`).
    windows: clips in order on one time grid, each sharing its first frames with the one before.
    duration_s: length of the whole video in seconds, for progress and notes.
    deadline: once it has passed no further window is read; those at hand are still asked, and a note says
    up to where the video was looked at.
    Raises `SourceError` when there is no frame, `ValueError` when the point to follow lies outside the
    video, `AnswerError` when no window's answer could be read, `DeadlineError` when none was asked in time;
    on Ctrl-C `Interrupted` with the tracks so far, or `KeyboardInterrupt` when there are none yet.
    """
    seen = _Seen(duration_s=duration_s)
    try:
        yield from _ask_all(
            seen, backend, windows, query, decoding, on_progress=on_progress, deadline=deadline
        )
        return seen.joined(query)
    except KeyboardInterrupt:
        if not seen.answers:
            raise
    # Outside of the `except`, so that the error does not keep the frames that were at hand.
    seen.stopped = "interrupted"
    try:
        partial = seen.joined(query)
    except AnswerError as error:
        raise KeyboardInterrupt from error
    raise Interrupted(seen.how_far(), partial=partial)


def _ask_all(
    seen: _Seen,
    backend: Backend,
    windows: Iterable[Clip],
    query: Query,
    decoding: Decoding,
    *,
    on_progress: OnProgress | None,
    deadline: Deadline | None,
) -> Asking[None]:
    """Ask about every window and keep the answers in `seen`."""
    for batch in _batches(backend, seen.in_time(windows, deadline), query):
        asked, starts_s = [], []
        for clip in batch:
            aimed, reason = _aim(query, clip, [receipt for receipt, _ in seen.answers])
            start_s, end_s = float(clip.shown_times_s[0]), float(clip.shown_times_s[-1])
            if aimed is None:
                seen.skipped.append(f"window {start_s:.1f}–{end_s:.1f} s was not asked: {reason}")
            else:
                asked.append((clip, aimed))
                starts_s.append(start_s)
        receipts = yield from _ask(backend, asked, decoding)
        # In one step: Ctrl-C finds an answer with its time or not at all.
        seen.answers.extend(zip(receipts, starts_s, strict=True))
        del batch, clip, asked  # pixels
        if on_progress is not None:
            on_progress("tracking", min(1.0, end_s / seen.duration_s) if seen.duration_s else 0.0)


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What has been asked of a video so far.

    answers  a receipt for each window that was asked, and when the window starts, seconds of the video.
    skipped  a line for each window that was not asked, for want of a place to follow.
    read_s   time of the last frame that was read.   next_s  the time of the grid after it.
    stopped  why the video was not looked at to its end; empty when it was.
    """

    duration_s: float | None
    answers: list[tuple[Receipt, float]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    read_s: float = 0.0
    next_s: float = 0.0
    stopped: str = ""

    def in_time(self, windows: Iterable[Clip], deadline: Deadline | None) -> Iterator[Clip]:
        """The windows, each read only if the deadline has not passed by then."""
        source = iter(windows)
        while deadline is None or not deadline.passed():
            clip = next(source, None)
            if clip is None:
                return
            times_s = np.append(self.read_s, clip.shown_times_s)
            self.read_s = float(times_s[-1])
            self.next_s = float(2 * times_s[-1] - times_s[-2])
            yield clip
            del clip
        if self.duration_s is None or self.next_s < self.duration_s:
            self.stopped = f"the deadline of {deadline.seconds:g} s passed"

    def how_far(self) -> str:
        """Why the tracking stopped, and up to which second the video was looked at."""
        receipt, start_s = self.answers[-1]
        end_s = start_s + receipt.shown_times_s[-1]
        whole = "" if self.duration_s is None else f" of {self.duration_s:.1f} s"
        return f"{self.stopped}; the video was looked at up to {end_s:.1f} s{whole}"

    def joined(self, query: Query) -> Tracks:
        """The tracks of the windows asked so far; raises as `track_windows` says."""
        if not self.answers and self.stopped:
            raise DeadlineError(f"{self.stopped} before any window of the video was read; allow more time")
        if not self.answers and query.at is not None and self.skipped:
            raise ValueError(f"at= names the time {query.at[0]:g} s, after the end of the video")
        if not self.answers:
            raise SourceError("the video has no frame to track in; check that it plays")
        found = join([r for r, _ in self.answers], starts_s=[start_s for _, start_s in self.answers])
        stopped = (self.how_far(),) if self.stopped else ()
        notes = (*self.skipped, *found.receipt.notes, *stopped)
        return found.model_copy(update={"receipt": found.receipt.model_copy(update={"notes": notes})})


def join(receipts: Sequence[Receipt], *, starts_s: Sequence[float] | None = None) -> Tracks:
    """The tracks of a whole video from the receipts of its windows, without pixels or a model.

    starts_s: when each window starts, seconds; without it, at its first frame.
    One window gives its own receipt; several give one receipt that holds theirs in `windows`.
    Raises `AnswerError` when no window's answer could be read.
    """
    if len(receipts) == 1:
        return _placed(receipts[0])
    starts = [r.frame_times_s[0] for r in receipts] if starts_s is None else starts_s
    found: list[Tracks | AnswerError] = [_read(receipt) for receipt in receipts]
    readable = [tracks for tracks in found if isinstance(tracks, Tracks)]
    if not readable:
        raise next(error for error in found if isinstance(error, AnswerError))
    stitcher = Stitcher()
    notes: list[str] = []
    for number, (receipt, tracks) in enumerate(zip(receipts, found, strict=True), start=1):
        name = f"window {number} ({receipt.frame_times_s[0]:.1f}–{receipt.frame_times_s[-1]:.1f} s)"
        if isinstance(tracks, Tracks):
            stitcher.add(name, tracks.tracks)
            notes += [f"{name}: {note}" for note in tracks.receipt.notes]
        else:
            notes.append(f"{name}: its answer could not be read and is left out: {tracks}")
    children = [
        tracks.receipt if isinstance(tracks, Tracks) else receipt
        for receipt, tracks in zip(receipts, found, strict=True)
    ]
    whole = _merge(children, starts).model_copy(
        update={"notes": tuple(notes), "joins": tuple(stitcher.joins)}
    )
    return Tracks(tracks=stitcher.tracks, receipt=whole)


def _aim(query: Query, clip: Clip, receipts: Sequence[Receipt]) -> tuple[Query | None, str]:
    """The query for this window, or None and why there is none.

    The thing under one point is followed from that point in every window that has it, and from there on, from
    window to window, by the earliest place found on a shared frame; times are told as the window tells them.
    """
    if query.at is None:
        return query, ""
    times_s = clip.shown_times_s
    time_s, x_px, y_px = query.at
    if time_s > times_s[-1]:
        return None, f"it ends before the point at {time_s:.1f} s"
    if not receipts or time_s >= times_s[0]:
        return replace(query, at=(time_s - float(times_s[0]), x_px, y_px)), ""
    frames = {frame.source_index: frame for frame in clip.frames}
    before = _read(receipts[-1])
    if isinstance(before, AnswerError):
        return None, "the last answer could not be read, so it is not known where what is followed went"
    samples = sorted((s for t in before.tracks for s in t.samples), key=lambda s: s.time_s)
    seen = [s for s in samples if s.source_index in frames]
    if not seen:
        last = f"last seen at {samples[-1].time_s:.1f} s" if samples else "not seen by the last answer"
        return None, f"what is followed was {last}, which is in no frame of it"
    shown_s = frames[seen[0].source_index].shown_time_s or 0.0
    return replace(query, at=(shown_s - float(times_s[0]), seen[0].x_px, seen[0].y_px)), ""


def _batches(backend: Backend, windows: Iterable[Clip], query: Query) -> Iterator[list[Clip]]:
    """Windows in order, as many as are asked in one go.

    One by one where each is asked about what was found in the one before.
    """
    batch: list[Clip] = []
    for clip in windows:
        batch.append(clip)
        if query.at is not None or len(batch) >= windows_together(backend.at_once(batch[0])):
            yield batch
            batch = []
        del clip
    if batch:
        yield batch


def _ask(backend: Backend, asked: Sequence[tuple[Clip, Query]], decoding: Decoding) -> Asking[list[Receipt]]:
    clips = [shift_to_zero(clip) for clip, _ in asked]
    # A window's first objects need not be the video's: which are kept is decided when all are joined.
    prompts = [
        replace(build_prompt(query, clip), most_objects=None)
        for clip, (_, query) in zip(clips, asked, strict=True)
    ]
    with ExitStack() as still_open:
        raws = yield [
            Ask(clip=clip, session=still_open.enter_context(backend.open(clip)), prompt=prompt)
            for clip, prompt in zip(clips, prompts, strict=True)
        ]
    return [
        make_receipt(query, prompt, raw, clip, decoding=decoding)
        for (_, query), prompt, raw, clip in zip(asked, prompts, raws, clips, strict=True)
    ]


def _placed(receipt: Receipt) -> Tracks:
    return place_tracks(parse_answer(receipt.raw_text), frame_refs(receipt), receipt)


def _read(receipt: Receipt) -> Tracks | AnswerError:
    try:
        return _placed(receipt)
    except AnswerError as error:
        # One unreadable window of many must not cost the others; `join` says so in the notes. Without its
        # traceback, which would keep the callers' frames alive, and with them a window of pixels.
        return error.with_traceback(None)


def _merge(children: Sequence[Receipt], starts_s: Sequence[float]) -> Receipt:
    """One receipt for the whole video: frames without repeats, sums of what was spent, children inside."""
    frames: dict[int, tuple[float, float]] = {}
    for child, start_s in zip(children, starts_s, strict=True):
        shown = zip(child.frame_source_indices, child.frame_times_s, child.shown_times_s, strict=True)
        for source_index, time_s, shown_s in shown:
            frames.setdefault(source_index, (time_s, start_s + shown_s))
    timings: dict[str, float] = {}
    for child in children:
        for name, value in child.timings_ms.items():
            timings[name] = timings.get(name, 0.0) + value
    report = ParseReport(
        rejected=tuple(piece for child in children for piece in child.report.rejected),
        truncated=any(child.report.truncated for child in children),
        repeats_cut=sum(child.report.repeats_cut for child in children),
    )
    return children[0].model_copy(
        update={
            "raw_text": "\n".join(child.raw_text for child in children),
            "stop_reason": "length" if any(c.stop_reason == "length" for c in children) else "end",
            "frame_source_indices": tuple(frames),
            "frame_times_s": tuple(time_s for time_s, _ in frames.values()),
            "shown_times_s": tuple(shown_s for _, shown_s in frames.values()),
            "lost": tuple(dict.fromkeys(line for child in children for line in child.lost)),
            "report": report,
            "timings_ms": timings,
            "tokens_in": sum(child.tokens_in for child in children),
            "tokens_out": sum(child.tokens_out for child in children),
            "forwards": sum(child.forwards for child in children),
            "windows": tuple(children),
        }
    )
