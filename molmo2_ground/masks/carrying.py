"""`carry`: from the model's clock to the video's, a place for each object in each frame.

The model looks a few times a second and a video shows many more pictures. Its own samples stay as they are
(`observed`). Between two neighbouring looks that both saw an object each frame gets a sample: from the
object's mask or by optical flow (`propagated`), or on a straight line (`interpolated`) where neither works
and the two sightings are at most `sightings.LONGEST_STEP_S` seconds apart. Where the model looked and did not
see the object nothing is added; before its first and after its last sighting only where a mask says so.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from molmo2_ground._wanted import FUNCTION
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import SourceError
from molmo2_ground.frame_times import FrameTimes, name_of
from molmo2_ground.masks.bridge import Bridge, bridges_of, carried_sample, place_at, usable_mask
from molmo2_ground.masks.mask_place import PlaceInBox
from molmo2_ground.masks.point_flow import FloatArray, GrayFrame, carried_between
from molmo2_ground.masks.prompts import Prompts
from molmo2_ground.results import MASKS, TRACKS, Masks, Sample, Track, Tracks
from molmo2_ground.sources import MediaLike, iter_frames, open_clip, probe

# So many frames between two looks are held for the way back; 0.23 MB each. Over more, flow is not tried.
MOST_HELD = 256


def carry(
    media: MediaLike,
    tracks: Tracks,
    *,
    masks: Masks | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Tracks:
    """The tracks with a sample in every frame in which an object can be followed.

    media: the video that the tracks were found in; it is read once, frame by frame, and a few hundred small
    gray pictures are held at most, however long it is. The samples themselves grow with the length.
    masks: of these tracks (`segment`); without them flow is used. A mask with a flag is not used.
    `carried.observed == tracks.observed`; samples that were carried before are made anew, and a track with
    none that the model saw stays as it is. on_progress: hears the share that is done, 0 to 1.
    Raises `SourceError` when the media cannot be read or is no video, `ValueError` for tracks or masks of
    another video, or samples that are out of order.
    """
    TRACKS.check("tracks", tracks)
    MASKS.or_nothing().check("masks", masks)
    FUNCTION.or_nothing().check("on_progress", on_progress)
    _check_order(tracks)
    if masks is not None:
        _check_masks(masks, tracks)
    times = _times_of(tracks)
    frames, duration_s = _frames_of(media, times, wanted=len(tracks) > 0)
    carrier = _Carrier(tracks, masks)
    told = -1
    for frame in frames:
        if carrier.done(frame.source_index):
            break
        if frame.time_s is not None:
            # Exactly: a sample is put between others by its frame, and its time must lie between theirs, too.
            times.check(frame.source_index, frame.time_s, name=name_of(media), frame_s=0.0, exactly=True)
        carrier.take(frame)
        share = min(1.0, (frame.time_s or 0.0) / duration_s) if duration_s else 0.0
        if on_progress is not None and int(100 * share) > told:
            told = int(100 * share)
            on_progress(share)
    carrier.close()
    if on_progress is not None:
        on_progress(1.0)
    return carrier.result()


class _Carrier:
    """Tracks on their way through the frames of their video."""

    def __init__(self, tracks: Tracks, masks: Masks | None) -> None:
        self._tracks, self._masks, self._size_px = tracks, masks, tracks.receipt.size_px
        look = {index: number for number, index in enumerate(Prompts.of(tracks).looked)}
        self._waiting = sorted(
            (b for n, track in enumerate(tracks) for b in bridges_of(track, n, look, masks)),
            key=lambda bridge: bridge.ends,
            reverse=True,
        )
        self._open: list[Bridge] = []
        self._held: dict[int, GrayFrame] = {}
        self._added: dict[int, list[Sample]] = defaultdict(list)
        self._outside = [_Outside.of(track, masks) for track in tracks]
        ends = [bridge.ends[1] for bridge in self._waiting] + [o.last_mask for o in self._outside if o]
        self._last = max(ends, default=-1)

    def done(self, source_index: int) -> bool:
        """True when no frame from this one on can get a sample."""
        return source_index > self._last

    def take(self, frame: Frame) -> None:
        """Use the next frame of the video."""
        assert frame.time_s is not None
        index = frame.source_index
        for number, outside in enumerate(self._outside):
            place = None if outside is None else outside.place(index)
            if place is not None:
                self._added[number].append(
                    carried_sample(index, frame.time_s, place, self._size_px, state="propagated")
                )
        gray: GrayFrame | None = None
        if any(bridge.wants_flow for bridge in self._open):
            gray = GrayFrame.of(frame)
            self._held[index] = gray
        self._finish([bridge for bridge in self._open if bridge.ends[1] <= index])
        for bridge in self._open:
            bridge.stop(index, frame.time_s)
            if len(bridge.stops) > MOST_HELD:
                bridge.wants_flow = False
        while self._waiting and self._waiting[-1].ends[0] <= index:
            self._open.append(self._waiting.pop())
        if gray is None and any(bridge.wants_flow for bridge in self._open):
            self._held[index] = GrayFrame.of(frame)
        oldest = min((bridge.ends[0] for bridge in self._open if bridge.wants_flow), default=index + 1)
        for old in [held for held in self._held if held < oldest]:
            del self._held[old]

    def close(self) -> None:
        """The video is over: what is still open gets what can be had without its end."""
        self._finish(list(self._open))

    def result(self) -> Tracks:
        """The tracks with what was added, every track in order of time."""
        carried = (self._merged(track, self._added[number]) for number, track in enumerate(self._tracks))
        return self._tracks.model_copy(update={"tracks": tuple(carried)})

    def _merged(self, track: Track, added: list[Sample]) -> Track:
        seen = [sample for sample in track.samples if sample.state == "observed"]
        if not seen:
            return track
        # Sorting is stable, and no frame gets a sample beside one that was seen.
        samples = sorted([*seen, *added], key=lambda sample: sample.source_index)
        return track.model_copy(update={"samples": tuple(samples)})

    def _finish(self, bridges: list[Bridge]) -> None:
        """Fill these bridges; those that span the same frames share one run of flow."""
        together: dict[tuple[int, int], list[Bridge]] = defaultdict(list)
        for bridge in bridges:
            together[bridge.ends].append(bridge)
            self._open.remove(bridge)
        for ends, group in together.items():
            wanting = [bridge for bridge in group if bridge.wants_flow and bridge.stops]
            flow = dict(zip(map(id, wanting), self._flow(ends, wanting), strict=True))
            for bridge in group:
                filled = bridge.filled(self._masks, flow.get(id(bridge)), self._size_px)
                self._added[bridge.number] += filled

    def _flow(self, ends: tuple[int, int], bridges: list[Bridge]) -> list[FloatArray | None]:
        """For each bridge float64[stops, 2], shares of the picture, or None where a frame is missing."""
        if not bridges:
            return []
        stops = bridges[0].stops
        held = [self._held.get(index) for index in (ends[0], *(s.source_index for s in stops), ends[1])]
        grays = [gray for gray in held if gray is not None]
        if len(grays) < len(held) or len({gray.gray.shape for gray in grays}) > 1:
            return [None] * len(bridges)
        carried = carried_between(
            grays,
            earlier_norm=np.array([(b.earlier.x_norm, b.earlier.y_norm) for b in bridges]),
            later_norm=np.array([(b.later.x_norm, b.later.y_norm) for b in bridges]),
            shares=np.array([0.0, *(stop.share for stop in stops), 1.0]),
        )
        return list(carried[:, 1:-1])


class _Outside:
    """One object before its first and after its last sighting: a fixed place in its mask's box."""

    def __init__(
        self,
        masks: Masks,
        track: Track,
        first: tuple[int, PlaceInBox | None],
        last: tuple[int, PlaceInBox | None],
    ) -> None:
        self._masks, self._object_id, self._first, self._last = masks, track.object_id, first, last
        usable = [m.source_index for m in masks if m.object_id == track.object_id and not m.flags]
        self.last_mask = max(usable, default=-1)

    @classmethod
    def of(cls, track: Track, masks: Masks | None) -> _Outside | None:
        seen = [sample for sample in track.samples if sample.state == "observed"]
        if masks is None or not seen:
            return None
        first, last = ((s.source_index, place_at(s, track.object_id, masks)) for s in (seen[0], seen[-1]))
        return cls(masks, track, first, last)

    def place(self, index: int) -> tuple[float, float] | None:
        """(x_px, y_px) in this frame, None where no mask says where the object is, and between sightings."""
        if index < self._first[0]:
            share = self._first[1]
        elif index > self._last[0]:
            share = self._last[1]
        else:
            return None
        mask = usable_mask(self._masks, self._object_id, index)
        return None if mask is None or share is None else share.in_mask(mask)


def _times_of(tracks: Tracks) -> FrameTimes:
    seen = {s.source_index: s.time_s for track in tracks for s in track.samples if s.state == "observed"}
    return FrameTimes.of(tracks.receipt, also=seen)


def _frames_of(media: MediaLike, times: FrameTimes, *, wanted: bool) -> tuple[Iterable[Frame], float | None]:
    """The frames of a video at its own rate, and its duration; of another size only when none is wanted.

    Raises `SourceError` for still pictures, `ValueError` for another size.
    """
    frames: Iterator[Frame] | tuple[Frame, ...]
    if isinstance(media, Clip):
        kind, duration_s, frames = media.kind, media.duration_s, media.frames
        size_px = (media.frames[0].width_px, media.frames[0].height_px) if media.frames else None
    else:
        info = probe(media)
        kind, duration_s, size_px = info.kind, info.duration_s, (info.width_px, info.height_px)
        is_file = isinstance(media, str | os.PathLike) and kind == "video"
        frames = iter_frames(media) if is_file else open_clip(media).frames  # type: ignore[arg-type]
    if size_px is not None and kind != "video":
        raise SourceError("expected the video that the tracks were found in; got still pictures")
    if size_px is not None and wanted:
        times.check_size(size_px, name=name_of(media))
    return frames, duration_s


def _check_order(tracks: Tracks) -> None:
    for track in tracks:
        indices = [sample.source_index for sample in track.samples]
        if indices != sorted(indices):
            raise ValueError(f"object {track.object_id}: expected samples in order of frame; got {indices}")


def _check_masks(masks: Masks, tracks: Tracks) -> None:
    if masks.receipt.size_px != tracks.receipt.size_px:
        raise ValueError(
            f"expected masks of {tracks.receipt.size_px} pixels as the tracks are; "
            f"got {masks.receipt.size_px}"
        )
    ids = {track.object_id for track in tracks}
    if ids and masks.labels and not ids & set(masks.labels):
        raise ValueError(
            f"expected masks of the objects {sorted(ids)}; got masks of {sorted(masks.labels)} alone"
        )
