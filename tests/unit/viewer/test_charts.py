from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from molmo2_ground.render import Timeline
from molmo2_ground.viewer.charts import hex_colour, paths, times
from tests.found import points, track, tracks

GRID_S = [i / 2 for i in range(8)]
CAR = track({0.0: (64.0, 36.0), 0.5: (128.0, 36.0), 2.0: (320.0, 36.0)}, label='<the "red" car>')
FOUND = Timeline(tracks(CAR, looked_s=GRID_S))


def test_paths_break_where_nothing_was_seen() -> None:
    drawing = ElementTree.fromstring(paths(FOUND, (640, 360)))
    assert drawing.attrib["viewBox"] == "0 0 640 360"
    lines = {line.attrib["points"] for line in drawing.iter("polyline")}
    assert lines == {"64.0,36.0 128.0,36.0", "320.0,36.0"}
    dots = list(drawing.iter("circle"))
    assert [dot.attrib["data-time"] for dot in dots] == ["0.0000", "0.5000", "2.0000"]
    assert {dot.attrib["fill"] for dot in dots} == {hex_colour(1)}


def test_labels_in_drawings_are_text() -> None:
    drawing = ElementTree.fromstring(paths(FOUND, (640, 360)))
    assert next(title.text for title in drawing.iter("title")) == '1 <the "red" car>'


def test_a_picture_lies_under_the_paths() -> None:
    ground = np.zeros((9, 16, 3), dtype=np.uint8)
    drawing = ElementTree.fromstring(paths(FOUND, (640, 360), ground=ground))
    (image,) = drawing.iter("image")
    assert image.attrib["href"].startswith("data:image/jpeg;base64,")
    assert (image.attrib["width"], image.attrib["height"]) == ("640", "360")


def test_the_time_chart_has_a_bar_a_stretch_and_a_tick_a_look() -> None:
    chart = ElementTree.fromstring(times(FOUND, 3.5))
    bars = [(float(bar.attrib["x"]), float(bar.attrib["width"])) for bar in chart.iter("rect")]
    assert [x for x, _ in bars] == pytest.approx([40, 40 + 950 * 2 / 3.5], abs=0.1)
    assert [width for _, width in bars] == pytest.approx([950 * 0.5 / 3.5, 2], abs=0.1)
    assert [dot.attrib["class"] for dot in chart.iter("circle")] == [
        "seen",
        "seen",
        "unseen",
        "unseen",
        "seen",
        "unseen",
        "unseen",
        "unseen",
    ]


def test_points_of_one_moment_only_and_long_tracks_can_be_drawn() -> None:
    moment = Timeline(points([(1.0, 1.0)], times_s=[0.0]))
    assert ElementTree.fromstring(times(moment, 0.0)) is not None
    long = track({i / 2: (i / 10, 5.0) for i in range(3000)})
    timeline = Timeline(tracks(long, looked_s=[i / 2 for i in range(3000)]))
    assert paths(timeline, (640, 360)).count("<circle") == 2
    assert len(times(timeline, 1500.0)) < 2000
