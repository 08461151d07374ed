"""`Grounder`: a model that is ready to be asked, and the module's functions over the default one."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

from molmo2_ground._wanted import PATH
from molmo2_ground.asking import Asking, Outcome, ask_in_step
from molmo2_ground.batches import Failed, OnError, ask_all
from molmo2_ground.deadline import Deadline
from molmo2_ground.errors import BackendError
from molmo2_ground.query import Decoding, Query
from molmo2_ground.replay import Result
from molmo2_ground.results import Answer, Count, Masks, Points, Tracks
from molmo2_ground.session import Session, expect
from molmo2_ground.sources import MediaLike
from molmo2_ground.windows import OnProgress

if TYPE_CHECKING:
    from molmo2_ground.backends.base import Backend
    from molmo2_ground.live.opening import StreamOptions
    from molmo2_ground.live.questions import Asked
    from molmo2_ground.live.stream import Stream
    from molmo2_ground.masks import Segmenter
    from molmo2_ground.masks.propagation import Follow
    from molmo2_ground.planning import Plan
    from molmo2_ground.render.overlay import Drawable
    from molmo2_ground.sources.feeds.live_source import LiveSource

MODEL_VARIABLE = "MOLMO2_GROUND_MODEL"
BUNDLED_MODEL = "tiny"

_log = logging.getLogger(__name__)
_Kind = TypeVar("_Kind", Points, Tracks, Count, Answer)


class Grounder:
    """A model that is ready to be asked: track, point, count, ask, open for several questions, or batch.

    backend: what runs the model; `load` makes one from a name, a folder or a hub id.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def model_id(self) -> str:
        """The model's name, as receipts give it."""
        return self._backend.model_id

    def open(self, media: MediaLike, *, on_progress: OnProgress | None = None) -> Session:
        """A session over one video or some images: frames are read and encoded once for all its questions.

        Raises `SourceError` when the media cannot be opened.
        """
        return Session(self._backend, media, on_progress=on_progress)

    def track(
        self,
        media: MediaLike,
        phrase: str,
        *,
        fps: float = 2.0,
        max_objects: int | None = None,
        at: tuple[float, float, float] | None = None,
        show_fps: float | None = None,
        decoding: Decoding | None = None,
        on_progress: OnProgress | None = None,
        deadline_s: float | None = None,
    ) -> Tracks:
        """Follow everything that `phrase` names, `fps` places a second, however long the video is.

        at: (time_s, x_px, y_px), to follow what is under this point.
        show_fps: up to so many frames a second are shown to the model, also between the places asked for.
        deadline_s: seconds that the call may take. A long video is looked at in windows; once the time is
        over no further window is read, and the tracks so far come with a note that says up to which second
        the video was looked at. It is looked at between windows only: a short video, which takes one look,
        and the windows at hand are finished.
        Raises `ValueError` for wrong arguments, `SourceError`, `AnswerError` when no answer can be read,
        `DeadlineError` when the time was over before the first window. Ctrl-C during a long video raises
        `Interrupted`, a `KeyboardInterrupt` whose `partial` holds the tracks of the windows answered so far.
        """
        deadline = None if deadline_s is None else Deadline.after(deadline_s)
        query = Query.track(phrase, fps=fps, max_objects=max_objects, at=at, show_fps=show_fps)
        with self.open(media, on_progress=on_progress) as session:
            return expect(Tracks, session.answer(query, decoding=decoding, deadline=deadline))

    def point(
        self,
        media: MediaLike,
        phrase: str,
        *,
        max_objects: int | None = None,
        decoding: Decoding | None = None,
        on_progress: OnProgress | None = None,
    ) -> Points:
        """Point to everything that `phrase` names, in an image, several images or a video.

        Raises `ValueError` for wrong arguments, `SourceError`, `AnswerError` when no answer can be read.
        """
        query = Query.point(phrase, max_objects=max_objects)
        with self.open(media, on_progress=on_progress) as session:
            return expect(Points, session.answer(query, decoding=decoding))

    def count(
        self,
        media: MediaLike,
        phrase: str,
        *,
        decoding: Decoding | None = None,
        on_progress: OnProgress | None = None,
    ) -> Count:
        """Count everything that `phrase` names, with the places that were counted.

        Raises `ValueError` for wrong arguments, `SourceError`, `AnswerError` when no answer can be read.
        """
        query = Query.count(phrase)
        with self.open(media, on_progress=on_progress) as session:
            return expect(Count, session.answer(query, decoding=decoding))

    def ask(
        self,
        media: MediaLike,
        text: str,
        *,
        decoding: Decoding | None = None,
        on_progress: OnProgress | None = None,
    ) -> Answer:
        """Ask freely; points and tracks in the answer come parsed.

        Raises `ValueError` for wrong arguments, `SourceError` when the media cannot be read.
        """
        query = Query.ask(text)
        with self.open(media, on_progress=on_progress) as session:
            return expect(Answer, session.answer(query, decoding=decoding))

    @overload
    def batch(
        self,
        medias: Iterable[MediaLike],
        query: Query,
        *,
        decoding: Decoding | None = None,
        on_error: OnError = "keep",
    ) -> Iterator[Result | Failed]: ...
    @overload
    def batch(
        self,
        medias: Iterable[MediaLike],
        query: Sequence[Query],
        *,
        decoding: Decoding | None = None,
        on_error: OnError = "keep",
    ) -> Iterator[tuple[Result, ...] | Failed]: ...
    def batch(
        self,
        medias: Iterable[MediaLike],
        query: Query | Sequence[Query],
        *,
        decoding: Decoding | None = None,
        on_error: OnError = "keep",
    ) -> Iterator[Result | tuple[Result, ...] | Failed]:
        """Ask the same about many clips: results one by one, in the order of `medias`, as they are there.

        Clips are read when their turn comes and asked together as memory allows; each result is what the clip
        alone would give. A long video is tracked by itself.
        query: a `Query` gives a result for each clip; several of them are all asked of each clip, and give a
        tuple of results for each.
        on_error: "keep" puts a `Failed`, which holds the clip and its error, in the place of a clip that
        cannot be read or answered, and the others go on; "raise" ends there with the error.
        Raises `ValueError` for wrong arguments.
        """
        alone = isinstance(query, Query)
        queries = [query] if isinstance(query, Query) else query
        found = ask_all(self._backend, medias, queries, decoding=decoding, on_error=on_error)
        return (one[0] if alone and isinstance(one, tuple) else one for one in found)

    def ask_in_step(
        self, askings: Iterable[Asking[Result]], *, decoding: Decoding | None = None
    ) -> Generator[Outcome[Result], None, None]:
        """Different questions about different clips (`Session.asking`), answered together as memory allows.

        As `asking.ask_in_step`; `batch` asks the same of many clips.
        """
        return ask_in_step(self._backend, askings, decoding=Decoding.given(decoding))

    def plan(self, media: MediaLike, query: Query, *, calibrate: bool = True) -> Plan:
        """What asking `query` would look at, need and take; a short run of the model measures the time.

        calibrate: False leaves the time out. A question that does not fit is no error: the plan's `problem`
        says why, and what would. Raises `ValueError` for wrong arguments, `SourceError`, and `BackendError`
        when the model does not run here.
        """
        # Imported here: torch takes seconds, and who has a model that runs here has it loaded.
        from molmo2_ground.backends.native import NativeBackend
        from molmo2_ground.planning.planner import plan_question

        backend = self._backend
        if not isinstance(backend, NativeBackend):
            raise BackendError(f"a plan is made for a model that runs here; {self.model_id} does not")
        return plan_question(media, query, room=backend.room, loaded=backend.model, calibrate=calibrate)

    def render(
        self,
        media: MediaLike,
        result: Result,
        out_path: str | Path,
        *,
        masks: Masks | None = None,
        trail_s: float = 2.0,
        hidden: bool = False,
        zones: Sequence[Drawable] = (),
        on_progress: Callable[[float], None] | None = None,
    ) -> Path:
        """Draw the result on its media and write that as a video or a picture; see `molmo2_ground.render`."""
        from molmo2_ground.render import render as write  # drawing libraries load when something is drawn

        return write(
            media,
            result,
            out_path,
            masks=masks,
            trail_s=trail_s,
            hidden=hidden,
            zones=zones,
            on_progress=on_progress,
        )

    def segment(
        self,
        media: MediaLike,
        result: Result,
        *,
        segmenter: str | Segmenter = "region",
        follow: Follow = "sightings",
        device: str = "auto",
        on_progress: Callable[[float], None] | None = None,
    ) -> Masks:
        """Masks of everything that the result points to; see `molmo2_ground.segment`."""
        from molmo2_ground.masks import segment as find  # its libraries load when masks are wanted

        return find(media, result, segmenter=segmenter, follow=follow, device=device, on_progress=on_progress)

    def stream(self, source: LiveSource, question: Asked, **options: Unpack[StreamOptions]) -> Stream:
        """Follow what `question` names in a live source: an iterator of `molmo2_ground.live.update.Update`.

        source: an address (`rtsp://…`), a camera's number or device, a file at the speed that it was filmed
        with, an iterator of pictures or a function that gives the next one, or a feed of your own
        (`sources.feeds.feed.Feed`). question: words, which are followed, a `Query`, several
        of them, or several by name. options: see `molmo2_ground.live.opening.StreamOptions`.
        Raises `ValueError` for wrong arguments, `SourceError` for what is no source; a source that cannot be
        opened is told while iterating.
        """
        from molmo2_ground.live.opening import open_stream  # its libraries load when something is streamed

        return open_stream(source, question, backend=self._backend, **options)


def load(
    model: str | os.PathLike[str] = BUNDLED_MODEL,
    *,
    device: str = "auto",
    dtype: str = "auto",
    vision: str = "torch",
) -> Grounder:
    """A grounder that runs a model here.

    model: "tiny" (bundled, knows the toy street only), a folder with a checkpoint, or a hub id.
    device, dtype: as torch names them; "auto" takes an accelerator and bfloat16 where there is one.
    vision: what runs the vision tower: "torch", or "onnx" for onnxruntime with its best provider, "onnx-cpu",
    "onnx-cuda" and so on for a certain one. The exported graph is kept in the user's cache, or in the folder
    of "onnx:FOLDER"; it is made when it is not there yet.
    Raises `CheckpointError` when the checkpoint is missing or damaged or the export another one's,
    `MissingExtraError` when onnxruntime is not installed.
    """
    PATH.check("model", model)
    name = os.fspath(model)
    _check_runs_here(name)
    # Imported here: torch takes seconds, and results, replay and messages do without it.
    from molmo2_ground.backends.native import NativeBackend
    from molmo2_ground.model import load_checkpoint

    if name == BUNDLED_MODEL:
        _say_what_the_bundled_model_knows()
    return Grounder(NativeBackend(load_checkpoint(name, device=device, dtype=dtype, vision=vision)))


def default_model() -> str:
    """The model when none is named: the environment's MOLMO2_GROUND_MODEL, else the bundled one."""
    return os.environ.get(MODEL_VARIABLE) or BUNDLED_MODEL


def track(
    media: MediaLike,
    phrase: str,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    fps: float = 2.0,
    max_objects: int | None = None,
    at: tuple[float, float, float] | None = None,
    show_fps: float | None = None,
    decoding: Decoding | None = None,
    on_progress: OnProgress | None = None,
    deadline_s: float | None = None,
) -> Tracks:
    """`Grounder.track` with `model`, or with the default one, which is loaded once a process.

    Loading the model does not count against `deadline_s`.
    """
    grounder = _grounder(model)
    return grounder.track(
        media,
        phrase,
        fps=fps,
        max_objects=max_objects,
        at=at,
        show_fps=show_fps,
        decoding=decoding,
        on_progress=on_progress,
        deadline_s=deadline_s,
    )


def point(
    media: MediaLike,
    phrase: str,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    max_objects: int | None = None,
    decoding: Decoding | None = None,
    on_progress: OnProgress | None = None,
) -> Points:
    """`Grounder.point` with `model`, or with the default one, which is loaded once a process."""
    grounder = _grounder(model)
    return grounder.point(media, phrase, max_objects=max_objects, decoding=decoding, on_progress=on_progress)


def count(
    media: MediaLike,
    phrase: str,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    decoding: Decoding | None = None,
    on_progress: OnProgress | None = None,
) -> Count:
    """`Grounder.count` with `model`, or with the default one, which is loaded once a process."""
    return _grounder(model).count(media, phrase, decoding=decoding, on_progress=on_progress)


def ask(
    media: MediaLike,
    text: str,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    decoding: Decoding | None = None,
    on_progress: OnProgress | None = None,
) -> Answer:
    """`Grounder.ask` with `model`, or with the default one, which is loaded once a process."""
    return _grounder(model).ask(media, text, decoding=decoding, on_progress=on_progress)


@overload
def batch(
    medias: Iterable[MediaLike],
    query: Query,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    decoding: Decoding | None = None,
    on_error: OnError = "keep",
) -> Iterator[Result | Failed]: ...
@overload
def batch(
    medias: Iterable[MediaLike],
    query: Sequence[Query],
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    decoding: Decoding | None = None,
    on_error: OnError = "keep",
) -> Iterator[tuple[Result, ...] | Failed]: ...
def batch(
    medias: Iterable[MediaLike],
    query: Query | Sequence[Query],
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    decoding: Decoding | None = None,
    on_error: OnError = "keep",
) -> Iterator[Result | tuple[Result, ...] | Failed]:
    """`Grounder.batch` with `model`, or with the default one, which is loaded once a process."""
    return _grounder(model).batch(medias, query, decoding=decoding, on_error=on_error)


def plan(
    media: MediaLike,
    query: Query,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    device: str = "auto",
    dtype: str = "auto",
    calibrate: bool = True,
) -> Plan:
    """`Grounder.plan` with `model`, or with the default one.

    Frames, tokens and memory are told from the checkpoint's files; its weights are loaded only to measure
    the time, and only when the question fits. device, dtype: as for `load`; a `Grounder` has its own.
    Raises `CheckpointError` when the checkpoint is missing or damaged, and what `Grounder.plan` raises.
    """
    if isinstance(model, Grounder):
        return model.plan(media, query, calibrate=calibrate)
    from molmo2_ground.backends.prompt_room import PromptRoom
    from molmo2_ground.model.checkpoint import open_checkpoint
    from molmo2_ground.model.molmo2 import chosen_device, chosen_numbers
    from molmo2_ground.planning.planner import plan_question

    name = default_model() if model is None else os.fspath(model)
    _check_runs_here(name)
    where = chosen_device(device)
    numbers, int8 = chosen_numbers(dtype, where)
    room = PromptRoom(checkpoint=open_checkpoint(name), device=where, dtype=numbers, int8=int8)
    planned = plan_question(media, query, room=room)
    if not calibrate or not planned.fits:
        return planned
    return load(name, device=device, dtype=dtype).plan(media, query)


def stream(
    source: LiveSource,
    question: Asked,
    *,
    model: str | os.PathLike[str] | Grounder | None = None,
    **options: Unpack[StreamOptions],
) -> Stream:
    """`Grounder.stream` with `model`, or with the default one, which is loaded once a process."""
    return _grounder(model).stream(source, question, **options)


def _check_runs_here(name: str) -> None:
    if "://" in name:
        raise BackendError(
            f"{name} is the address of a server, and this version runs models itself; "
            f"expected {BUNDLED_MODEL!r}, a folder or a hub id"
        )


def _grounder(model: str | os.PathLike[str] | Grounder | None) -> Grounder:
    if isinstance(model, Grounder):
        return model
    PATH.or_nothing().check("model", model)
    return _loaded(default_model() if model is None else os.fspath(model))


@functools.lru_cache(maxsize=1)  # one: two large models would not fit, and most processes ask one
def _loaded(model: str) -> Grounder:
    return load(model)


@functools.cache
def _say_what_the_bundled_model_knows() -> None:
    _log.warning(
        "the bundled tiny model knows the made-up toy street only; for real pictures name another with "
        "model= or %s",
        MODEL_VARIABLE,
    )
