from __future__ import annotations

import argparse

import pytest

from molmo2_ground._parser import Parser, number_from_1, whole_number


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="tool")
    parser.add_argument("file")
    parser.add_argument("--most", type=whole_number)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["a", "--most", "-1"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "tool: argument --most: expected a whole number of 0 or more; got '-1'; see tool --help\n"
    )


def test_an_option_is_written_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="tool")
    train = parser.add_subparsers().add_parser("train")
    train.add_argument("--rates")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["train", "--rate", "5e-4"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --rate 5e-4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "from_0", "from_1"),
    [
        pytest.param("0", 0, None, id="0"),
        pytest.param("12", 12, 12, id="12"),
        pytest.param("-1", None, None, id="below-0"),
        pytest.param("1.0", None, None, id="fraction"),
        pytest.param("1_000", None, None, id="underscore"),
        pytest.param("٣", None, None, id="digit-of-another-script"),
        pytest.param("", None, None, id="nothing"),
    ],
)
def test_numbers(text: str, from_0: int | None, from_1: int | None) -> None:
    for kind, wanted in ((whole_number, from_0), (number_from_1, from_1)):
        if wanted is None:
            with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of"):
                kind(text)
        else:
            assert kind(text) == wanted
