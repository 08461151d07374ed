from __future__ import annotations

from collections.abc import Sequence

import pytest

from molmo2_ground.analytics import Line, Rules, Zone
from molmo2_ground.live.update import Update, WatchEvent
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from molmo2_ground.query import Query
from tests.hand_updates import START_NS, look, thing, update

RED = Zone(name="red", polygon=((50, 0), (100, 0), (100, 100), (50, 100)))
GATE = Line(name="gate", start=(50, 100), end=(50, 0))  # drawn upwards: left is "in"
IN, OUT = (80.0, 50.0), (20.0, 50.0)


def stream(**walks: str) -> list[Update]:
    """Updates every 0.1 s, the model looking each time. A letter each: i in RED, o out of it, . not seen."""
    steps = max(map(len, walks.values()))
    made = []
    for step in range(steps):
        places = {
            int(name[1:]): {"i": IN, "o": OUT}[walk[step]]
            for name, walk in walks.items()
            if step < len(walk) and walk[step] != "."
        }
        made.append(update(step / 10, places, looks=True))
    return made


def told(watching: Watching, updates: Sequence[Update]) -> list[tuple[float, WatchEvent]]:
    return [(u.time_s, event) for u in updates for event in watching.take(u)]


def times(watch: Watch, walks: dict[str, str]) -> list[tuple[float, int]]:
    """When the watch told of which thing."""
    watching = Watching([watch], rules=Rules(grace_s=0.3))
    return [(at, event.event.object_id) for at, event in told(watching, stream(**walks))]


WAITS: dict[str, tuple[Watch, dict[str, str], list[tuple[float, int]]]] = {
    "enters": (Watch.enters(RED), {"n1": "ooii"}, [(0.2, 1)]),
    "comes into sight inside": (Watch.enters(RED), {"n1": "oooo", "n2": "..ii"}, [(0.2, 2)]),
    "was inside from the start": (Watch.enters(RED), {"n1": "iiii"}, []),
    "enters twice": (Watch.enters(RED), {"n1": "oioi"}, [(0.1, 1), (0.3, 1)]),
    "has to stay in": (Watch.enters(RED, debounce_s=0.2), {"n1": "oioiiiii"}, [(0.5, 1)]),
    "out for a moment only": (Watch.enters(RED, debounce_s=0.2), {"n1": "oiiiioiiii"}, [(0.3, 1)]),
    "hidden is not staying in": (Watch.enters(RED, debounce_s=0.2), {"n1": "oi......"}, []),
    "cooldown": (Watch.enters(RED, cooldown_s=0.5), {"n1": "oioioioioi"}, [(0.1, 1), (0.7, 1)]),
    "leaves": (Watch.leaves(RED), {"n1": "iioo"}, [(0.2, 1)]),
    "leaves by disappearing": (Watch.leaves(RED), {"n1": "ii......"}, [(0.4, 1)]),
    "hidden within the grace time": (Watch.leaves(RED), {"n1": "ii..ii"}, []),
    "leaves and is back": (Watch.leaves(RED), {"n1": "ii....ii"}, [(0.4, 1)]),
    "has to stay out": (Watch.leaves(RED, debounce_s=0.2), {"n1": "iiioiooooo"}, [(0.7, 1)]),
    "was not in for long enough": (Watch.leaves(RED, debounce_s=0.2), {"n1": "ooioooooo"}, []),
    "crosses both ways": (Watch.crosses(GATE), {"n1": "ooiioo"}, [(0.2, 1), (0.4, 1)]),
    "crosses in": (Watch.crosses(GATE, "in"), {"n1": "ooiioo"}, [(0.4, 1)]),
    "crosses, each its own": (
        Watch.crosses(GATE, debounce_s=1.0), {"n1": "oioi", "n2": "oooi"}, [(0.1, 1), (0.3, 2)],
    ),
    "appears": (Watch.appears(), {"n1": "oooo", "n2": "..oo"}, [(0.2, 2)]),
    "a flash": (Watch.appears(debounce_s=0.2), {"n1": "ooooo", "n2": ".o..."}, []),
    "disappears": (Watch.disappears(), {"n1": "oo......"}, [(0.4, 1)]),
    "stays, once": (Watch.stays(RED, 0.3), {"n1": "iiiiiiii"}, [(0.3, 1)]),
    "a new stay": (Watch.stays(RED, 0.3), {"n1": "iiioiiiiii"}, [(0.7, 1)]),
    "the same stay": (Watch.stays(RED, 0.5, debounce_s=0.2), {"n1": "iiioiiii"}, [(0.5, 1)]),
    "two": (Watch.count_at_least(RED, 2), {"n1": "iiii", "n2": "oioi"}, [(0.1, 2), (0.3, 2)]),
    "two anywhere": (Watch.count_at_least(None, 2), {"n1": "oooo", "n2": "..oo"}, [(0.2, 2)]),
    "one from the start": (Watch.count_at_least(RED, 1), {"n1": "iiii"}, [(0.0, 1)]),
    "lasting two": (
        Watch.count_at_least(RED, 2, debounce_s=0.2), {"n1": "i" * 8, "n2": "oioiiiii"}, [(0.5, 2)],
    ),
    "empty from the start": (Watch.count_at_most(RED, 0), {"n1": "oooo"}, []),
    "empty at last": (Watch.count_at_most(RED, 0), {"n1": "iioo", "n2": "iiio"}, [(0.3, 2)]),
    "a change of shift": (Watch.count_at_most(RED, 0), {"n1": "iio", "n2": "ooi"}, []),
}  # fmt: skip


@pytest.mark.parametrize(("watch", "walks", "expected"), WAITS.values(), ids=WAITS)
def test_what_is_told_when(watch: Watch, walks: dict[str, str], expected: list[tuple[float, int]]) -> None:
    assert times(watch, walks) == expected


def test_an_event_says_what_happened_and_on_which_look_it_rests() -> None:
    watching = Watching([Watch.enters(RED, name="red alert")])
    watching.take(update(0.0, {1: OUT}, looks=True))
    watching.take(update(0.1, {1: OUT}))
    (event,) = watching.take(update(0.2, {1: IN}))
    assert (event.watch, event.question, event.source_index) == ("red alert", "people", 6)
    assert event.stamp_ns == START_NS + 200_000_000
    assert event.receipt_of == START_NS  # the only look so far
    assert event.event.kind == "zone_entered"
    assert (event.event.after_s, event.event.before_s) == (0.1, 0.2)


def test_a_count_is_told_with_what_it_was_and_is() -> None:
    watching = Watching([Watch.count_at_least(None, 2)])
    watching.take(update(0.0, {1: OUT}, looks=True))
    (event,) = watching.take(update(0.1, {1: OUT, 2: IN, 3: IN}))
    assert event.event.kind == "count_changed"
    assert (event.event.zone, event.event.count_before, event.event.count_after) == ("the picture", 1, 3)


def test_a_watch_means_its_question_and_label() -> None:
    def things(place: tuple[float, float]) -> list[object]:
        return [
            thing(1, place, question="people", label="person"),
            thing(2, place, question="cars", label="a car"),
            thing(3, place, question="cars", label="bus"),
        ]

    watches = [
        Watch.enters(RED, name="all"),
        Watch.enters(RED, name="cars", question="cars"),
        Watch.enters(RED, name="Cars", label="Cars"),
    ]
    watching = Watching(watches)
    both = [look(0.0, question="people"), look(0.0, question="cars")]
    watching.take(update(0.0, things(OUT), looks=both))  # type: ignore[arg-type]
    events = watching.take(update(0.1, things(IN)))  # type: ignore[arg-type]
    assert [(e.watch, e.event.object_id) for e in events] == [
        ("all", 2), ("all", 3), ("all", 1), ("cars", 2), ("cars", 3), ("Cars", 2),
    ]  # fmt: skip


def test_a_look_for_one_question_says_nothing_of_the_things_of_another() -> None:
    watching = Watching([Watch.disappears()], rules=Rules(grace_s=0.1))
    car = [thing(1, IN, question="cars")]
    watching.take(update(0.0, car, looks=[look(0.0, question="cars")]))
    for step in range(1, 8):
        assert not watching.take(update(step / 10, [], looks=[look(step / 10, question="people")]))
    (gone,) = watching.take(update(0.8, [], looks=[look(0.8, question="cars")]))
    assert (gone.question, gone.event.time_s, gone.event.before_s) == ("cars", 0.0, 0.8)


def test_a_thing_that_is_only_predicted_is_hidden() -> None:
    watching = Watching([Watch.enters(RED)])
    watching.take(update(0.0, {1: OUT}, looks=True))
    assert not watching.take(update(0.1, [thing(1, IN, state="predicted")]))
    (event,) = watching.take(update(0.2, {1: IN}))
    assert event.event.after_s == 0.0


def test_a_reconnect_is_a_gap() -> None:
    for lost_s, hidden in ((0.4, [True]), (3.0, [])):
        watching = Watching([Watch.crosses(GATE)], rules=Rules(grace_s=1.0))
        watching.take(update(0.0, {1: OUT}, looks=True))
        events = watching.take(update(lost_s, {1: IN}, epoch=9))
        assert [event.event.hidden for event in events] == hidden


def test_when_the_times_begin_anew_what_was_before_is_over() -> None:
    watching = Watching([Watch.disappears(), Watch.count_at_least(None, 1)])
    watching.take(update(50.0, {1: OUT}, looks=True))
    watching.take(update(50.1, {}, looks=True))
    events = watching.take(update(0.0, {1: OUT}, looks=True, epoch=9))
    assert [(e.watch, e.event.time_s) for e in events] == [("disappears", 50.0), ("at least 1", 0.0)]


def test_updates_of_one_time_are_counted_and_change_nothing() -> None:
    watching = Watching([Watch.enters(RED)])
    for time_s, place in ((0.0, OUT), (0.0, IN), (0.0004, IN)):
        assert not watching.take(update(time_s, {1: place}, looks=True))
    assert watching.skipped == 2
    assert len(watching.take(update(0.1, {1: IN}))) == 1


def test_an_answer_that_comes_with_a_skipped_update_counts() -> None:
    watching = Watching([Watch.disappears()], rules=Rules(grace_s=0.1))
    watching.take(update(0.0, {1: OUT}, looks=True))
    watching.take(update(0.2, {}))
    assert not watching.take(update(0.2, {}, looks=True))
    assert len(watching.take(update(0.3, {}))) == 1


def test_at_the_end_what_is_certain_by_it_is_told() -> None:
    watching = Watching([Watch.disappears()])
    watching.take(update(0.0, {1: OUT}, looks=True))
    assert not watching.take(update(0.1, {}, looks=True))
    (event,) = watching.close()
    assert (event.event.time_s, event.stamp_ns) == (0.0, START_NS + 100_000_000)
    assert watching.close() == ()


def test_watches_come_and_go_while_it_runs() -> None:
    watching = Watching([Watch.enters(RED, name="red")])
    with pytest.raises(ValueError, match="there is one called 'red'"):
        watching.add(Watch.appears(name="red"))
    with pytest.raises(ValueError, match="no watch called 'blue'; there are: 'red'"):
        watching.remove("blue")
    watching.take(update(0.0, {1: OUT}, looks=True))
    watching.add(Watch.leaves(RED, name="out"))
    watching.take(update(0.1, {1: IN}))
    watching.remove("red")
    assert [watch.name for watch in watching.watches] == ["out"]
    assert [e.watch for e in watching.take(update(0.2, {1: OUT}))] == ["out"]


def test_a_question_that_is_forgotten_tells_nothing_more() -> None:
    watching = Watching([Watch.count_at_most(None, 0), Watch.disappears()])
    watching.take(update(0.0, {1: OUT}, looks=True))
    watching.forget("people")
    assert not watching.take(update(5.0, {}, looks=[look(5.0, question="cars")]))
    assert not watching.close()


def test_what_the_cooldown_holds_back_is_counted() -> None:
    watching = Watching([Watch.enters(RED, name="red", cooldown_s=9.0)])
    told(watching, stream(n1="oioioi"))
    assert watching.silenced == {"red": 2}


FAR = Zone(name="far", polygon=((500, 0), (600, 0), (600, 100)))
CARS, COUNT = Query.track("the cars."), Query.count("people")


@pytest.mark.parametrize(
    ("watch", "questions", "said"),
    [
        pytest.param(Watch.enters(RED), {"a": CARS}, [], id="what there is"),
        pytest.param(Watch.appears(label="The Car"), {"a": COUNT, "b": CARS}, [], id="another spelling"),
        pytest.param(Watch.appears(question="b"), {"b": CARS}, [], id="of one question"),
        pytest.param(
            Watch.enters(FAR), {"a": CARS}, ["zone 'far' lies outside the picture of 100 x 99"], id="far"
        ),
        pytest.param(
            Watch.crosses(Line(name="kerb", start=(0, -9), end=(90, -9))),
            {"a": CARS},
            ["the line 'kerb'"],
            id="a line above the picture",
        ),
        pytest.param(
            Watch.appears(label="a dog"),
            {"a": CARS},
            ["no question asks for 'a dog'", "'the cars.'"],
            id="a name nobody asks for",
        ),
        pytest.param(
            Watch.appears(question="b", label="cars"),
            {"a": CARS, "b": Query.track("dogs")},
            ["no question asks for 'cars'"],
            id="a name of another question",
        ),
        pytest.param(
            Watch.appears(question="b"), {"a": CARS}, ["no question is called 'b'; there are: 'a'"], id="none"
        ),
        pytest.param(
            Watch.appears(question="b"),
            {"a": CARS, "b": COUNT},
            ["the question 'b' only counts"],
            id="a number",
        ),
        pytest.param(
            Watch.count_at_least(None, 3, label="people"),
            {"people": COUNT},
            ["no question follows anything"],
            id="nothing followed",
        ),
    ],
)
def test_what_speaks_against_a_watch_is_known(
    watch: Watch, questions: dict[str, Query], said: list[str]
) -> None:
    cautions = "; ".join(watch.cautions(questions, size_px=(100, 99)))
    assert [words for words in said if words not in cautions] == []
    assert bool(cautions) == bool(said)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_things_that_pass() -> None:
    watches = [
        Watch.enters(RED),
        Watch.crosses(GATE, debounce_s=0.2),
        Watch.count_at_least(RED, 2),
        Watch.leaves(RED),
    ]
    watching = Watching(watches, rules=Rules(grace_s=0.2))
    for step in range(600):
        number = step // 3
        watching.take(update(step / 10, {number: IN if step % 3 else OUT}, looks=step % 5 == 0))
    for watcher in watching._watchers.values():
        assert len(watcher._things) < 6
        assert len(watcher._crossed_s) < 6
        (finder,) = watcher._finders.values()
        assert finder.remembered < 6
        assert len(finder._looked_s) < 6
