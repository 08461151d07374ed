"""What can be wrong with one training row, in words that name the field.

`problems_of` needs no file; what only the media can tell is checked by `check_folder` (row_report.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.train.row_media import SAME_MOMENT_S, clip_start_s
from molmo2_ground.train.rows import TRACK_TASKS, WORD_TASKS, Annotation, Moment, Place, Row

# The paper trains on at most so many points an example.
MOST_POINTS = 60
_MOST_REASONS = 2

SizesPx = Sequence[tuple[int, int]]


def problems_of(row: Row, *, sizes_px: SizesPx | None = None) -> Iterator[str]:
    """Why the row cannot be trained on, one line each; none for a good one.

    sizes_px: (width, height) of each medium as its file has it; without it the row's own `size_px`, and
    without that places are not held against the picture's edges.
    """
    if not row.row_id.strip():
        yield "row_id is blank"
    yield from _media_problems(row)
    yield from _clip_problems(row)
    sizes = sizes_px if sizes_px is not None else row.size_px
    for number, annotation in enumerate(row.annotations):
        where = f"annotations[{number}]"
        yield from _task_problems(row, annotation, where)
        yield from _moment_problems(row, annotation, where)
        for at, moment in enumerate(annotation.moments):
            which = 0 if row.kind == "video" else moment.image
            size_px = sizes[which] if which < len(sizes) else None
            yield from _place_problems(moment, size_px, f"{where}.moments[{at}]")


def hold_to_rules(row: Row, *, sizes_px: SizesPx | None = None) -> None:
    """Raise `BadRowError` for what `problems_of` says, the first of it and how much more there is."""
    reasons = list(problems_of(row, sizes_px=sizes_px))
    if reasons:
        left = len(reasons) - _MOST_REASONS
        more = [f"and {left} more"] if left > 0 else []
        raise BadRowError("; ".join(reasons[:_MOST_REASONS] + more))


def same_id(place: str) -> str:
    """What is wrong with a row whose id an earlier one has; place: of that one."""
    return f"the row_id is also that of {place}"


def cautions_of(row: Row) -> Iterator[str]:
    """What is unusual and may still be meant, one line each."""
    for number, annotation in enumerate(row.annotations):
        visible = visible_places(annotation)
        if TRACK_TASKS & set(annotation.task):
            count, what = len({place.object_id for place in visible}), "objects"
        else:
            count, what = len(visible), "points"
        if count > MOST_POINTS:
            yield (
                f"annotations[{number}]: {count} {what}; the models were trained on at most {MOST_POINTS} "
                "an example"
            )
        beside = sum(not _on_mask(place) for place in visible)
        empty = _steps_without_moment(annotation)
        if empty:
            yield (
                f"annotations[{number}]: {empty} steps of its {annotation.rate_fps:g} a second, between its "
                "first moment and its last, have no moment: they are taken to have nothing in them"
            )
        if beside:
            yield f"annotations[{number}]: {beside} of {len(visible)} points lie beside their object's mask"


def _steps_without_moment(annotation: Annotation) -> int:
    """Of a regular grid, between its first moment and its last."""
    times_s = [moment.time_s for moment in annotation.moments if moment.time_s is not None]
    if annotation.rate_fps is None or not times_s:
        return 0
    return max(0, round((times_s[-1] - times_s[0]) * annotation.rate_fps) + 1 - len(times_s))


def visible_places(annotation: Annotation) -> list[Place]:
    """The places that an answer may name, in order."""
    return [place for moment in annotation.moments for place in moment.places if not place.occluded]


def _on_mask(place: Place) -> bool:
    """False when a place has a point and a mask, and they do not agree."""
    if place.mask is None or place.x_px is None or place.y_px is None:
        return True
    try:
        return place.mask.covers(int(place.x_px), int(place.y_px))
    except ValueError:
        return True  # a mask that makes no picture is a problem of its own


def _media_problems(row: Row) -> Iterator[str]:
    wanted = {"none": "no file", "image": "one file", "video": "one file", "images": "one file or more"}
    count = len(row.media)
    fits = {"none": count == 0, "image": count == 1, "video": count == 1, "images": count >= 1}
    if not fits[row.kind]:
        yield f"media names {count} files; a row of kind {row.kind} has {wanted[row.kind]}"
    for number, name in enumerate(row.media):
        path = PurePosixPath(name)
        if not name.strip() or path.is_absolute() or ".." in path.parts:
            yield f"media[{number}] is {name!r}; expected a path below the folder of the rows"
    if row.size_px and len(row.size_px) != count:
        yield f"size_px has {len(row.size_px)} sizes for {count} media; give one each, or none"
    for number, (width, height) in enumerate(row.size_px):
        if width < 1 or height < 1:
            yield f"size_px[{number}] is {width} x {height}; expected (width, height), both at least 1"


def _clip_problems(row: Row) -> Iterator[str]:
    if row.clip_s is not None:
        start_s, end_s = row.clip_s
        if row.kind != "video":
            yield f"clip_s is given for a row of kind {row.kind}; only a video has a part"
        if not 0 <= start_s < end_s:
            yield f"clip_s is {start_s:g} to {end_s:g} s; the end must come after the start"
    for number, line in enumerate(row.subtitles):
        if row.kind != "video":
            yield f"subtitles[{number}]: only a video has subtitles"
            return
        if not 0 <= line.start_s <= line.end_s:
            yield f"subtitles[{number}] goes from {line.start_s:g} to {line.end_s:g} s; expected rising times"
        if not line.text.strip():
            yield f"subtitles[{number}] has no text"


def _task_problems(row: Row, annotation: Annotation, where: str) -> Iterator[str]:
    tasks = set(annotation.task)
    names = " and ".join(annotation.task)
    if tasks & WORD_TASKS and not annotation.turns:
        yield f"{where}: {names} needs turns, and there are none"
    # A caption may be asked for in our words, and the first question may stand in the annotation.
    asked = "caption" in tasks or annotation.question is not None
    for number, turn in enumerate(annotation.turns):
        if not turn.question.strip() and not (asked and number == 0):
            yield f"{where}.turns[{number}].question is blank"
        if not turn.answer.strip():
            yield f"{where}.turns[{number}].answer is blank"
    if annotation.question is not None and not annotation.question.strip():
        yield f"{where}.question is blank; leave it out to be asked in our words"
    if row.kind == "none" and tasks - {"text", "qa"}:
        yield f"{where}: {names} needs a picture or a video to look at"
    if not tasks - WORD_TASKS:
        return
    if not annotation.label.strip():
        yield f"{where}.label is empty; {names} asks for it by this name"
    if not annotation.moments:
        yield f"{where}: {names} needs moments; where nothing is to be found, one without places"
    if tasks & TRACK_TASKS and row.kind != "video":
        yield f"{where}: {names} needs a video, whose pictures have times; the row is of kind {row.kind}"
    visible = visible_places(annotation)
    if "track_from_point" in tasks and not visible:
        yield f"{where}: track_from_point needs a place that can be seen, and there is none"
    if "track_from_box" in tasks and not any(p.box_px or p.mask for p in visible):
        yield f"{where}: track_from_box needs a box or mask of something that can be seen; there is none"


def _moment_problems(row: Row, annotation: Annotation, where: str) -> Iterator[str]:
    start_s = clip_start_s(row)
    end_s = float("inf") if row.clip_s is None else row.clip_s[1]
    before_s: float | None = None
    seen: Counter[int] = Counter(moment.image for moment in annotation.moments)
    if row.kind in ("image", "images"):
        yield from (f"{where}: picture {i} has two moments; give it one" for i, n in seen.items() if n > 1)
    for number, moment in enumerate(annotation.moments):
        at = f"{where}.moments[{number}]"
        if row.kind != "video":
            if moment.time_s is not None:
                yield f"{at}.time_s is given, and a {row.kind} row has no times"
            if row.kind != "none" and moment.image >= len(row.media):
                yield f"{at}.image is {moment.image}; there are {len(row.media)} pictures, from 0"
            continue
        if moment.image:
            yield f"{at}.image is {moment.image}; moments of a video have a time_s alone"
        time_s = moment.time_s
        if time_s is None:
            yield f"{at}.time_s is missing"
            continue
        if not start_s - SAME_MOMENT_S <= time_s <= end_s + SAME_MOMENT_S:
            shown = f"{start_s:g} to {end_s:g} s" if row.clip_s else "0 s on"
            yield f"{at}.time_s is {time_s:g}; what is shown goes from {shown}"
        if before_s is not None and time_s <= before_s:
            yield f"{at}.time_s is {time_s:g}, not after the {before_s:g} s of the moment before it"
        before_s = time_s
        if annotation.rate_fps is not None and _off_grid(time_s - start_s, annotation.rate_fps):
            yield (
                f"{at}.time_s is {time_s:g}, between two steps of {annotation.rate_fps:g} a second from "
                f"{start_s:g} s on; leave rate_fps out when the moments are irregular"
            )


def _off_grid(time_s: float, rate_fps: float) -> bool:
    return abs(time_s - round(time_s * rate_fps) / rate_fps) > SAME_MOMENT_S


def _place_problems(moment: Moment, size_px: tuple[int, int] | None, where: str) -> Iterator[str]:
    ids = Counter(place.object_id for place in moment.places)
    yield from (f"{where}: object {i} comes {n} times in one moment" for i, n in ids.items() if n > 1)
    for place in moment.places:
        at = f"{where}: object {place.object_id}"
        if (place.x_px is None) != (place.y_px is None):
            yield f"{at} has one of x_px and y_px; give both or none"
        elif place.x_px is None and place.box_px is None and place.mask is None and not place.occluded:
            yield f"{at} has neither a point nor a box nor a mask, and is not occluded"
        elif size_px is not None and not _inside(place, size_px):
            yield f"{at} is at ({place.x_px:g}, {place.y_px:g}), outside the picture of {_sized(size_px)}"
        yield from _box_problems(place, size_px, at)
        yield from _mask_problems(place, size_px, at)


def _inside(place: Place, size_px: tuple[int, int]) -> bool:
    if place.x_px is None or place.y_px is None:
        return True
    return 0 <= place.x_px <= size_px[0] and 0 <= place.y_px <= size_px[1]


def _box_problems(place: Place, size_px: tuple[int, int] | None, at: str) -> Iterator[str]:
    if place.box_px is None:
        return
    left, top, right, bottom = place.box_px
    spelled = ", ".join(f"{edge:g}" for edge in place.box_px)
    if not (left < right and top < bottom):
        yield f"{at} has the box ({spelled}), inside out or empty; expected left, top, right, bottom"
    elif size_px is not None and (min(left, top) < 0 or right > size_px[0] or bottom > size_px[1]):
        yield f"{at} has the box ({spelled}), which leaves the picture of {_sized(size_px)}"


def _mask_problems(place: Place, size_px: tuple[int, int] | None, at: str) -> Iterator[str]:
    if place.mask is None:
        return
    height, width = place.mask.size_hw
    if size_px is not None and (width, height) != size_px:
        yield f"{at} has a mask of {width} x {height} pixels; the picture has {_sized(size_px)}"
    try:
        area_px = place.mask.area_px
    except (ValueError, OverflowError) as error:  # a run may be any number
        yield f"{at} has a mask that cannot be read: {error}"
        return
    if not area_px and not place.occluded:
        yield f"{at} has an empty mask; leave the place out, or mark it as occluded"


def _sized(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]} pixels"
