"""`Recorder`: writes updates to a file from a thread of its own, so that a slow disk holds up nobody.

What a file holds is up to its `Tape`; the tapes are in `molmo2_ground.integrations`.
"""

from __future__ import annotations

import atexit
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from molmo2_ground.clocks import Clocks
from molmo2_ground.live.update import Update
from molmo2_ground.messages import HealthMessage
from molmo2_ground.query import Query
from molmo2_ground.sources.feeds.address import without_credentials

log = logging.getLogger(__name__)

Pictures = Literal["every", "sampled", "none"]
"""Which pictures are recorded: of every update, of those that the model may be shown, or none."""

WhenFull = Literal["skip", "wait"]
"""What becomes of an update when too many wait already: it is left out, or the caller is held up."""

Questions = Mapping[str, Query]

_PUT_AWAY_NS = 2_000_000_000


def _no_questions() -> Questions:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a recording beside the updates themselves, whichever kind of file it is.

    questions  what is asked for at this moment, by name; called at each `write`, in the caller's thread.
    pictures   which pictures are kept as video.
    frame_id   the camera's optical frame, as in ROS; `<source>_optical_frame` without it.
    manifest   what the file says of the run it is from: model, settings, versions. What stands between
               `://` and `@`, and the parameters of an address, are left out of it.
    """

    questions: Callable[[], Questions] = _no_questions
    pictures: Pictures = "every"
    frame_id: str | None = None
    manifest: Mapping[str, str] = field(default_factory=dict)
    clocks: Clocks = field(default_factory=Clocks)

    def wants(self, update: Update) -> bool:
        """Whether the update's picture is to be recorded."""
        return self.pictures == "every" or (self.pictures == "sampled" and update.sampled)

    def told(self) -> dict[str, str]:
        """The manifest without credentials."""
        return {name: without_credentials(value) for name, value in self.manifest.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One update as it was handed over: at `pub_ns`, unix nanoseconds, with what was asked for then."""

    update: Update
    questions: Questions
    pub_ns: int


class PutAway:
    """When what a tape has gathered is put on the disk: every two seconds, so that a kill loses no more."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether it is time; True also when the clock was set back."""
        if self._last_ns is not None and 0 <= now_ns - self._last_ns < _PUT_AWAY_NS:
            return False
        self._last_ns = now_ns
        return True


class Tape(Protocol):
    """A file that is being recorded; used by one thread from opening to end."""

    @property
    def left(self) -> Path:
        """Name of what there is on the disk, finished or not."""
        ...

    def write(self, entry: Entry) -> None:
        """Add an update."""
        ...

    def write_health(self, message: HealthMessage) -> None:
        """Add a message about the publisher itself."""
        ...

    def end(self) -> None:
        """Finish the file and give it its name."""
        ...

    def let_go(self) -> None:
        """Close what is open after an error and leave the unfinished file as it is; raises nothing."""
        ...


_End = Literal["end"]


class Recorder:
    """Records updates until it is closed; a context manager. `write` may be called from one thread.

    The file has its name only when it is whole: until then it lies beside it under a name with `.part`.
    `close`, the end of a `with` block by Ctrl-C included, finishes it.

    path     the recording's name.
    problem  why nothing more is recorded, in one line; None while all is well. `write` does not raise it:
             the stream goes on without its recording.
    skipped  updates that are missing because the disk was slower than the camera.
    capacity updates that may wait; each holds its picture, so not many.
    when_full  `skip`: leave an update out when too many wait. `wait`: hold up the caller instead, for
             sources that can wait.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[], Tape],
        *,
        contents: Contents,
        capacity: int = 16,
        when_full: WhenFull = "skip",
    ) -> None:
        """Open it, in the thread that will write to it; raises what opening raises."""
        self.path, self.problem, self.skipped = path, None, 0
        self._contents, self._when_full = contents, when_full
        self._queue: queue.Queue[Entry | HealthMessage | _End] = queue.Queue(maxsize=capacity)
        self._closed = False
        opened: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(
            target=self._run, args=(load, opened), name=f"recorder {path.name}", daemon=True
        )
        self._thread.start()
        failure = opened.get()
        if failure is not None:
            raise failure
        # A program that ends without closing it still leaves a whole file.
        atexit.register(self.close)

    path: Path
    problem: str | None
    skipped: int

    def write(self, update: Update) -> None:
        """Record an update. Raises `ValueError` when the recorder is closed, and nothing else."""
        self._hand_over(
            Entry(
                update=update,
                questions=dict(self._contents.questions()),
                pub_ns=self._contents.clocks.unix_ns(),
            )
        )

    def write_health(self, message: HealthMessage) -> None:
        """Record how the publisher is. Raises `ValueError` when the recorder is closed, and nothing else."""
        self._hand_over(message)

    def close(self) -> None:
        """Write what still waits, finish the file and give it its name; closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._queue.put("end")
        self._thread.join()
        atexit.unregister(self.close)

    def _hand_over(self, item: Entry | HealthMessage) -> None:
        if self._closed:
            raise ValueError(f"{self.path} is closed; open another recorder to record more")
        if self.problem is not None:
            return
        try:
            self._queue.put(item, block=self._when_full == "wait")
        except queue.Full:
            self.skipped += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, load: Callable[[], Tape], opened: queue.Queue[BaseException | None]) -> None:
        """The writing thread: no signal reaches it, so Ctrl-C never leaves half a record."""
        try:
            tape = load()
        except BaseException as error:  # handed to whoever waits for it
            opened.put(error)
            return
        opened.put(None)
        while (item := self._queue.get()) != "end":
            if self.problem is None:
                self._try(tape, lambda item=item: _put(tape, item))  # type: ignore[misc]
        if self.problem is None:
            self._try(tape, tape.end)

    def _try(self, tape: Tape, step: Callable[[], None]) -> None:
        try:
            step()
        # Whatever a library does wrong here must not reach the stream, nor end this thread, for which `close`
        # waits; it is told in one line. A panic of a library in Rust is no Exception.
        except BaseException as error:
            tape.let_go()
            why = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
            self.problem = f"recording to {self.path} stopped: {_told(why, left=tape.left)}"
            log.warning("%s", self.problem)


def _put(tape: Tape, item: Entry | HealthMessage | _End) -> None:
    if isinstance(item, Entry):
        tape.write(item)
    elif isinstance(item, HealthMessage):
        tape.write_health(item)


def _told(why: str, *, left: Path) -> str:
    if not left.parent.is_dir():
        return f"the folder {left.parent} is gone, and what was recorded with it"
    return f"{why}; what there is so far is in {left}"


def unfinished_name(path: Path) -> Path:
    """A name beside `path` that nothing has, and that says what it is: `run.mcap.3f9a.part`."""
    return path.with_name(f"{path.name[:200]}.{secrets.token_hex(2)}.part")


def refuse_taken(path: Path) -> None:
    """Nothing that was recorded is written over."""
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists; record under another name, or move that one away")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; create it or record elsewhere")
