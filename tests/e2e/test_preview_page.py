"""The preview of training rows in a real browser: its pictures are there, by day and by night."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from molmo2_ground.train.preview_page import write_preview
from molmo2_ground.train.row_picture import draw_places
from molmo2_ground.train.row_preview import BranchPreview, RowPicture, RowPreview, WordTurn
from tests.browser import BROWSER, browser_command
from tests.made_up_rows import box, track_row
from tests.media import SIZE_PX, picture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]
DARK = "--blink-settings=preferredColorScheme=0"


def shot(page: Path, folder: Path, *options: str) -> npt.NDArray[np.int64]:
    out = folder / "page.png"
    command = browser_command(
        page.as_uri(), "--window-size=900,1400", f"--screenshot={out}", *options, profile=folder / "profile"
    )
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    with Image.open(out) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def test_a_row_can_be_looked_at(tmp_path: Path) -> None:
    drawn = draw_places(picture(3), [box(1)], size_px=SIZE_PX)
    frames = tuple(RowPicture(rgb=drawn, caption=f"{i}") for i in range(3))
    branch = BranchPreview(
        turns=(WordTurn(question="<script>document.body.remove()</script>", answer="There are none."),),
        tokens=4,
        weight=8.0,
        pictures=frames[:1],
        cautions=("a caution",),
    )
    preview = RowPreview(
        place="rows.jsonl line 1", row=track_row(), frames=3, pictures=frames, branches=(branch,)
    )
    page = write_preview(tmp_path / "page.html", [preview], title="rows")
    day, night = shot(page, tmp_path), shot(page, tmp_path, DARK)
    assert day[2, 2].min() > 240  # the body is still there, on light paper
    assert night[2, 2].max() < 40
    for rgb in (day, night):
        red = np.abs(rgb - (200, 30, 30)).max(axis=2) < 40  # the left half of each picture
        assert red.sum() > 3 * 20 * 20
