from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.analytics import Line, Rules, Zone, find_events
from molmo2_ground.integrations.supervision import NUDGE_PX, to_detections, to_key_points
from molmo2_ground.results import Count, Mask, Masks
from molmo2_ground.rle import Rle
from tests.found import SIZE_PX, points, receipt, track, tracks

GRID_S = [i / 2 for i in range(13)]
MOVING = tracks(
    track({0.0: (10, 20), 0.5: (30, 40)}, object_id=4),
    track({0.5: (50, 60)}, object_id=7, label="a bus"),
    looked_s=GRID_S,
)


def column(found: sv.Detections | sv.KeyPoints, name: str) -> list[object]:
    listed: list[object] = np.asarray(found.data[name]).tolist()
    return listed


def box_mask(object_id: int, source_index: int, box: tuple[int, int, int, int]) -> Mask:
    dense = np.zeros((SIZE_PX[1], SIZE_PX[0]), dtype=bool)
    left, top, right, bottom = box
    dense[top:bottom, left:right] = True
    counts = Rle.encode(dense).counts
    assert isinstance(counts, bytes)
    return Mask(
        object_id=object_id,
        source_index=source_index,
        time_s=source_index / 30,
        size_px=SIZE_PX,
        counts=counts.decode(),
        state="propagated",
    )


def test_points_become_skeletons_of_one_key_point() -> None:
    found = to_key_points(points([(12.5, 30.25), (100.0, 7.0)]))
    assert found.xy.dtype == np.float32
    assert found.xy.tolist() == [[[12.5, 30.25]], [[100.0, 7.0]]]
    assert column(found, "tracker_id") == [1, 2]
    assert column(found, "class_name") == ["mug", "mug"]
    assert np.isnan(found.data["time_s"]).all()
    assert found.keypoint_confidence is None
    assert found.detection_confidence is None
    assert len(found.as_detections()) == 2


@pytest.mark.slow
@given(x_px=st.floats(0, 1e-3), y_px=st.floats(0, 1e-3))
def test_a_place_in_the_corner_is_not_missing(x_px: float, y_px: float) -> None:
    found = to_key_points(points([(x_px, y_px)]))
    assert len(found.as_detections()) == 1
    assert np.abs(found.xy[0, 0] - (x_px, y_px)).max() <= NUDGE_PX


def test_a_point_becomes_a_square_that_says_its_radius() -> None:
    found = to_detections(points([(2.0, 30.0)]), radius_px=8)
    assert found.xyxy.tolist() == [[-6, 22, 10, 38]]
    assert found.get_anchors_coordinates(sv.Position.CENTER).tolist() == [[2.0, 30.0]]
    assert found.metadata == {"radius_px": 8.0}
    assert found.confidence is None
    assert found.mask is None
    count = Count(value=1, stated=1, points=points([(2.0, 30.0)]))
    assert (to_detections(count, radius_px=8).xyxy == found.xyxy).all()


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        pytest.param({"source_index": 0}, [4], id="frame 0"),
        pytest.param({"source_index": 15}, [4, 7], id="frame 15"),
        pytest.param({"time_s": 0.52}, [4, 7], id="near half a second"),
        pytest.param({"time_s": 0.2}, [], id="a time of no sample"),
        pytest.param({"source_index": 3}, [], id="a frame of no sample"),
    ],
)
def test_one_picture_is_chosen(choice: dict[str, float], ids: list[int]) -> None:
    detections = to_detections(MOVING, **choice)  # type: ignore[arg-type]
    assert detections.tracker_id is not None
    assert detections.tracker_id.tolist() == ids
    assert column(to_key_points(MOVING, **choice), "tracker_id") == ids  # type: ignore[arg-type]
    assert len(detections) == len(ids)


def test_a_class_keeps_its_number_in_all_pictures() -> None:
    first, later = to_detections(MOVING, source_index=0), to_detections(MOVING, source_index=15)
    assert first.class_id is not None
    assert later.class_id is not None
    assert (first.class_id.tolist(), later.class_id.tolist()) == ([1], [1, 0])
    named = to_detections(MOVING, source_index=15, class_names=["a bus", "a tram", "the red car"])
    assert named.class_id is not None
    assert named.class_id.tolist() == [2, 0]
    with pytest.raises(ValueError, match="got 'the red car'"):
        to_detections(MOVING, source_index=15, class_names=["a bus"])


def test_pictures_can_be_merged_and_filtered() -> None:
    merged = sv.Detections.merge([to_detections(MOVING, source_index=i) for i in (0, 15)])
    assert column(merged, "source_index") == [0, 15, 15]
    assert column(merged, "state") == ["observed"] * 3
    bus = merged[merged.data["class_name"] == "a bus"]
    assert isinstance(bus, sv.Detections)
    assert bus.tracker_id is not None
    assert bus.tracker_id.tolist() == [7]


def test_masks_give_real_boxes_and_arrays() -> None:
    made = (
        box_mask(1, 3, (10, 20, 40, 60)),
        box_mask(2, 3, (0, 0, 0, 0)),
        box_mask(3, 3, (600, 300, 640, 360)),
        box_mask(1, 4, (11, 20, 41, 60)),
    )
    masks = Masks(
        masks=made, labels={1: "mug", 2: "cup", 3: "mug"}, segmenter="by hand", receipt=receipt(looked_s=[0])
    )
    found = to_detections(masks, source_index=3)
    assert found.xyxy.tolist() == [[10, 20, 40, 60], [600, 300, 640, 360]]
    assert found.tracker_id is not None
    assert found.tracker_id.tolist() == [1, 3]  # the mask of 2 has no pixel
    assert found.mask is not None
    assert np.asarray(found.mask).shape == (2, 360, 640)
    assert (np.asarray(found.mask)[0] == made[0].dense()).all()
    assert found.area.tolist() == [1200, 2400]
    assert column(found, "state") == ["propagated"] * 2
    assert found.metadata == {}
    at_time = to_detections(masks, time_s=4 / 30)
    assert at_time.xyxy.tolist() == [[11, 20, 41, 60]]
    assert len(to_detections(masks, source_index=9)) == 0


def test_annotators_take_them() -> None:
    scene = np.zeros((360, 640, 3), dtype=np.uint8)
    labelled = sv.LabelAnnotator().annotate(scene.copy(), to_detections(MOVING, source_index=15))
    drawn = sv.VertexAnnotator(radius=4).annotate(scene.copy(), to_key_points(MOVING, source_index=15))
    assert labelled.any()
    assert drawn[40, 30].any()
    assert not drawn[200, 300].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({}, r"places in 2: name one by source_index \(from 0 to 15\)", id="which picture"),
        pytest.param({"source_index": 0, "time_s": 0.0}, "got both", id="both"),
        pytest.param({"source_index": 0, "radius_px": 0.0}, "above 0; got 0", id="no radius"),
    ],
)
def test_unclear_calls_are_refused(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_detections(MOVING, **arguments)  # type: ignore[arg-type]


def test_nothing_found_is_an_empty_picture() -> None:
    assert len(to_detections(points([]))) == 0
    assert len(to_key_points(tracks())) == 0


# ---------------------------------------------------------------- our zones and lines beside theirs


far_from_the_line = st.one_of(st.integers(20, 90), st.integers(110, 180))


@pytest.mark.slow
@settings(max_examples=40)
@given(ys=st.lists(far_from_the_line, min_size=1, max_size=13))
def test_in_and_out_of_a_line_are_those_of_supervision_on_clear_cases(ys: list[int]) -> None:
    """Seen at every look, well away from the line, and never near its ends."""
    walk = tracks(track({GRID_S[i]: (200.0, float(y)) for i, y in enumerate(ys)}), looked_s=GRID_S)
    theirs = sv.LineZone(
        start=sv.Point(100, 100), end=sv.Point(300, 100), triggering_anchors=[sv.Position.CENTER]
    )
    for time_s in GRID_S[: len(ys)]:
        theirs.trigger(to_detections(walk, time_s=time_s))
    ours = find_events(walk, lines=[Line(name="kerb", start=(100, 100), end=(300, 100))])
    (row,) = ours.summary.lines
    assert (row.in_count, row.out_count) == (theirs.in_count, theirs.out_count)


@pytest.mark.slow
@settings(max_examples=40)
@given(xs=st.lists(st.sampled_from([50, 150, 250, 350]), min_size=1, max_size=13))
def test_counts_in_a_zone_are_those_of_supervision_on_clear_cases(xs: list[int]) -> None:
    corners = [(100, 50), (300, 50), (300, 150), (100, 150)]
    walk = tracks(track({GRID_S[i]: (float(x), 100.0) for i, x in enumerate(xs)}), looked_s=GRID_S)
    theirs = sv.PolygonZone(polygon=np.array(corners), triggering_anchors=[sv.Position.CENTER])
    counts = []
    for time_s in GRID_S[: len(xs)]:
        theirs.trigger(to_detections(walk, time_s=time_s))
        counts.append(theirs.current_count)
    ours = find_events(walk, zones=[Zone(name="yard", polygon=tuple(corners))], rules=Rules(grace_s=0))
    assert list(ours.occupancies[0].counts[: len(xs)]) == counts
