"""The command line with a random checkpoint in the released layout: it loads by path and answers nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molmo2_ground._cli_doctor import examine
from molmo2_ground.cli import main
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint
from tests.media import Shelf, constant_rate


@pytest.fixture(scope="module", params=["qwen", "olmo"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: Kind = request.param
    return write_random_checkpoint(tmp_path_factory.mktemp(kind), kind=kind)


@pytest.mark.slow
def test_ask_gives_whatever_it_says(
    checkpoint: Path, media: Shelf, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "ask",
        str(media(constant_rate)),
        "What?",
        "--model",
        str(checkpoint),
        "--max-new-tokens",
        "8",
    ]
    assert main([*arguments, "--json", "-", "--quiet"]) == 0
    out, err = capfd.readouterr()
    receipt = json.loads(out)["receipt"]
    assert receipt["model_id"] == str(checkpoint)
    assert (receipt["tokens_out"], receipt["stop_reason"]) == (8, "length")
    assert set(receipt["timings_ms"]) == {"decode", "preprocess", "vision", "prefill", "decode_text"}
    assert err == ""


@pytest.mark.slow
def test_nonsense_is_an_unreadable_answer_not_a_crash(
    checkpoint: Path, media: Shelf, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["track", str(media(constant_rate)), "the red car", "--model", str(checkpoint)]
    assert main([*arguments, "--max-new-tokens", "8", "--quiet"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "before a place could be read" in err


@pytest.mark.slow
def test_memory_is_told_before_it_is_taken(
    checkpoint: Path, media: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    main(["ask", str(media(constant_rate)), "?", "--model", str(checkpoint), "--max-new-tokens", "1"])
    assert "million parameters" in caplog.text


@pytest.mark.slow
def test_doctor_finds_it_equal_to_the_library(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    examine(str(checkpoint))
    parity = [line for line in capfd.readouterr().out.splitlines() if line.split()[1] == "parity"]
    assert len(parity) == 1
    assert parity[0].startswith("ok")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "config.json").unlink(), id="no-config"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{"), id="half-a-config"),
    ],
)
def test_a_damaged_checkpoint_exits_1_and_names_the_file(
    damage: object, media: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_random_checkpoint(tmp_path / "model", kind="qwen")
    damage(folder)  # type: ignore[operator]
    assert main(["track", str(media(constant_rate)), "a", "--model", str(folder)]) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "config.json" in err


def test_a_model_that_is_nowhere_exits_1(
    media: Shelf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(media(constant_rate)), "a", "--model", str(tmp_path / "nothing")]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1
