from __future__ import annotations

import csv
import io
import json

import pytest

from molmo2_ground.analytics import Events, Homography, Line, Rules, Zone, find_events
from molmo2_ground.analytics.events import CSV_COLUMNS, SCHEMA
from tests.found import track, tracks

GRID_S = [i / 2 for i in range(9)]
YARD = Zone(name="yard", polygon=((200, 0), (400, 0), (400, 360), (200, 360)))
GATE = Line(name="gate", start=(300, 360), end=(300, 0))  # drawn upwards: left, and so "in", is to the left
CAR = track({t: (100.0 + 100 * t, 180.0) for t in GRID_S if t not in (1.5,)}, object_id=1)
BUS = track(dict.fromkeys((1.0, 1.5, 2.0), (350.0, 90.0)), object_id=2, label="a bus, blue")
MOVING = tracks(CAR, BUS, looked_s=GRID_S)
TEN_PX_A_METRE = Homography(matrix=((0.1, 0, 0), (0, 0.1, 0), (0, 0, 1)))


@pytest.fixture(scope="module")
def events() -> Events:
    return find_events(MOVING, zones=[YARD], lines=[GATE])


def test_everything_comes_in_order(events: Events) -> None:
    told = [(e.kind, e.object_id, round(e.time_s, 3)) for e in events]
    assert told == [
        ("appeared", 1, 0.0),
        ("appeared", 2, 1.0),
        ("zone_entered", 1, 1.0),
        ("count_changed", 1, 1.0),
        ("zone_entered", 2, 1.0),
        ("count_changed", 2, 1.0),
        ("zone_left", 2, 2.0),
        ("count_changed", 2, 2.0),
        ("line_crossed", 1, 2.0),
        ("disappeared", 2, 2.0),
        ("zone_left", 1, 3.0),
        ("count_changed", 1, 3.0),
    ]
    assert len(events) == 12
    assert events[0].kind == "appeared"
    assert [e.kind for e in events[-1:]] == ["count_changed"]


def test_the_events_survive_json(events: Events) -> None:
    text = events.json_text()
    assert text.splitlines()[0] == f'{{"schema": "{SCHEMA}",'
    document = json.loads(text)
    assert document.pop("schema") == SCHEMA
    assert Events.model_validate_json(json.dumps(document)) == events


def test_the_table_of_rows_has_one_row_an_event(events: Events) -> None:
    rows = list(csv.DictReader(io.StringIO(events.csv_text())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["kind"] for row in rows] == [event.kind for event in events]
    (crossed,) = (row for row in rows if row["kind"] == "line_crossed")
    assert (crossed["where"], crossed["detail"], crossed["states"]) == ("gate", "out", "observed observed")
    assert rows[0]["after_s"] == ""  # it was there at the first look
    assert {row["label"] for row in rows} == {"the red car", "a bus, blue"}
    changes = [row["detail"] for row in rows if row["kind"] == "count_changed"]
    assert changes == ["0 to 1", "1 to 2", "2 to 1", "1 to 0"]


def test_the_summary_adds_up(events: Events) -> None:
    (yard,), (gate,), (car, bus) = events.summary.zones, events.summary.lines, events.summary.objects
    assert (yard.visits, yard.objects, yard.most_at_once, yard.inside_at_end) == (2, 2, 2, 0)
    assert yard.dwell_s == pytest.approx(3.0)
    assert (gate.in_count, gate.out_count) == (0, 1)
    assert (car.there_s, car.spells) == (4.0, 1)
    assert car.mean_speed == pytest.approx(100)
    assert (bus.first_s, bus.last_s) == (1.0, 2.0)
    assert bus.top_speed == pytest.approx(0)
    assert list(events.summary.table()) == [
        "zone  visits  objects  most at once  dwell s  longest s  still inside",
        "yard       2        2             2     3.00       2.00             0",
        "line  in  out",
        "gate   0    1",
        "object          first s  last s  there s  spells  mean px/s  top px/s",
        "#1 the red car     0.00    4.00     4.00       1      100.0     100.0",
        "#2 a bus, blue     1.00    2.00     1.00       1        0.0       0.0",
    ]


def test_a_hidden_crossing_is_told_as_such(events: Events) -> None:
    (crossed,) = (event for event in events if event.kind == "line_crossed")
    assert not crossed.hidden  # x is 300 in the very frame after the gap, and it leaves the line seen
    later = find_events(
        tracks(
            track({t: (110.0 + 100 * t, 180.0) for t in GRID_S if t != 1.5}, object_id=1), looked_s=GRID_S
        ),
        lines=[GATE],
    )
    (crossed,) = (event for event in later if event.kind == "line_crossed")
    assert crossed.hidden
    assert (crossed.after_s, crossed.before_s) == (1.0, 2.0)


def test_speed_is_in_metres_on_a_known_ground() -> None:
    (car, _) = find_events(MOVING, ground=TEN_PX_A_METRE).summary.objects
    assert car.mean_speed == pytest.approx(10)
    assert car.unit == "m/s"


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="lines have different names; got 'gate'"):
        find_events(MOVING, lines=[GATE, GATE])
    with pytest.raises(ValueError, match="at is 'looks' or 'frames'; got 'look'"):
        find_events(MOVING, at="look")  # type: ignore[arg-type]


def test_nothing_found_is_no_event() -> None:
    events = find_events(tracks(looked_s=GRID_S), zones=[YARD], lines=[GATE], rules=Rules(grace_s=0))
    assert len(events) == 0
    assert events.occupancies[0].counts == (0,) * 9
    assert list(events.summary.table())[1].split() == ["yard", "0", "0", "0", "0.00", "0.00", "0"]


def test_carried_samples_are_told_by_their_states() -> None:
    carried = tracks(
        track({0.0: (150, 9)}).model_copy(
            update={
                "samples": (
                    *track({0.0: (150, 9)}).samples,
                    *track({0.25: (210, 9)}, state="propagated").samples,
                    *track({0.5: (270, 9)}).samples,
                )
            }
        ),
        looked_s=[0.0, 0.5],
    )
    (entered,) = (e for e in find_events(carried, zones=[YARD]) if e.kind == "zone_entered")
    assert entered.states == ("observed", "propagated")
    assert (entered.after_s, entered.before_s) == (0.0, 0.25)
