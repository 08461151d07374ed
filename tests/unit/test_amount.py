"""A number and its noun."""

from __future__ import annotations

import pytest

from molmo2_ground._amount import amount


@pytest.mark.parametrize(
    ("count", "noun", "several", "words"),
    [
        pytest.param(0, "line", "", "0 lines", id="none"),
        pytest.param(1, "line", "", "1 line", id="one"),
        pytest.param(2, "line", "", "2 lines", id="two"),
        pytest.param(12345, "token", "", "12,345 tokens", id="many"),
        pytest.param(1, "medium", "media", "1 medium", id="one-of-its-own-plural"),
        pytest.param(3, "medium", "media", "3 media", id="a-plural-of-its-own"),
    ],
)
def test_the_noun_goes_with_the_number(count: int, noun: str, several: str, words: str) -> None:
    assert amount(count, noun, several=several) == words
