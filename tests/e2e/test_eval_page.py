"""The pages of an evaluation in a real browser: laid out, readable by day and night, and no script runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from molmo2_ground.eval.compare import compare, write_comparison
from molmo2_ground.eval.pictures import MISSED, WRONG
from molmo2_ground.eval.report import write_reports
from molmo2_ground.eval.runner import evaluate
from tests.browser import BROWSER, browser_command
from tests.fake_suite import FakeSuite, finder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]
SIZE_PX = (1100, 6000)
DARK = "--blink-settings=preferredColorScheme=0"


def browse(page: Path, profile: Path, *options: str, width_px: int = SIZE_PX[0]) -> str:
    size = f"--window-size={width_px},{SIZE_PX[1]}"
    command = browser_command(page.as_uri(), size, "--virtual-time-budget=4000", *options, profile=profile)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def shot(page: Path, folder: Path, *options: str, width_px: int = SIZE_PX[0]) -> npt.NDArray[np.int64]:
    picture = folder / "page.png"
    browse(page, folder / "profile", f"--screenshot={picture}", *options, width_px=width_px)
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def rows_with(rgb: npt.NDArray[np.int64], colour: tuple[int, int, int], *, within: int = 10) -> int:
    return int((np.abs(rgb - colour).max(axis=2) <= within).any(axis=1).sum())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, suite = tmp_path_factory.mktemp("runs"), FakeSuite(count=24, broken=(5,))
    first = evaluate(suite, finder(squints=True), folder / "a")
    second = evaluate(suite, finder(), folder / "b")
    page = write_reports(second, suite)[1]
    return page, write_comparison(compare(first, second), folder / "compare.html", suite=suite)


def test_the_report_is_laid_out(pages: tuple[Path, Path], tmp_path: Path) -> None:
    rgb = shot(pages[0], tmp_path)
    assert rgb.shape[1] == SIZE_PX[0]
    assert tuple(rgb[2, 2]) == (251, 251, 249)
    assert rows_with(rgb, (11, 111, 184)) > 100  # dots and bars of the charts
    assert rows_with(rgb, MISSED, within=40) > 10  # in the pictures and in their key
    assert rows_with(rgb, WRONG, within=40) > 10
    # Charts, pictures and tables fill the page down to its end, in the whole width.
    inked = (np.abs(rgb - rgb[2, 2]).max(axis=2) > 40).any(axis=1)
    assert inked[:3000].mean() > 0.4


def test_the_report_is_dark_at_night(pages: tuple[Path, Path], tmp_path: Path) -> None:
    rgb = shot(pages[0], tmp_path, DARK)
    assert rgb[2, 2].max() < 40
    assert rows_with(rgb, (233, 234, 238), within=20) > 300  # letters


@pytest.mark.parametrize("which", [0, 1], ids=["report", "comparison"])
def test_a_narrow_window_cuts_nothing_off(which: int, pages: tuple[Path, Path], tmp_path: Path) -> None:
    rgb = shot(pages[which], tmp_path, width_px=500)  # browsers have no narrower window
    # Text and pictures end before the edge of the page.
    assert (np.abs(rgb[:, -8:] - rgb[2, 2]).max(axis=2) <= 8).all()


def test_the_browser_reads_every_part(pages: tuple[Path, Path], tmp_path: Path) -> None:
    shown = browse(pages[0], tmp_path / "profile", "--dump-dom")
    assert shown.count("<figure>") == 12
    assert shown.count('class="chart"') >= 5
    assert "the &lt;yellow&gt; square" in shown
    compared = browse(pages[1], tmp_path / "profile", "--dump-dom")
    assert "What changed" in compared
    assert compared.count("<figure>") == 16


def test_a_script_does_not_run(pages: tuple[Path, Path], tmp_path: Path) -> None:
    tampered = tmp_path / "page.html"
    evil = '<p id="mark">asleep</p><script>document.getElementById("mark").textContent = "awake"</script>'
    tampered.write_text(pages[0].read_text("utf-8").replace("</header>", f"</header>{evil}"), "utf-8")
    assert '<p id="mark">asleep</p>' in browse(tampered, tmp_path / "profile", "--dump-dom")
