from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.answer import Group, ParsedPoint, format_answer, parse_answer, points_answer, tracks_answer
from molmo2_ground.model.answer_rules import START, AnswerRules, State, Where
from molmo2_ground.runaway import EVEN_STEPS, SAME_PLACE

VIDEO = ("0.0", "0.5", "1.0", "1.5", "10.0")
IMAGES = tuple(str(n) for n in range(1, 13))


def follow(rules: AnswerRules, text: str) -> State | None:
    state: State | None = START
    for char in text:
        assert state is not None
        choices = rules.choices(state)
        after = rules.step(state, char)
        if choices is not None:
            assert (char in choices) == (after is not None), f"{char!r} of {text!r}"
        state = after
        if state is None:
            return None
    return state


def ends(rules: AnswerRules, text: str) -> bool:
    state = follow(rules, text)
    return state is not None and rules.may_end(state)


def points(coords: str) -> str:
    return f'<points coords="{coords}">the dogs</points>'


def tracks(coords: str) -> str:
    return f'<tracks coords="{coords}">the dogs</tracks>'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("There are none.", id="none"),
        pytest.param("3 < 5, and <b>bold</b> </points> <pointsman>", id="prose-is-free"),
        pytest.param("the coords of a place; xcoords=1", id="coords-in-prose"),
        pytest.param("", id="nothing"),
        pytest.param(points("0.0 1 100 200 2 300 400;1.0 3 110 210"), id="points"),
        pytest.param(points("10.0 1 1000 000 2 000 1000"), id="edges"),
        pytest.param(f"Counting the {points('0.5 1 100 200')} shows a total of 1.", id="counted"),
        pytest.param(tracks("0.0 1 031 625;0.5 1 045 625 2 156 156;10.0 2 1000 1000"), id="tracks"),
        pytest.param(tracks("0.0 1 031 625 2 040 100;0.5 2 045 625 1 156 156"), id="ids-in-any-order"),
        pytest.param('<points alt="two dogs, coords" coords="0.0 1 100 200">dogs</points>', id="alt"),
        pytest.param(
            '<points coords="0.0 1 100 200">a < b, <b> and <pointsman</points>', id="angle-in-label"
        ),
        pytest.param(f"{points('0.0 1 100 200')} and {points('0.0 1 100 200')}", id="two-elements"),
        pytest.param(points("0.0 1 100 200 2 100 200 3 101 200;0.5 4 100 200"), id="one-place"),
    ],
)
def test_trained_answers_may_be_written(text: str) -> None:
    assert ends(AnswerRules(VIDEO), text)
    assert not parse_answer(text).rejected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<points coords="0.2', id="time-not-shown"),
        pytest.param('<points coords="00', id="zero-in-front-of-a-time"),
        pytest.param('<points coords="0.5 1 100 200;0', id="time-goes-back"),
        pytest.param('<points coords="1.0 1 100 200;1.0', id="time-again"),
        pytest.param('<points coords="10.0 1 100 200;', id="after-the-last-time"),
        pytest.param('<points coords="0.0 2', id="points-count-from-1"),
        pytest.param('<points coords="0.0 1 100 200;0.5 1', id="points-count-on"),
        pytest.param('<tracks coords="0.0 2', id="tracks-begin-with-1"),
        pytest.param('<tracks coords="0.0 1 100 200 1', id="id-twice"),
        pytest.param('<tracks coords="0.0 1 100 200 3', id="id-left-out"),
        pytest.param('<tracks coords="0.0 0', id="id-zero"),
        pytest.param('<points coords="0.0 1 1001', id="beyond-the-edge"),
        pytest.param('<points coords="0.0 1 10 ', id="two-digits"),
        pytest.param('<points coords="0.0 1 100 2000', id="four-digits"),
        pytest.param('<points coords="0.0 1 100 200" ', id="text-behind-the-quote"),
        pytest.param('<points coords=""', id="no-point"),
        pytest.param('<points coords="0.0 1 100"', id="no-y"),
        pytest.param('<points coords="0.0"', id="no-id"),
        pytest.param('<points coords="0.0 1 100 200;"', id="nothing-behind-the-semicolon"),
        pytest.param("<points>", id="no-coords"),
        pytest.param("<points\n", id="line-break-in-the-tag"),
        pytest.param("<point ", id="singular"),
        pytest.param("<POINTS ", id="upper-case"),
        pytest.param("< tracks ", id="space-in-the-tag"),
        pytest.param("<tracks  ", id="two-spaces"),
        pytest.param("coords=", id="coords-outside"),
        pytest.param("the Coords \n =", id="coords-outside-in-capitals"),
        pytest.param('<points alt="<', id="markup-in-alt"),
        pytest.param('<points alt=">', id="angle-in-alt"),
        pytest.param('<points alt="coords=', id="coords-in-alt"),
        pytest.param('<points coords="0.0 1 100 200">dogs</t', id="closed-by-another-tag"),
        pytest.param('<points coords="0.0 1 100 200">dogs< /', id="closed-with-a-space"),
        pytest.param('<points coords="0.0 1 100 200">dogs<tracks ', id="element-in-a-label"),
        pytest.param('<points coords="0.0 1 100 200">dogs<Points>', id="opener-in-a-label"),
    ],
)
def test_what_no_reader_could_use_may_not(text: str) -> None:
    rules = AnswerRules(VIDEO)
    assert follow(rules, text[:-1]) is not None
    assert follow(rules, text) is None


@pytest.mark.parametrize(
    "text", ["<", "text <poi", "< ", '<points coords="0.0 1 100 200', '<points coords="0.0 1 100 200">dogs']
)
def test_an_answer_does_not_end_in_the_middle(text: str) -> None:
    assert not ends(AnswerRules(VIDEO), text)


def test_images_have_numbers() -> None:
    rules = AnswerRules(IMAGES)
    assert ends(rules, points("1 1 100 200;10 2 300 400;12 3 100 100"))
    assert follow(rules, '<points coords="10 1 100 200;1') is not None  # 11 and 12 begin so
    assert follow(rules, '<points coords="10 1 100 200;1 ') is None
    assert follow(rules, '<points coords="12 1 100 200;') is None
    assert follow(rules, '<points coords="13') is None


def test_without_pictures_there_are_no_places() -> None:
    rules = AnswerRules(())
    assert ends(rules, "There are none. 3 < 5 <pointsman")
    assert follow(rules, "<points ") is None


def test_no_more_than_were_asked_for() -> None:
    rules = AnswerRules(VIDEO, most=2)
    full = '<points coords="0.0 1 100 200 2 300 400'
    for more in (" ", ";"):
        assert follow(rules, full + more) is None
    state = follow(rules, full)
    assert state is not None
    assert "2" in rules.cut(state)
    assert rules.choices(state) == '"'
    assert ends(rules, tracks("0.0 1 100 200 2 300 400;0.5 1 100 200"))
    assert follow(rules, '<tracks coords="0.0 1 100 200 2 300 400 ') is None
    assert follow(rules, '<tracks coords="0.0 1 100 200 2 300 400;0.5 3') is None


def in_one_place(count: int) -> str:
    return ";".join(f"{n / 2:.1f} {n + 1} 500 500" for n in range(count))


def in_a_line(count: int) -> str:
    return "1.0 " + " ".join(f"{n + 1} {15 * n + n // 2:03d} 500" for n in range(count))


@pytest.mark.parametrize(
    ("coords", "rule"),
    [
        pytest.param(in_one_place(SAME_PLACE), "one place", id="one-place"),
        pytest.param(in_one_place(SAME_PLACE - 1), "", id="one-place-less"),
        pytest.param(in_a_line(EVEN_STEPS + 1), "even steps", id="line"),
        pytest.param(in_a_line(EVEN_STEPS), "", id="line-less"),
    ],
)
@pytest.mark.parametrize("name", ["points", "tracks"])
def test_running_in_circles_ends_an_element(name: str, coords: str, rule: str) -> None:
    keys = [f"{n / 2:.1f}" for n in range(100)]
    text = f'<{name} coords="{coords}'
    rules, uncut = AnswerRules(keys), AnswerRules(keys, cut_runaways=False)
    state = follow(rules, text)
    assert state is not None
    assert rule in rules.cut(state)
    assert bool(rules.cut(state)) == bool(rule)
    assert (rules.choices(state) == '"') == bool(rule)
    assert follow(uncut, text + ";") is not None


def test_a_track_may_stand_still() -> None:
    keys = [f"{n / 2:.1f}" for n in range(100)]
    assert ends(AnswerRules(keys), tracks(";".join(f"{key} 1 500 500" for key in keys)))


places = st.tuples(st.integers(0, 1000), st.integers(0, 1000))


@pytest.mark.slow
@given(
    groups=st.dictionaries(
        st.sampled_from([0.0, 0.5, 1.0, 1.5, 10.0]), st.dictionaries(st.integers(1, 9), places, max_size=6)
    ),
    tracked=st.booleans(),
)
def test_every_answer_of_the_training_form_may_be_written(
    groups: dict[float, dict[int, tuple[int, int]]], tracked: bool
) -> None:
    made = [
        Group(key=key, points=tuple(ParsedPoint(object_id=i, x=x, y=y) for i, (x, y) in things.items()))
        for key, things in groups.items()
        if tracked or len(set(things.values())) == len(things)
    ]
    answer = (tracks_answer if tracked else points_answer)("the dogs", made)
    assert ends(AnswerRules(VIDEO), format_answer(answer))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_rules_let_through_is_read_whole(seed: int) -> None:
    """A writer without sense, who only keeps to the rules."""
    draw = random.Random(seed)
    keys = [f"{n / 2:.1f}" for n in range(draw.randint(1, 30))] if seed % 2 else list(IMAGES)
    most = draw.choice([None, 1, 3])
    rules = AnswerRules(keys, most=most, cut_runaways=bool(seed % 3))
    loose = ["<points", "<tracks", " coords", "=", '"', "<", "t", "</", ">", "no ", "c", "\n"]
    state, text = START, ""
    for _ in range(draw.randint(5, 400)):
        choices = rules.choices(state)
        for char in draw.choice(choices) if choices else draw.choice(loose):
            after = rules.step(state, char)
            if after is None:
                break
            state, text = after, text + char
    while not rules.may_end(state):
        to_close = {"": "<", "<": "/"} if state.where is Where.LABEL else {}
        choices = rules.choices(state) or to_close.get(state.read, "x")
        char = '"' if '"' in choices else choices[0]
        after = rules.step(state, char)
        assert after is not None
        state, text = after, text + char
    parsed = parse_answer(text)
    assert (parsed.rejected, parsed.truncated) == ((), False), text
    for element in parsed.elements:
        spelled = [str(group.key) for group in element.groups]
        assert spelled == [key for key in keys if key in spelled]
        assert len({p.object_id for group in element.groups for p in group.points}) <= (most or 10**6)


def test_images_of_one_shelf_may_show_the_same_place() -> None:
    same = ";".join(f"{n + 1} {n + 1} 500 500" for n in range(12))
    assert ends(AnswerRules(IMAGES), points(same))


def test_going_through_the_places_of_a_picture_again_ends_an_element() -> None:
    rules = AnswerRules(VIDEO)
    again = " ".join(f"{n + 1} {100 + n % 2} 500" for n in range(10))
    state = follow(rules, f'<points coords="0.0 {again}')
    assert state is not None
    assert "named again" in rules.cut(state)
    assert rules.choices(state) == '"'
