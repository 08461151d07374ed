"""One HTML file that shows a result: the question, the answer, where and when, and how it came about."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from molmo2_ground._amount import amount
from molmo2_ground._atomic import atomic_path
from molmo2_ground.render import Result, Tile, Timeline, tiles
from molmo2_ground.render.text import clock
from molmo2_ground.results import Answer, Count, Masks, Points, Receipt, Track, Tracks
from molmo2_ground.sources import MediaLike
from molmo2_ground.viewer import charts
from molmo2_ground.viewer.markup import data_uri, escaped, table
from molmo2_ground.viewer.words import cautions, in_words

_TILE_WIDTH_PX = 560
_MOST_FRAMES = 12
# A table longer than this is read by programs, and they have the result file.
_MOST_ROWS = 500
_TASKS = {"track": "Track", "point": "Point to", "count": "Count", "ask": "Ask"}


def write_report(
    result: Result,
    media: MediaLike | None,
    out_html: str | Path,
    *,
    masks: Masks | None = None,
    video: str | Path | None = None,
) -> Path:
    """Write one page that shows the result and needs nothing but itself.

    media: what the question was about; some of its frames come into the page, with the masks drawn in them.
    Without it the page has numbers and drawings only. video: the annotated video, shown by its name relative
    to the page; it is the only thing that stays outside.
    Raises `SourceError` when the media cannot be read, `ValueError` as `render` when they are another video
    than the result's. The file appears whole or not at all.
    """
    out = Path(out_html).expanduser()
    made = (
        tiles(media, result, width_px=_TILE_WIDTH_PX, max_frames=_MOST_FRAMES, masks=masks)
        if media is not None
        else []
    )
    page = _page(result, made, video=None if video is None else _address(Path(video), out))
    with atomic_path(out) as unfinished:
        # What is no character (half of a surrogate pair from a broken answer) shows as "?".
        unfinished.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    return out


def _address(video: Path, out: Path) -> str:
    """The video's address from the page: relative, so that both can be moved together."""
    try:
        relative = os.path.relpath(video.expanduser().absolute(), out.absolute().parent)
    except ValueError:  # another drive, which Windows knows no way to
        relative = video.name
    return quote(relative.replace(os.sep, "/"))


def _page(result: Result, made: list[Tile], *, video: str | None) -> str:
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    title = escaped(f"{result.receipt.query} – {result.receipt.source}")
    body = "\n".join(_sections(result, made, video=video))
    # Nothing but the page's own script may run and nothing may be fetched, whatever the model wrote.
    policy = (
        f"default-src 'none'; img-src data:; media-src 'self' file:; style-src 'unsafe-inline'; "
        f"script-src '{_fingerprint(script)}'"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _fingerprint(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _sections(result: Result, made: list[Tile], *, video: str | None) -> Iterator[str]:
    timeline = Timeline(result)
    receipt = result.receipt
    yield _head(result)
    if video is not None:
        film = f'<video controls preload="metadata" src="{escaped(video)}"></video>'
        yield f"<section><h2>Video</h2>{film}</section>"
    if timeline.legs:
        ground = made[0].plain if made else None
        yield f"<section><h2>Where</h2>{charts.paths(timeline, receipt.size_px, ground=ground)}</section>"
        yield f"<section><h2>When</h2>{charts.times(timeline, _end_s(timeline))}</section>"
    if made:
        yield _frames(made)
    yield _numbers(result)
    yield _reading(receipt)
    yield _receipt(receipt)


def _end_s(timeline: Timeline) -> float:
    return max((*timeline.looked_s, *(leg.times_s[-1] for leg in timeline.legs)), default=0.0)


def _head(result: Result) -> str:
    receipt = result.receipt
    looked = len(receipt.frame_source_indices)
    about = [receipt.source, f"{amount(looked, 'frame')} looked at", receipt.model_id]
    notes = "".join(f"<li>{escaped(line)}</li>" for line in cautions(result))
    return (
        f'<header><p class="kind">{escaped(_TASKS.get(receipt.task, receipt.task))}</p>'
        f"<h1>{escaped(receipt.query)}</h1>"
        f'<p class="answer">{escaped(in_words(result))}</p>'
        f'<p class="about">{escaped(" · ".join(about))}</p>'
        + (f'<ul class="cautions">{notes}</ul>' if notes else "")
        + "</header>"
    )


def _frames(made: list[Tile]) -> str:
    figures = "\n".join(
        f'<figure{_time_mark(tile.time_s)}><img src="{data_uri(tile.rgb)}" width="{tile.rgb.shape[1]}" '
        f'height="{tile.rgb.shape[0]}" alt="{escaped(tile.caption)}">'
        f"<figcaption>{escaped(tile.caption)}</figcaption></figure>"
        for tile in made
    )
    return f'<section><h2>What the model saw</h2><div class="frames">\n{figures}\n</div></section>'


def _time_mark(time_s: float | None) -> str:
    return "" if time_s is None else f' data-time="{time_s:.4f}"'


def _numbers(result: Result) -> str:
    parts = []
    points = result if isinstance(result, Points) else None
    tracks = result if isinstance(result, Tracks) else None
    if isinstance(result, Count | Answer):
        points = result.points
    if isinstance(result, Answer):
        tracks = result.tracks
    if tracks is not None and len(tracks):
        parts.append(_track_table(tracks))
    if points is not None and len(points):
        parts.append(_point_table(points))
    return f"<section><h2>In numbers</h2>{''.join(parts)}</section>" if parts else ""


def _track_table(tracks: Tracks) -> str:
    rows = [
        (
            _chip(track.object_id),
            escaped(track.label),
            str(len(track.samples)),
            _moment(track.first.time_s) if track.samples else "",
            _moment(track.last.time_s) if track.samples else "",
        )
        for track in tracks
    ]
    overview = table(("Object", "Label", "Sightings", "First", "Last"), rows)
    return overview + "".join(_samples(track) for track in tracks)


def _samples(track: Track) -> str:
    rows = (
        (_moment(s.time_s), str(s.source_index), f"{s.x_px:.1f}", f"{s.y_px:.1f}", s.state)
        for s in track.samples[:_MOST_ROWS]
    )
    return (
        f"<details><summary>{_chip(track.object_id)} {escaped(track.label)}: every place</summary>"
        f"{table(('Time', 'Frame', 'x, pixels', 'y, pixels', 'State'), rows)}"
        f"{_and_more(len(track.samples))}</details>"
    )


def _point_table(points: Points) -> str:
    rows = (
        (
            _chip(point.object_id),
            escaped(point.label),
            f"{point.source_index + 1}" if point.time_s is None else _moment(point.time_s),
            f"{point.x_px:.1f}",
            f"{point.y_px:.1f}",
        )
        for point in points[:_MOST_ROWS]
    )
    place = "Time" if any(point.time_s is not None for point in points) else "Image"
    return table(("Object", "Label", place, "x, pixels", "y, pixels"), rows) + _and_more(len(points))


def _moment(time_s: float) -> str:
    return f'<span class="moment"{_time_mark(time_s)}>{clock(time_s)}</span>'


def _and_more(count: int) -> str:
    left_out = count - _MOST_ROWS
    return f'<p class="about">{left_out} more in the result file.</p>' if left_out > 0 else ""


def _chip(object_id: int) -> str:
    return f'<span class="chip" style="background:{charts.hex_colour(object_id)}"></span> {object_id}'


def _reading(receipt: Receipt) -> str:
    """What the model wrote, and what of it could not be used."""
    rejected = receipt.report.rejected
    if rejected:
        rows = [(f"<code>{escaped(piece.text)}</code>", escaped(piece.reason)) for piece in rejected]
        left_out = table(("Left out", "Why"), rows)
    else:
        left_out = '<p class="about">Every piece of the answer was used.</p>'
    return (
        f"<section><h2>What the model wrote</h2>{left_out}"
        f"<details><summary>Its words</summary><pre>{escaped(receipt.raw_text)}</pre></details></section>"
    )


def _receipt(receipt: Receipt) -> str:
    facts = {
        "Model": receipt.model_id + (f" @ {receipt.revision}" if receipt.revision else ""),
        "Backend": receipt.backend,
        "Recipe": receipt.recipe,
        "Prompt": receipt.prompt,
        "Stopped by": receipt.stop_reason,
        "Tokens": f"{receipt.tokens_in} read, {receipt.tokens_out} written in {receipt.forwards} forwards",
        "Time spent": ", ".join(f"{part} {ms:.0f} ms" for part, ms in receipt.timings_ms.items()),
        "Picture size": f"{receipt.size_px[0]} × {receipt.size_px[1]} pixels",
    }
    rows = [(escaped(name), escaped(value)) for name, value in facts.items() if value]
    whole = escaped(receipt.model_dump_json(indent=1))
    return (
        f"<section><h2>How it came about</h2><details><summary>Receipt</summary>"
        f"{table(('What', 'Value'), rows)}{_joins(receipt)}"
        f"<details><summary>In full, as in the result file</summary><pre>{whole}</pre></details>"
        f"</details></section>"
    )


def _joins(receipt: Receipt) -> str:
    """Which object of each window is which, folded up."""
    if not receipt.joins:
        return ""
    shown = "".join(f"<li>{escaped(line)}</li>" for line in receipt.joins[:_MOST_ROWS])
    return (
        f"<details><summary>How {len(receipt.windows)} windows were joined</summary><ul>{shown}</ul>"
        f"{_and_more(len(receipt.joins))}</details>"
    )
