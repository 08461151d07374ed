"""`RerunLogger`: a live run in Rerun, as a file or in its viewer; needs the extra `rerun`."""

from __future__ import annotations

import atexit
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from molmo2_ground import __version__
from molmo2_ground._optional import require
from molmo2_ground.integrations.piped_file import PipedFile
from molmo2_ground.live.filming import Filming
from molmo2_ground.live.recording import (
    Contents,
    Entry,
    PutAway,
    Recorder,
    WhenFull,
    refuse_taken,
    unfinished_name,
)
from molmo2_ground.live.trails import Path as Trail
from molmo2_ground.live.trails import Trails
from molmo2_ground.live.update import LiveTrack, Update
from molmo2_ground.messages import HealthMessage
from molmo2_ground.messages.kinds import spelt, topic_name
from molmo2_ground.render.style import Style, colour_of

_CLASSES = 2**16  # Rerun's class ids have 16 bits
_FLUSH_S = 30.0  # a viewer that stopped reading would hold up the recorder, and `close`, for ever


class RerunLogger(Recorder):
    """Records to an `.rrd` file, or shows in a viewer; see `Recorder` for what all recorders do.

    Entities, for a camera called `door` and a question called `people`: `door/video` (`VideoStream`, H.264),
    `door/video/points/people` (`Points2D`: class ids are object ids, labels `7 person`, and `state`,
    `observed_ns`), `door/video/trails/people` (`LineStrips2D`), `door/video/masks` (`SegmentationImage` of
    object ids), and `door/events`, `door/ledger`, `door/health` (`TextLog`, our JSON).
    Timelines: `stamp` (when the picture was taken, by the camera's clock), `arrived` (by this machine's) and
    `picture` (its number).

    path     a file to write; or `viewer`.
    viewer   address of a viewer that runs, such as `rerun+http://127.0.0.1:9876/proxy`; `spawn` starts one on
             this machine.
    masks    whether masks are logged too.
    Raises `ValueError` unless exactly one of path and viewer is given, `FileExistsError` when the file is
    there, `FileNotFoundError` when there is no folder for it, `MissingExtraError` without the library.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        viewer: str | None = None,
        contents: Contents | None = None,
        masks: bool = False,
        when_full: WhenFull = "skip",
    ) -> None:
        if (path is None) == (viewer is None):
            raise ValueError("a run is logged to a file or to a viewer: give path or viewer, one of them")
        inside, target = contents or Contents(), None if path is None else Path(path)
        super().__init__(
            target or Path("viewer"),
            lambda: _RerunTape(target, viewer, inside, masks=masks),
            contents=inside,
            when_full=when_full,
        )


class _RerunTape:
    """See `Tape`."""

    def __init__(self, path: Path | None, viewer: str | None, contents: Contents, *, masks: bool) -> None:
        self._rr: Any = require("rerun", extra="rerun")
        self._contents, self._masks, self._path = contents, masks, path
        self._filming, self._trails = Filming(), Trails()
        self._questions: dict[str, None] = {}
        self._sources: set[str] = set()
        self._put_away = PutAway()
        self._leaving: threading.Thread | None = None
        self.left = Path("viewer")
        if path is not None:
            refuse_taken(path)
            self.left = unfinished_name(path)
        self._log: Any = self._rr.RecordingStream("molmo2-ground")
        # Times are the pictures' own; that of being logged says nothing about the run.
        self._log.set_log_time_enabled(False)
        self._log.set_log_tick_enabled(False)
        self._file: PipedFile | None = None
        if path is not None:
            # With a file of its own, Rerun never comes back from a flush once the disk is full.
            self._file = PipedFile(self.left, lambda pipe: self._log.save(os.fspath(pipe)))
        elif viewer == "spawn":
            self._log.spawn()
        else:
            self._log.connect_grpc(viewer)

    def write(self, entry: Entry) -> None:
        update, rr = entry.update, self._rr
        source = topic_name(update.source)
        self._tell(source)
        self._set_times(update)
        if self._contents.wants(update):
            fresh = f"{source}/video" not in self._sources
            self._sources.add(f"{source}/video")
            coded = self._filming.take(update, fresh=fresh)
            self._log.log(
                f"{source}/video",
                rr.VideoStream(codec=rr.VideoCodec.H264, sample=coded.data, is_keyframe=coded.is_key),
                strict=True,
            )
        trails, style = self._trails.take(update), Style.of_size(*update.size_px)
        # A question whose things have all gone is said once more, empty, or Rerun would go on showing them.
        for question in (*self._questions, *(track.question for track in update.tracks)):
            self._questions[question] = None
        for question in tuple(self._questions):
            tracks = update.of(question)
            part = rr.escape_entity_path_part(question)
            self._say_points(f"{source}/video/points/{part}", tracks, style)
            self._say_trails(f"{source}/video/trails/{part}", tracks, trails, style)
            if not tracks:
                del self._questions[question]
        if self._masks:
            self._say_masks(f"{source}/video/masks", update)
        for event in update.events:
            self._tell_text(f"{source}/events", f"{event.watch}: {event.event.model_dump_json()}")
        for change in update.ledger:
            self._tell_text(f"{source}/ledger", change.model_dump_json())
        if self._put_away.due(entry.pub_ns):
            self._log.flush(timeout_sec=_FLUSH_S)
        if self._file is not None:
            self._file.check()

    def write_health(self, message: HealthMessage) -> None:
        self._log.reset_time()
        self._log.set_time("arrived", timestamp=np.datetime64(message.pub_ns, "ns"))
        message = spelt(message)
        self._tell_text(f"{message.source}/health", message.model_dump_json())

    def end(self) -> None:
        self._log.flush(timeout_sec=_FLUSH_S)
        if not self._disconnected():
            raise TimeoutError(f"the viewer took nothing for {_FLUSH_S:.0f} s")
        if self._path is not None and self._file is not None:
            self._file.end()
            if not self.left.stat().st_size:
                raise OSError(f"Rerun wrote nothing to {self.left}")
            refuse_taken(self._path)
            os.replace(self.left, self._path)

    def let_go(self) -> None:
        self._disconnected()

    def _disconnected(self) -> bool:
        """Take leave of Rerun; False when it does not come back, as with a viewer that no longer reads."""
        if self._leaving is None:
            self._leaving = threading.Thread(target=self._log.disconnect, name="rerun leaves", daemon=True)
            self._leaving.start()
            self._leaving.join(_FLUSH_S)
            if self._leaving.is_alive():
                # It would wait again for what will not come, and the program would never end.
                atexit.unregister(self._rr.rerun_shutdown)
        return not self._leaving.is_alive()

    def _set_times(self, update: Update) -> None:
        stamp_ns = update.stamp_ns
        if update.capture.clock == "monotonic":
            self._log.set_time("stamp", duration=np.timedelta64(stamp_ns, "ns"))
        else:
            self._log.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        self._log.set_time("arrived", timestamp=np.datetime64(update.capture.recv_ns, "ns"))
        self._log.set_time("picture", sequence=update.capture.index)

    def _say_points(self, entity: str, tracks: tuple[LiveTrack, ...], style: Style) -> None:
        rr = self._rr
        self._log.log(
            entity,
            rr.Points2D(
                np.array([(track.x_px, track.y_px) for track in tracks], dtype=np.float32).reshape(-1, 2),
                radii=[style.dot_radius_px] * len(tracks),
                colors=[colour_of(track.object_id) for track in tracks],
                labels=[f"{track.object_id} {track.label}" for track in tracks],
                class_ids=[track.object_id % _CLASSES for track in tracks],
            ),
            rr.AnyValues(
                state=[track.state for track in tracks],
                observed_ns=np.array([track.observed_ns for track in tracks], dtype=np.int64),
            ),
            strict=True,
        )

    def _say_trails(
        self, entity: str, tracks: tuple[LiveTrack, ...], trails: dict[int, Trail], style: Style
    ) -> None:
        drawn = [(trails[track.object_id], colour_of(track.object_id)) for track in tracks]
        drawn = [(trail, colour) for trail, colour in drawn if len(trail) > 1]
        self._log.log(
            entity,
            self._rr.LineStrips2D(
                [np.array(trail, dtype=np.float32) for trail, _ in drawn],
                colors=[colour for _, colour in drawn],
                radii=[style.trail_px / 2] * len(drawn),
            ),
            strict=True,
        )

    def _say_masks(self, entity: str, update: Update) -> None:
        width_px, height_px = update.size_px
        ids = np.zeros((height_px, width_px), dtype=np.uint16)
        for mask in update.masks:
            ids[mask.dense()] = mask.object_id % _CLASSES
        self._log.log(entity, self._rr.SegmentationImage(ids), strict=True)

    def _tell_text(self, entity: str, text: str) -> None:
        self._log.log(entity, self._rr.TextLog(text), strict=True)

    def _tell(self, source: str) -> None:
        if source not in self._sources:
            self._sources.add(source)
            told = {**self._contents.told(), "molmo2_ground": __version__, "source": source}
            self._log.log(
                f"{source}/manifest",
                self._rr.TextDocument(json.dumps(told, indent=1)),
                static=True,
                strict=True,
            )
