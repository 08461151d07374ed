"""`segment`: a video or images, and what the model pointed to in them -> `Masks`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from molmo2_ground._wanted import FUNCTION
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.frame_times import FrameTimes, frame_s_of, name_of
from molmo2_ground.masks.choice import segmenter_named
from molmo2_ground.masks.prompts import PointedAt, Prompts
from molmo2_ground.masks.propagation import Follow, Propagation
from molmo2_ground.masks.segmenter import Segmenter
from molmo2_ground.results import Mask, Masks
from molmo2_ground.sources import MediaLike, iter_frames, open_clip, probe

DEFAULT_SEGMENTER = "region"


def segment(
    media: MediaLike,
    result: PointedAt,
    *,
    segmenter: str | Segmenter = DEFAULT_SEGMENTER,
    follow: Follow = "sightings",
    device: str = "auto",
    on_progress: Callable[[float], None] | None = None,
) -> Masks:
    """Masks of everything that a result points to, in every frame in which it can be followed.

    media: what the result was made from; a video is read once more, frame by frame, at its own size and rate.
    segmenter: `region` (no weights: colour, edges and motion), `sam2.1-hiera-tiny` and its siblings by name,
    hub id or folder, or an object of your own that follows `masks.segmenter.Segmenter`.
    follow: `sightings` follows an object from where the model saw it to the neighbouring looks of the model,
    so that there is no mask where the model looked and did not see it; `clip` from its first sighting on to
    the end, and back from it for up to `propagation.LONGEST_WAY_BACK` frames.
    device: for segmenters that run on torch.
    on_progress: hears the share that is done, 0 to 1.
    A result that points to nothing gives no masks. `Masks.notes` says where an object was lost, and why.
    Raises `SourceError` when the media cannot be read, `CheckpointError` or `MissingExtraError` when the
    segmenter cannot be had, `ValueError` for wrong arguments or other media than the result's: of
    another size, or a video whose frames are shown at other times.
    """
    FUNCTION.or_nothing().check("on_progress", on_progress)
    stream = MaskStream.over(media, result, segmenter=segmenter, follow=follow, device=device)
    masks: list[Mask] = []
    told = -1
    for number, (frame, found) in enumerate(stream):
        masks += found
        share = stream.share(number, frame)
        if on_progress is not None and int(100 * share) > told:
            told = int(100 * share)
            on_progress(share)
    if on_progress is not None:
        on_progress(1.0)
    return stream.collected(masks)


@dataclass(kw_only=True)
class MaskStream:
    """Frames of a source with their masks, one after another: an iterable that is walked once.

    It ends after the last frame that can hold a mask. Memory does not grow with the number of frames; what
    is kept of the masks is the caller's.
    """

    segmenter: Segmenter
    prompts: Prompts
    follow: Follow
    frames: Iterable[Frame]
    kind: str
    duration_s: float | None
    count: int | None
    notes: list[str]

    @classmethod
    def over(
        cls,
        media: MediaLike,
        result: PointedAt,
        *,
        segmenter: str | Segmenter = DEFAULT_SEGMENTER,
        follow: Follow = "sightings",
        device: str = "auto",
    ) -> MaskStream:
        """The masks of a result over its media; arguments and errors as of `segment`."""
        if follow not in ("sightings", "clip"):
            raise ValueError(f"follow is 'sightings' or 'clip'; got {follow!r}")
        if not isinstance(segmenter, str) and not hasattr(segmenter, "start"):
            raise ValueError(f"segmenter is a name or a Segmenter; got {segmenter!r}")
        prompts = Prompts.of(result)
        frames: Iterable[Frame]
        count: int | None
        if isinstance(media, Clip):
            kind, duration_s, count, frames = media.kind, media.duration_s, len(media), media.frames
            fps = media.fps
            size_px = (media.frames[0].width_px, media.frames[0].height_px) if media.frames else None
        else:
            info = probe(media)
            kind, duration_s, count, fps = info.kind, info.duration_s, info.frame_count, info.fps
            size_px = (info.width_px, info.height_px)
            if isinstance(media, str | os.PathLike) and kind == "video":
                frames = iter_frames(media)
            else:
                frames = open_clip(media).frames
        if prompts.points and size_px is not None:
            times, name = FrameTimes.of(result.receipt), name_of(media)
            # A Clip may be a part of the video.
            whole, frame_s = isinstance(media, str | os.PathLike), frame_s_of(fps)
            times.check_size(size_px, name=name)
            if whole:
                times.check_kind(kind, name=name)
                times.check_end(duration_s, name=name, frame_s=frame_s)
            frames = times.checked(frames, name=name, frame_s=frame_s, whole=whole)
        chosen = segmenter_named(segmenter, device=device) if isinstance(segmenter, str) else segmenter
        return cls(
            segmenter=chosen,
            prompts=prompts,
            follow=follow,
            frames=frames,
            kind=kind,
            duration_s=duration_s,
            count=count,
            notes=[],
        )

    def __iter__(self) -> Iterator[tuple[Frame, tuple[Mask, ...]]]:
        if self.kind == "video":
            propagation = Propagation(self.segmenter, self.prompts, follow=self.follow)
            yield from propagation.run(self.frames)
            self.notes += propagation.notes
            return
        for frame in self.frames:
            # Pictures have nothing to do with each other.
            alone = Propagation(self.segmenter, self.prompts)
            if self.prompts.in_frame(frame.source_index):
                yield from alone.run([frame])
                self.notes += alone.notes

    def share(self, number: int, frame: Frame) -> float:
        """How much of the source lies before this frame, which was the `number`th to come out; 0 to 1."""
        if frame.time_s is not None and self.duration_s:
            return min(1.0, frame.time_s / self.duration_s)
        return min(1.0, number / self.count) if self.count else 0.0

    def collected(self, masks: Iterable[Mask]) -> Masks:
        """The masks that came out, as one result."""
        ordered = tuple(sorted(masks, key=lambda mask: (mask.source_index, mask.object_id)))
        return Masks(
            masks=ordered,
            labels=self.prompts.labels,
            segmenter=self.segmenter.name,
            receipt=self.prompts.receipt,
            notes=tuple(self.notes),
        )
