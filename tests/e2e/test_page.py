"""The page in a real browser: it is laid out, its script runs, its video is found, and nothing is fetched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.render import render
from molmo2_ground.viewer import write_report
from tests import media as shelf
from tests.browser import BROWSER, browser_command
from tests.found import track, tracks
from tests.media import Shelf

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]
_SIZE_PX = (900, 3000)


def _browse(page: Path, profile: Path, *options: str) -> str:
    size = f"--window-size={_SIZE_PX[0]},{_SIZE_PX[1]}"
    command = browser_command(page.as_uri(), size, "--virtual-time-budget=4000", *options, profile=profile)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def page(media: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    seen = track({0.0: (10.0, 60.0), 0.4: (30.0, 60.0), 0.6: (45.0, 60.0)}, size_px=shelf.SIZE_PX)
    result = tracks(
        seen, looked_s=[0.0, 0.2, 0.4, 0.6, 0.8], size_px=shelf.SIZE_PX, fps=10.0, query="<b>the</b> red car"
    )
    source = media(shelf.constant_rate)
    video = render(source, result, folder / "drawn.mp4")
    return write_report(result, source, folder / "page.html", video=video)


def test_the_page_is_laid_out(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    _browse(page, tmp_path / "profile", f"--screenshot={picture}")
    with Image.open(picture) as image:
        rgb = np.asarray(image.convert("RGB"))
    assert rgb.shape[1] == _SIZE_PX[0]
    # The object's colour stands in dots, paths, bars and chips all over the page.
    amber = (np.abs(rgb.astype(int) - (255, 195, 59)).max(axis=2) <= 2).any(axis=1)
    assert amber.sum() > 30
    assert len(np.unique(rgb[::4, ::4] @ np.array([1, 256, 65536]))) > 500


def test_the_script_runs_and_the_question_is_text(page: Path, tmp_path: Path) -> None:
    shown = _browse(page, tmp_path / "profile", "--dump-dom")
    assert '<body class="jumps">' in shown
    assert "&lt;b&gt;the&lt;/b&gt; red car" in shown
    assert 'src="drawn.mp4"' in shown


def test_a_script_that_is_not_the_page_s_own_does_not_run(page: Path, tmp_path: Path) -> None:
    tampered = tmp_path / "page.html"
    evil = '<p id="mark">asleep</p><script>document.getElementById("mark").textContent = "awake"</script>'
    tampered.write_text(page.read_text("utf-8").replace("</header>", f"</header>{evil}"), "utf-8")
    assert '<p id="mark">asleep</p>' in _browse(tampered, tmp_path / "profile", "--dump-dom")
