from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from molmo2_ground.render.style import PALETTE, Rgb, Style, colour_of, ink_on

Floats = npt.NDArray[np.float64]

# Full colour blindness of three kinds on linear light: G. M. Machado and others, 2009, severity 1.0.
_EYES: dict[str, Floats] = {
    "usual": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def _linear(colour: Rgb) -> Floats:
    share = np.array(colour, dtype=np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lab(linear: Floats) -> Floats:
    xyz = _TO_XYZ @ np.clip(linear, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", _EYES)
@pytest.mark.parametrize(
    ("count", "least"), [pytest.param(7, 22, id="first 7"), pytest.param(12, 14, id="all 12")]
)
def test_colours_stay_apart_for_every_eye(eye: str, count: int, least: float) -> None:
    seen = [_lab(_EYES[eye] @ _linear(colour)) for colour in PALETTE[:count]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= least


@pytest.mark.parametrize("colour", PALETTE)
def test_letters_on_a_colour_have_the_contrast_that_wcag_asks_for(colour: Rgb) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    light, dark = sorted((float(weights @ _linear(c)) for c in (colour, ink_on(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_an_id_keeps_its_colour_and_any_id_has_one() -> None:
    assert colour_of(1) == colour_of(13) == PALETTE[0]
    assert [colour_of(i) for i in (0, 12, 10**9, -5)].count(PALETTE[11]) == 2


@pytest.mark.parametrize(
    ("size_px", "text_px", "dot_radius_px"),
    [
        pytest.param((64, 48), 9, 2.5, id="tiny keeps a floor"),
        pytest.param((640, 360), 11, 4.8, id="360p"),
        pytest.param((1920, 1080), 34, 14.4, id="1080p"),
        pytest.param((3840, 2160), 68, 28.8, id="4K is twice 1080p"),
        pytest.param((360, 640), 9, 3.6, id="portrait is led by its width"),
    ],
)
def test_sizes_follow_the_picture(size_px: tuple[int, int], text_px: int, dot_radius_px: float) -> None:
    style = Style.of_size(*size_px)
    assert style.text_px == pytest.approx(text_px, abs=1)
    assert style.dot_radius_px == pytest.approx(dot_radius_px, abs=0.1)
