"""The card's figures: the suite's own, under the card's names."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.eval.candidate import Candidate
from molmo2_ground.eval.example import Example, Settings
from molmo2_ground.eval.record import Card, Figure, Row, Run
from molmo2_ground.grounder import Grounder
from molmo2_ground.thousandths import spell_coordinate, spell_seconds, to_thousandths
from molmo2_ground.train.toy_score import (
    CARD,
    CARD_TASKS,
    card_figures,
    figures,
    group_figures,
    main,
    score,
    toy_suite,
)
from molmo2_ground.train.toy_suite import ToySuite
from molmo2_ground.train.toy_tasks import FIRST_SEED, ToyTasks

CLIPS = 2


def _scripted(answers: Sequence[str], settings: Settings) -> Grounder:
    return Grounder(ScriptedBackend(answers))


def candidate(answers: Sequence[str]) -> Candidate:
    return Candidate(name="scripted", identity="scripted", load=functools.partial(_scripted, answers))


def exact_answer(example: Example) -> str:
    """What a model that makes no mistake writes."""
    width_px, height_px = example.truth.size_px
    groups: dict[str, list[str]] = {}
    for number, item in enumerate(example.truth.objects, start=1):
        for frame in item.frames if example.query.task in ("track", "ask") else item.frames[:1]:
            assert frame.xy_px is not None
            assert frame.time_s is not None
            x, y = (
                to_thousandths(at, side) for at, side in zip(frame.xy_px, (width_px, height_px), strict=True)
            )
            place = f"{number} {spell_coordinate(x)} {spell_coordinate(y)}"
            groups.setdefault(spell_seconds(frame.time_s), []).append(place)
    if not groups:
        return "There are none."
    coords = ";".join(f"{key} {' '.join(groups[key])}" for key in sorted(groups, key=float))
    tag = "tracks" if example.query.task in ("track", "ask") else "points"
    return f'<{tag} coords="{coords}">it</{tag}>'


EXACT = [exact_answer(example) for example in ToySuite(CLIPS).examples()]
NONE = ["There are none."] * len(EXACT)
# One short clip: its nine questions are seen at the half seconds of the truth.
EXACT_TASKS = [exact_answer(example) for example in ToyTasks(1).examples()]


@pytest.fixture(scope="module")
def exact() -> Run:
    return score(candidate(EXACT), clips=CLIPS)


def test_exact_answers_score_one(exact: Run) -> None:
    found = figures(exact)
    assert list(found)[: len(CARD)] == list(CARD)
    assert {value for value in found.values() if value is not None} == {1.0}
    assert found["track_f1"] == found["hota"] == found["not_none"] == 1.0


@pytest.mark.slow
def test_saying_none_to_everything_finds_nothing() -> None:
    found = figures(score(candidate(NONE), clips=CLIPS))
    assert found["not_none"] == 0.0
    assert found["point_f1"] in (0.0, None)
    assert found["identity"] is None


def test_the_figures_are_those_of_the_suite(exact: Run) -> None:
    suite = ToySuite(CLIPS)
    summary = suite.summary([row.scores for row in exact.rows])
    assert figures(exact) == {name: summary.get(own) for name, own in (*CARD.items(), ("hota", "hota"))}


def row(index: int, task: str, category: str, **scores: float) -> Row:
    return Row(
        index=index,
        key=str(index),
        media=f"{index}.mp4",
        task=task,
        phrase="it",
        status="answered",
        asked="",
        scores=scores,
        tags={"category": category},
    )


def run_of(*rows: Row, headline: tuple[str, ...]) -> Run:
    card = Card(
        suite="toy",
        headline=headline,
        settings=Settings(),
        model="m",
        identity="m",
        threads=1,
        code="",
        versions={},
    )
    names = dict.fromkeys(name for one in rows for name in one.scores)
    found = [
        Figure(name=name, value=sum(v) / len(v), low=0, high=1, examples=len(v))
        for name in names
        if (v := [one.scores[name] for one in rows if name in one.scores])
    ]
    return Run(folder=Path("out"), card=card, rows=rows, figures=tuple(found))


def test_a_new_kind_of_question_is_there_without_a_word_here() -> None:
    run = run_of(
        row(0, "track", "by colour", track_f1=1.0),
        row(1, "track", "by colour", track_f1=0.5),
        row(2, "track", "by motion", track_f1=0.25),
        row(3, "ground", "first and last", ends_f1=0.5),
        row(4, "track", "not there", none=1.0),
        headline=("track_f1", "ends_f1", "none"),
    )
    groups = [(g.task, g.category, g.score, g.value, g.examples) for g in group_figures(run)]
    assert groups == [
        ("ground", "first and last", "ends_f1", 0.5, 1),
        ("track", "by colour", "track_f1", 0.75, 2),
        ("track", "by motion", "track_f1", 0.25, 1),
        ("track", "not there", "none", 1.0, 1),
    ]
    found = figures(run)
    assert (found["track_f1"], found["ends_f1"], found["close"]) == (0.583, 0.5, None)


def test_a_group_is_named_by_the_reports_word_for_its_task() -> None:
    one = row(0, "track", "what is clicked", follow_f1=1.0)
    told = dataclasses.replace(one, tags={**one.tags, "task": "track from a point"})
    (group,) = group_figures(run_of(told, headline=("follow_f1",)))
    assert (group.task, group.score) == ("track from a point", "follow_f1")


@pytest.mark.slow
def test_every_task_is_asked_by_the_words_of_its_training_and_scored() -> None:
    run = score(candidate(EXACT_TASKS), clips=1, suite="toy-tasks")
    assert [one.status for one in run.rows] == ["answered"] * ToyTasks.per_clip
    found = figures(run)
    assert list(found)[: len(CARD_TASKS)] == list(CARD_TASKS)
    assert {value for value in found.values() if value is not None} == {1.0}
    # A long clip is the next seed's.
    assert found["track_f1_8"] == found["identity_8"] == found["follow_f1"] == 1.0
    assert found["track_f1_32"] is None


@pytest.mark.slow
def test_saying_none_to_every_task_finds_nothing() -> None:
    none = ["There are none."] * ToyTasks.per_clip
    found = figures(score(candidate(none), clips=1, suite="toy-tasks"))
    # A track also scores the half seconds in which the object really is out of sight: no zero there.
    nothing = {"point_f1", "not_none"}
    assert {found[name] for name in nothing} == {0.0}
    assert found["none"] == 1.0


@pytest.mark.slow
def test_prose_without_places_is_unreadable_in_every_task() -> None:
    prose = ["What a lovely street."] * ToyTasks.per_clip
    run = score(candidate(prose), clips=1, suite="toy-tasks")
    assert {one.status for one in run.rows} == {"unreadable"}


@pytest.mark.parametrize(
    ("name", "first_seed", "begins"),
    [
        pytest.param("toy", None, 0, id="the suite's own"),
        pytest.param("toy-tasks", None, FIRST_SEED, id="the other's own"),
        pytest.param("toy-tasks", 40, 40, id="as told"),
    ],
)
def test_a_suite_by_its_name(name: str, first_seed: int | None, begins: int) -> None:
    suite = toy_suite(name, 3, first_seed=first_seed)
    assert (suite.name, suite.clips, suite.first_seed) == (name, 3, begins)


def test_the_card_shows_every_figure_that_its_suite_shows_first() -> None:
    for suite, card in ((ToySuite, CARD), (ToyTasks, CARD_TASKS)):
        run = run_of(headline=suite.headline)
        run = dataclasses.replace(run, card=dataclasses.replace(run.card, suite=suite.name))
        shown = {card.get(name, name) for name in card_figures(run)}
        assert set(suite.headline) <= shown


@pytest.mark.slow
def test_the_command_prints_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "toy", "--clips", str(CLIPS)], candidate=candidate(EXACT)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: 2 held-out clips from seed 0, 4 questions, answers written greedily"
    assert [line.split()[0] for line in lines[1 : 1 + len(CARD)]] == list(CARD)
    assert lines[1].split()[:2] == ["track_f1", "1.000"]
    assert any(line.startswith("track  ") and line.endswith("n=1") for line in lines)


@pytest.mark.slow
def test_the_command_prints_both_suites_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    says_none = candidate(["There are none."] * ToyTasks.per_clip)
    assert main(["--clips", "1", "--task-clips", "1"], candidate=says_none) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if "held-out clips" in line]
    assert [head.split(":")[0] for head in heads] == ["toy", "toy-tasks"]
    assert any(line.startswith("track_f1_32") and line.endswith("not asked") for line in lines)


@pytest.mark.slow
def test_the_command_prints_json_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    says_none = candidate(["There are none."] * ToyTasks.per_clip)
    assert main(["--clips", "1", "--task-clips", "1", "--json"], candidate=says_none) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"clips", "questions", *CARD} <= found["toy"].keys()
    assert {"clips", "questions", *CARD_TASKS} <= found["toy-tasks"].keys()
    assert (found["toy-tasks"]["clips"], found["toy-tasks"]["questions"]) == (1, ToyTasks.per_clip)


@pytest.mark.slow
def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite", "toy", "--clips", "1", "--json"], candidate=candidate(EXACT)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"clips", "questions", *CARD} <= found.keys()
    assert (found["clips"], found["questions"], found["none"]) == (1, 2, 1.0)
    assert found["track_f1"] is None  # nothing that the only clip is asked to track is there
