"""SAM 2 under the propagation that `segment` runs: points at a few looks, masks in every frame."""

from __future__ import annotations

import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_random import write_random_sam2
from molmo2_ground.masks.segmenting import segment
from molmo2_ground.results import Sample, Track, Tracks
from tests.found import receipt
from tests.small_sam import HEIGHT_PX, SHORT_MEMORY, WIDTH_PX, frames, point, walked


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Sam2:
    return load_sam2(write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY), device="cpu")


def sample(index: int, x_px: float, y_px: float) -> Sample:
    return Sample(
        time_s=index / 10,
        source_index=index,
        x_px=x_px,
        y_px=y_px,
        x_norm=x_px / WIDTH_PX,
        y_norm=y_px / HEIGHT_PX,
        state="observed",
    )


def tracks(*seen: Track) -> Tracks:
    """Of a model that looked at frames 0, 4 and 8 of ten frames a second."""
    return Tracks(
        tracks=seen, receipt=receipt(looked_s=(0.0, 0.4, 0.8), fps=10.0, size_px=(WIDTH_PX, HEIGHT_PX))
    )


def clip(count: int) -> Clip:
    return Clip(frames=tuple(frames(count)), fps=10.0, duration_s=count / 10)


@pytest.mark.slow
def test_masks_between_looks_are_those_of_the_walk(sam: Sam2) -> None:
    seen = Track(
        object_id=1, label="block", samples=(sample(0, 20, 30), sample(4, 40, 40), sample(8, 60, 20))
    )
    masks = segment(clip(9), tracks(seen), segmenter=sam)
    expected = walked(sam, frames(9), [point(1, 0, 20, 30), point(1, 4, 40, 40), point(1, 8, 60, 20)])
    # A random model loses what it follows; up to there the masks are the walk's.
    lost = next((n for n, mask in enumerate(masks) if mask.flags), len(masks.masks) - 1)
    for mask in masks.masks[: lost + 1]:
        assert (mask.dense() == expected[mask.source_index][1]).all()
        assert mask.state == ("observed" if mask.source_index in (0, 4, 8) else "propagated")
    assert masks.source_indices[0] == 0
    assert masks.segmenter == sam.name


def test_an_object_seen_late_is_followed_back_to_the_look_before(sam: Sam2) -> None:
    late = Track(object_id=1, label="block", samples=(sample(8, 60, 20),))
    masks = segment(clip(9), tracks(late), segmenter=sam)
    back = walked(sam, frames(9)[:4:-1], [point(1, 8, 60, 20)])
    assert 8 in masks.source_indices
    assert min(masks.source_indices) > 4
    for mask in masks:
        assert (mask.dense() == back[8 - mask.source_index][1]).all()


def test_empty_tracks_give_no_masks(sam: Sam2) -> None:
    masks = segment(clip(3), tracks(), segmenter=sam)
    assert len(masks.masks) == 0
    assert masks.notes == ()


def test_a_point_outside_the_picture_is_refused(sam: Sam2) -> None:
    outside = Track(object_id=1, label="block", samples=(sample(0, 20, 30), sample(4, 140, 40)))
    with pytest.raises(ValueError, match="lies outside the picture of 96 x 80 pixels"):
        segment(clip(5), tracks(outside), segmenter=sam)
