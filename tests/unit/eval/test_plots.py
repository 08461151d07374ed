from __future__ import annotations

from xml.etree import ElementTree

from molmo2_ground.eval import plots
from molmo2_ground.eval.groups import Group

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Group(label="1", examples=40, files=40, value=0.5, low=0.25, high=0.75),
    Group(label="<2>", examples=3, files=3, value=1.0, low=1.0, high=1.0),
]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def texts(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def test_a_chart_has_a_title_axes_and_the_numbers_behind_each_dot() -> None:
    root = parsed(plots.by_number(GROUPS, title="HOTA", x_label="objects"))
    assert root.get("aria-label") == "HOTA, by objects"
    assert {"HOTA", "objects", "0 %", "50 %", "100 %", "1", "<2>", "n = 40", "n = 3"} <= set(texts(root))


def test_dots_and_ranges_lie_where_the_axis_says() -> None:
    root = parsed(plots.by_number(GROUPS, title="HOTA", x_label="objects"))
    axis = {
        t.text: float(t.get("y", 0)) - 4 for t in root.iter(f"{SVG}text") if (t.text or "").endswith(" %")
    }
    dots = [float(c.get("cy", 0)) for c in root.iter(f"{SVG}circle")]
    assert dots == [axis["50 %"], axis["100 %"]]
    ranges = [line for line in root.iter(f"{SVG}line") if line.get("class") == "range"]
    assert float(ranges[0].get("y1", 0)) == axis["25 %"]
    assert float(ranges[0].get("y2", 0)) == axis["75 %"]


def test_a_handful_of_examples_is_marked_as_a_guess() -> None:
    for svg in (plots.by_number(GROUPS, title="a", x_label="b"), plots.by_category(GROUPS, title="a")):
        assert [g.get("class") for g in parsed(svg).iter(f"{SVG}g")] == ["", "guess"]


def test_bars_are_as_long_as_the_score() -> None:
    root = parsed(plots.by_category(GROUPS, title="HOTA"))
    rails = [float(r.get("width", 0)) for r in root.iter(f"{SVG}rect") if r.get("class") == "rail"]
    bars = [float(r.get("width", 0)) for r in root.iter(f"{SVG}rect") if r.get("class") == "fill"]
    assert bars == [rails[0] / 2, rails[1]]


def test_every_score_is_in_one_bar() -> None:
    root = parsed(plots.spread([0.0, 0.05, 0.1, 0.95, 1.0], title="F1"))
    counts = [text for text in texts(root) if text in "12" and text]
    assert counts == ["2", "1", "2"]


def test_a_whisker_stays_on_its_line() -> None:
    root = parsed(plots.whisker(1.0, 0.9, 1.0))
    assert all(4 <= float(c.get("cx", 0)) <= 156 for c in root.iter(f"{SVG}circle"))
