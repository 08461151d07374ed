from __future__ import annotations

import pytest

from molmo2_ground.eval.words import amount, between, change, percent, question, said, score_words, tag_words

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        pytest.param(0.05, "+5.0", id="more"),
        pytest.param(-0.05, f"{MINUS}5.0", id="less"),
        pytest.param(-0.00001, "0.0", id="no-minus-zero"),
    ],
)
def test_differences_are_points_with_a_sign(shares: float, words: str) -> None:
    assert change(shares) == words


def test_shares_are_percentages() -> None:
    assert percent(0.731) == f"73.1{NBSP}%"
    assert percent(1) == f"100.0{NBSP}%"
    assert between(0.1, 0.25) == f"10.0 to 25.0{NBSP}%"


@pytest.mark.parametrize(
    ("value", "tag", "words"),
    [
        pytest.param(3.0, "objects", "3", id="number"),
        pytest.param(4.5, "clip_s", "4.5 s", id="seconds"),
        pytest.param(63.24, "clip_s", "63 s", id="a-minute"),
        pytest.param(0.00342, "size_share", "0.34 %", id="share"),
        pytest.param(0.000086, "size_share", "0.01 %", id="tiny-share"),
        pytest.param(0.00001, "size_share", "0 %", id="next-to-nothing"),
    ],
)
def test_a_tag_has_two_digits_and_its_unit(value: float, tag: str, words: str) -> None:
    assert amount(value, tag) == words.replace(" ", NBSP)


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        pytest.param("objects", 1.0, "1 object asked for", id="one"),
        pytest.param("objects", 2.0, "2 objects asked for", id="two"),
        pytest.param("category", "motion", "kind of question: motion", id="category"),
        pytest.param("shots", 7.0, "shots: 7", id="unknown"),
    ],
)
def test_tags_are_said_as_words(tag: str, value: str | float, words: str) -> None:
    assert said(tag, value) == words


@pytest.mark.parametrize(
    ("name", "title"),
    [
        pytest.param("hota", "HOTA", id="known"),
        pytest.param("pooled_hota", "HOTA, all together", id="pooled"),
        pytest.param("reference_f1", "F1, as released", id="reference"),
        pytest.param("accuracy_5_9", "Accuracy, 5 to 9", id="bin"),
        pytest.param("accuracy_25_up", "Accuracy, 25 and more", id="last-bin"),
        pytest.param("accuracy_spatial", "Accuracy, spatial", id="category"),
        pytest.param("odd_new_score", "Odd new score", id="unknown"),
    ],
)
def test_scores_have_titles(name: str, title: str) -> None:
    assert score_words(name).title == title


def test_what_is_unknown_is_spelled_out() -> None:
    assert tag_words("camera_motion").title == "Camera motion"
    assert question("track", "the red car") == "Track the red car"
