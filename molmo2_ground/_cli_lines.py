"""A result as lines of text for people."""

from __future__ import annotations

from collections.abc import Iterator

from molmo2_ground._amount import amount
from molmo2_ground.results import Answer, Count, Point, Points, Receipt, Sample, Track, Tracks

Result = Points | Tracks | Count | Answer


def lines(result: Result) -> Iterator[str]:
    """The result for people, one line an object; a count and a text come first on lines of their own."""
    if isinstance(result, Tracks):
        yield from (_track_line(track) for track in result)
    elif isinstance(result, Points):
        yield from (_point_line(point) for point in result)
    elif isinstance(result, Count):
        yield str(result.value)
        yield from lines(result.points)
    else:
        yield result.text
        for part in (result.points, result.tracks):
            if part is not None:
                yield from lines(part)


def remarks(result: Result) -> Iterator[str]:
    """What a reader should know beside the objects, for stderr."""
    receipt = result.receipt
    if isinstance(result, Points | Tracks) and not len(result):
        yield f"none found; the model wrote: {_shortened(receipt.raw_text)}"
    if isinstance(result, Count) and not result.agrees:
        yield f"the model wrote {result.stated} and pointed to {result.value}"
    yield from _remarks_of(receipt)


def _remarks_of(receipt: Receipt) -> Iterator[str]:
    for line in receipt.lost:
        yield f"lost: {line}"
    for piece in receipt.report.rejected:
        yield f"left out {_shortened(piece.text)}: {piece.reason}"
    if receipt.report.truncated or receipt.stop_reason == "length":
        yield "the answer was cut off at the token limit; what was complete by then is kept"
    for line in receipt.notes:
        yield f"note: {line}"
    if receipt.joins:
        windows = amount(len(receipt.windows), "window")
        yield f"joined from {windows}; the receipt says which object is which, and why"


def _track_line(track: Track) -> str:
    first, last = track.first, track.last
    return (
        f"#{track.object_id} {track.label}: {_sample_words(first)} to {_sample_words(last)}, "
        f"{amount(len(track.samples), 'sample')}"
    )


def _sample_words(sample: Sample) -> str:
    return f"{sample.time_s:.1f} s ({sample.x_px:.0f}, {sample.y_px:.0f})"


def _point_line(point: Point) -> str:
    where = f"image {point.source_index + 1}" if point.time_s is None else f"{point.time_s:.1f} s"
    return f"#{point.object_id} {point.label}: {where} ({point.x_px:.0f}, {point.y_px:.0f})"


def _shortened(text: str, limit: int = 120) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= limit else words[: limit - 1] + "…")
