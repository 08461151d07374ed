"""From a receipt to the objects, without pixels or a model: what an answer means, and a way to check it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from molmo2_ground.answer import ParsedAnswer, parse_answer
from molmo2_ground.errors import AnswerError
from molmo2_ground.placement import frame_refs, place_count, place_points, place_tracks
from molmo2_ground.results import Answer, Count, ParseReport, Points, Receipt, Rejected, Tracks
from molmo2_ground.windows import join

Result = Points | Tracks | Count | Answer
Located = TypeVar("Located", Points, Tracks)

TOLERANCE = 1e-6  # pixels, seconds and shares: far below a step of the model's grid, far above rounding


def derive(receipt: Receipt) -> Result:
    """Read the answer that the receipt holds and place it in the frames that it names.

    This is the last step of every question too, so a result and its replay agree by construction.
    Raises `AnswerError` when no answer can be read, `ValueError` for a task that does not exist.
    """
    if receipt.windows:
        return keep_first(join(receipt.windows).model_copy(update={"receipt": receipt}))
    parsed = parse_answer(receipt.raw_text)
    shown = frame_refs(receipt)
    match receipt.task:
        case "track":
            return keep_first(place_tracks(parsed, shown, receipt))
        case "point":
            return keep_first(place_points(parsed, shown, receipt))
        case "count":
            return place_count(parsed, shown, receipt)
        case "ask":
            return _free_text(parsed, receipt)
    raise ValueError(f"a receipt's task is track, point, count or ask; got {receipt.task!r}")


def keep_first(result: Located) -> Located:
    """At most `receipt.max_objects` objects, the lowest ids; a note says how many were left out."""
    limit = result.receipt.max_objects
    objects = result.points if isinstance(result, Points) else result.tracks
    ids = sorted({found.object_id for found in objects})
    if limit is None or len(ids) <= limit:
        return result
    note = f"kept the first {limit} of {len(ids)} objects, as asked (max_objects={limit})"
    notes = result.receipt.notes if note in result.receipt.notes else (*result.receipt.notes, note)
    kept = tuple(found for found in objects if found.object_id <= ids[limit - 1])
    field = "points" if isinstance(result, Points) else "tracks"
    receipt = result.receipt.model_copy(update={"notes": notes})
    return result.model_copy(update={field: kept, "receipt": receipt})


def differences(result: Result, derived: Result) -> tuple[str, ...]:
    """What differs between two results, one line each; receipts are not compared."""
    if type(result) is not type(derived):
        return (f"the file holds {type(result).__name__}, the receipt gives {type(derived).__name__}",)
    ours, theirs = dict(_facts(result)), dict(_facts(derived))
    lines = []
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in theirs:
            lines.append(f"{name} is in the file, and the receipt does not give it")
        elif name not in ours:
            lines.append(f"{name} is not in the file, and the receipt gives it")
        elif not _same(ours[name], theirs[name]):
            lines.append(f"{name} is {ours[name]} in the file and {theirs[name]} from the receipt")
    return tuple(lines)


def _free_text(parsed: ParsedAnswer, receipt: Receipt) -> Answer:
    """The text as it stands, with the points and tracks that could be placed; prose alone will do too."""
    shown = frame_refs(receipt)
    tags = {element.tag for element in parsed.elements}
    points = tracks = None
    reports = [ParseReport(truncated=parsed.truncated or receipt.stop_reason == "length")]
    try:
        if "points" in tags:
            points = place_points(parsed, shown, receipt)
            reports.append(points.receipt.report)
        if "tracks" in tags:
            tracks = place_tracks(parsed, shown, receipt)
            reports.append(tracks.receipt.report)
    except AnswerError as error:
        reports.append(ParseReport(rejected=(Rejected(text=receipt.raw_text, reason=str(error)),)))
    report = ParseReport(
        rejected=tuple(dict.fromkeys(piece for r in reports for piece in r.rejected)),
        truncated=any(r.truncated for r in reports),
        repeats_cut=max(r.repeats_cut for r in reports),
    )
    return Answer(
        text=receipt.raw_text,
        points=points,
        tracks=tracks,
        receipt=receipt.model_copy(update={"report": report}),
    )


def _facts(result: Result, at: str = "") -> Iterator[tuple[str, object]]:
    """What a result says, each piece under its own name."""
    if isinstance(result, Points):
        for number, point in enumerate(result, start=1):
            for name, value in point:
                yield f"{at}point {number} {name}", value
    elif isinstance(result, Tracks):
        for track in result:
            yield f"{at}object {track.object_id} label", track.label
            for number, sample in enumerate(track.samples, start=1):
                for name, value in sample:
                    yield f"{at}object {track.object_id} sample {number} {name}", value
    elif isinstance(result, Count):
        yield "value", result.value
        yield "stated", result.stated
        yield from _facts(result.points)
    else:
        yield "text", result.text
        for part in (result.points, result.tracks):
            if part is not None:
                yield from _facts(part)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE
    return a == b
