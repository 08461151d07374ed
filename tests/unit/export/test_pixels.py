"""Which object a pixel goes to, against the rule in its plainest form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.export.marks import Mark
from molmo2_ground.export.pixels import lines_of_lost, owners
from molmo2_ground.rle import Rle

HEIGHT, WIDTH = 5, 7
PIXELS = st.integers(0, 2 ** (HEIGHT * WIDTH) - 1)


def mask(bits: int) -> np.ndarray:
    flat = [bool(bits >> place & 1) for place in range(HEIGHT * WIDTH)]
    return np.array(flat).reshape(HEIGHT, WIDTH)


@pytest.mark.slow
@given(drawn=st.lists(PIXELS, max_size=4), ids=st.permutations(range(1, 5)))
def test_a_pixel_goes_to_the_smallest_of_the_masks_that_hold_it(drawn: list[int], ids: list[int]) -> None:
    masks = [mask(bits) for bits in drawn]
    marks = [
        Mark(object_id=object_id, label="a", frame=0, mask=Rle.encode(one))
        for object_id, one in zip(ids, masks, strict=False)
    ]
    owner, lost = owners(marks, (WIDTH, HEIGHT))
    lost_here: dict[int, int] = {}
    for row in range(HEIGHT):
        for column in range(WIDTH):
            holding = [
                (int(one.sum()), mark.object_id, place)
                for place, (one, mark) in enumerate(zip(masks, marks, strict=True), start=1)
                if one[row, column]
            ]
            assert owner[row, column] == (min(holding)[2] if holding else 0)
            for _, object_id, _ in sorted(holding)[1:]:
                lost_here[object_id] = lost_here.get(object_id, 0) + 1
    # Everybody else who holds a pixel loses it, once each.
    assert lost == lost_here
    assert len(lines_of_lost(lost)) == len(lost)


def test_a_mask_of_another_size_is_refused() -> None:
    mark = Mark(object_id=3, label="a", frame=2, mask=Rle.encode(np.ones((2, 2), dtype=bool)))
    with pytest.raises(ValueError, match="the mask of object 3 in frame 2 has the size"):
        owners([mark], (WIDTH, HEIGHT))
