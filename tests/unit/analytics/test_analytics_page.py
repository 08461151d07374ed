"""What docs/analytics.md shows is what the package does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from molmo2_ground._cli_events import lines
from molmo2_ground.analytics import Rules, ZoneFile, find_events
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.grounder import Grounder
from tests.found import track, tracks

PAGE = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text(encoding="utf-8")
# Where the bundled model saw the red car in the demo's street, pixels of 640 x 360.
SEEN = {
    0.0: (72.96, 222.12),
    0.5: (104.96, 220.68),
    1.0: (135.04, 221.76),
    1.5: (167.04, 222.12),
    2.0: (195.84, 222.48),
    2.5: (222.08, 222.12),
    3.0: (240.0, 220.32),
    5.0: (413.44, 218.16),
    5.5: (419.84, 221.4),
    6.0: (444.16, 221.76),
    6.5: (476.8, 222.12),
    7.0: (507.52, 222.12),
    7.5: (544.64, 222.12),
}


def block(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found[number]


def test_the_zone_file_of_the_page_is_one_and_gives_what_is_printed() -> None:
    file = ZoneFile.model_validate_json(block("json"))
    assert json.loads(block("json"))["rules"] == {"grace_s": file.rules.grace_s}
    seen = tracks(track(SEEN), looked_s=[i / 2 for i in range(16)])
    events = find_events(
        seen, zones=file.zones_px((640, 360)), lines=file.lines_px((640, 360)), rules=file.rules
    )
    printed = PAGE.split("tracks give:\n\n```\n")[1].split("\n```")[0]
    assert list(lines(events)) == printed.splitlines()


def test_the_defaults_of_the_page_are_those_of_the_rules() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w.`]+) \|", PAGE, flags=re.MULTILINE))
    for name, value in Rules().model_dump().items():
        assert told[name].strip("`") == str(value)


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from molmo2_ground.train.toy.clip_file import write_clip
    from molmo2_ground.train.toy.street import make_scene

    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "demo").mkdir(parents=True)
    write_clip(make_scene(3, duration_s=1.5, max_actors=2), tmp_path / "out" / "demo" / "street.mp4")
    answer = '<tracks coords="0.0 1 250 500;0.5 1 300 500;1.0 1 400 500">the red car</tracks>'
    # In place of the door that remembers its model: what is put there must not outlive the test.
    monkeypatch.setattr("molmo2_ground.grounder._loaded", lambda _: Grounder(ScriptedBackend([answer])))
    names: dict[str, object] = {"__name__": "__page__"}
    for number in range(2):
        exec(compile(block("python", number), "docs/analytics.md", "exec"), names)
    assert len(names["detections"]) == 1  # type: ignore[arg-type]
