from __future__ import annotations

import pytest

from molmo2_ground.answer import (
    Element,
    Group,
    GroupSeparator,
    ParsedAnswer,
    ParsedPoint,
    count_answer,
    count_first_answer,
    format_answer,
    none_answer,
    number_answer,
    parse_answer,
    points_answer,
    tracks_answer,
)

# (key, object_id, x, y) in the order of the text
Place = tuple[int | float, int, int, int]


def places(parsed: ParsedAnswer) -> list[Place]:
    return [
        (group.key, point.object_id, point.x, point.y)
        for element in parsed.elements
        for group in element.groups
        for point in group.points
    ]


def group(key: int | float, *points: tuple[int, int, int]) -> Group:
    return Group(key=key, points=tuple(ParsedPoint(object_id=i, x=x, y=y) for i, x, y in points))


TRAINED = [
    pytest.param('<points coords="1 1 100 100">dog</points>', [(1, 1, 100, 100)], id="one-image"),
    pytest.param(
        'Counting the <points coords="1 1 008 062 2 008 969 3 938 031">dog</points> shows a total of 3.',
        [(1, 1, 8, 62), (1, 2, 8, 969), (1, 3, 938, 31)],
        id="count-after-points",
    ),
    pytest.param(
        'There are 2 <points coords="1 1 008 969 2 938 031">dog</points>.',
        [(1, 1, 8, 969), (1, 2, 938, 31)],
        id="count-before-points",
    ),
    pytest.param(
        '<points coords="1 1 100 200;3 2 300 400 3 500 500">cup</points>',
        [(1, 1, 100, 200), (3, 2, 300, 400), (3, 3, 500, 500)],
        id="several-images",
    ),
    pytest.param(
        '<points coords="0.5 1 100 200;12.0 2 300 400 3 500 500">goal</points>',
        [(0.5, 1, 100, 200), (12.0, 2, 300, 400), (12.0, 3, 500, 500)],
        id="video-points",
    ),
    pytest.param(
        '<tracks coords="0.0 1 031 625 2 156 156;1.0 2 172 156;2.0 1 031 625 2 188 156">the player</tracks>',
        [(0.0, 1, 31, 625), (0.0, 2, 156, 156), (1.0, 2, 172, 156), (2.0, 1, 31, 625), (2.0, 2, 188, 156)],
        id="tracks-with-a-gap",
    ),
    pytest.param(
        '<tracks coords="0.0 1 000 156;4.0 1 062 156">car</tracks>',
        [(0.0, 1, 0, 156), (4.0, 1, 62, 156)],
        id="first-and-last",
    ),
    pytest.param(
        '<points coords="1 1 000 000 2 1000 1000">corner</points>',
        [(1, 1, 0, 0), (1, 2, 1000, 1000)],
        id="edges",
    ),
    pytest.param(
        '<points alt="5" nails > 4" coords="1 1 100 200">nails</points>', [(1, 1, 100, 200)], id="alt"
    ),
    pytest.param(
        'The <points coords="1 1 100 200">cat</points> sits left of the '
        '<points coords="1 1 300 400 2 500 600">two dogs</points>.\nBoth sleep.',
        [(1, 1, 100, 200), (1, 1, 300, 400), (1, 2, 500, 600)],
        id="in-prose",
    ),
    pytest.param("There are none.", [], id="none"),
    pytest.param("17", [], id="number-only"),
    pytest.param("A street with 3 cars, seen at 0.5 s.", [], id="prose-only"),
    pytest.param("", [], id="empty"),
]


@pytest.mark.parametrize(("text", "expected"), TRAINED)
def test_trained_form_is_read_without_loss_and_written_as_it_was(text: str, expected: list[Place]) -> None:
    parsed = parse_answer(text)
    assert places(parsed) == expected
    assert parsed.rejected == ()
    assert not parsed.truncated
    assert format_answer(parsed) == text


def in_points(coords: str) -> str:
    return f'<points coords="{coords}">dog</points>'


# Forms that models write although they were trained on others; read without loss.
TOLERATED = [
    pytest.param("<points coords='1 1 100 200'>dog</points>", [(1, 1, 100, 200)], id="single-quotes"),
    pytest.param('<points coords=\\"1 1 100 200\\">dog</points>', [(1, 1, 100, 200)], id="escaped-quotes"),
    pytest.param("<points coords=1 1 100 200>dog</points>", [(1, 1, 100, 200)], id="no-quotes"),
    pytest.param('<points coords="1 1 100 200>dog</points> "so"', [(1, 1, 100, 200)], id="one-quote"),
    pytest.param('<points coords="1 1 100 200"/>', [(1, 1, 100, 200)], id="self-closed"),
    pytest.param('<points coords="1 1 100 200" />', [(1, 1, 100, 200)], id="self-closed-space"),
    pytest.param('<point coords="1 1 100 200">dog</point>', [(1, 1, 100, 200)], id="singular-points"),
    pytest.param('<track coords="0.5 1 100 200">dog</track>', [(0.5, 1, 100, 200)], id="singular-track"),
    pytest.param('<tracks coords="0.5 1 100 200">dog</points>', [(0.5, 1, 100, 200)], id="other-closer"),
    pytest.param('<POINTS COORDS="1 1 100 200">dog</POINTS>', [(1, 1, 100, 200)], id="upper-case"),
    pytest.param('<points\n coords="1 1 100 200">dog</points>', [(1, 1, 100, 200)], id="newline-before"),
    pytest.param('<points coords = "1 1 100 200">dog</points>', [(1, 1, 100, 200)], id="spaces-around-="),
    pytest.param('<points coords="1 1 100 200" alt="a">dog</points>', [(1, 1, 100, 200)], id="alt-after"),
    pytest.param('<points coords="1 1 100 200">dog\nMore.', [(1, 1, 100, 200)], id="never-closed"),
    pytest.param(in_points("  1  1  100\n200 "), [(1, 1, 100, 200)], id="odd-space"),
    pytest.param(
        in_points("0.5 1 100 200\t1.0 2 300 400"), [(0.5, 1, 100, 200), (1.0, 2, 300, 400)], id="tab"
    ),
    pytest.param(in_points("1 1 100 200,2 2 300 400"), [(1, 1, 100, 200), (2, 2, 300, 400)], id="comma"),
    pytest.param(in_points("1 1 100 200:12 2 300 400"), [(1, 1, 100, 200), (12, 2, 300, 400)], id="colon"),
    pytest.param(
        in_points("1 1 100 200 ; 2 2 300 400;"), [(1, 1, 100, 200), (2, 2, 300, 400)], id="; at-end"
    ),
    pytest.param(
        in_points("0.5: 1 100 200;1.0: 2 300 400"), [(0.5, 1, 100, 200), (1.0, 2, 300, 400)], id="t:"
    ),
    pytest.param(
        in_points("0.5 1 100 200 1.0 2 300 400"), [(0.5, 1, 100, 200), (1.0, 2, 300, 400)], id="no-separator"
    ),
    pytest.param(
        in_points("1 1 100 200 2 2 300 400"), [(1, 1, 100, 200), (2, 2, 300, 400)], id="no-separator-image"
    ),
    pytest.param(
        in_points("00:05 1 100 200;01:05.5 2 300 400;1:00:01 3 500 600"),
        [(5.0, 1, 100, 200), (65.5, 2, 300, 400), (3601.0, 3, 500, 600)],
        id="clock",
    ),
    pytest.param(
        in_points("0.5 1 100 200 00:05 2 300 400"),
        [(0.5, 1, 100, 200), (5.0, 2, 300, 400)],
        id="clock-no-separator",
    ),
    pytest.param(in_points("1 1 0500 0001"), [(1, 1, 500, 1)], id="zero-in-front"),
    pytest.param(
        '<tracks coords="1.0 1 100 200;0.5 1 300 400">dog</tracks>',
        [(1.0, 1, 100, 200), (0.5, 1, 300, 400)],
        id="times-out-of-order",
    ),
    pytest.param(
        in_points("1 1 100 200 1 300 400"), [(1, 1, 100, 200), (1, 1, 300, 400)], id="points-share-an-id"
    ),
    pytest.param(in_points("1 321 100 200"), [(1, 321, 100, 200)], id="large-id"),
]


@pytest.mark.parametrize(("text", "expected"), TOLERATED)
def test_untrained_forms_are_read_without_loss(text: str, expected: list[Place]) -> None:
    parsed = parse_answer(text)
    assert places(parsed) == expected
    assert parsed.rejected == ()
    assert [element.label for element in parsed.elements] in (["dog"], [""])
    assert not parsed.truncated


LEFT_OUT = [
    pytest.param("1 1 1001 200 2 100 200", [(1, 2, 100, 200)], "1 1001 200", "out of range", id="x-1001"),
    pytest.param("1 1 100 1250 2 100 200", [(1, 2, 100, 200)], "1 100 1250", "y is out of", id="y-1250"),
    pytest.param("1 1 50 200 2 100 200", [(1, 2, 100, 200)], "1 50 200", "digits", id="two-digits"),
    pytest.param("1 1 00500 200 2 100 200", [(1, 2, 100, 200)], "1 00500 200", "digits", id="five-digits"),
    pytest.param("1 1 10.5 200 2 100 200", [(1, 2, 100, 200)], "1 10.5 200", "decimal", id="decimal"),
    pytest.param("1 1 -10 200 2 100 200", [(1, 2, 100, 200)], "1 -10 200", "out of range", id="negative"),
    pytest.param("1 1 100 2OO 2 100 200", [(1, 2, 100, 200)], "1 100 2OO", "not a number", id="letters"),
    pytest.param("1 foo 1 100 200", [(1, 1, 100, 200)], "foo", "not part of", id="word-between"),
    pytest.param("1 1 100 2 300 400", [(1, 2, 300, 400)], "1 100", "needs an object id", id="y-missing"),
    pytest.param("1 1 2 300 400", [(1, 2, 300, 400)], "1", "needs an object id", id="x-and-y-missing"),
    pytest.param("1 1 100 200 2 300", [(1, 1, 100, 200)], "2 300", "needs an object id", id="half-point"),
    pytest.param(
        "0.5 1 100 200 2 300 1.0 3 500 600",
        [(0.5, 1, 100, 200), (1.0, 3, 500, 600)],
        "2 300",
        "needs an object id",
        id="half-point-then-time",
    ),
    pytest.param("12 100 200;1 1 100 200", [(1, 1, 100, 200)], "100 200", "no object id", id="no-id"),
    pytest.param("1 100 200 300 400", [], "100 200 300 400", "no object id", id="no-ids"),
    pytest.param("1 031 625 156 156 172 156", [], "031 625 156 156 172 156", "no object id", id="padded-id"),
    pytest.param(
        "1.2.3 1 100 200;2.0 2 300 400", [(2.0, 2, 300, 400)], "1.2.3 1 100 200", "time", id="1.2.3"
    ),
    pytest.param(
        "0.5 1 100 200 1.2.3 2 300 400",
        [(0.5, 1, 100, 200)],
        "1.2.3 2 300 400",
        "time",
        id="1.2.3-unseparated",
    ),
    pytest.param("0,5 1 100 200;2.0 2 300 400", [(2.0, 2, 300, 400)], "0,5 1 100 200", "time", id="0,5"),
    pytest.param("x=1 1 100 200;2 2 300 400", [(2, 2, 300, 400)], "x=1 1 100 200", "time", id="word-for-key"),
    pytest.param("0.5;1.0 1 100 200", [(1.0, 1, 100, 200)], "0.5", "no point follows", id="key-alone"),
    pytest.param("1 1 100 200 1 100 200", [(1, 1, 100, 200)], "1 100 200", "before", id="repeat"),
    pytest.param("1 1 ١٢٣ 200 2 100 200", [(1, 2, 100, 200)], "1 ١٢٣ 200", "not a number", id="other-digits"),
    pytest.param("1 1 100 200 " + "9" * 5000, [(1, 1, 100, 200)], "9" * 200 + "…", "not part", id="endless"),
    pytest.param("9" * 5000 + " 1 100 200;1 1 100 200", [(1, 1, 100, 200)], "999", "time", id="endless-key"),
]


@pytest.mark.parametrize(("coords", "expected", "text", "reason"), LEFT_OUT)
def test_what_is_left_out_is_reported_with_its_reason(
    coords: str, expected: list[Place], text: str, reason: str
) -> None:
    parsed = parse_answer(in_points(coords))
    assert places(parsed) == expected
    assert len(parsed.rejected) == 1
    assert parsed.rejected[0].text.startswith(text)
    assert reason in parsed.rejected[0].reason
    assert not parsed.truncated


def test_an_object_has_one_place_at_a_time() -> None:
    parsed = parse_answer('<tracks coords="0.0 1 100 200 1 300 400 2 500 600;0.0 2 700 800">dog</tracks>')
    assert places(parsed) == [(0.0, 1, 100, 200), (0.0, 2, 500, 600)]
    assert [piece.text for piece in parsed.rejected] == ["1 300 400", "2 700 800"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param('<points x="10" y="20">dog</points>', "the tag has no coords", id="no-coords"),
        pytest.param('<points coords="">dog</points>', "the tag has no point", id="empty-coords"),
        pytest.param('see coords="1 1 100 200"', "coords outside of", id="no-tag"),
    ],
)
def test_markup_without_a_point_is_no_element_and_is_reported(text: str, reason: str) -> None:
    parsed = parse_answer(text)
    assert parsed.elements == ()
    assert len(parsed.rejected) == 1
    assert reason in parsed.rejected[0].reason
    assert format_answer(parsed) == text


def test_text_between_coords_and_the_end_of_the_tag_is_reported() -> None:
    parsed = parse_answer('<points coords="1 1 100 200" 2 300 400">dog</points>')
    assert places(parsed) == [(1, 1, 100, 200)]
    assert [piece.text for piece in parsed.rejected] == [' 2 300 400"']
    assert parsed.elements[0].label == "dog"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('<points coords="1 1 100 200 2 300 40', [(1, 1, 100, 200)], id="digits-missing"),
        pytest.param('<points coords="1 1 100 200 2 300 100', [(1, 1, 100, 200)], id="100-may-become-1000"),
        pytest.param(
            '<points coords="1 1 100 200 2 300 101', [(1, 1, 100, 200), (1, 2, 300, 101)], id="full"
        ),
        pytest.param('<points coords="1 1 100 1000', [(1, 1, 100, 1000)], id="1000"),
        pytest.param('<points coords="1 1 100 100 ', [(1, 1, 100, 100)], id="space-after-100"),
        pytest.param('<points coords="1 1 100 200;', [(1, 1, 100, 200)], id="separator"),
        pytest.param('<points coords="1 1 100 200;2', [(1, 1, 100, 200)], id="key"),
        pytest.param('<points coords="1 1 100 100"', [(1, 1, 100, 100)], id="quote"),
        pytest.param('<points coords="1 1 100 200">do', [(1, 1, 100, 200)], id="label"),
        pytest.param('<points coords="1 1 100 200">dog</poi', [(1, 1, 100, 200)], id="closer"),
        pytest.param("<points coor", [], id="attribute"),
        pytest.param("Counting the <poin", [], id="tag"),
        pytest.param("Counting the <", [], id="angle"),
    ],
)
def test_a_cut_answer_gives_the_points_that_are_surely_complete(text: str, expected: list[Place]) -> None:
    parsed = parse_answer(text)
    assert places(parsed) == expected
    assert parsed.truncated
    assert all(element.label in ("", "do", "dog") for element in parsed.elements)


@pytest.mark.parametrize(
    ("text", "stated", "none"),
    [
        pytest.param(
            'Counting the <points coords="1 1 100 200">a</points> shows a total of 3.', 3, False, id="of"
        ),
        pytest.param('There are 2 <points coords="1 1 100 200">a</points>.', 2, False, id="there-are"),
        pytest.param("There are 4 buses.", 4, False, id="sentence"),
        pytest.param("There are 1,234 buses.", 1234, False, id="thousands"),
        pytest.param("A total of 12,000.", 12000, False, id="thousands-and-a-stop"),
        pytest.param("A total of 1,000,000 cars.", 1000000, False, id="a-million"),
        pytest.param("There are 3.5 buses.", None, False, id="part-of-a-number"),
        pytest.param("There are 2,5 buses.", None, False, id="decimal-comma"),
        pytest.param("1,2345", None, False, id="commas-elsewhere"),
        pytest.param("There are no more than 5 buses.", None, False, id="at-most"),
        pytest.param("There are no fewer than 3 buses", None, False, id="at-least"),
        pytest.param("There are no more buses.", None, True, id="no-more"),
        pytest.param("There is 1 bus in the video.", 1, False, id="singular"),
        pytest.param(" 12.\n", 12, False, id="number"),
        pytest.param("0", 0, False, id="zero"),
        pytest.param("12 monkeys", None, False, id="not-a-number-alone"),
        pytest.param("a total of " + "9" * 5000, None, False, id="endless"),
        pytest.param("There are none.", None, True, id="none"),
        pytest.param("there is none", None, True, id="none-lower"),
        pytest.param("No tracks available.", None, True, id="no-tracks"),
        pytest.param("There are no cars in the video.", None, True, id="no-cars"),
        pytest.param("There are no cars. A bus stops.", None, False, id="no-cars-but-more"),
        pytest.param(
            'There are none. <points coords="1 1 100 200">a</points>', None, False, id="but-a-point"
        ),
        pytest.param("Sorry, I can't count cars.", None, False, id="refusal"),
    ],
)
def test_numbers_and_none_in_words(text: str, stated: int | None, none: bool) -> None:
    parsed = parse_answer(text)
    assert (parsed.stated_count, parsed.says_none) == (stated, none)


def test_elements_say_where_they_stand() -> None:
    text = 'A <points coords="1 1 100 200">cat</points> and <track coords="0.5 1 100 200"/>.'
    parsed = parse_answer(text)
    assert [text[e.start : e.end] for e in parsed.elements] == [
        '<points coords="1 1 100 200">cat</points>',
        '<track coords="0.5 1 100 200"/>',
    ]
    assert parsed.prose == ("A ", " and ", ".")


def test_the_alt_text_is_kept() -> None:
    for text in (
        '<points alt="a cat" coords="1 1 100 200"/>',
        "<points coords=\"1 1 100 200\" alt='a cat'/>",
    ):
        assert parse_answer(text).elements[0].alt == "a cat"


def test_after_very_many_slips_well_formed_groups_are_still_read() -> None:
    noise = "1 " + "1 7 7 " * 2000
    parsed = parse_answer(in_points(f"1 1 100 200;{noise};2.5 2 300 400 3 500 600;{noise};3.0 4 700 800"))
    assert places(parsed) == [(1, 1, 100, 200), (2.5, 2, 300, 400), (2.5, 3, 500, 600), (3.0, 4, 700, 800)]
    assert "after 1000 slips" in parsed.rejected[-1].reason


# Writing


def test_points_are_written_in_training_order() -> None:
    answer = points_answer(
        "cup", [group(3, (9, 500, 500), (9, 300, 900), (9, 300, 400)), group(1, (1, 100, 200)), group(2)]
    )
    assert format_answer(answer) == (
        '<points coords="1 1 100 200;3 2 300 400 3 300 900 4 500 500">cup</points>'
    )
    assert answer == parse_answer(format_answer(answer))


def test_tracks_number_objects_as_they_appear() -> None:
    answer = tracks_answer(
        " the player ",
        [
            group(1.0, (30, 1, 1), (10, 900, 0)),
            group(0.5, (20, 500, 5), (10, 8, 1000)),
            group(0.0),
        ],
    )
    assert format_answer(answer) == (
        '<tracks coords="0.5 1 008 1000 2 500 005;1.0 1 900 000 3 001 001">the player</tracks>'
    )


def test_counts_state_the_number_of_points() -> None:
    answer = count_answer("dogs", [group(0.5, (1, 100, 200)), group(1.0, (1, 100, 200))])
    assert format_answer(answer) == (
        'Counting the <points coords="0.5 1 100 200;1.0 2 100 200">dogs</points> shows a total of 2.'
    )
    assert answer.stated_count == 2


def test_a_count_may_stand_before_its_points() -> None:
    answer = count_first_answer("dogs", [group(1.0, (9, 100, 200)), group(0.5, (4, 300, 200), (5, 100, 200))])
    text = 'There are 3 <points coords="0.5 1 100 200 2 300 200;1.0 3 100 200">dogs</points>.'
    assert format_answer(answer) == text
    assert answer == parse_answer(text)
    assert answer.stated_count == 3


def test_a_count_may_stand_alone() -> None:
    assert format_answer(number_answer(12)) == "12"
    assert number_answer(12) == parse_answer("12")
    assert number_answer(12).stated_count == 12
    with pytest.raises(ValueError, match="0 or more"):
        number_answer(-1)


def test_nothing_to_point_to_is_said_in_words() -> None:
    for answer in (
        points_answer("a", []),
        tracks_answer("a", [group(0.0)]),
        count_answer("a", []),
        count_first_answer("a", []),
        number_answer(0),
        none_answer(),
    ):
        assert format_answer(answer) == "There are none."
        assert answer.says_none


def test_times_are_written_in_tenths() -> None:
    answer = points_answer("a", [group(0.25, (1, 1, 2)), group(10.04, (1, 1, 2)), group(0.35, (1, 1, 2))])
    assert [g.key for g in answer.elements[0].groups] == [0.2, 0.3, 10.0]


@pytest.mark.parametrize(
    ("build", "why"),
    [
        pytest.param(
            lambda: points_answer("a</points>b", [group(1, (1, 1, 2))]), "markup", id="closing-label"
        ),
        pytest.param(lambda: points_answer("<points>", [group(1, (1, 1, 2))]), "reads", id="opening-label"),
        pytest.param(
            lambda: points_answer("a", [group(1, (1, 1, 2)), group(1, (1, 1, 2))]), "twice", id="key"
        ),
        pytest.param(lambda: tracks_answer("a", [group(0.5, (1, 1, 2), (1, 3, 4))]), "already", id="object"),
        pytest.param(
            lambda: tracks_answer("a", [group(3.0, (1, 1, 2)), group(3.01, (1, 3, 4))]), "already", id="tenth"
        ),
        pytest.param(lambda: group(1, (1, 1001, 2)), "0 to 1000", id="x-too-large"),
        pytest.param(lambda: group(1, (1, 0, -1)), "0 to 1000", id="y-negative"),
        pytest.param(lambda: group(1, (-1, 0, 0)), "object id", id="id-negative"),
        pytest.param(
            lambda: format_answer(ParsedAnswer(elements=(), prose=("a", "b"))), "pieces of prose", id="prose"
        ),
    ],
)
def test_what_cannot_be_written_is_refused(build: object, why: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=why):
        build()


def test_without_prose_the_usual_sentence_is_written() -> None:
    element = Element(tag="points", label="dog", groups=(group(1, (1, 8, 62)),))
    written = '<points coords="1 1 008 062">dog</points>'
    assert format_answer(ParsedAnswer(elements=(element,))) == written
    assert format_answer(ParsedAnswer(elements=(element,), stated_count=1)) == (
        f"Counting the {written} shows a total of 1."
    )
    assert format_answer(ParsedAnswer(stated_count=7)) == "7"
    assert format_answer(ParsedAnswer(says_none=True)) == "There are none."


def test_the_tab_form_reads_the_same() -> None:
    answer = points_answer("a", [group(0.5, (1, 1, 2)), group(1.0, (1, 3, 4))])
    tabbed = format_answer(answer, separator=GroupSeparator.TAB)
    assert tabbed == '<points coords="0.5 1 001 002\t1.0 2 003 004">a</points>'
    assert parse_answer(tabbed) == answer
