from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molmo2_ground.sources import mp4_header
from tests import media as files
from tests.media import Shelf, Writer


@pytest.mark.parametrize(
    ("write", "lacks"),
    [
        pytest.param(files.constant_rate, False, id="healthy"),
        pytest.param(files.fragmented, False, id="fragmented"),
        pytest.param(files.truncated_no_header, True, id="cut"),
        pytest.param(files.renamed_text, False, id="no-mp4"),
    ],
)
def test_the_index_is_looked_for(media: Shelf, write: Writer, lacks: bool) -> None:
    assert mp4_header.lacks_index(media(write)) is lacks


def test_claimed_sizes_are_those_of_the_picture_track(media: Shelf) -> None:
    assert mp4_header.claimed_sizes(media(files.with_sound)) == [(96, 64), (96, 64)]
    assert mp4_header.claimed_sizes(media(files.gigantic)) == [(60000, 50000), (96, 64)]
    assert mp4_header.claimed_sizes(media(files.audio_only)) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_any_bytes_are_walked_without_a_word(tmp_path: Path, media: Shelf, noise: bytes, place: int) -> None:
    data = bytearray(media(files.constant_rate).read_bytes())
    data[place : place + len(noise)] = noise
    path = tmp_path / "noise.mp4"
    path.write_bytes(data)
    mp4_header.claimed_sizes(path)
    assert mp4_header.lacks_index(path) in (True, False)
