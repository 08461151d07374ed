from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Frame
from molmo2_ground.masks.object_memory import ObjectMemory
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_random import write_random_sam2
from tests.small_sam import (
    HEIGHT_PX,
    SHORT_MEMORY,
    WIDTH_PX,
    BoolArray,
    KeepsAll,
    WholeVideo,
    assert_same,
    frames,
    point,
    walked,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY)


@pytest.fixture(scope="module")
def sam(folder: Path) -> Sam2:
    return load_sam2(folder, device="cpu")


@pytest.fixture(scope="module")
def as_library(sam: Sam2) -> Sam2:
    """Corrections fade as they do in the library's sessions."""
    return Sam2(sam.checkpoint, sam.network, anchors=1)


@pytest.mark.slow
def test_streaming_equals_the_whole_video(sam: Sam2) -> None:
    shown = frames(12)
    points = [point(1, 0, 20, 30), point(2, 0, 80, 60)]
    whole = WholeVideo(sam, shown)
    whole.tell(*points)
    assert_same(walked(sam, shown, points), whole.propagate(0, 12))


@pytest.mark.slow
def test_sam_2_0_streams_as_the_whole_video_too(tmp_path: Path) -> None:
    """The first release knows neither the age of pointers nor a mark for what is hidden."""
    older = {
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "enable_occlusion_spatial_embedding": False,
    }
    old = load_sam2(write_random_sam2(tmp_path, **SHORT_MEMORY, **older), device="cpu")
    shown = frames(8)
    whole = WholeVideo(old, shown)
    whole.tell(point(1, 0, 20, 30))
    assert_same(walked(old, shown, [point(1, 0, 20, 30)]), whole.propagate(0, 8))


@pytest.mark.slow
def test_with_a_correction_streaming_equals_the_whole_video(as_library: Sam2) -> None:
    shown = frames(14)
    first, correction = point(1, 0, 20, 30), point(1, 6, 70, 10)
    whole = WholeVideo(as_library, shown)
    whole.tell(first)
    expected = whole.propagate(0, 5)
    whole.propagate(6, 0)
    expected.append(whole.tell(correction))
    expected += whole.propagate(7, 20)
    ours = walked(as_library, shown, [first, correction])
    assert_same(ours, expected)
    uncorrected = walked(as_library, shown, [first])
    assert any((a[1] != b[1]).any() for a, b in zip(ours[6:], uncorrected[6:], strict=True))


@pytest.mark.slow
def test_a_correction_that_is_kept_equals_a_conditioning_frame_of_the_whole_video(sam: Sam2) -> None:
    shown = frames(14)
    first, correction = point(1, 0, 20, 30), point(1, 4, 70, 10)
    whole = WholeVideo(sam, shown)
    whole.tell(first)
    expected = whole.propagate(0, 3)
    whole.propagate(4, 0)
    expected.append(whole.tell(correction))
    outputs = whole.session.output_dict_per_obj[0]
    outputs["cond_frame_outputs"][4] = outputs["non_cond_frame_outputs"].pop(4)
    expected += whole.propagate(5, 20)
    assert_same(walked(sam, shown, [first, correction]), expected)


@pytest.mark.slow
def test_backwards_equals_the_whole_video_in_reverse(sam: Sam2) -> None:
    shown = frames(10)
    last = point(1, 9, 20, 30)
    whole = WholeVideo(sam, shown)
    whole.tell(last)
    assert_same(walked(sam, shown[::-1], [last]), whole.propagate(9, 9, reverse=True))


@pytest.mark.parametrize("anchors", [1, 4])
@pytest.mark.slow
def test_what_is_let_go_is_never_looked_at(tmp_path: Path, anchors: int) -> None:
    loaded = load_sam2(write_random_sam2(tmp_path), device="cpu")  # with the released length of memory
    shown = frames(40)
    points = [point(1, 0, 20, 30), point(2, 5, 80, 60), point(1, 11, 40, 40), point(1, 30, 10, 70)]
    pruned = Sam2(loaded.checkpoint, loaded.network, anchors=anchors)
    everything = Sam2(loaded.checkpoint, loaded.network, anchors=anchors, memory=KeepsAll)
    assert_same(walked(pruned, shown, points), walked(everything, shown, points))


@pytest.mark.slow
def test_what_is_let_go_is_never_looked_at_with_a_short_memory(as_library: Sam2) -> None:
    shown = frames(12)
    points = [point(1, 0, 20, 30), point(1, 7, 40, 40)]
    everything = Sam2(as_library.checkpoint, as_library.network, anchors=1, memory=KeepsAll)
    assert_same(walked(as_library, shown, points), walked(everything, shown, points))


@pytest.mark.slow
def test_of_many_corrections_the_first_point_and_the_newest_stay(sam: Sam2) -> None:
    memories: list[ObjectMemory] = []

    class Watched(ObjectMemory):
        def __init__(self, network: Any, session: Any, *, anchors: int) -> None:
            super().__init__(network, session, anchors=anchors)
            memories.append(self)

    watched = Sam2(sam.checkpoint, sam.network, anchors=3, memory=Watched)
    walked(watched, frames(10), [point(1, number) for number in (0, 2, 4, 6, 8)])
    assert sorted(memories[0]._outputs["cond_frame_outputs"]) == [0, 6, 8]


@pytest.mark.slow
def test_an_object_alone_is_as_in_company(sam: Sam2) -> None:
    shown = frames(10)
    one = [point(1, 0, 20, 30), point(1, 6, 60, 20)]
    others = [point(2, 0, 80, 60), point(3, 4, 5, 5), point(2, 5, 50, 50)]
    alone = walked(sam, shown, one)
    together = walked(sam, shown, [*one, *others])
    assert_same([{1: masks[1]} for masks in together], alone)
    assert [sorted(masks) for masks in together] == [[1, 2]] * 4 + [[1, 2, 3]] * 6


@pytest.mark.slow
def test_an_object_that_comes_late_is_as_if_the_video_began_there(sam: Sam2) -> None:
    shown = frames(8)
    late = point(2, 3, 80, 60)
    together = walked(sam, shown, [point(1, 0), late])
    assert_same([{2: masks[2]} for masks in together[3:]], walked(sam, shown[3:], [late]))


@pytest.mark.slow
def test_one_that_is_forgotten_leaves_the_others_as_they_were(sam: Sam2) -> None:
    shown = frames(6)
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    made: list[Mapping[int, BoolArray]] = []
    for frame in shown:
        if frame.source_index == 3:
            walk.forget(2)
            walk.forget(7)
        given = [point(1, 0), point(2, 0, 80, 60)] if frame.source_index == 0 else []
        made.append(walk.step(walk.prepare(frame), given))
    assert [sorted(masks) for masks in made] == [[1, 2]] * 3 + [[1]] * 3
    assert_same([{1: masks[1]} for masks in made], walked(sam, shown, [point(1, 0)]))
    walk.close()
    walk.close()
    assert not list(walk.tensors())


@pytest.mark.slow
def test_after_it_was_forgotten_an_object_begins_anew(sam: Sam2) -> None:
    shown = frames(7)
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    made = []
    for frame in shown:
        if frame.source_index == 4:
            walk.forget(1)
        given = [point(1, frame.source_index, 70, 20)] if frame.source_index in (0, 4) else []
        made.append(walk.step(walk.prepare(frame), given))
    assert_same(made[4:], walked(sam, shown[4:], [point(1, 4, 70, 20)]))


def test_points_make_a_difference(sam: Sam2) -> None:
    shown = frames(3)
    left = walked(sam, shown, [point(1, 0, 5, 5)])
    right = walked(sam, shown, [point(1, 0, 90, 70)])
    assert all((a[1] != b[1]).any() for a, b in zip(left, right, strict=True))


def test_before_the_first_point_nothing_is_computed(sam: Sam2) -> None:
    class Never:
        def encode(self, pixels_1CSS: torch.Tensor) -> None:
            raise AssertionError("no object is followed")

    idle = Sam2(sam.checkpoint, sam.network, encoder=Never())  # type: ignore[arg-type]
    assert walked(idle, frames(3), []) == [{}, {}, {}]


def test_a_picture_is_encoded_once_for_all_objects(sam: Sam2) -> None:
    encoder, calls = sam.encoder, []

    class Counting:
        def encode(self, pixels_1CSS: torch.Tensor) -> object:
            calls.append(pixels_1CSS.shape)
            return encoder.encode(pixels_1CSS)

    counted = Sam2(sam.checkpoint, sam.network, encoder=Counting())  # type: ignore[arg-type]
    shown, points = frames(3), [point(1, 0), point(2, 0, 80, 60), point(1, 2, 10, 10)]
    assert_same(walked(counted, shown, points), walked(sam, shown, points))
    assert len(calls) == 3


def test_masks_are_of_the_frames_size(sam: Sam2) -> None:
    small = Frame(rgb=frames(1)[0].rgb[::2, ::2], width_px=WIDTH_PX, height_px=HEIGHT_PX, source_index=0)
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    prepared = walk.prepare(small)
    assert prepared.dtype == torch.uint8
    assert prepared.shape == (3, 64, 64)
    mask = walk.step(prepared, [point(1, 0)])[1]
    assert mask.dtype == np.bool_
    assert mask.shape == (HEIGHT_PX, WIDTH_PX)


@pytest.mark.parametrize(
    ("x_px", "y_px"),
    [
        pytest.param(-0.5, 40, id="left"),
        pytest.param(96.5, 40, id="right"),
        pytest.param(30, -1, id="above"),
        pytest.param(30, 81, id="below"),
        pytest.param(float("nan"), 40, id="nowhere"),
    ],
)
def test_a_point_outside_the_picture_is_refused(sam: Sam2, x_px: float, y_px: float) -> None:
    shown = frames(2)
    walk = sam.start(width_px=WIDTH_PX, height_px=HEIGHT_PX)
    before = walk.step(walk.prepare(shown[0]), [point(2, 0)])
    with pytest.raises(
        ValueError, match=r"object 1 in frame 1: .* lies outside the picture of 96 x 80 pixels"
    ):
        walk.step(walk.prepare(shown[1]), [point(2, 1), point(1, 1, x_px, y_px)])
    # Nothing was taken in, and the walk goes on.
    assert_same([before, walk.step(walk.prepare(shown[1]))], walked(sam, shown, [point(2, 0)]))


@pytest.mark.parametrize(("x_px", "y_px"), [(0, 0), (96, 80), (96, 0)])
def test_a_point_on_the_edge_is_taken(sam: Sam2, x_px: float, y_px: float) -> None:
    assert walked(sam, frames(1), [point(1, 0, x_px, y_px)])[0].keys() == {1}


def test_a_frame_of_another_size_is_refused(sam: Sam2) -> None:
    walk = sam.start(width_px=50, height_px=40)
    with pytest.raises(ValueError, match="goes through frames of 50 x 40 pixels; frame 0 has 96 x 80"):
        walk.prepare(frames(1)[0])


def test_several_points_of_an_object_in_one_frame_count_together(sam: Sam2) -> None:
    shown = frames(2)
    both: list[PointPrompt] = [point(1, 0, 20, 30), point(1, 0, 70, 60)]
    assert (walked(sam, shown, both)[0][1] != walked(sam, shown, both[:1])[0][1]).any()


@pytest.mark.slow
def test_in_bfloat16_masks_are_nearly_the_same(folder: Path, sam: Sam2) -> None:
    rough = load_sam2(folder, device="cpu", dtype="bfloat16")
    (masks,) = walked(rough, frames(1), [point(1, 0)])
    (exact,) = walked(sam, frames(1), [point(1, 0)])
    assert (masks[1] != exact[1]).mean() < 0.1
    walked(rough, frames(4), [point(1, 0), point(1, 2)])


def test_anchors_below_one_are_refused(sam: Sam2) -> None:
    with pytest.raises(ValueError, match="anchors must be 1 or more"):
        Sam2(sam.checkpoint, sam.network, anchors=0)
