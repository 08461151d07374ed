"""Files that can be read in part: the command works with what is there and says what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.cli import main
from molmo2_ground.grounder import Grounder
from tests.media import Shelf, Writer, damaged_middle, damaged_middle_mkv, one_frame, truncated_tail

ANSWER = '<tracks coords="0.0 1 500 250">the red car</tracks>'


def scripted(*_: object, **__: object) -> Grounder:
    return Grounder(ScriptedBackend([ANSWER]))


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("writer", "frames", "told"),
    [
        pytest.param(one_frame, (1, 1), None, id="one-frame"),
        pytest.param(damaged_middle, (40, 59), r"frames between 2\.\d+ s and 3\.\d+ s", id="damaged-mp4"),
        pytest.param(damaged_middle_mkv, (30, 59), r"nothing could be read between 2\.", id="damaged-mkv"),
        pytest.param(truncated_tail, (20, 40), r"it holds \d+ of 60 frames", id="truncated"),
    ],
)
def test_what_is_there_is_used_and_what_is_lost_is_told(
    writer: Writer,
    frames: tuple[int, int],
    told: str | None,
    media: Shelf,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    files = ["--json", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.mp4")]
    assert main(["track", str(media(writer)), "the red car", *files], loader=scripted) == 0
    out, err = capfd.readouterr()
    assert out.startswith("#1 the red car: 0.0 s")
    receipt = json.loads((tmp_path / "a.json").read_text())["receipt"]
    if told is None:
        assert "lost" not in err
        assert receipt["lost"] == []
    else:
        assert re.search(rf"^lost: .*{told}", err, re.MULTILINE), err
        assert re.search(told, "\n".join(receipt["lost"]))
    assert frames[0] <= frames_in(tmp_path / "a.mp4") <= frames[1]
