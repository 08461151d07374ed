"""Rows of every kind as message trees. Numbers are those of the recipe's invariants."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from molmo2_ground.answer import parse_answer
from molmo2_ground.clip import Clip
from molmo2_ground.train.rows import Row, Subtitle
from molmo2_ground.train.task_rules import FINE_TUNING, PRETRAINING, TaskRules
from molmo2_ground.train.tree import IGNORE, flatten
from molmo2_ground.train.visual_prefix import visual_prefix
from molmo2_ground.train.weights import BranchKind
from tests.made_rows import (
    DOGS,
    FLAGS,
    HALVES,
    IN_PICTURE,
    IN_PICTURES,
    PLAIN,
    about,
    at,
    film,
    made,
    on,
    on_track,
    pictures,
    row_of_image,
    row_of_images,
    row_of_video,
    said,
    spoken,
    talk,
)
from tests.trees import CODEC, WRITER


@pytest.mark.parametrize(
    ("row", "clip", "rules", "question", "answer"),
    [
        pytest.param(
            row_of_image(about("point", IN_PICTURE, label="The Dogs")),
            pictures(),
            PLAIN,
            "Point to the dogs.",
            '<points coords="1 1 100 800 2 500 500">the dogs</points>',
            id="point-image",
        ),
        pytest.param(
            row_of_image(about("point_then_count", IN_PICTURE, label="dogs")),
            pictures(),
            PLAIN,
            "How many dogs are there in the picture?",
            'Counting the <points coords="1 1 100 800 2 500 500">dogs</points> shows a total of 2.',
            id="point-then-count-image",
        ),
        pytest.param(
            row_of_image(about("count_then_point", IN_PICTURE, label="dogs")),
            pictures(),
            PLAIN,
            "count_then_point: Tell me the number of dogs and then show where they are.",
            'There are 2 <points coords="1 1 100 800 2 500 500">dogs</points>.',
            id="count-then-point-image",
        ),
        pytest.param(
            row_of_image(about("count", IN_PICTURE, label="dogs")),
            pictures(),
            PLAIN,
            "only_count: Give just the count of dogs.",
            "2",
            id="count-image",
        ),
        pytest.param(
            row_of_image(
                about("point", IN_PICTURE, label="dogs", question="Which way is out?", style="cosyn_point")
            ),
            pictures(),
            PLAIN,
            "Which way is out?",
            '<points coords="1 1 100 800 2 500 500">dogs</points>',
            id="own-question",
        ),
        pytest.param(
            row_of_images(about("point", *IN_PICTURES)),
            pictures(3),
            PLAIN,
            "Point to the dogs in all images.",
            '<points coords="1 1 500 500;3 2 100 100 3 100 800">the dogs</points>',
            id="point-images",
        ),
        pytest.param(
            row_of_images(about("point_then_count", *IN_PICTURES, label="dogs")),
            pictures(3),
            PLAIN,
            "How many dogs are there in all images?",
            'Counting the <points coords="1 1 500 500;3 2 100 100 3 100 800">dogs</points> '
            "shows a total of 3.",
            id="point-then-count-images",
        ),
        pytest.param(
            on_track("point"),
            HALVES,
            PLAIN,
            "Point to the dogs in the video.",
            '<points coords="0.0 1 100 200 2 900 500">the dogs</points>',
            id="point-video",
        ),
        pytest.param(
            on_track("point_then_count", question='How many "dogs" are there in the video?'),
            HALVES,
            replace(PLAIN, asked_share=0.0),
            'How many "dogs" are there in the video?',
            'Counting the <points coords="0.0 1 100 200 2 900 500">the dogs</points> shows a total of 2.',
            id="point-then-count-video-own-question",
        ),
        pytest.param(
            on_track("count"),
            HALVES,
            PLAIN,
            "Give just the count of the dogs.",
            "2",
            id="count-video",
        ),
        pytest.param(
            row_of_video(about("track", *DOGS, rate_fps=1)),
            film(0.0, 1.0),
            PLAIN,
            "Track the dogs at 1 FPS.",
            '<tracks coords="0.0 1 100 200 2 900 500;1.0 1 300 200 2 800 500">the dogs</tracks>',
            id="track-at-one",
        ),
        pytest.param(
            row_of_video(about("track", at(0.0, (1, 10, 10)), at(0.7, (1, 20, 10)))),
            film(0.0, 0.7),
            PLAIN,
            "Track the dogs.",
            '<tracks coords="0.0 1 100 200;0.7 1 200 200">the dogs</tracks>',
            id="track-irregular",
        ),
        pytest.param(
            on_track("first_last"),
            HALVES,
            PLAIN,
            "video_point_ground_start_end: "
            "In this video, where do the dogs appear and where do they disappear?",
            '<tracks coords="0.0 1 100 200 2 900 500;1.0 1 300 200 2 800 500">the dogs</tracks>',
            id="first-last",
        ),
        pytest.param(
            row_of_video(
                about("track_from_point", *(at(m.time_s or 0, (1, 5, 5)) for m in DOGS), rate_fps=1)
            ),
            film(0.0, 1.0),
            PLAIN,
            "video_single_point_track_per_frame: "
            'Track <points coords="0.0 1 050 100">the dogs</points> in 1 FPS.',
            '<tracks coords="1.0 1 050 100">the dogs</tracks>',
            id="track-from-point",
        ),
        pytest.param(
            row_of_image(talk("caption", ("", "A dog on a hill."), style="long_caption")),
            pictures(),
            PLAIN,
            "Describe this image.",
            "A dog on a hill.",
            id="caption",
        ),
        pytest.param(
            row_of_video(talk("caption", ("", "A dog runs."), style="video_merged_caption")),
            HALVES,
            PLAIN,
            "video_merged_caption:",
            "A dog runs.",
            id="caption-of-a-named-style",
        ),
        pytest.param(
            row_of_image(talk("qa", ("What is it?", "A dog."))),
            pictures(),
            PLAIN,
            "What is it?",
            "A dog.",
            id="qa",
        ),
        pytest.param(
            row_of_image(talk("qa", ("What is it?", "dog"), style="vqa2")),
            pictures(),
            PLAIN,
            "vqa2: What is it?",
            "dog",
            id="qa-of-a-named-style",
        ),
        pytest.param(
            Row(
                row_id="words",
                kind="none",
                annotations=(talk("text", ("How many legs has a dog?", "Four.")),),
            ),
            None,
            PLAIN,
            "How many legs has a dog?",
            "Four.",
            id="text",
        ),
        pytest.param(
            row_of_image(about("point", IN_PICTURE, label="The Dogs")),
            pictures(),
            PRETRAINING,
            "pointing: the dogs",
            '<points coords="1 1 100 800 2 500 500">the dogs</points>',
            id="pretraining-point",
        ),
        pytest.param(
            row_of_image(about("point_then_count", label="dogs")),
            pictures(),
            PRETRAINING,
            "point_count: dogs",
            "There are none.",
            id="pretraining-none",
        ),
        pytest.param(
            row_of_images(about("point", *IN_PICTURES)),
            pictures(3),
            replace(PRETRAINING, all_images_share=1.0),
            "multi_image_pointing: the dogs",
            '<points coords="1 1 500 500\t3 2 100 100 3 100 800">the dogs</points>',
            id="pretraining-separator",
        ),
        pytest.param(
            row_of_image(talk("caption", ("", "word " * 60))),
            pictures(),
            replace(PRETRAINING, hint_share=0.0),
            "long_caption:",
            "word " * 60,
            id="pretraining-caption-without-a-hint",
        ),
        pytest.param(
            Row(row_id="words", kind="none", annotations=(talk("text", ("Hi", "Hello.")),)),
            None,
            PRETRAINING,
            "text_sft: Hi",
            "Hello.",
            id="pretraining-text",
        ),
    ],
)
def test_each_task_asks_in_these_words_and_is_answered_so(
    row: Row, clip: Clip | None, rules: TaskRules, question: str, answer: str
) -> None:
    assert said(row, clip, rules=rules, seed=11) == [(question, answer)]
    assert made(row, clip, rules=rules, seed=11).left_out == ()


KINDS: list[tuple[Row, Clip | None, BranchKind]] = [
    (row_of_image(about("point", IN_PICTURE)), pictures(), "pointing"),
    (row_of_images(about("count", *IN_PICTURES)), pictures(3), "pointing"),
    (on_track("point_then_count"), HALVES, "pointing"),
    (on_track("track"), HALVES, "tracking"),
    (on_track("first_last"), HALVES, "tracking"),
    (on_track("track_from_point"), HALVES, "tracking"),
    (on_track("track_from_box"), HALVES, "tracking"),
    (row_of_video(talk("caption", ("", "A dog runs."))), HALVES, "video_caption"),
    (row_of_image(talk("caption", ("", "A dog."))), pictures(), "answer"),
    (row_of_video(talk("qa", ("What?", "A dog."), ("And?", "A cat."))), HALVES, "answer"),
    (Row(row_id="words", kind="none", annotations=(talk("text", ("Hi", "Hello.")),)), None, "answer"),
]


@pytest.mark.parametrize(("row", "clip", "kind"), KINDS)
@pytest.mark.parametrize("rules", [FINE_TUNING, PRETRAINING], ids=["fine-tuning", "pretraining"])
def test_invariant_08_of_every_kind_of_row_only_answers_and_their_ends_are_learnt(
    row: Row, clip: Clip | None, kind: BranchKind, rules: TaskRules
) -> None:
    tree = made(row, clip, rules=rules).tree
    assert [branch.kind for branch in spoken(tree)] == [kind]
    flat = flatten(tree, WRITER)
    learnt = flat.targets != IGNORE
    answers = [turn.answer for branch in spoken(tree) for turn in branch.turns]
    wanted = [token for answer in answers for token in [*CODEC.encode(answer), CODEC.eos_id]]
    assert flat.targets[learnt].tolist() == wanted
    assert (flat.weights[learnt] > 0).all()
    assert np.isfinite(flat.weights).all()
    assert (flat.weights[~learnt] == 0).all()
    assert not np.isin(flat.targets[learnt], FLAGS.special.visual).any()
    assert flat.targets[-1] == CODEC.eos_id


@pytest.mark.parametrize(("row", "clip", "kind"), KINDS)
def test_invariant_09_a_branch_weighs_what_its_task_says(
    row: Row, clip: Clip | None, kind: BranchKind
) -> None:
    flat = flatten(made(row, clip).tree, WRITER)
    learnt = flat.targets != IGNORE
    n = int(learnt.sum())
    total = {"pointing": 0.2 * n, "tracking": 0.2 * n, "video_caption": 0.1 * n, "answer": 4 * n**0.5}[kind]
    assert flat.weights[learnt].sum() == pytest.approx(total, rel=1e-5)


def test_the_weight_of_an_annotation_is_a_factor() -> None:
    tree = made(row_of_image(talk("qa", ("What?", "A dog."), weight=0.5)), pictures()).tree
    assert [branch.weight for branch in spoken(tree)] == [0.5]


def test_the_prefix_is_the_clips_with_its_subtitles() -> None:
    lines = (Subtitle(start_s=10, end_s=11, text="Sit."), Subtitle(start_s=40, end_s=41, text="Stay."))
    row = row_of_video(talk("qa", ("What?", "Sit.")), subtitles=lines, clip_s=(10.0, 11.0))
    result = made(row, HALVES)
    ids, visual = visual_prefix(HALVES, CODEC, FLAGS, subtitle_text="subtitle\n0.0 - 1.0 Sit.\n")
    assert result.tree.prefix_ids.tolist() == ids.tolist()
    assert result.tree.prefix_visual.tolist() == visual.tolist()
    (left,) = result.left_out
    assert left.annotation is None
    assert "1 of 2 subtitles" in left.reason


@pytest.mark.slow
def test_a_fifth_of_videos_is_one_conversation_about_pointing() -> None:
    labels = [about("point", *DOGS, label=f"dogs {n}", rate_fps=2) for n in range(3)]
    row = row_of_video(*labels, about("track", *DOGS, rate_fps=2), talk("qa", ("What?", "A dog.")))
    shapes: Counter[tuple[int, ...]] = Counter()
    for seed in range(300):
        result = made(row, HALVES, seed=seed)
        shapes[tuple(sorted(len(branch.turns) for branch in spoken(result.tree)))] += 1
        for branch, asked in zip(spoken(result.tree), result.asked, strict=True):
            if len(asked) > 1:
                assert branch.kind == "pointing"
                assert {one.task for one in asked} == {"point"}
    assert set(shapes) == {(1, 1, 1, 1, 1), (1, 1, 3)}
    assert 0.13 < shapes[1, 1, 3] / 300 < 0.27


def test_pictures_and_unlike_weights_are_not_joined() -> None:
    always = replace(PLAIN, joined_share=1.0)
    apart = row_of_video(about("point", *DOGS, weight=1.0), about("point", *DOGS, weight=2.0))
    assert [len(b) for b in made(apart, HALVES, rules=always).asked] == [1, 1]
    picture = row_of_image(about("point", IN_PICTURE), about("count", IN_PICTURE))
    assert [len(b) for b in made(picture, pictures(), rules=always).asked] == [1, 1]
    both = row_of_video(about("point", *DOGS), about("count", *DOGS))
    assert [len(b) for b in made(both, HALVES, rules=always).asked] == [2]


def test_branches_come_in_any_order() -> None:
    row = row_of_image(*(talk("qa", (f"{n}?", f"{n}")) for n in range(3)))
    orders = {tuple(asked[0].annotation for asked in made(row, pictures(), seed=s).asked) for s in range(60)}
    assert len(orders) == 6


def test_one_transcript_is_drawn_beside_the_caption() -> None:
    spoken = [talk("caption", ("", f"so here {n}"), style="transcript") for n in range(4)]
    row = row_of_image(talk("caption", ("", "A dog.")), *spoken)
    drawn: Counter[int] = Counter()
    for seed in range(80):
        result = made(row, pictures(), rules=PRETRAINING, seed=seed)
        chosen = sorted(asked[0].annotation for asked in result.asked)
        assert len(chosen) == 2
        assert chosen[0] == 0
        assert len(result.left_out) == 3
        drawn[chosen[1]] += 1
    assert set(drawn) == {1, 2, 3, 4}


@pytest.mark.slow
def test_captions_say_their_length_in_steps_of_fifteen_letters() -> None:
    row = row_of_image(talk("caption", ("", "x" * 600)))
    asked = [said(row, pictures(), rules=PRETRAINING, seed=s)[0][0] for s in range(300)]
    hints = [
        int(text.removeprefix("long_caption ").removesuffix(":")) for text in asked if text != "long_caption:"
    ]
    assert 0.85 < len(hints) / 300 < 0.95
    assert abs(np.mean(hints) - 40) < 1
    assert 1 < np.std(hints) < 2.5  # 25 letters
    short = row_of_image(talk("caption", ("", "x")))
    assert "-" not in "".join(said(short, pictures(), rules=PRETRAINING, seed=s)[0][0] for s in range(50))


@pytest.mark.slow
def test_pictures_that_nobody_looked_at_are_not_asked_about() -> None:
    row = row_of_images(about("point_then_count", on(0, (1, 1, 1)), on(2, (1, 3, 3))))
    some = set()
    for seed in range(60):
        ((question, answer),) = said(row, pictures(3), seed=seed)
        named = tuple(n for n in (1, 2, 3) if f"image_{n}" in question)
        some.add(named)
        assert f"a total of {len(named)}" in answer
    assert some == {(1,), (3,), (1, 3)}


@pytest.mark.slow
def test_several_pictures_are_asked_about_in_all_or_in_part() -> None:
    row = row_of_images(about("point_then_count", on(0, (1, 1, 1)), on(1, (1, 2, 2)), on(2, (1, 3, 3))))
    every, some = 0, set()
    for seed in range(300):
        ((question, answer),) = said(row, pictures(3), seed=seed)
        keys = [g.key for e in parse_answer(answer).elements for g in e.groups]
        if "image_" in question:
            named = [n for n in (1, 2, 3) if f"image_{n}" in question]
            assert keys == named
            some.add(tuple(named))
        else:
            every += 1
            assert keys == [1, 2, 3]
    assert 0.4 < every / 300 < 0.6
    assert some == {(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)}


def test_a_question_for_a_number_in_words_says_that_no_points_are_wanted() -> None:
    row = row_of_image(talk("qa", ("How many dogs?", "Two dogs.")))
    heard = {said(row, pictures(), seed=s)[0][0] for s in range(60)}
    assert len(heard) >= 6
    assert all(text.endswith(" How many dogs?") and len(text) > 25 for text in heard)
    pointed = 'Two <points coords="1 1 100 100">dogs</points>.'
    for question, answer, style in (
        ("How many dogs?", pointed, None),
        ("Which dog?", "This.", None),
        ("How many dogs?", "2", "vqa2"),
    ):
        row = row_of_image(talk("qa", (question, answer), style=style))
        assert said(row, pictures())[0][0] in (question, f"vqa2: {question}")


def test_a_question_of_the_data_is_used_for_the_task_that_it_asks_for() -> None:
    row = row_of_video(
        about(("point_then_count", "point", "count"), *DOGS, question="How many dogs are there?", rate_fps=2)
    )
    for seed in range(40):
        result = made(row, HALVES, seed=seed)
        task, (turn,) = result.asked[0][0].task, result.asked[0][0].turns
        assert (turn.user_text == "How many dogs are there?") == (task == "point_then_count")
