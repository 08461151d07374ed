from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.clip import Clip
from molmo2_ground.errors import SourceError
from molmo2_ground.masks.carrying import MOST_HELD, carry
from molmo2_ground.results import Mask, MaskFlag, Masks, Sample, Track, Tracks
from molmo2_ground.rle import Rle
from molmo2_ground.sightings import LONGEST_STEP_S
from tests.found import receipt
from tests.media import Shelf, variable_rate

FPS = 30.0
SIZE_PX = (320, 180)
_TEXTURE = np.random.default_rng(7).integers(40, 250, (40, 40, 3)).astype(np.uint8).repeat(2, 0)[:40]
_BACKGROUND = np.random.default_rng(8).integers(60, 120, (18, 32, 3)).repeat(10, 0).repeat(10, 1)
Path_ = Callable[[float], tuple[float, float]]


def straight(time_s: float) -> tuple[float, float]:
    return 60 + 80 * time_s, 90.0


def swinging(time_s: float) -> tuple[float, float]:
    """Far from a straight line between two looks half a second apart."""
    return 60 + 60 * time_s, 90 + 30 * float(np.sin(2 * np.pi * time_s))


def video(path: Path_, *, seconds: float = 1.0, blank: bool = False, plain: bool = False) -> Clip:
    """A textured square of 40 px whose middle follows `path`.

    blank: nothing to see at all. plain: the square is of one colour.
    """
    frames = []
    for number in range(round(seconds * FPS) + 1):
        picture = np.full((180, 320, 3), 90, np.uint8) if blank else _BACKGROUND.astype(np.uint8).copy()
        if not blank:
            x_px, y_px = path(number / FPS)
            left, top = round(x_px) - 20, round(y_px) - 20
            picture[top : top + 40, left : left + 40] = 220 if plain else _TEXTURE
        frames.append(picture)
    return Clip.from_arrays(frames, fps=FPS)


def sample(index: int, place: tuple[float, float]) -> Sample:
    return Sample(
        time_s=index / FPS,
        source_index=index,
        x_px=place[0],
        y_px=place[1],
        x_norm=place[0] / SIZE_PX[0],
        y_norm=place[1] / SIZE_PX[1],
    )


def seen(
    places: Mapping[int, tuple[float, float]], *, looked: Sequence[int] = (), object_id: int = 1
) -> Tracks:
    """One object seen in these frames by a model that looked at these and at `looked`."""
    track = Track(
        object_id=object_id, label="square", samples=tuple(sample(*item) for item in places.items())
    )
    times = sorted({*places, *looked})
    return Tracks(
        tracks=(track,), receipt=receipt(looked_s=[i / FPS for i in times], size_px=SIZE_PX, fps=FPS)
    )


def follow(path: Path_, indices: Sequence[int]) -> dict[int, tuple[float, float]]:
    return {index: path(index / FPS) for index in indices}


def box_mask(
    index: int, box: tuple[int, int, int, int], *, flags: tuple[MaskFlag, ...] = (), hole: bool = False
) -> Mask:
    dense: npt.NDArray[np.bool_] = np.zeros((SIZE_PX[1], SIZE_PX[0]), dtype=bool)
    left, top, right, bottom = box
    dense[top:bottom, left:right] = True
    if hole:
        dense[top + 5 : bottom - 5, left + 5 : right - 5] = False
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=1,
        source_index=index,
        time_s=index / FPS,
        size_px=SIZE_PX,
        counts=counts.decode(),
        state="propagated",
        flags=flags,
    )


def masks_of(tracks: Tracks, masks: Sequence[Mask]) -> Masks:
    return Masks(masks=tuple(masks), labels={1: "square"}, segmenter="by hand", receipt=tracks.receipt)


def around(place: tuple[float, float]) -> tuple[int, int, int, int]:
    x_px, y_px = round(place[0]), round(place[1])
    return x_px - 20, y_px - 20, x_px + 20, y_px + 20


def states(tracks: Tracks) -> dict[int, str]:
    return {s.source_index: s.state for s in tracks[0].samples}


@pytest.mark.parametrize("plain", [pytest.param(False, id="textured"), pytest.param(True, id="plain")])
def test_flow_follows_a_swing_that_a_straight_line_cuts(plain: bool) -> None:
    tracks = seen(follow(swinging, [0, 15, 30]))
    carried = carry(video(swinging, plain=plain), tracks)
    assert states(carried) == {i: "observed" if i % 15 == 0 else "propagated" for i in range(31)}
    errors = [np.hypot(*np.subtract((s.x_px, s.y_px), swinging(s.time_s))) for s in carried[0].samples]
    # The square is drawn at whole pixels, so the truth itself is known to half a pixel each way.
    assert max(errors) < 1.5
    middle = carried[0].samples[7]
    assert abs(middle.y_px - 90) > 25  # the straight line between the sightings stays at 90


def test_without_an_edge_to_follow_the_line_is_straight_and_says_so() -> None:
    tracks = seen(follow(straight, [0, 15]))
    carried = carry(video(straight, blank=True), tracks)
    assert set(states(carried).values()) == {"observed", "interpolated"}
    assert [s.x_px for s in carried[0].samples] == pytest.approx([60 + 80 * i / FPS for i in range(16)])


def test_flow_that_runs_off_with_the_background_is_not_believed() -> None:
    # The model saw it jump a third of the picture, and nothing in the picture moves.
    tracks = seen({0: (60.0, 90.0), 15: (170.0, 90.0)})
    carried = carry(video(lambda _: (60.0, 90.0)), tracks)
    assert states(carried)[7] == "interpolated"


def test_nothing_is_put_where_the_model_looked_and_did_not_see() -> None:
    tracks = seen(follow(straight, [0, 6, 18, 24]), looked=[12, 30])
    carried = carry(video(straight), tracks)
    assert [s.source_index for s in carried[0].samples] == [*range(7), *range(18, 25)]


def test_a_line_over_more_than_its_longest_is_not_drawn() -> None:
    seconds = LONGEST_STEP_S + 0.2
    last = round(seconds * FPS)
    tracks = seen({0: (60.0, 90.0), last: (90.0, 90.0)})
    assert carry(video(straight, seconds=seconds, blank=True), tracks) == tracks


@pytest.mark.slow
def test_flow_over_more_frames_than_are_held_is_not_tried() -> None:
    count = MOST_HELD + 3
    still = video(lambda _: (60.0, 90.0), seconds=count / FPS)
    quick = Clip.from_arrays([frame.rgb for frame in still.frames], fps=count / 1.5)
    last = len(quick) - 1
    placed = [
        sample(index, (60.0, 90.0)).model_copy(update={"time_s": quick.frames[index].time_s})
        for index in (0, last)
    ]
    track = Track(object_id=1, label="square", samples=tuple(placed))
    tracks = Tracks(tracks=(track,), receipt=receipt(size_px=SIZE_PX, fps=None))
    assert set(states(carry(quick, tracks)).values()) == {"observed", "interpolated"}


def test_a_mask_carries_the_same_place_within_its_box() -> None:
    # Seen left of the middle at first, and at the middle later: the place glides over within the box.
    tracks = seen({0: (50.0, 80.0), 15: (100.0, 90.0)})
    boxes = {i: around(straight(i / FPS)) for i in range(16)}
    masks = masks_of(tracks, [box_mask(i, box) for i, box in boxes.items()])
    carried = carry(video(straight, blank=True), tracks, masks=masks)
    for found in carried[0].samples[1:-1]:
        share = found.source_index / 15
        left, top, _, _ = boxes[found.source_index]
        assert found.state == "propagated"
        assert found.x_px == pytest.approx(left + 10 + 10 * share)
        assert found.y_px == pytest.approx(top + 10 + 10 * share)


def test_a_place_in_a_hole_of_the_mask_moves_to_the_nearest_pixel() -> None:
    tracks = seen({0: (60.0, 90.0), 6: (60.0, 90.0)})
    box = (40, 70, 80, 110)
    masks = masks_of(tracks, [box_mask(i, box, hole=i == 3) for i in range(7)])
    carried = carry(video(straight, blank=True), tracks, masks=masks)
    places = {s.source_index: (s.x_px, s.y_px) for s in carried[0].samples}
    assert places[2] == (60.0, 90.0)
    assert masks.dense(1, 3)[int(places[3][1]), int(places[3][0])]
    rows, columns = np.nonzero(masks.dense(1, 3))
    nearest = np.hypot(columns + 0.5 - 60, rows + 0.5 - 90).min()
    assert np.hypot(places[3][0] - 60, places[3][1] - 90) == pytest.approx(nearest)


@pytest.mark.parametrize(
    ("flagged", "expected"),
    [
        pytest.param({3}, {2: "propagated", 3: "interpolated", 4: "propagated"}, id="one frame in doubt"),
        pytest.param({0}, {2: "interpolated", 3: "interpolated"}, id="the point is outside its mask"),
        pytest.param(set(), {2: "propagated", 3: "propagated"}, id="none"),
    ],
)
def test_a_flagged_mask_is_not_used(flagged: set[int], expected: dict[int, str]) -> None:
    tracks = seen({0: (60.0, 90.0), 6: (60.0, 90.0)})
    masks = masks_of(
        tracks,
        [box_mask(i, (40, 70, 80, 110), flags=("area_jump",) if i in flagged else ()) for i in range(7)],
    )
    found = states(carry(video(straight, blank=True), tracks, masks=masks))
    assert {index: found[index] for index in expected} == expected


def test_before_the_first_and_after_the_last_sighting_a_mask_must_say_so() -> None:
    tracks = seen({6: (60.0, 90.0), 12: (60.0, 90.0)}, looked=[0, 18])
    masks = masks_of(tracks, [box_mask(i, (40, 70, 80, 110)) for i in range(3, 16) if i != 14])
    carried = carry(video(straight, blank=True), tracks, masks=masks)
    assert [s.source_index for s in carried[0].samples] == [*range(3, 14), 15]
    assert {s.state for s in carried[0].samples if s.source_index not in (6, 12)} == {"propagated"}
    alone = carry(video(straight, blank=True), tracks)
    assert [s.source_index for s in alone[0].samples] == list(range(6, 13))


def test_times_are_those_of_the_frames(media: Shelf) -> None:
    from tests.media import VARIABLE_TIMES_S

    path = media(variable_rate)
    ends = {0: 0.0, 4: VARIABLE_TIMES_S[4]}
    track = Track(
        object_id=1,
        label="block",
        samples=tuple(
            Sample(time_s=t, source_index=i, x_px=10 + i, y_px=10, x_norm=(10 + i) / 96, y_norm=10 / 64)
            for i, t in ends.items()
        ),
    )
    tracks = Tracks(
        tracks=(track,), receipt=receipt(looked_s=list(ends.values()), size_px=(96, 64), fps=None)
    )
    tracks = tracks.model_copy(
        update={"receipt": tracks.receipt.model_copy(update={"frame_source_indices": (0, 4)})}
    )
    told: list[float] = []
    carried = carry(path, tracks, on_progress=told.append)
    assert [s.time_s for s in carried[0].samples] == pytest.approx(VARIABLE_TIMES_S[:5], abs=1e-3)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.slow
def test_several_objects_keep_apart() -> None:
    one, two = seen(follow(swinging, [0, 15, 30])), seen({0: (30.0, 30.0), 30: (40.0, 30.0)}, object_id=2)
    both = one.model_copy(update={"tracks": (*one.tracks, *two.tracks)})
    alone = carry(video(swinging), one)
    together = carry(video(swinging), both)
    assert together[0] == alone[0]
    assert [s.source_index for s in together[1].samples] == [0, 30]  # it was not seen at the look at 15


@pytest.mark.slow
def test_carrying_again_changes_nothing() -> None:
    carried = carry(video(swinging), seen(follow(swinging, [0, 15, 30])))
    assert carry(video(swinging), carried) == carried


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    looks=st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True),
    data=st.data(),
    blank=st.booleans(),
    with_masks=st.booleans(),
)
def test_what_the_model_said_stays_exactly(
    looks: list[int], data: st.DataObject, blank: bool, with_masks: bool
) -> None:
    coordinate = st.integers(0, 1000)
    made = []
    for object_id in range(1, data.draw(st.integers(1, 3)) + 1):
        at = data.draw(st.lists(st.sampled_from(sorted(looks)), min_size=1, unique=True))
        places = {i: (data.draw(coordinate) * 0.32, data.draw(coordinate) * 0.18) for i in sorted(at)}
        made.append(seen(places, object_id=object_id).tracks[0])
    tracks = seen({0: (0.0, 0.0)}, looked=looks).model_copy(update={"tracks": tuple(made)})
    boxed = [box_mask(i, (40, 70, 80, 110)) for i in range(0, 31, 2)]
    masks = masks_of(tracks, boxed) if with_masks else None
    carried = carry(_BLANK if blank else _MOVING, tracks, masks=masks)
    assert carried.observed == tracks
    for track in carried:
        indices = [s.source_index for s in track.samples]
        assert indices == sorted(set(indices))
        assert all(0 <= s.x_px <= 320 and 0 <= s.y_px <= 180 for s in track.samples)


_BLANK, _MOVING = video(straight, blank=True), video(straight)


def test_no_tracks_need_no_video() -> None:
    none = Tracks(tracks=(), receipt=receipt())
    assert carry(_BLANK, none) == none


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"size_px": (640, 360)}, "has 320 x 180 pixels, and the result is of 640 x 360", id="size"
        ),
    ],
)
def test_another_video_is_told(change: dict[str, tuple[int, int]], words: str) -> None:
    tracks = seen({0: (60.0, 90.0), 6: (60.0, 90.0)})
    other = tracks.model_copy(update={"receipt": tracks.receipt.model_copy(update=change)})
    with pytest.raises(ValueError, match=words):
        carry(_BLANK, other)


def test_another_rate_is_told() -> None:
    half = Clip.from_arrays([frame.rgb for frame in _BLANK.frames], fps=15)
    with pytest.raises(ValueError, match=r"what was given shows frame 6 at 0\.40 s, .* 0\.20 s"):
        carry(half, seen({0: (60.0, 90.0), 6: (60.0, 90.0)}))


def test_wrong_order_and_wrong_masks_are_told() -> None:
    tracks = seen({6: (60.0, 90.0), 0: (60.0, 90.0)})
    with pytest.raises(ValueError, match=r"in order of frame; got \[6, 0\]"):
        carry(_BLANK, tracks)
    ordered = seen({0: (60.0, 90.0), 6: (60.0, 90.0)})
    others = masks_of(ordered, []).model_copy(update={"labels": {5: "other"}})
    with pytest.raises(ValueError, match=r"masks of the objects \[1\]; got masks of \[5\]"):
        carry(_BLANK, ordered, masks=others)


def test_pictures_are_no_video(tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "one.png"
    Image.new("RGB", SIZE_PX).save(picture)
    with pytest.raises(SourceError, match="got still pictures"):
        carry(picture, seen({0: (60.0, 90.0), 6: (60.0, 90.0)}))


def test_no_more_frames_are_held_than_lie_between_two_looks() -> None:
    from molmo2_ground.masks.carrying import _Carrier

    carrier = _Carrier(seen(follow(straight, range(0, 31, 5))), None)
    held = []
    for frame in _MOVING.frames:
        carrier.take(frame)
        held.append(len(carrier._held))
    assert max(held) <= 6
    assert held[-1] == 0
