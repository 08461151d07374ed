"""`ClipRing`: what came before and after each event, as a video with its receipt."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from molmo2_ground._wanted import NUMBER, WHOLE, YES_OR_NO
from molmo2_ground.clocks import Clocks
from molmo2_ground.live.clip_file import clip_name, receipt_of, with_pictures, write_clip, write_receipt
from molmo2_ground.live.kept_pictures import KeptPicture, KeptPictures, to_jpeg
from molmo2_ground.live.update import Look, Update, WatchEvent

_LOG = logging.getLogger(__name__)

_MOST_WAITING = 32  # clips that are not written yet
_MOST_QUESTIONS = 64
_PATIENCE_S = 5.0  # beyond the seconds after an event, for pictures that do not come
# An event is told when it is certain. One that is told up to so many seconds after its time has its clip
# around its time, a later one (somebody stayed for minutes) around the time of telling.
LATE_S = 10.0
# Pictures that wait to be made JPEG. They are held as decoded pictures, 3 MB each at 1080p.
_MOST_RAW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A clip that is to be written: when the stream has come to `until_s`, or at `deadline_ns`, monotonic.

    deadline_ns  None where pictures wait for us: however long they take, they come.
    run, event_s  when the event was. No picture is held: they are taken from the ring when it is written.
    """

    name: str
    receipt: dict[str, Any]
    run: int
    event_s: float
    from_s: float
    until_s: float
    deadline_ns: int | None


class ClipRing:
    """Keeps the pictures of the last seconds, and writes those around an event.

    folder     where clips go; it has to exist. before_s, after_s: seconds of the stream around an event.
    fps        pictures a second that are kept, at most. side_px: their longer side, pixels.
    max_bytes  of all pictures that are kept; where the seconds take more, clips begin later. Pictures of the
               clip that is being written may be held beside these: twice as much at most.
    waits      where pictures come faster than they can be kept (a file that is played as fast as it goes),
               the stream waits rather than leaving some out, and a clip waits for its last picture.

    `take` costs the stream nothing but a note: one thread makes JPEGs and another writes files. Where the
    first falls behind, pictures are left out (`missed`); where 32 clips wait, further ones are not written
    (`refused`). What goes wrong in writing (a full disk, a folder that is gone) is counted (`failed`),
    logged once until a clip is written again, and stops nothing.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        before_s: float = 5.0,
        after_s: float = 5.0,
        fps: float = 10.0,
        side_px: int = 640,
        quality: int = 80,
        max_bytes: int = 64 * 2**20,
        waits: bool = False,
        clocks: Clocks | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"clips go into a folder that exists; there is no folder {self.folder}")
        for name, value in (("fps", fps), ("before_s", before_s), ("after_s", after_s)):
            NUMBER.check(name, value)
        for name, value in (("side_px", side_px), ("quality", quality), ("max_bytes", max_bytes)):
            WHOLE.check(name, value)
        YES_OR_NO.check("waits", waits)
        for name, value in (("before_s", before_s), ("after_s", after_s)):
            if not 0 <= value <= 300:
                raise ValueError(f"{name} is from 0 to 300 seconds; got {value}")
        if not fps > 0 or side_px < 16 or not 1 <= quality <= 100 or max_bytes < 1:
            raise ValueError(
                "fps is above 0, side_px at least 16, quality from 1 to 100 and max_bytes above 0; got "
                f"{fps}, {side_px}, {quality} and {max_bytes}"
            )
        self._before_s, self._after_s, self._step_s = before_s, after_s, 1 / fps
        self._side_px, self._quality, self._waits = side_px, quality, waits
        self._clocks = clocks or Clocks()
        self._kept = KeptPictures(span_s=before_s + after_s + LATE_S, max_bytes=max_bytes)
        self._lock = threading.Condition()
        self._raw: list[tuple[int, Update]] = []
        self._run = 0
        self._making = False
        self._wanted: list[_Wanted] = []
        self._looks: dict[str, Look] = {}
        self._newest_s: float | None = None
        self._taken_s: float | None = None
        self._names: set[str] = set()
        self._closing = self._troubled = False
        self.missed = self.refused = self.failed = self.written = 0
        self._threads = [
            threading.Thread(target=self._make_pictures, name="clip pictures", daemon=True),
            threading.Thread(target=self._write_clips, name="clip files", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def take(self, update: Update, events: Iterable[WatchEvent] = ()) -> tuple[WatchEvent, ...]:
        """Keep an update's picture; a clip is begun for each event, which is given back with its name.

        A name stands for a file once it is written; an event whose clip cannot be written keeps none when
        that is known at once.
        """
        with self._lock:
            if self._closing:
                return tuple(events)
            for look in update.looks:
                self._looks[look.question] = look
                if len(self._looks) > _MOST_QUESTIONS:
                    del self._looks[next(iter(self._looks))]
            self._note(update)
            told = tuple(self._wanted_or_not(event, update) for event in events)
            self._lock.notify_all()
        return told

    def _note(self, update: Update) -> None:
        if self._newest_s is not None and update.time_s < self._newest_s:
            self._taken_s = None  # times begin anew
            self._run += 1
        self._newest_s = update.time_s
        # A little less than a step, or a camera of exactly this rate would lose every other picture.
        if self._taken_s is not None and update.time_s - self._taken_s < 0.9 * self._step_s:
            return
        self._taken_s = update.time_s
        while self._waits and len(self._raw) >= _MOST_RAW and not self._closing:
            self._lock.wait()
        if len(self._raw) >= _MOST_RAW:
            self.missed += 1
            return
        self._raw.append((self._run, update))

    def _wanted_or_not(self, event: WatchEvent, update: Update) -> WatchEvent:
        try:
            return self._want(event, update)
        # A stamp that is no time, a folder that may not be read: the stream goes on.
        except Exception as error:
            self._trouble(f"no clip of {event.watch!r}", error)
            return event

    def _want(self, event: WatchEvent, update: Update) -> WatchEvent:
        if len(self._wanted) >= _MOST_WAITING:
            self.refused += 1
            return event
        name, number = clip_name(event, update), 1
        while name in self._names or (self.folder / name).exists():
            number += 1
            name = clip_name(event, update).replace(".mp4", f"-{number}.mp4")
        self._names.add(name)
        look = self._looks.get(event.question)
        if look is not None and look.stamp_ns != event.receipt_of:
            look = None
        event_s = event.event.time_s
        patience_s = self._after_s + _PATIENCE_S
        around_s = event_s if update.time_s - event_s <= LATE_S else update.time_s
        self._wanted.append(
            _Wanted(
                name=name,
                receipt=receipt_of(event, update, look),
                run=self._run,
                event_s=event_s,
                from_s=around_s - self._before_s,
                until_s=around_s + self._after_s,
                deadline_ns=None if self._waits else self._clocks.monotonic_ns() + round(patience_s * 1e9),
            )
        )
        return replace(event, clip=name)

    def close(self) -> None:
        """Write what waits with the pictures that there are, and end both threads. Again does nothing."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the thread of pictures

    def _make_pictures(self) -> None:
        while (raw := self._next_raw()) is not None:
            run, update = raw
            try:
                picture = KeptPicture(
                    run=run,
                    time_s=update.time_s,
                    stamp_ns=update.stamp_ns,
                    source_index=update.capture.index,
                    jpeg=to_jpeg(update.capture.paint(), side_px=self._side_px, quality=self._quality),
                )
            except Exception as error:  # a damaged picture, a user's own source: whatever it is, go on
                self._trouble("a picture could not be kept", error)
            else:
                self._kept.add(picture)
            finally:
                with self._lock:
                    self._making = False
                    self._lock.notify_all()

    def _next_raw(self) -> tuple[int, Update] | None:
        with self._lock:
            while not self._raw:
                if self._closing:
                    return None
                self._lock.wait()
            self._making = True
            self._lock.notify_all()
            return self._raw.pop(0)

    # --- the thread of files

    def _write_clips(self) -> None:
        while (wanted := self._next_wanted()) is not None:
            name, path = wanted.name, self.folder / wanted.name
            pictures = self._kept.between(wanted.from_s, wanted.until_s, run=wanted.run)
            try:
                if pictures:
                    write_clip(path, pictures)
                receipt = with_pictures(wanted.receipt, clip=name, at_s=wanted.event_s, pictures=pictures)
                write_receipt(path.with_suffix(".json"), receipt)
            except Exception as error:  # a full disk, a folder that is gone, an encoder: the stream goes on
                self._trouble(f"the clip {name} could not be written", error)
            else:
                with self._lock:
                    self.written += 1
                    self._troubled = False
            with self._lock:
                self._names.discard(name)
                self._lock.notify_all()

    def _next_wanted(self) -> _Wanted | None:
        with self._lock:
            while True:
                now_ns = self._clocks.monotonic_ns()
                if self._closing and not (self._raw or self._making):
                    return self._wanted.pop(0) if self._wanted else None
                for number, wanted in enumerate(self._wanted):
                    if self._is_due(wanted, now_ns):
                        return self._wanted.pop(number)
                deadlines = [one.deadline_ns for one in self._wanted if one.deadline_ns is not None]
                self._lock.wait(timeout=max(0.0, (min(deadlines) - now_ns) / 1e9) if deadlines else None)

    def _is_due(self, wanted: _Wanted, now_ns: int) -> bool:
        assert self._newest_s is not None
        # When the times began anew, what came after the event will not come.
        passed = self._run != wanted.run or self._newest_s > wanted.until_s
        late = wanted.deadline_ns is not None and now_ns >= wanted.deadline_ns
        return late or (passed and not (self._raw or self._making))

    def _trouble(self, what: str, error: Exception) -> None:
        with self._lock:
            self.failed += 1
            told, self._troubled = self._troubled, True
        if not told:
            _LOG.warning("%s: %s; further ones are counted and not told", what, error)
