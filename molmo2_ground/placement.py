"""From what an answer says to places in the source: thousandths to pixels, times and numbers to pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from molmo2_ground._amount import amount
from molmo2_ground.answer import Element, Group, ParsedAnswer, ParsedPoint, RawAnswer
from molmo2_ground.clip import Clip
from molmo2_ground.errors import AnswerError
from molmo2_ground.query import Decoding, Prompt, Query
from molmo2_ground.results import (
    Count,
    ParseReport,
    Point,
    Points,
    Receipt,
    Rejected,
    Sample,
    Track,
    Tracks,
)
from molmo2_ground.runaway import repeats
from molmo2_ground.thousandths import FULL, spell_seconds, to_pixels

# Times are written in tenths of a second, so a time may be off by half a tenth on top of half a step.
_ROUNDING_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRef:
    """A picture that the model saw, without its pixels; fields as in `Frame`."""

    width_px: int
    height_px: int
    source_index: int
    time_s: float | None = None
    shown_time_s: float | None = None


Shown = Clip | Receipt | Sequence[FrameRef]


def frame_refs(shown: Shown) -> tuple[FrameRef, ...]:
    """The pictures that the model saw, in order, from the clip itself or from the receipt of an answer."""
    if isinstance(shown, Clip):
        return tuple(
            FrameRef(
                width_px=frame.width_px,
                height_px=frame.height_px,
                source_index=frame.source_index,
                time_s=frame.time_s,
                shown_time_s=frame.shown_time_s,
            )
            for frame in shown.frames
        )
    if isinstance(shown, Receipt):
        count = len(shown.frame_source_indices)
        sizes = shown.sizes_px or (shown.size_px,) * count
        # Still images have no times, and a receipt of them has empty lists.
        times = shown.frame_times_s or (None,) * count
        shown_times = shown.shown_times_s or (None,) * count
        if {len(sizes), len(times), len(shown_times)} != {count}:
            raise ValueError(
                f"a receipt has one size and one time for each of its {count} frames; got {len(sizes)} "
                f"sizes, {len(times)} times and {len(shown_times)} shown times. The file was changed or cut."
            )
        return tuple(
            FrameRef(
                width_px=width, height_px=height, source_index=index, time_s=time, shown_time_s=shown_time
            )
            for (width, height), index, time, shown_time in zip(
                sizes, shown.frame_source_indices, times, shown_times, strict=True
            )
        )
    return tuple(shown)


def make_receipt(
    query: Query, prompt: Prompt, raw: RawAnswer, clip: Clip, *, decoding: Decoding | None = None
) -> Receipt:
    """Write down how an answer came about; the report follows when its places are found."""
    # Interned: a long video has a receipt for each of its windows, and these words are the same in all.
    recipe, asked = sys.intern(f"{prompt.template}; {raw.recipe}"), sys.intern(prompt.text)
    sizes = [(frame.width_px, frame.height_px) for frame in clip.frames]
    return Receipt(
        task=query.task,
        query=query.phrase,
        model_id=raw.model_id,
        revision=raw.revision,
        backend=raw.backend,
        recipe=recipe,
        prompt=asked,
        raw_text=raw.text,
        stop_reason=raw.stop_reason,
        source=clip.source,
        frame_times_s=tuple(frame.time_s for frame in clip.frames if frame.time_s is not None),
        shown_times_s=tuple(frame.shown_time_s for frame in clip.frames if frame.shown_time_s is not None),
        frame_source_indices=tuple(frame.source_index for frame in clip.frames),
        size_px=sizes[0] if sizes else (0, 0),
        sizes_px=tuple(sizes) if len(set(sizes)) > 1 else (),
        source_fps=clip.fps,
        max_objects=query.max_objects,
        cut_runaways=decoding is None or decoding.cut_runaways,
        lost=clip.lost,
        timings_ms=dict(raw.timings_ms),
        tokens_in=raw.tokens_in,
        tokens_out=raw.tokens_out,
        forwards=raw.forwards,
        notes=raw.notes,
    )


def place_points(parsed: ParsedAnswer, shown: Shown, receipt: Receipt) -> Points:
    """Every point of the answer in the picture it belongs to, in the order of the text.

    An answer of tracks alone gives a point for each sample. The receipt that comes with the result holds
    what was left out. Raises `AnswerError` when the answer neither points nor says that there is nothing.
    """
    placer = _Placer(parsed, shown, receipt, prefer="points")
    points = tuple(spot.point() for spot in placer.spots)
    if not points and not (parsed.says_none or parsed.stated_count == 0):
        raise placer.unreadable()
    return Points(points=points, receipt=placer.receipt())


def place_tracks(parsed: ParsedAnswer, shown: Shown, receipt: Receipt) -> Tracks:
    """Every object of the answer, by id, with its places in order of time.

    An answer of points alone is taken as tracks, each id an object. The receipt that comes with the result
    holds what was left out. Raises `AnswerError` when the answer neither points nor says that there is
    nothing.
    """
    placer = _Placer(parsed, shown, receipt, prefer="tracks")
    samples: dict[int, dict[int, _Spot]] = {}
    for spot in placer.spots:
        if spot.frame.time_s is None:
            placer.reject(spot.text, "a track runs over time, and still images have none")
            continue
        places = samples.setdefault(spot.object_id, {})
        if spot.frame_number in places:
            placer.reject(spot.text, f"object {spot.object_id} already has a place in this frame")
        else:
            places[spot.frame_number] = spot
    tracks = tuple(
        Track(
            object_id=object_id,
            label=next(iter(places.values())).label,
            samples=tuple(places[number].sample() for number in sorted(places)),
        )
        for object_id, places in sorted(samples.items())
    )
    if not tracks and not (parsed.says_none or parsed.stated_count == 0):
        raise placer.unreadable()
    return Tracks(tracks=tracks, receipt=placer.receipt())


def place_count(parsed: ParsedAnswer, shown: Shown, receipt: Receipt) -> Count:
    """How many the answer points to, or else says that there are.

    An answer of tracks counts each object once, where it is seen first. Raises `AnswerError` when the answer
    neither points nor gives a number.
    """
    placer = _Placer(parsed, shown, receipt, prefer="points")
    spots = placer.spots
    if any(spot.tag == "tracks" for spot in spots):
        first_seen: dict[int, _Spot] = {}
        for spot in sorted(spots, key=lambda spot: spot.frame_number):
            first_seen.setdefault(spot.object_id, spot)
        spots = list(first_seen.values())
    points = tuple(spot.point() for spot in spots)
    value = len(points)
    if not points:
        # Points that all had to be left out are no count of zero, but the number in words still stands.
        if parsed.stated_count is None and not parsed.says_none:
            raise placer.unreadable()
        value = parsed.stated_count or 0
    return Count(
        value=value,
        stated=parsed.stated_count,
        points=Points(points=points, receipt=placer.receipt()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """A point of the answer with the picture it lies in; `text` is how the answer has it."""

    tag: Literal["points", "tracks"]
    text: str
    object_id: int
    label: str
    frame_number: int
    frame: FrameRef
    x: int
    y: int

    def point(self) -> Point:
        return Point(
            object_id=self.object_id,
            label=self.label,
            time_s=self.frame.time_s,
            source_index=self.frame.source_index,
            x_px=to_pixels(self.x, self.frame.width_px),
            y_px=to_pixels(self.y, self.frame.height_px),
            x_norm=self.x / FULL,
            y_norm=self.y / FULL,
        )

    def sample(self) -> Sample:
        assert self.frame.time_s is not None  # place_tracks leaves out what has no time
        return Sample(
            time_s=self.frame.time_s,
            source_index=self.frame.source_index,
            x_px=to_pixels(self.x, self.frame.width_px),
            y_px=to_pixels(self.y, self.frame.height_px),
            x_norm=self.x / FULL,
            y_norm=self.y / FULL,
        )


class _Placer:
    """The points of one answer, each with its picture, and what had to be left out."""

    def __init__(
        self, parsed: ParsedAnswer, shown: Shown, receipt: Receipt, *, prefer: Literal["points", "tracks"]
    ) -> None:
        self._parsed = parsed
        self._receipt = receipt
        self._frames = frame_refs(shown)
        self._rejected = [Rejected(text=piece.text, reason=piece.reason) for piece in parsed.rejected]
        self._notes = list(receipt.notes)
        self._repeats_cut = 0
        self._prefer = prefer
        times = [frame.shown_time_s for frame in self._frames if frame.shown_time_s is not None]
        self._times = np.array(times, dtype=np.float64)
        steps = np.diff(self._times)
        self._reach_s = (float(np.median(steps)) / 2 if steps.size else 0.0) + _ROUNDING_S
        elements = [element for element in parsed.elements if element.tag == prefer]
        if not elements and parsed.elements:
            elements = list(parsed.elements)
            self._note(f"the answer is in <{elements[0].tag}>, where <{prefer}> was expected")
        self.spots = list(self._spots(elements))

    def reject(self, text: str, reason: str) -> None:
        self._rejected.append(Rejected(text=text, reason=reason))

    def receipt(self) -> Receipt:
        """The receipt with the report of this reading."""
        # Cut between elements leaves no mark in the text; the model's stop does.
        truncated = self._parsed.truncated or self._receipt.stop_reason == "length"
        report = ParseReport(
            rejected=tuple(self._rejected), truncated=truncated, repeats_cut=self._repeats_cut
        )
        return self._receipt.model_copy(update={"report": report, "notes": tuple(self._notes)})

    def unreadable(self) -> AnswerError:
        receipt = self._receipt
        why = f" First left out: {self._rejected[0].reason}." if self._rejected else ""
        text = receipt.raw_text if len(receipt.raw_text) <= 80 else receipt.raw_text[:80] + "…"
        raw = RawAnswer(
            text=receipt.raw_text,
            stop_reason="length" if receipt.stop_reason == "length" else "end",
            tokens_in=receipt.tokens_in,
            tokens_out=receipt.tokens_out,
            forwards=receipt.forwards,
            model_id=receipt.model_id,
            revision=receipt.revision,
            backend=receipt.backend,
            recipe=receipt.recipe,
            timings_ms=receipt.timings_ms,
        )
        expected = f'expected points or "There are none.", got {text!r}.{why}'
        if raw.stop_reason == "length":
            words = (
                f"the model's answer was cut off after {amount(raw.tokens_out, 'token')}, before a place "
                f"could be read; {expected} Allow a longer answer (max_new_tokens, --max-new-tokens), or ask "
                "in other words."
            )
        else:
            words = (
                f"no place could be read from the model's answer; {expected} Ask in other words or with "
                "another model."
            )
        return AnswerError(words, answer=raw)

    def _note(self, note: str) -> None:
        # A receipt that is replayed has its notes already.
        if note not in self._notes:
            self._notes.append(note)

    def _spots(self, elements: list[Element]) -> Iterator[_Spot]:
        highest = -1
        for element in elements:
            # Elements may each number their own objects from 1; in one result, an id means one object.
            ids = [point.object_id for group in element.groups for point in group.points]
            lowest = min(ids, default=0)
            shift = 0 if lowest > highest else highest + 1 - lowest
            repeated = self._repeated(element)
            for group in element.groups:
                number, problem = self._frame_of(group.key)
                for point in group.points:
                    if self._mark(element, group, point) in repeated:
                        continue
                    text = _spelled(group.key, point)
                    if number is None:
                        self.reject(text, problem)
                        continue
                    highest = max(highest, point.object_id + shift)
                    yield _Spot(
                        tag=element.tag,
                        text=text,
                        object_id=point.object_id + shift,
                        label=element.label,
                        frame_number=number,
                        frame=self._frames[number],
                        x=point.x,
                        y=point.y,
                    )

    def _repeated(self, element: Element) -> set[_Mark]:
        """The things of an element that are left out because the model went round in circles."""
        if not self._receipt.cut_runaways:
            return set()
        pairs = [(group, point) for group in element.groups for point in group.points]
        # The first place of each: a thing is what has a mark of its own.
        new: dict[_Mark, tuple[float, tuple[int, int]]] = {}
        for group, point in pairs:
            new.setdefault(self._mark(element, group, point), (group.key, (point.x, point.y)))
        found = repeats(new.values(), film=bool(self._times.size))
        repeated = {mark for number, mark in enumerate(new) if number in found}
        left_out = sum(self._mark(element, group, point) in repeated for group, point in pairs)
        self._repeats_cut += left_out
        if left_out:
            rules = ", ".join(dict.fromkeys(found.values()))
            self._note(f"the answer went round in circles ({rules}): {amount(left_out, 'place')} left out")
        return repeated

    def _mark(self, element: Element, group: Group, point: ParsedPoint) -> _Mark:
        """What tells one thing of an element from another: an id in tracks, in points also the picture."""
        tracked = "tracks" in (element.tag, self._prefer)
        return (0.0 if tracked else float(group.key), point.object_id)

    def _frame_of(self, key: int | float) -> tuple[int | None, str]:
        """The number of the picture that a key means, or None and the reason why there is none."""
        if self._times.size:
            nearest = int(np.argmin(np.abs(self._times - key)))
            distance_s = abs(float(self._times[nearest]) - key)
            # A hair more than the bound, so that a time just on it does not depend on rounding.
            if distance_s <= self._reach_s + 1e-9:
                return nearest, ""
            return None, f"no frame was seen at {key} s; the nearest is at {self._times[nearest]:g} s"
        count = len(self._frames)
        if key != int(key):
            return None, f"{key} is no image number, and the pictures have no times"
        if not 1 <= key <= count:
            return None, f"there is no image {int(key)}; expected 1 to {count}"
        return int(key) - 1, ""


_Mark = tuple[float, int]


def _spelled(key: int | float, point: ParsedPoint) -> str:
    spelled = str(key) if isinstance(key, int) else spell_seconds(key)
    return f"{spelled} {point.object_id} {point.x:03d} {point.y:03d}"
