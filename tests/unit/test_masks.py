from __future__ import annotations

import numpy as np
import pytest

from molmo2_ground.results import Mask, Masks, Receipt, Sample, Track, Tracks
from molmo2_ground.rle import Rle

HEIGHT, WIDTH = 6, 8
RECEIPT = Receipt(
    task="track",
    query="cars",
    model_id="tiny",
    backend="scripted",
    recipe="r",
    prompt="p",
    raw_text="",
    stop_reason="end",
    source="street.mp4",
    frame_times_s=(0.0, 0.5),
    shown_times_s=(0.0, 0.5),
    frame_source_indices=(0, 5),
    size_px=(WIDTH, HEIGHT),
)


def pixels(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def mask_of(object_id: int, source_index: int, dense: np.ndarray, **more: object) -> Mask:
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    return Mask.model_validate(
        {
            "object_id": object_id,
            "source_index": source_index,
            "time_s": source_index / 10,
            "size_px": (WIDTH, HEIGHT),
            "counts": counts.decode(),
            **more,
        }
    )


MASKS = Masks(
    masks=(
        mask_of(1, 0, pixels(0, 0, 2, 2)),
        mask_of(2, 0, pixels(1, 1, 4, 3)),
        mask_of(1, 1, pixels(1, 0, 3, 2), state="propagated"),
        mask_of(1, 2, pixels(2, 0, 4, 2), state="propagated", flags=("area_jump",)),
    ),
    labels={1: "car", 2: "bus", 3: "van"},
    segmenter="by hand",
    receipt=RECEIPT,
)


def test_they_survive_json() -> None:
    again = Masks.model_validate_json(MASKS.model_dump_json())
    assert again == MASKS
    assert np.array_equal(again.dense(1, 1), pixels(1, 0, 3, 2))


def test_they_are_found_by_object_and_by_frame() -> None:
    assert len(MASKS) == 4
    assert [mask.source_index for mask in MASKS.of(1)] == [0, 1, 2]
    assert [mask.object_id for mask in MASKS.in_frame(0)] == [1, 2]
    assert MASKS.in_frame(7) == ()
    assert MASKS.of(3) == ()
    assert MASKS.object_ids == (1, 2, 3)
    assert MASKS.source_indices == (0, 1, 2)
    assert [mask.state for mask in MASKS.observed] == ["observed", "observed"]


def test_pixels_of_an_object_of_all_and_of_nobody() -> None:
    assert np.array_equal(MASKS.union(0), pixels(0, 0, 2, 2) | pixels(1, 1, 4, 3))
    assert not MASKS.dense(3, 0).any()
    assert MASKS.dense(2, 99).shape == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"object 9 is not among these masks; they hold: 1, 2, 3"):
        MASKS.dense(9, 0)


def test_agreement() -> None:
    other = MASKS.model_copy(update={"masks": (mask_of(1, 0, pixels(1, 0, 3, 2)),)})
    assert MASKS.iou(other, 1, 0) == pytest.approx(2 / 6)
    assert MASKS.iou(other, 2, 0) == 0.0
    assert MASKS.iou(other, 3, 0) == 1.0


def test_a_masks_measures() -> None:
    mask = MASKS.masks[1]
    assert (mask.area_px, mask.box_px) == (6, (1, 1, 4, 3))
    assert mask.polygon().bounds == (1.0, 1.0, 4.0, 3.0)
    assert mask.polygon().area == 6
    empty = mask_of(1, 0, np.zeros((HEIGHT, WIDTH), dtype=bool))
    assert (empty.area_px, empty.box_px, empty.polygon().is_empty) == (0, None, True)


def test_the_boundary_is_what_touches_something_else() -> None:
    mask = mask_of(1, 0, pixels(0, 1, 5, 6))
    inner = pixels(1, 2, 4, 5)
    assert np.array_equal(mask.boundary(), mask.dense() & ~inner)


def test_sizes_of_images_are_their_own() -> None:
    receipt = RECEIPT.model_copy(update={"sizes_px": ((8, 6), (3, 2))})
    masks = MASKS.model_copy(update={"receipt": receipt, "masks": ()})
    assert masks.dense(1, 1).shape == (2, 3)


def test_the_models_own_samples_come_back_from_carried_tracks() -> None:
    def sample(time_s: float, state: str) -> Sample:
        return Sample.model_validate(
            {
                "time_s": time_s,
                "source_index": round(time_s * 10),
                "x_px": 4.0,
                "y_px": 3.0,
                "x_norm": 0.5,
                "y_norm": 0.5,
                "state": state,
            }
        )

    seen = Track(object_id=1, label="car", samples=(sample(0.0, "observed"), sample(0.5, "observed")))
    carried = Track(
        object_id=1,
        label="car",
        samples=(sample(0.0, "observed"), sample(0.1, "propagated"), sample(0.5, "observed")),
    )
    guessed = Track(object_id=2, label="car", samples=(sample(0.1, "predicted"),))
    assert Tracks(tracks=(carried, guessed), receipt=RECEIPT).observed == Tracks(
        tracks=(seen,), receipt=RECEIPT
    )
