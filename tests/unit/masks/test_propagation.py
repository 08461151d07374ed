from __future__ import annotations

import gc
from pathlib import Path

import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.masks.prompts import PointPrompt, Prompts
from molmo2_ground.masks.propagation import LONGEST_WAY_BACK, Follow, Propagation
from molmo2_ground.masks.segmenting import MaskStream, segment
from molmo2_ground.results import Mask, Point, Points, Receipt, Sample, Track, Tracks
from tests.fake_segmenter import SIZE_PX, Counting, at, frames
from tests.media import write_video

# Areas by object, then by frame: pixels minus one are the steps from the sighting that a mask comes from.
Areas = dict[int, dict[int, int]]


def receipt(looked: tuple[int, ...]) -> Receipt:
    times = tuple(index / 10 for index in looked)
    return Receipt(
        task="track", query="x", model_id="m", backend="b", recipe="", prompt="", raw_text="",
        stop_reason="end", source="s", frame_times_s=times, shown_times_s=times,
        frame_source_indices=looked, size_px=SIZE_PX,
    )  # fmt: skip


def prompts(points: list[PointPrompt], looked: tuple[int, ...]) -> Prompts:
    return Prompts(
        points=tuple(sorted(points, key=lambda p: (p.source_index, p.object_id))),
        labels={p.object_id: "x" for p in points},
        looked=looked,
        receipt=receipt(looked),
    )


def walk(
    segmenter: Counting,
    points: list[PointPrompt],
    *,
    looked: tuple[int, ...],
    count: int,
    follow: Follow = "sightings",
) -> tuple[dict[int, dict[int, Mask]], Propagation]:
    propagation = Propagation(segmenter, prompts(points, looked), follow=follow)
    found: dict[int, dict[int, Mask]] = {}
    before = -1
    for frame, masks in propagation.run(frames(count)):
        assert frame.source_index == before + 1, "every frame comes out once, in order"
        before = frame.source_index
        assert [m.object_id for m in masks] == sorted(m.object_id for m in masks)
        for mask in masks:
            found.setdefault(mask.object_id, {})[mask.source_index] = mask
    return found, propagation


def areas(found: dict[int, dict[int, Mask]]) -> Areas:
    return {i: {index: mask.area_px for index, mask in masks.items()} for i, masks in found.items()}


@pytest.mark.parametrize(
    ("both", "points", "looked", "expected"),
    [
        pytest.param(
            False, [at(0, 1), at(4, 1)], (0, 4), {1: {0: 1, 1: 2, 2: 3, 3: 4, 4: 1, 5: 2, 6: 3}},
            id="forward-from-each-sighting-to-the-end",
        ),
        pytest.param(
            True, [at(0, 1), at(4, 1)], (0, 4), {1: {0: 1, 1: 2, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3}},
            id="from-both-ends-they-meet-in-the-middle",
        ),
        pytest.param(
            False, [at(4, 1)], (0, 4), {1: {1: 4, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3}},
            id="appears-late-and-goes-back-to-the-look-before",
        ),
        pytest.param(
            False, [at(4, 1)], (4,), {1: {0: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3}},
            id="goes-back-to-the-beginning-when-nobody-looked",
        ),
        pytest.param(
            False, [at(0, 1)], (0, 3, 6), {1: {0: 1, 1: 2, 2: 3}},
            id="is-not-followed-past-a-look-that-missed-it",
        ),
        pytest.param(
            False, [at(0, 1), at(6, 1)], (0, 3, 6), {1: {0: 1, 1: 2, 2: 3, 4: 3, 5: 2, 6: 1}},
            id="has-no-mask-at-the-look-that-missed-it",
        ),
        pytest.param(
            True, [at(0, 1), at(4, 1), at(4, 2)], (0, 4),
            {1: {0: 1, 1: 2, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3}, 2: {1: 4, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3}},
            id="a-new-one-beside-a-known-one",
        ),
        pytest.param(False, [], (0, 4), {}, id="nothing-was-pointed-to"),
    ],
)  # fmt: skip
def test_sightings_become_masks(
    both: bool, points: list[PointPrompt], looked: tuple[int, ...], expected: Areas
) -> None:
    found, propagation = walk(Counting(from_both_ends=both), points, looked=looked, count=7)
    assert areas(found) == expected
    assert propagation.notes == []
    observed = {
        (i, m.source_index) for i, masks in found.items() for m in masks.values() if m.state == "observed"
    }
    assert observed == {(p.object_id, p.source_index) for p in points}


def test_followed_through_the_whole_clip_when_asked() -> None:
    found, _ = walk(Counting(), [at(4, 1)], looked=(0, 2, 4, 6), count=8, follow="clip")
    assert areas(found) == {1: {0: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 2, 6: 3, 7: 4}}


def test_in_a_clip_followed_whole_only_the_first_sighting_goes_back() -> None:
    segmenter = Counting()
    walk(segmenter, [at(2, 1), at(5, 1)], looked=(2, 5), count=7, follow="clip")
    assert [one.stepped[0] for one in segmenter.walks] == [(0, ()), (2, (1,))]


def test_reading_ends_when_nothing_is_to_come() -> None:
    segmenter = Counting()
    walk(segmenter, [at(0, 1)], looked=(0, 3), count=50)
    assert segmenter.walks[0].stepped[-1][0] <= 4


def test_walks_are_closed_and_lost_objects_forgotten() -> None:
    segmenter = Counting(from_both_ends=True)
    walk(segmenter, [at(0, 1), at(4, 1), at(4, 2)], looked=(0, 4, 6), count=9)
    assert len(segmenter.walks) == 2
    assert all(one.closed for one in segmenter.walks)
    assert segmenter.walks[0].forgotten == [1, 2]


def test_a_stream_that_is_left_early_is_closed() -> None:
    segmenter = Counting()
    stream = Propagation(segmenter, prompts([at(0, 1)], (0,))).run(frames(9))
    next(stream)
    stream.close()
    assert segmenter.walks[0].closed


def test_an_empty_mask_is_no_mask_and_comes_back() -> None:
    segmenter = Counting(areas={(1, 2): 0, (1, 3): 0, (1, 4): 400, (1, 5): 401})
    found, propagation = walk(segmenter, [at(0, 1)], looked=(0,), count=6)
    assert sorted(found[1]) == [0, 1, 4, 5]
    assert propagation.notes == []


def test_an_area_that_jumps_is_flagged_noted_and_followed_no_further() -> None:
    segmenter = Counting(areas={(1, 1): 100, (1, 2): 301})
    found, propagation = walk(segmenter, [at(0, 1)], looked=(0,), count=6)
    assert {index: mask.flags for index, mask in found[1].items()} == {0: (), 1: (), 2: ("area_jump",)}
    assert propagation.notes == ["object 1: lost at 0.20 s (its area jumped between two frames)"]


def test_what_was_lost_going_forward_is_met_by_the_way_back() -> None:
    lost_at_2 = Counting(areas={(1, 1): 100, (1, 2): 301})
    found, _ = walk(lost_at_2, [at(0, 1), at(6, 1)], looked=(0, 6), count=7)
    # Frame 1 stays as it came forward; 2 had a flag and 5 to 3 had none.
    assert areas(found)[1] == {0: 1, 1: 100, 2: 301, 3: 4, 4: 3, 5: 2, 6: 1}


def test_the_point_wins_over_a_mask_that_does_not_hold_it() -> None:
    elsewhere = PointPrompt(object_id=1, source_index=0, x_px=30.0, y_px=20.0)
    found, propagation = walk(Counting(), [elsewhere], looked=(0,), count=3)
    assert found[1][0].flags == ("point_outside",)
    assert sorted(found[1]) == [0]
    assert "does not hold the model's point" in propagation.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("follow", ["sightings", "clip"])
def test_memory_does_not_grow_with_the_number_of_frames(follow: Follow) -> None:
    held = []
    for count in (150, 600):
        segmenter = Counting(from_both_ends=True)
        points = [at(index, 1) for index in range(0, count, 100)]
        walk(segmenter, points, looked=tuple(range(0, count, 100)), count=count, follow=follow)
        gc.collect()
        assert segmenter.held == 0
        held.append(segmenter.most_held)
    assert held[0] == held[1] <= LONGEST_WAY_BACK + 2


def test_a_way_back_that_was_cut_is_noted() -> None:
    found, propagation = walk(Counting(), [at(100, 1)], looked=(0, 100), count=102)
    assert min(found[1]) == 100 - LONGEST_WAY_BACK
    assert propagation.notes == [f"object 1: followed back from 10.00 s for {LONGEST_WAY_BACK} frames only"]


def _track(object_id: int, indices: tuple[int, ...]) -> Track:
    width, height = SIZE_PX
    samples = tuple(
        Sample(
            time_s=index / 10, source_index=index, x_px=0.5, y_px=object_id + 0.5,
            x_norm=0.5 / width, y_norm=(object_id + 0.5) / height, state="observed",
        )
        for index in indices
    )  # fmt: skip
    return Track(object_id=object_id, label=f"thing {object_id}", samples=samples)


def test_segment_makes_masks_of_tracks_and_says_what_made_them() -> None:
    tracks = Tracks(tracks=(_track(1, (0, 2)), _track(2, (2,))), receipt=receipt((0, 2)))
    heard: list[float] = []
    masks = segment(_clip(4), tracks, segmenter=Counting(), on_progress=heard.append)
    assert [(m.source_index, m.object_id) for m in masks] == [
        (0, 1),
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (3, 1),
        (3, 2),
    ]
    assert (masks.segmenter, masks.labels) == ("counting", {1: "thing 1", 2: "thing 2"})
    assert masks.receipt == tracks.receipt
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_tracks_without_objects_give_no_masks() -> None:
    masks = segment(_clip(3), Tracks(tracks=(), receipt=receipt((0,))), segmenter=Counting())
    assert (len(masks), masks.labels) == (0, {})


def test_images_have_nothing_to_do_with_each_other() -> None:
    width, height = SIZE_PX
    images = Clip.from_arrays([frame.rgb for frame in frames(3)])
    found = tuple(
        Point(
            object_id=object_id, x_px=0.5, y_px=object_id + 0.5, x_norm=0.5 / width,
            y_norm=(object_id + 0.5) / height, time_s=None, source_index=index, label="x", state="observed",
        )
        for object_id, index in ((1, 0), (2, 2))
    )  # fmt: skip
    segmenter = Counting(from_both_ends=True)
    masks = segment(images, Points(points=found, receipt=receipt((0, 1, 2))), segmenter=segmenter)
    assert [(m.source_index, m.object_id, m.time_s) for m in masks] == [(0, 1, None), (2, 2, None)]
    assert len(segmenter.walks) == 2


def test_points_of_another_picture_are_refused() -> None:
    other = receipt((0,)).model_copy(update={"size_px": (640, 360)})
    with pytest.raises(ValueError, match=r"has 40 x 30 pixels, and the result is of 640 x 360; name"):
        segment(_clip(2), Tracks(tracks=(_track(1, (0,)),), receipt=other), segmenter=Counting())


def test_points_of_another_video_are_refused() -> None:
    clip = _clip(9)
    early = receipt((0, 7)).model_copy(update={"frame_times_s": (0.0, 0.1)})
    with pytest.raises(ValueError, match=r"shows frame 7 at 0\.70 s, and the result has it at 0\.10 s"):
        segment(clip, Tracks(tracks=(_track(1, (0, 8)),), receipt=early), segmenter=Counting())


def test_a_file_is_the_whole_video(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, size_px=SIZE_PX, frame_count=9)
    tracks = Tracks(tracks=(_track(1, (0,)),), receipt=receipt((0, 20)))
    with pytest.raises(ValueError, match=r"film\.mp4 lasts 0\.90 s, and the result goes up to 2\.00 s"):
        segment(film, tracks, segmenter=Counting())


def test_a_clip_may_be_a_part_of_the_video() -> None:
    tracks = Tracks(tracks=(_track(1, (0, 4)),), receipt=receipt((0, 4, 20)))
    assert segment(_clip(9), tracks, segmenter=Counting()).source_indices[0] == 0


def test_an_unknown_way_of_following_is_refused() -> None:
    tracks = Tracks(tracks=(), receipt=receipt(()))
    with pytest.raises(ValueError, match="'sightings' or 'clip'"):
        MaskStream.over(_clip(2), tracks, segmenter=Counting(), follow="all")  # type: ignore[arg-type]


def _clip(count: int) -> Clip:
    return Clip(frames=tuple(frames(count)), fps=10.0, duration_s=count / 10)
