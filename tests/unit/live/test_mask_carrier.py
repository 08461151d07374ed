from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from molmo2_ground.clip import Frame
from molmo2_ground.live.carrier import PREDICT_S, Anchor
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.mask_carrier import MaskCarrier
from molmo2_ground.masks.prompts import PointPrompt
from molmo2_ground.masks.region import Region
from molmo2_ground.masks.segmenter import BoolArray
from tests.live_scenes import Places, Street

FPS = 10


def across(time_s: float) -> Places:
    return {1: (0.2 + 0.1 * time_s, 0.4), 2: (0.8, 0.7)}


STREET = Street(across)


def picture(number: int) -> LivePicture:
    time_s = number / FPS
    return LivePicture(capture=STREET.capture(number, time_s), time_s=time_s, sampled=number % 5 == 0)


def anchor(object_id: int, number: int) -> Anchor:
    x_norm, y_norm = across(number / FPS)[object_id]
    return Anchor(
        object_id=object_id,
        source_index=number,
        x_norm=x_norm,
        y_norm=y_norm,
        velocity_norm_s=(0.1, 0.0) if object_id == 1 else (0.0, 0.0),
    )


class Boxes:
    """A segmenter that knows the truth, a square around each thing; now and then it finds nothing or all."""

    name = "boxes"
    from_both_ends = False

    def __init__(
        self,
        *,
        empty: Sequence[int] = (),
        whole: Sequence[int] = (),
        hidden: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self.empty, self.whole, self.hidden = set(empty), set(whole), hidden or {}
        self.open = 0

    def start(self, *, width_px: int, height_px: int) -> BoxWalk:
        self.open += 1
        return BoxWalk(self, width_px, height_px)


class BoxWalk:
    def __init__(self, boxes: Boxes, width_px: int, height_px: int) -> None:
        self._boxes, self._size = boxes, (width_px, height_px)
        self.followed: set[int] = set()

    def prepare(self, frame: Frame) -> tuple[int, float]:
        return frame.source_index, frame.time_s or 0.0

    def step(
        self, prepared: tuple[int, float], points: Sequence[PointPrompt] = ()
    ) -> Mapping[int, BoolArray]:
        number, time_s = prepared
        self.followed |= {point.object_id for point in points}
        masks = {}
        for object_id in self.followed:
            mask = np.zeros(self._size[::-1], dtype=bool)
            x, y = (round(v * s) for v, s in zip(across(time_s)[object_id], self._size, strict=True))
            if number in self._boxes.whole:
                mask[:] = True
            elif number not in self._boxes.empty and number not in self._boxes.hidden.get(object_id, ()):
                mask[max(0, y - 9) : y + 9, max(0, x - 9) : x + 9] = True
            masks[object_id] = mask
        return masks

    def forget(self, object_id: int) -> None:
        self.followed.discard(object_id)

    def close(self) -> None:
        self._boxes.open -= 1


@pytest.mark.slow
@pytest.mark.parametrize("segmenter", [Boxes(), Region()], ids=["boxes", "region"])
def test_places_are_carried_by_masks(segmenter: Boxes | Region) -> None:
    carrier = MaskCarrier(segmenter)
    carrier.take(picture(0))
    seen = carrier.restart([anchor(1, 0), anchor(2, 0)])
    assert [thing.state for thing in seen] == ["observed"] * 2
    for number in range(1, 20):
        told = carrier.take(picture(number))
        assert [(thing.object_id, thing.state) for thing in told] == [(1, "propagated"), (2, "propagated")]
        for thing in told:
            assert thing.x_norm == pytest.approx(across(number / FPS)[thing.object_id][0], abs=0.02)
            assert thing.mask is not None
            assert thing.mask.source_index == number
    carrier.close()


def test_an_answer_about_an_earlier_picture_is_caught_up_with() -> None:
    carrier = MaskCarrier(Boxes())
    for number in range(14):
        carrier.take(picture(number))
    told = carrier.restart([anchor(1, 5), anchor(2, 10)])
    assert [(thing.object_id, thing.state) for thing in told] == [(1, "propagated"), (2, "propagated")]
    assert told[0].x_norm == pytest.approx(across(1.3)[1][0], abs=0.01)
    # Another answer, about one of them: the other goes on from where it was.
    carrier.take(picture(14))
    told = carrier.restart([anchor(1, 10)])
    assert [thing.object_id for thing in told] == [1, 2]
    assert told[1].x_norm == pytest.approx(0.8, abs=0.01)
    assert carrier.restart([]) == told
    assert carrier.places_in(14).keys() == {1, 2}
    # An answer about a picture that is not held changes nothing of what is followed, and begins nothing.
    assert carrier.restart([anchor(2, 5000)]) == told


def test_an_answer_that_takes_long_is_caught_up_with_too() -> None:
    carrier = MaskCarrier(Boxes())
    carrier.take(picture(0))
    carrier.expect([0])
    for number in range(1, 301):
        carrier.take(picture(number))
    (told,) = carrier.restart([anchor(2, 0)])
    assert (told.object_id, told.state) == (2, "propagated")
    assert told.x_norm == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("boxes", "flags"),
    [
        pytest.param(Boxes(empty=range(5, 40)), (), id="not-found"),
        pytest.param(Boxes(whole=range(5, 40)), ("area_jump", "covers_frame"), id="takes-the-ground"),
    ],
)
def test_a_mask_that_is_not_to_be_believed_moves_its_thing_straight_on_for_a_while(
    boxes: Boxes, flags: tuple[str, ...]
) -> None:
    carrier = MaskCarrier(boxes)
    carrier.take(picture(0))
    carrier.restart([anchor(1, 0)])
    told = [carrier.take(picture(number)) for number in range(1, 30)]
    states = {number: things[0].state if things else "none" for number, things in enumerate(told, start=1)}
    assert {states[n] for n in range(1, 5)} == {"propagated"}
    assert {states[n] for n in range(5, 4 + round(PREDICT_S * FPS))} == {"predicted"}
    assert {states[n] for n in range(6 + round(PREDICT_S * FPS), 30)} == {"none"}
    assert told[4][0].flags == flags
    assert told[4][0].mask is None
    assert told[8][0].x_norm == pytest.approx(across(0.9)[1][0], abs=0.02)


def test_an_answer_about_one_thing_neither_slows_another_nor_moves_one_that_is_lost() -> None:
    carrier = MaskCarrier(Boxes(hidden={1: range(8, 40)}))
    carrier.take(picture(0))
    carrier.restart([anchor(1, 0), anchor(2, 0)])
    for number in range(1, 8):
        carrier.take(picture(number))
    carrier.restart([anchor(2, 5)])  # the first goes the way from picture 5 again
    for number in range(8, 12):
        told = carrier.take(picture(number))
    assert [(thing.object_id, thing.state) for thing in told] == [(1, "predicted"), (2, "propagated")]
    assert told[0].x_norm == pytest.approx(across(1.1)[1][0], abs=0.008)
    again = carrier.restart([anchor(2, 5)])
    assert [(thing.object_id, thing.state) for thing in again] == [(1, "predicted"), (2, "propagated")]
    assert again[0].x_norm == told[0].x_norm
    assert carrier.take(picture(12))[0].x_norm == pytest.approx(across(1.2)[1][0], abs=0.008)


def test_nothing_is_followed_across_another_connection_and_walks_are_closed() -> None:
    boxes = Boxes()
    carrier = MaskCarrier(boxes)
    carrier.take(picture(0))
    carrier.restart([anchor(1, 0), anchor(2, 0)])
    carrier.forget([2])
    assert [thing.object_id for thing in carrier.take(picture(1))] == [1]
    assert carrier.held_bytes > 0
    carrier.restart_pictures()
    assert carrier.take(picture(2)) == ()
    assert carrier.restart([anchor(1, 0)]) == ()
    carrier.close()
    carrier.close()
    assert boxes.open == 0
    assert carrier.held_bytes == 0
