from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from molmo2_ground.errors import AnswerError, SourceError
from molmo2_ground.eval.predictions import (
    Prediction,
    PredictionFile,
    asked_digest,
    code_digest,
    located,
    prediction_of,
    read_predictions,
)
from molmo2_ground.query import Query
from molmo2_ground.replay import derive
from molmo2_ground.results import Points, Tracks
from tests.fake_suite import FakeSuite
from tests.found import receipt

TEXT = '<points coords="1 1 250 500">mug</points>'
ANSWERED = Prediction(
    key="a",
    asked="1111",
    receipt=receipt(task="point", raw_text=TEXT, fps=None).model_copy(update={"frame_source_indices": (0,)}),
)
UNREADABLE = Prediction(key="b", asked="2222", text="hm \ud83d \u2028 \n", reason="nothing in it")


@pytest.mark.parametrize(
    "prediction", [pytest.param(ANSWERED, id="read"), pytest.param(UNREADABLE, id="not")]
)
def test_a_line_is_read_as_it_was_written(prediction: Prediction) -> None:
    line = prediction.line()
    assert line.count(b"\n") == 1
    assert prediction_of(line) == prediction


def test_the_result_is_read_from_the_receipt() -> None:
    result = ANSWERED.result()
    assert isinstance(result, Points)
    assert result.xy_px.tolist() == [[160.0, 180.0]]
    assert result == derive(
        receipt(task="point", raw_text=TEXT, fps=None, looked_s=()).model_copy(
            update={"frame_source_indices": (0,)}
        )
    )
    assert UNREADABLE.result() is None


@pytest.mark.parametrize(
    ("text", "times_s"),
    [
        pytest.param('<tracks coords="0.5 1 250 500">mug</tracks>', [0.5], id="tracks"),
        pytest.param('<points coords="0.5 1 250 500">mug</points>', [0.5], id="points stand for tracks"),
        pytest.param("There are none.", [], id="none"),
    ],
)
def test_free_text_is_read_as_tracks(text: str, times_s: list[float]) -> None:
    asked = receipt(task="ask", raw_text=text, looked_s=(0.0, 0.5))
    result = located(derive(asked))
    assert isinstance(result, Tracks)
    assert [sample.time_s for track in result for sample in track.samples] == times_s
    assert Prediction(key="a", asked="1", receipt=asked).result() == result


def test_free_text_without_places_is_no_answer() -> None:
    with pytest.raises(AnswerError):
        located(derive(receipt(task="ask", raw_text="A lovely street.")))


def test_what_was_added_is_there_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    for prediction in (ANSWERED, UNREADABLE):
        with PredictionFile(path) as file:
            file.add(prediction)
    assert list(read_predictions(path).values()) == [ANSWERED, UNREADABLE]


def test_no_file_holds_no_answers(tmp_path: Path) -> None:
    assert read_predictions(tmp_path / "nothing.jsonl") == {}


@pytest.mark.parametrize("kept_bytes", [1, 10, len(UNREADABLE.line()) - 1])
def test_a_torn_last_line_is_left_out_and_cut_off(kept_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(ANSWERED.line() + UNREADABLE.line()[:kept_bytes])
    assert list(read_predictions(path)) == ["1111"]
    with PredictionFile(path) as file:
        file.add(UNREADABLE)
    assert path.read_bytes() == ANSWERED.line() + UNREADABLE.line()


def test_a_file_of_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b"x" * 200_000)
    PredictionFile(path).close()
    assert path.read_bytes() == b""


def test_a_broken_line_in_the_middle_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(ANSWERED.line() + b'{"key": 3}\n' + b"\xff\n" + UNREADABLE.line())
    assert list(read_predictions(path)) == ["1111", "2222"]
    assert [record.message.partition(" cannot")[0] for record in caplog.records] == [
        f"{path}, line 2",
        f"{path}, line 3",
    ]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with PredictionFile(path), pytest.raises(SourceError, match="another evaluation is writing"):
        PredictionFile(path)
    PredictionFile(path).close()


def test_an_answer_is_filed_under_all_that_it_depends_on() -> None:
    suite = FakeSuite(count=2)
    example = suite.examples()[0]

    def digest(**changes: object) -> str:
        fields = {"suite": "fake", "settings": suite.settings, "identity": "m", "threads": 1} | changes
        return asked_digest(fields.pop("example", example), **fields)  # type: ignore[arg-type]

    others = [
        digest(suite="other"),
        digest(settings=dataclasses.replace(suite.settings, max_frames=4)),
        digest(identity="n"),
        digest(threads=2),
        digest(example=dataclasses.replace(example, query=Query.point("the <yellow> square", max_objects=1))),
        digest(example=dataclasses.replace(example, key="other")),
    ]
    assert len({digest(), *others}) == 7
    # A note is for people, and a dataset may be moved to another folder.
    assert digest(settings=dataclasses.replace(suite.settings, note="else")) == digest()
    assert digest(example=dataclasses.replace(example, media=Path("/elsewhere") / example.media)) == digest()
    assert len(code_digest()) == 12
