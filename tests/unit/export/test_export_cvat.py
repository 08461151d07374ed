"""CVAT XML: checked against CVAT's documentation of version 1.1, element by element, and read back."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.errors import SourceError
from molmo2_ground.export import marks_of, read_cvat, write_cvat
from molmo2_ground.export.marks import Mark, MarkedMedia
from molmo2_ground.results import Masks, Track, Tracks
from molmo2_ground.rle import Rle
from tests.made_marks import LABELS, disc, masks, points_on_pictures, receipt, sample, tracks

WHOLE, NUMBER, FLAG, TEXT = "whole", "number", "flag", "text"
# "XML annotation format", version 1.1, of CVAT's manual; masks as CVAT's exporter writes them.
SHAPE = {"frame": WHOLE, "keyframe": FLAG, "outside": FLAG, "occluded": FLAG, "z_order": WHOLE}
PLACES = {
    "points": {"points": "pairs"},
    "polygon": {"points": "pairs"},
    "box": {"xtl": NUMBER, "ytl": NUMBER, "xbr": NUMBER, "ybr": NUMBER},
    "mask": {"rle": "runs", "left": WHOLE, "top": WHOLE, "width": WHOLE, "height": WHOLE},
}
META = ["name", "size", "mode", "overlap", "bugtracker", "flipped", "labels", "segments"]


def check_value(text: str, kind: str) -> None:
    if kind == WHOLE:
        assert text.isdigit()
    elif kind == NUMBER:
        float(text)
    elif kind == FLAG:
        assert text in ("0", "1")
    elif kind == "pairs":
        for pair in text.split(";"):
            x, y = pair.split(",")
            float(x)
            float(y)
    elif kind == "runs":
        assert all(run.strip().isdigit() for run in text.split(","))


def check_fields(element: Element, expected: Mapping[str, str]) -> None:
    assert set(element.attrib) == set(expected), element.tag
    for name, kind in expected.items():
        check_value(element.attrib[name], kind)


def checked(path: Path) -> Element:
    """The file's root, after every element and attribute was found to be as documented."""
    root: Element = ElementTree.parse(path, forbid_dtd=True).getroot()
    assert root.tag == "annotations"
    assert [child.tag for child in root[:2]] == ["version", "meta"]
    assert root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert task is not None
    assert [child.tag for child in task][: len(META)] == META
    labels = {name.text for name in task.iterfind("labels/label/name")}
    for attribute in task.iterfind("labels/label/attributes/attribute"):
        fields = [child.tag for child in attribute]
        assert fields == ["name", "mutable", "input_type", "default_value", "values"]
        assert attribute.findtext("mutable") in ("True", "False")
    for element in root[2:]:
        if element.tag == "track":
            assert set(element.attrib) - {"group_id"} == {"id", "label", "source"}
            assert element.attrib["source"] in ("manual", "auto")
            assert element.attrib["label"] in labels
            assert len({shape.tag for shape in element}) == 1
            for shape in element:
                check_fields(shape, {**SHAPE, **PLACES[shape.tag]})
            frames = [int(shape.attrib["frame"]) for shape in element]
            assert frames == sorted(set(frames))
        else:
            check_fields(element, {"id": WHOLE, "name": TEXT, "width": WHOLE, "height": WHOLE})
            for shape in element:
                expected = {
                    "label": TEXT,
                    "source": TEXT,
                    "occluded": FLAG,
                    "z_order": WHOLE,
                    "group_id": WHOLE,
                }
                check_fields(shape, {**expected, **PLACES[shape.tag]})
                assert shape.attrib["label"] in labels
    return root


def written(media: MarkedMedia, folder: Path) -> Path:
    write_cvat(media, folder / "a.xml")
    return folder / "a.xml"


def places(media: MarkedMedia) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {
        (m.frame, m.object_id): (
            m.label, m.state, m.occluded, m.point_px, m.box_px,
            None if m.mask is None else m.mask.decode().tobytes(),
        )
        for m in media.marks
    }  # fmt: skip


def test_a_track_is_a_keyframe_a_sample_and_outside_where_it_is_not(tmp_path: Path) -> None:
    root = checked(written(marks_of(tracks().observed, frame_count=20), tmp_path))
    found = {
        track.attrib["label"]: [(int(s.attrib["frame"]), s.attrib["outside"]) for s in track]
        for track in root.iterfind("track")
    }
    assert found[LABELS[1]] == [(0, "0"), (5, "0"), (10, "0"), (15, "0"), (16, "1")]
    assert found[LABELS[2]] == [(0, "0"), (5, "1"), (10, "0"), (15, "1")]
    assert found[LABELS[7]] == [(0, "0"), (5, "0"), (10, "1")]
    first = root.find("track/points")
    assert first is not None
    assert first.attrib["points"] == "5.25,10.1"
    assert {a.attrib["name"]: a.text for a in first} == {"object_id": "1", "state": "observed"}
    assert root.findtext("meta/task/size") == "20"
    assert root.findtext("meta/task/original_size/width") == "48"
    assert root.findtext("meta/task/mode") == "interpolation"


def test_without_the_length_of_the_video_no_frame_is_made_up(tmp_path: Path) -> None:
    result = write_cvat(marks_of(tracks().observed), tmp_path / "a.xml")
    frames = [int(s.attrib["frame"]) for s in checked(tmp_path / "a.xml").iterfind("track/points")]
    assert max(frames) == 15
    assert "the video's length is not known" in result.left_out[0]


def test_masks_are_tracks_of_one_frame_that_belong_together(tmp_path: Path) -> None:
    root = checked(written(marks_of(masks(), frame_count=20), tmp_path))
    groups = [track.attrib["group_id"] for track in root.iterfind("track")]
    assert groups == ["1"] * 16 + ["2"] * 10
    first = root.find("track/mask")
    assert first is not None
    # Decoded as CVAT documents it: runs of the rows of the box, background first.
    runs = [int(run) for run in first.attrib["rle"].split(",")]
    left, top, width, height = (int(first.attrib[name]) for name in ("left", "top", "width", "height"))
    flat = [value for place, run in enumerate(runs) for value in [place % 2 == 1] * run]
    pixels = np.zeros((32, 48), dtype=bool)
    pixels[top : top + height, left : left + width] = np.array(flat).reshape(height, width)
    assert np.array_equal(pixels, masks().dense(1, 0))


@pytest.mark.parametrize("with_masks", [False, True], ids=["points", "points-and-masks"])
def test_a_video_comes_back_as_it_went(with_masks: bool, tmp_path: Path) -> None:
    media = marks_of(tracks(), masks=masks() if with_masks else None, frame_count=20)
    (back,) = read_cvat(written(media, tmp_path))
    assert places(back) == places(media)
    assert (back.name, back.kind, back.size_px, back.frame_count) == ("street one.mp4", "video", (48, 32), 20)
    assert not back.left_out


def test_pictures_come_back_as_they_went(tmp_path: Path) -> None:
    media = marks_of(points_on_pictures())
    checked(written(media, tmp_path))
    (back,) = read_cvat(tmp_path / "a.xml")
    assert places(back) == places(media)
    assert back.sizes_px == media.sizes_px
    assert back.image_names == tuple(f"3_images/{frame:05d}.jpg" for frame in range(3))


LABEL = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="￾￿"), min_size=1)
PIXEL = st.floats(-1e6, 1e6)


@pytest.mark.slow
@settings(max_examples=25)
@given(label=LABEL, x=PIXEL, y=PIXEL, bits=st.binary(min_size=192, max_size=192))
def test_labels_places_and_masks_survive(
    label: str, x: float, y: float, bits: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not label.strip():
        return
    mark = Mark(
        object_id=3,
        label=label,
        frame=2,
        point_px=(x, y),
        mask=Rle.encode(np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(bool).reshape(32, 48)),
    )
    media = MarkedMedia(name="a.mp4", kind="video", size_px=(48, 32), frames=(2,), marks=(mark,))
    (back,) = read_cvat(written(media, tmp_path_factory.getbasetemp()))
    assert places(back) == places(media)


@pytest.mark.parametrize("label", ["a\nb", "a\tb", "a\rb", "<&>\"'", "größe 赤い車 🚗"])
def test_odd_labels_survive(label: str, tmp_path: Path) -> None:
    track = Track(object_id=1, label=label, samples=(sample(0, 1, 2),))
    (back,) = read_cvat(written(marks_of(Tracks(tracks=(track,), receipt=receipt())), tmp_path))
    assert back.labels == {1: label}


@pytest.mark.parametrize(
    ("label", "message"),
    [("", "has no label"), ("  ", "has no label"), ("a\0b", "XML cannot hold"), ("￿", "XML cannot hold")],
)
def test_labels_that_xml_cannot_hold_are_refused(label: str, message: str, tmp_path: Path) -> None:
    track = Track(object_id=1, label=label, samples=(sample(0, 1, 2),))
    with pytest.raises(ValueError, match=message):
        write_cvat(marks_of(Tracks(tracks=(track,), receipt=receipt())), tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())


def test_an_empty_mask_survives(tmp_path: Path) -> None:
    one = Masks(masks=(), labels={}, segmenter="discs", receipt=receipt())
    mark = Mark(object_id=1, label="a", frame=0, mask=Rle.encode(disc(5, 5, 0)))
    media = replace(marks_of(one), marks=(mark,))
    (back,) = read_cvat(written(media, tmp_path))
    assert back.marks[0].mask is not None
    assert back.marks[0].mask.area_px == 0


THEIRS = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>interpolation</name><size>40</size><mode>interpolation</mode>
    <original_size><width>48</width><height>32</height></original_size><source>cars.mp4</source>
  </task></meta>
  <track id="0" label="car" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="1.00" ytl="2.00" xbr="11.00" ybr="8.00"/>
    <box frame="1" keyframe="0" outside="0" occluded="1" xtl="2.00" ytl="2.00" xbr="12.00" ybr="8.00"/>
    <box frame="2" keyframe="1" outside="1" occluded="0" xtl="3.00" ytl="2.00" xbr="13.00" ybr="8.00"/>
  </track>
  <track id="1" label="person" source="manual">
    <polygon frame="6" points="4.00,4.00;8.00,4.00;8,9;4,9" outside="0" occluded="0" keyframe="1"/>
  </track>
  <track id="2" label="wheel" source="manual">
    <points frame="3" points="5.5,6.5;9.5,6.5" outside="0" occluded="0" keyframe="1" z_order="0"/>
    <points frame="4" points="6.5,6.5;10.5,6.5" outside="0" occluded="0" keyframe="1" z_order="0"/>
  </track>
  <track id="3" label="lane" source="manual">
    <polyline frame="3" points="5.5,6.5;9.5,6.5" outside="0" occluded="0" keyframe="1" z_order="0"/>
  </track>
  <track id="4" label="sign" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90"/>
  </track>
</annotations>
"""


def test_a_file_of_cvats_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(THEIRS)
    (media,) = read_cvat(tmp_path / "annotations.xml")
    assert (media.name, media.frame_count) == ("cars.mp4", 40)
    assert [(m.frame, m.state, m.occluded, m.box_px) for m in media.of(1)] == [
        (0, "observed", False, (1, 2, 11, 8)),
        (1, "interpolated", True, (2, 2, 12, 8)),
    ]
    assert media.next_frame(1) == 2  # the frame in which it is outside is known
    (person,) = media.of(2)
    assert person.mask is not None
    assert person.mask.box_px == (4, 4, 8, 9)
    assert person.mask.area_px == 20
    assert [m.point_px for m in media.of(3)] == [(5.5, 6.5), (6.5, 6.5)]
    assert [m.point_px for m in media.of(4)] == [(9.5, 6.5), (10.5, 6.5)]
    assert media.labels == {1: "car", 2: "person", 3: "wheel", 4: "wheel", 5: "sign"}
    (sign,) = media.of(5)
    assert sign.box_px == pytest.approx((13, 7, 17, 17))
    assert media.left_out == ("1 time: shapes <polyline> have no place in points, boxes or masks",)


def test_numbers_of_somebody_else_are_not_taken_for_ours(tmp_path: Path) -> None:
    track = (
        '<track label="{}"><points frame="0" points="1,2">'
        '<attribute name="object_id">7</attribute></points></track>'
    )
    text = "".join(track.format(label) for label in ("car", "bus"))
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{text}</annotations>")
    (media,) = read_cvat(tmp_path / "a.xml")
    assert media.labels == {1: "car", 2: "bus"}


def test_the_archive_that_cvat_gives_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", THEIRS)
        archive.writestr("images/frame_000000.png", b"")
    (media,) = read_cvat(tmp_path / "task.zip")
    assert len(media.marks) == 8


def test_a_project_has_a_medium_a_task(tmp_path: Path) -> None:
    task = (
        "<task><id>{}</id><name>t</name><size>9</size><source>{}.mp4</source><original_size><width>48</width>"
    )
    tasks = "".join(
        (task + "<height>32</height></original_size></task>").format(i, name)
        for i, name in ((1, "a"), (2, "b"))
    )
    tracks_of_both = "".join(
        f'<track id="0" label="car" task_id="{i}"><points frame="{i}" points="1,2"/></track>' for i in (1, 2)
    )
    (tmp_path / "p.xml").write_text(
        f"<annotations><version>1.1</version><meta><project><tasks>{tasks}</tasks></project></meta>"
        f"{tracks_of_both}</annotations>"
    )
    found = read_cvat(tmp_path / "p.xml")
    assert [(m.name, [mark.frame for mark in m.marks]) for m in found] == [("a.mp4", [1]), ("b.mp4", [2])]


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]>
<annotations><version>&lol2;</version></annotations>"""
OUTSIDER = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotations><version>1.1</version><track id="0" label="&x;"/></annotations>"""


def shape(tag: str, fields: str) -> str:
    return (
        "<annotations><version>1.1</version><meta><task><original_size><width>48</width><height>32</height>"
        f'</original_size></task></meta><track label="car"><{tag} frame="0" {fields}/></track></annotations>'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(BOMB, "DTDForbidden, which is refused", id="entities"),
        pytest.param(OUTSIDER, "DTDForbidden, which is refused", id="outside-entity"),
        pytest.param("", "no annotation file of CVAT", id="empty"),
        pytest.param("{}", "no annotation file of CVAT", id="json"),
        pytest.param("<html><body/></html>", "expected <annotations>", id="other-xml"),
        pytest.param("<annotations><version>1.1</version>", "no annotation file", id="cut-off"),
        pytest.param(shape("points", 'points="1,x"'), "frame 0: <points>: points is 'x'", id="no-number"),
        pytest.param(shape("points", 'points="1,2,3"'), "expected points x,y;x,y", id="three-numbers"),
        pytest.param(shape("points", 'points="nan,1"'), "expected a place in a picture", id="nan"),
        pytest.param(shape("points", ""), "expected points", id="no-points"),
        pytest.param(shape("box", 'xtl="1"'), "<box>: ytl is None", id="no-edge"),
        pytest.param(shape("polygon", 'points="1,2;3,4"'), "three corners or more", id="two-corners"),
        pytest.param(
            shape("mask", 'rle="1, 2" left="0" top="0" width="2" height="2"'), "cover 3 pixels", id="short"
        ),
        pytest.param(
            shape("mask", 'rle="4" left="47" top="0" width="2" height="2"'), "leaves the picture", id="out"
        ),
        pytest.param(
            shape("mask", 'rle="1" left="0" top="0" width="999999999" height="999999999"'),
            "leaves the picture",
            id="huge",
        ),
        pytest.param(
            shape("mask", 'rle="4" left="0" top="0" width="2" height="2"').replace("48", "99999999"),
            "no size of a picture",
            id="huge-picture",
        ),
        pytest.param(shape("points", 'points="1,2"').replace('frame="0"', ""), "frame is None", id="none"),
        pytest.param(shape("points", 'points="1,2"').replace('"0"', '"-3"'), "numbered from 0", id="below-0"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_cvat_gives_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(SourceError, match=message) as raised:
        read_cvat(tmp_path / "x.xml")
    assert str(tmp_path / "x.xml") in str(raised.value)


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_cvat(tmp_path / "no.xml")
