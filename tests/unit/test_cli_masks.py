"""`--masks`, `--masks-json`, `--zones` of the commands that ask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.export import read_masks, read_result
from molmo2_ground.grounder import Grounder
from molmo2_ground.rle import Rle

POINTS = '<points coords="1 1 250 300 2 625 600">mugs</points>'
MUGS = ((12, 8, 30, 24), (42, 22, 62, 40))


def never(*_: object, **__: object) -> Grounder:
    raise AssertionError("no model is to be loaded")


def recorded(*_: object, **__: object) -> Grounder:
    return Grounder(ScriptedBackend([POINTS]))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Two mugs on a wall, and the answer above points to both."""
    pixels = np.full((50, 80, 3), 200, np.uint8)
    for (left, top, right, bottom), colour in zip(MUGS, ((200, 30, 30), (20, 60, 180)), strict=True):
        pixels[top:bottom, left:right] = colour
    path = tmp_path / "shelf.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    "option", [["--masks"], ["--masks", "region"], ["--masks=sam2.1-hiera-tiny"]], ids=str
)
def test_masks_for_nothing_are_refused_before_a_model_is_loaded(
    option: list[str], image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["point", str(image), "mugs", *option], loader=never) == 2
    assert "--masks is for -o FILE, --html FILE or --masks-json FILE" in capsys.readouterr().err


def test_a_masks_file_without_masks_is_bad_usage(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["point", str(image), "a", "--masks-json", "m.json"], loader=never) == 2
    assert "give --masks too" in capsys.readouterr().err


def test_a_segmenter_that_is_not_there_is_told_before_a_model_is_loaded(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "masks.json"
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["point", str(image), "a", f"--masks={empty}", "--masks-json", str(out)]
    assert main(words, loader=never) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert str(empty) in said[0]
    assert not out.exists()


@pytest.mark.slow
def test_masks_are_drawn_and_written_beside_the_result(image: Path, tmp_path: Path) -> None:
    out, drawn, result = tmp_path / "masks.json", tmp_path / "drawn.png", tmp_path / "result.json"
    words = ["point", str(image), "mugs", "-o", str(drawn), "--json", str(result), "--masks-json", str(out)]
    assert main([*words, "--masks", "--quiet"], loader=recorded) == 0
    masks, points = read_masks(out), read_result(result)
    assert masks.segmenter == "region"
    assert masks.receipt == points.receipt
    assert [mask.object_id for mask in masks] == [1, 2]
    for mask, (left, top, right, bottom) in zip(masks, MUGS, strict=True):
        mug = np.zeros((50, 80), dtype=bool)
        mug[top:bottom, left:right] = True
        assert mask.rle.iou(Rle.encode(mug)) > 0.7
    plain = tmp_path / "plain.png"
    assert main(["point", str(image), "mugs", "-o", str(plain), "--quiet"], loader=recorded) == 0
    changed = (np.asarray(Image.open(drawn)) != np.asarray(Image.open(plain))).any(axis=2)
    assert changed[masks.union(0)].mean() > 0.4


ZONES = {
    "units": "norm",
    "zones": [{"name": "left half", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}],
    "lines": [{"name": "shelf", "start": [0, 0.9], "end": [1, 0.9]}],
}


def test_zones_are_drawn(image: Path, tmp_path: Path) -> None:
    zones = tmp_path / "zones.json"
    zones.write_text(json.dumps(ZONES))
    pictures = []
    for name, more in (("plain", []), ("zoned", ["--zones", str(zones)])):
        out = tmp_path / f"{name}.png"
        words = ["point", str(image), "mugs", "-o", str(out), "--quiet", *more]
        assert main(words, loader=recorded) == 0
        pictures.append(np.asarray(Image.open(out)).astype(int))
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2) > 20
    assert changed[25:48, 39:42].any(axis=1).mean() > 0.9  # the zone's right border
    assert changed[44:47].any(axis=0).mean() > 0.9  # the line
    assert not changed[5:20, 45:75].any()


@pytest.mark.parametrize(
    ("text", "more", "code", "words"),
    [
        pytest.param("{}", ["-o", "out.png"], 1, "expected at least one zone or line", id="empty"),
        pytest.param("[", ["-o", "out.png"], 1, "expected JSON", id="no-json"),
        pytest.param(json.dumps(ZONES), [], 2, "--zones draws in -o FILE", id="nothing-to-draw-in"),
    ],
)
def test_bad_zones_are_told_before_a_model_is_loaded(
    text: str,
    more: list[str],
    code: int,
    words: str,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zones.json").write_text(text)
    assert main(["point", str(image), "a", "--zones", "zones.json", *more], loader=never) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert not (tmp_path / "out.png").exists()
