"""Files of annotation tools with something changed anywhere: read, or refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.export import (
    MarkedMedia,
    marks_of,
    read_coco,
    read_cvat,
    read_label_studio,
    read_mot,
    settled,
    to_masks,
    to_points,
    to_tracks,
    write_coco,
    write_cvat,
    write_label_studio,
)
from molmo2_ground.export.filled import filled
from tests.made_marks import masks, points_on_pictures, tracks

LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=4)
    | st.just([])
    | st.just({})
    | st.lists(st.integers(-5, 5), max_size=4)
)
NUMBERS = st.sampled_from(
    ["", "nan", "inf", "-1", "1e400", "9" * 30, "0x1", "1,2", "1;2", "é", "0.5", "100000"]
)
pytestmark = pytest.mark.slow
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def use(read: Callable[[Path], tuple[MarkedMedia, ...]], path: Path) -> None:
    """Everything that happens to a file of annotations on its way to results."""
    with suppress(SourceError):
        for media in read(path):
            known = settled(media, fps=10, size_px=(48, 32))
            made = to_tracks if known.kind == "video" else to_points
            made(known, origin="a")
            to_masks(known, origin="a")
            if known.length < 1000:
                filled(known)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*at, key))


def changed(document: Any, at: tuple[Any, ...], leaf: Any) -> Any:
    if not at:
        return leaf
    made = copy.deepcopy(document)
    holder = made
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = leaf
    return made


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("coco") / "a.json"
    write_coco(marks_of(tracks(), masks=masks()), path)
    document = json.loads(path.read_text())
    document["annotations"] = document["annotations"][:5]
    document["images"] = document["images"][:3]
    return document


@pytest.fixture(scope="module", params=["video", "pictures"])
def label_studio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("ls") / "a.json"
    media = marks_of(tracks().observed if request.param == "video" else points_on_pictures())
    write_label_studio(media, path, radius_px=2)
    return json.loads(path.read_text())


@MANY
@given(data=st.data())
def test_coco(coco: Any, data: st.DataObject, tmp_path: Path) -> None:
    at = data.draw(st.sampled_from(list(places(coco))))
    (tmp_path / "a.json").write_text(json.dumps(changed(coco, at, data.draw(LEAVES))))
    use(read_coco, tmp_path / "a.json")


@MANY
@given(data=st.data())
def test_label_studio(label_studio: Any, data: st.DataObject, tmp_path: Path) -> None:
    at = data.draw(st.sampled_from(list(places(label_studio))))
    (tmp_path / "a.json").write_text(json.dumps(changed(label_studio, at, data.draw(LEAVES))))
    use(read_label_studio, tmp_path / "a.json")


@pytest.fixture(scope="module", params=["video", "pictures"])
def cvat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cvat") / "a.xml"
    video = marks_of(tracks(), masks=masks().observed, frame_count=20)
    write_cvat(video if request.param == "video" else marks_of(points_on_pictures()), path)
    return path.read_text(encoding="utf-8")


@MANY
@given(data=st.data())
def test_cvat(cvat: str, data: st.DataObject, tmp_path: Path) -> None:
    root = ElementTree.fromstring(cvat)
    element = data.draw(st.sampled_from(list(root.iter())))
    text = data.draw(NUMBERS)
    kinds = ["tag", "text", *(["set", "delete"] if element.attrib else [])]
    kind = data.draw(st.sampled_from(kinds))
    if kind in ("set", "delete"):
        name = data.draw(st.sampled_from(sorted(element.attrib)))
        if kind == "set":
            element.set(name, text)
        else:
            del element.attrib[name]
    elif kind == "tag":
        element.tag = data.draw(
            st.sampled_from(["box", "mask", "points", "polygon", "track", "image", "task"])
        )
    else:
        element.text = text
    (tmp_path / "a.xml").write_bytes(ElementTree.tostring(root))
    use(read_cvat, tmp_path / "a.xml")


@MANY
@given(data=st.data())
def test_cvat_cut_off(cvat: str, data: st.DataObject, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(cvat[: data.draw(st.integers(0, len(cvat)))])
    use(read_cvat, tmp_path / "a.xml")


@MANY
@given(
    lines=st.lists(
        st.lists(NUMBERS | st.integers(-3, 50).map(str), min_size=1, max_size=10).map(",".join), max_size=4
    )
)
def test_mot(lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(lines))
    use(lambda path: read_mot(path, label="a"), tmp_path / "a.txt")


@MANY
@given(content=st.binary(max_size=60))
@pytest.mark.parametrize("read", [read_coco, read_cvat, read_label_studio, read_mot])
def test_any_bytes(read: Callable[[Path], tuple[MarkedMedia, ...]], content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    use(read, tmp_path / "a")
