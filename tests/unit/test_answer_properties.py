"""What holds for every answer: round trips, truncation, any string at all, and time linear in its length."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.answer import Group, ParsedAnswer, ParsedPoint, format_answer, parse_answer, tracks_answer

FIXED = settings(derandomize=True, deadline=None, max_examples=60)

Place = tuple[int | float, int, int, int]


def places(parsed: ParsedAnswer) -> list[Place]:
    return [
        (group.key, point.object_id, point.x, point.y)
        for element in parsed.elements
        for group in element.groups
        for point in group.points
    ]


@dataclass(frozen=True)
class Written:
    """An answer in training form, its places in order, and where in the text each place ends."""

    text: str
    places: tuple[Place, ...]
    ends: tuple[int, ...]


WORDS = st.text(alphabet="abc XYZ'.,:;!?5 é", max_size=12)
LABELS = WORDS.map(str.strip)
COORDINATES = st.integers(0, 1000) | st.sampled_from([0, 1, 10, 99, 100, 999, 1000])


@st.composite
def elements(draw: st.DrawFn) -> Written:
    tag = draw(st.sampled_from(["points", "tracks"]))
    if tag == "points" and draw(st.booleans()):
        keys: list[int | float] = list(
            draw(st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True))
        )
    else:
        keys = [n / 10 for n in draw(st.lists(st.integers(0, 9999), min_size=1, max_size=4, unique=True))]
    text = f"<{tag}"
    if draw(st.booleans()):
        text += f' alt="{draw(WORDS)}"'
    text += ' coords="'
    found: list[Place] = []
    ends: list[int] = []
    count = 0
    for number, key in enumerate(sorted(keys)):
        text += f"{';' if number else ''}{key}"
        ids = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True))
        if tag == "points":
            ids = list(range(count + 1, count + len(ids) + 1))
            count += len(ids)
        for object_id in sorted(ids):
            x, y = draw(COORDINATES), draw(COORDINATES)
            text += f" {object_id} {x:03d} {y:03d}"
            found.append((key, object_id, x, y))
            ends.append(len(text))
    text += f'">{draw(LABELS)}</{tag}>'
    return Written(text, tuple(found), tuple(ends))


@st.composite
def answers(draw: st.DrawFn) -> Written:
    form = draw(st.sampled_from(["element", "after", "before", "prose", "none", "number"]))
    if form == "none":
        return Written("There are none.", (), ())
    if form == "number":
        return Written(str(draw(st.integers(0, 500))), (), ())
    if form == "prose":
        text = draw(WORDS)
        found: list[Place] = []
        ends: list[int] = []
        for element in draw(st.lists(elements(), max_size=3)):
            ends += [len(text) + end for end in element.ends]
            found += element.places
            text += element.text + draw(WORDS)
        return Written(text, tuple(found), tuple(ends))
    element = draw(elements())
    before = {"element": "", "after": "Counting the ", "before": f"There are {len(element.places)} "}[form]
    after = {"element": "", "after": f" shows a total of {len(element.places)}.", "before": "."}[form]
    ends = [len(before) + end for end in element.ends]
    return Written(before + element.text + after, element.places, tuple(ends))


@pytest.mark.slow
@FIXED
@given(answers())
def test_every_trained_answer_is_read_and_written_back(answer: Written) -> None:
    parsed = parse_answer(answer.text)
    assert tuple(places(parsed)) == answer.places
    assert parsed.rejected == ()
    assert not parsed.truncated
    assert format_answer(parsed) == answer.text


@pytest.mark.slow
@FIXED
@given(answers())
def test_every_truncation_gives_a_prefix_of_the_points(answer: Written) -> None:
    for length in range(len(answer.text)):
        kept = places(parse_answer(answer.text[:length]))
        assert kept == list(answer.places[: len(kept)])
        # A point is complete when a character follows it.
        assert len(kept) >= sum(end < length for end in answer.ends)


@st.composite
def objects_over_time(draw: st.DrawFn) -> list[Group]:
    times = draw(st.lists(st.integers(0, 200), min_size=1, max_size=5, unique=True))
    return [
        Group(
            key=tenth / 10,
            points=tuple(
                ParsedPoint(object_id=object_id, x=draw(COORDINATES), y=draw(COORDINATES))
                for object_id in draw(st.lists(st.integers(0, 99), max_size=4, unique=True))
            ),
        )
        for tenth in times
    ]


@pytest.mark.slow
@FIXED
@given(objects_over_time())
def test_tracks_written_for_training_keep_who_is_where(groups: list[Group]) -> None:
    answer = tracks_answer("them", groups)
    written = places(parse_answer(format_answer(answer)))
    assert written == places(answer)
    assert [key for key, *_ in written] == sorted(key for key, *_ in written)
    expected: dict[int, set[Place]] = {}
    for group in groups:
        for p in group.points:
            expected.setdefault(p.object_id, set()).add((group.key, 0, p.x, p.y))
    found: dict[int, set[Place]] = {}
    for key, object_id, x, y in written:
        found.setdefault(object_id, set()).add((key, 0, x, y))
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected.values()))
    assert sorted(found) == list(range(1, len(expected) + 1))


FRAGMENTS = [
    *("<points", "<tracks", "<track ", "<POINT", "<", ">", "/>", "</points>", "</tracks>", "</"),
    *(
        ' coords="',
        " coords='",
        "coords=",
        ' alt="',
        '"',
        "'",
        "\\",
        "=",
        "\n",
        "\t",
        " ",
        "  ",
        ";",
        ",",
        ":",
    ),
    *("1", "2", "12", "0.5", "1.0", "1.2.3", "00:05", "0,5", "-1", "7", "50", "031", "100", "200", "1000"),
    *("1 1 100 200", " 2 300 400", "1001", "0500", "99999999999", "²", "١", "\x00", "\ud800", "dog", "x1="),
    *("There are none.", "a total of ", "There are ", "e"),
]


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.text(max_size=60) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_any_string_is_read_and_what_was_read_is_stable(text: str) -> None:
    parsed = parse_answer(text)
    for element in parsed.elements:
        assert 0 <= element.start < element.end <= len(text)
        assert element.groups
    once = format_answer(parsed)
    again = parse_answer(once)
    assert places(again) == [(round(key, 1), *place) for key, *place in places(parsed)]
    assert [(e.tag, e.label, e.alt) for e in again.elements] == [
        (e.tag, e.label, e.alt) for e in parsed.elements
    ]
    assert format_answer(again) == once


OUTSIDE = [
    *("<", "<points ", "<points coords=", '<points coords="">', '<points coords="1 1 100 200"/>', "coords="),
    *('<points coords="1 1 100 200">dog', "<points coords='1 1 100 200' a='", '<points alt="', "alt=", "</"),
    *(
        "</points>",
        "<\t",
        "coords =   ",
        "/ ",
        " ",
        "\n",
        "total of ",
        "there are no ",
        "there are none",
        "9",
    ),
]
INSIDE = [
    *("1 100 200 ", "1 1 100 200;", "1;", "1 1;", "1 ", "a ", "a;", ";", ":", "1", "1:", "1.2.3 ", "1.2.3;"),
    *(
        "0:05 ",
        "1.0 5 5 5 ",
        "1.0 500 500 ",
        "1 1 100 200 ",
        "1 1200 300 ",
        "100 ",
        "100 200 300 400;",
        "1, ",
    ),
    *(
        "031 ",
        "0.5 1.0 ",
        "1 100 2 300 400 3 ",
        ". ",
        "1. ",
        "1,1 ",
        "1:00.0",
        "- ",
        " ",
        "² ",
        "2 2 2 100 100 ",
    ),
]
HOSTILE = {
    **{f"outside {piece!r}": ("", piece, "") for piece in OUTSIDE},
    **{f"inside {piece!r}": ('<points coords="', piece, "") for piece in INSIDE},
    **{f"in a track {piece!r}": ('<tracks coords="1 ', piece, '">dog</tracks>') for piece in INSIDE},
    "number, then space": ("1", " ", "x"),
    "none, then space": ("there are no ", " ", ". x"),
    "space before the tag ends": ('<points coords="1 1 100 200"', " ", "x"),
    "one endless word": ('<points coords="1 ', "x", '"'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_time_in_proportion_to_its_length(name: str) -> None:
    head, piece, tail = HOSTILE[name]

    def cpu_s(characters: int) -> float:
        text = head + piece * (characters // len(piece)) + tail
        start = time.process_time()
        parse_answer(text)
        return time.process_time() - start

    # Four times the text: linear costs 4 times as much, square time 16 times. What takes under a millisecond
    # is below what the clock can compare, and a busy machine gets a second and a third try.
    ratios = (cpu_s(40_000) / max(cpu_s(10_000), 0.001) for _ in range(3))
    assert any(ratio < 8 for ratio in itertools.islice(ratios, 3))
