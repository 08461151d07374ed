"""Molmo2-VideoCountEval: how many of a description are there in a video, or in a part of one.

The folder is laid out as for Molmo2-VideoPointEval. Fields of a row: video_id, video_duration, clip_start and
clip_end (seconds, null for the whole video), label, category, count.
"""

from __future__ import annotations

from pathlib import Path

from molmo2_ground.eval.example import Example, Settings, Truth
from molmo2_ground.eval.suites.dataset import PAPER_FRAMES, CountingSuite, Rows, table_rows, tagged
from molmo2_ground.eval.suites.media import Shelf, cut_film
from molmo2_ground.eval.suites.records import BadRowError, Record
from molmo2_ground.eval.suites.video_point import video_of
from molmo2_ground.query import Query

# A part that is the whole but for a frame or so is not worth cutting out.
_WHOLE_S = 0.5


class VideoCount(CountingSuite):
    """Molmo2-VideoCountEval."""

    name = "video-count"
    settings = Settings(
        max_frames=PAPER_FRAMES, max_new_tokens=2048, note="greedy, 2 frames a second, at most 384"
    )

    def _rows(self) -> Rows:
        shelf = Shelf.of_videos(self.folder)
        return table_rows(self.folder, split="val", shelf=shelf, example=_example)

    def prepare(self, example: Example, folder: Path) -> Path:
        """The video, or the part of it that is asked about, written into `folder`."""
        source = Path(example.media)
        part = _part(example)
        if part is None:
            return source
        start_s, end_s = part
        path = folder / f"{source.parent.name}-{source.stem}-{start_s:g}-{end_s:g}.mp4"
        if not path.exists():
            cut_film(source, path, start_s=start_s, end_s=end_s, fps=example.truth.fps)
        return path


def _part(example: Example) -> tuple[float, float] | None:
    start, end = example.tags.get("clip_start_s"), example.tags.get("clip_end_s")
    return None if start is None or end is None else (float(start), float(end))


def _example(row: Record, shelf: Shelf) -> Example:
    video_id, label = row.name("video_id"), row.text("label")
    within = video_id.rsplit("/", 1)[0] if "/" in video_id else ""
    path = shelf.find(*video_of(shelf, video_id), within=within)
    info = shelf.video(path)
    whole_s = info.duration_s if info.duration_s is not None else row.positive("video_duration")
    tags: dict[str, str | float] = {}
    key, duration_s = f"{video_id}:{label}", whole_s
    if row.has("clip_start") and row.has("clip_end"):
        start_s, end_s = row.number("clip_start"), row.number("clip_end")
        if not 0 <= start_s < min(end_s, whole_s):
            raise BadRowError(
                f"the part asked about is {start_s:g} to {end_s:g} s; the video lasts {whole_s:g} s"
            )
        if start_s > _WHOLE_S or end_s < whole_s - _WHOLE_S:
            tags = {"clip_start_s": start_s, "clip_end_s": end_s}
            key, duration_s = f"{key}:{start_s:g}", min(end_s, whole_s) - start_s
    truth = Truth(
        size_px=(info.width_px, info.height_px),
        duration_s=duration_s,
        fps=info.fps,
        count=row.whole("count"),
    )
    if row.has("category"):
        tags["category"] = row.text("category")
    return tagged(Example(key=key, media=path, query=Query.count(label), truth=truth), **tags)
