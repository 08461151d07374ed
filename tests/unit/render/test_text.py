from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.render.text import Plate, clock, fitted, plate, stamp, text_width_px


def _plate(text: str, *, cover: float = 1.0) -> Plate:
    return plate(text, text_px=20, pad_px=3, ink=(255, 255, 255), ground=(0, 0, 0), cover=cover)


@pytest.mark.parametrize(
    ("time_s", "words"),
    [
        pytest.param(0.0, "0:00.00", id="start"),
        pytest.param(1.5, "0:01.50", id="seconds"),
        pytest.param(59.996, "1:00.00", id="rounds into the next minute"),
        pytest.param(723.25, "12:03.25", id="minutes"),
        pytest.param(3600.0, "1:00:00.00", id="an hour"),
        pytest.param(-0.001, "0:00.00", id="no minus before zero"),
        pytest.param(-2.0, "-0:02.00", id="before the start"),
    ],
)
def test_clock(time_s: float, words: str) -> None:
    assert clock(time_s) == words


@pytest.mark.parametrize("pair", ["éè", "Łł", "ßñ", "ŐŰ", "Жя", "αΩ", "…·"], ids=lambda p: p)
def test_letters_beyond_ascii_have_pictures_of_their_own(pair: str) -> None:
    boxes = [_plate(text).rgb.tobytes() for text in (*pair, "\U0010ffff")]
    assert len(set(boxes)) == 3


def test_a_letter_that_no_font_has_leaves_a_visible_box() -> None:
    assert _plate("\U00013000").rgb.max() > 200


def test_plates_of_a_size_are_equally_high_whatever_they_say() -> None:
    heights = {_plate(text).height_px for text in ("a", "Ég", "...", "12", "日本", "")}
    assert len(heights) == 1


def test_line_breaks_and_controls_become_spaces() -> None:
    assert np.array_equal(_plate("a\nb\x1b").rgb, _plate("a b").rgb)


@given(st.text(max_size=60), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_fitted_text_fits_and_is_as_long_as_it_can_be(text: str, width_px: int) -> None:
    words = fitted(text, text_px=12, width_px=width_px)
    assert text_width_px(words, text_px=12) <= width_px + 1  # ink may lean a pixel over its advance
    if not words.endswith("…") and words:
        assert words == "".join(c if c.isprintable() else " " for c in text).strip()


def test_a_translucent_plate_lets_the_picture_through_and_an_opaque_one_does_not() -> None:
    pale = np.full((40, 80, 3), 200, dtype=np.uint8)
    corner = []
    for cover in (1.0, 0.5, 0.0):
        picture = pale.copy()
        stamp(picture, _plate("x", cover=cover), left_px=0, top_px=0)
        corner.append(int(picture[0, 0, 0]))
    assert corner == [0, 100, 200]


@pytest.mark.parametrize(
    "place",
    [(-5, -5), (70, 30), (-500, 0), (0, 500), (79, 39)],
    ids=["corner", "end", "left", "below", "pixel"],
)
def test_a_plate_over_the_edge_is_cut_off(place: tuple[int, int]) -> None:
    picture = np.full((40, 80, 3), 200, dtype=np.uint8)
    what = _plate("wide words")
    stamp(picture, what, left_px=place[0], top_px=place[1])
    covered = np.zeros((40, 80), dtype=bool)
    covered[
        max(0, place[1]) : max(0, place[1] + what.height_px),
        max(0, place[0]) : max(0, place[0] + what.width_px),
    ] = True
    assert (picture[~covered] == 200).all()
