from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import molmo2_ground as mg
from molmo2_ground import grounder as grounder_module
from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import AnswerError, BackendError, SourceError
from molmo2_ground.grounder import MODEL_VARIABLE, Grounder, default_model, load
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Query
from molmo2_ground.replay import derive, differences
from molmo2_ground.results import Answer, Count, Points, Tracks
from molmo2_ground.session import Session
from tests.media import FPS, Shelf, constant_rate, empty, no_duration, one_frame

TRACKS = '<tracks coords="0.0 1 500 250;0.5 1 600 250">the red car</tracks>'
TWO_TRACKS = '<tracks coords="0.0 1 100 100 2 500 250;0.5 2 600 250">cars</tracks>'
POINTS = '<points coords="1 1 100 200 2 500 600 3 900 900">mugs</points>'
VIDEO_POINTS = '<points coords="0.5 1 500 500">the red car</points>'
COUNT = 'Counting the <points coords="1 1 100 200 2 500 600">mugs</points> shows a total of 2.'
NONE = "There are none."
IMAGE = np.zeros((50, 80, 3), dtype=np.uint8)


def scripted(answers: Sequence[str | RawAnswer], *, max_frames: int = 384) -> ScriptedBackend:
    limits = ModelLimits(max_frames=max_frames, max_fps=2.0, max_crops=8, context_tokens=36864)
    return ScriptedBackend(answers, limits=limits)


def cut_off(text: str) -> RawAnswer:
    return RawAnswer(
        text=text,
        stop_reason="length",
        tokens_in=10,
        tokens_out=5,
        forwards=5,
        model_id="scripted",
        revision=None,
        backend="scripted",
        recipe="scripted/1",
    )


def video_clip(frames: int = 4) -> Clip:
    return Clip.from_arrays(np.zeros((frames, 50, 80, 3), dtype=np.uint8), fps=2.0)


# The four questions


def test_track_gives_places_in_pixels_and_seconds() -> None:
    backend = scripted([TRACKS])
    tracks = Grounder(backend).track(video_clip(), "the red car")
    assert isinstance(tracks, Tracks)
    assert tracks[0].xy_px.tolist() == [[40.0, 12.5], [48.0, 12.5]]
    assert tracks[0].times_s.tolist() == [0.0, 0.5]
    assert backend.prompts[0][0].text == "Track the red car."
    assert tracks.receipt.prompt == "Track the red car."
    assert tracks.receipt.recipe == "track-default/1; scripted/1; frames-as-given/1"


def test_point_in_an_image() -> None:
    points = Grounder(scripted([POINTS])).point(IMAGE, "mugs")
    assert isinstance(points, Points)
    assert points.xy_px.tolist() == [[8.0, 10.0], [40.0, 30.0], [72.0, 45.0]]


def test_point_in_several_images() -> None:
    answer = '<points coords="1 1 100 200;2 2 500 500">mugs</points>'
    points = Grounder(scripted([answer])).point([IMAGE, np.zeros((10, 20, 3), np.uint8)], "mugs")
    assert [p.source_index for p in points] == [0, 1]
    assert points[1].x_px == 10.0


def test_count_comes_with_the_places() -> None:
    count = Grounder(scripted([COUNT])).count(IMAGE, "mugs")
    assert isinstance(count, Count)
    assert (int(count), count.stated, len(count.points), count.agrees) == (2, 2, 2, True)


@pytest.mark.parametrize(
    ("text", "points", "tracks"),
    [
        pytest.param("A quiet street.", None, None, id="prose"),
        pytest.param(f"Here: {VIDEO_POINTS} it is.", 1, None, id="points-inside"),
        pytest.param(TWO_TRACKS, None, 2, id="tracks"),
        pytest.param(f"{VIDEO_POINTS} and {TWO_TRACKS}", 1, 2, id="both"),
        pytest.param('<points coords="99.0 1 500 500">far</points>', None, None, id="no-such-frame"),
    ],
)
def test_ask_keeps_the_text_and_reads_what_is_in_it(
    text: str, points: int | None, tracks: int | None
) -> None:
    answer = Grounder(scripted([text])).ask(video_clip(), "Describe the clip.")
    assert isinstance(answer, Answer)
    assert answer.text == text
    assert (None if answer.points is None else len(answer.points)) == points
    assert (None if answer.tracks is None else len(answer.tracks)) == tracks


def test_ask_reports_what_could_not_be_placed() -> None:
    answer = Grounder(scripted(['<points coords="99.0 1 500 500">far</points>'])).ask(video_clip(), "Where?")
    assert len(answer.receipt.report.rejected) == 1
    assert not Grounder(scripted([cut_off("A quiet")])).ask(video_clip(), "?").receipt.report.clean


def test_none_found_is_no_error_and_unreadable_is() -> None:
    assert len(Grounder(scripted([NONE])).track(video_clip(), "the red car")) == 0
    with pytest.raises(AnswerError) as caught:
        Grounder(scripted(["I see a car."])).track(video_clip(), "the red car")
    assert caught.value.answer.text == "I see a car."


@pytest.mark.parametrize("phrase", [pytest.param("", id="empty"), pytest.param(" \n", id="blank")])
@pytest.mark.parametrize("task", ["track", "point", "count", "ask"])
def test_an_empty_phrase_is_a_wrong_argument(task: str, phrase: str) -> None:
    with pytest.raises(ValueError, match="say in words"):
        getattr(Grounder(scripted([])), task)(video_clip(), phrase)


def test_tracking_images_is_refused_before_the_model_is_asked() -> None:
    backend = scripted([TRACKS])
    with pytest.raises(SourceError, match="tracking needs a video"):
        Grounder(backend).track(IMAGE, "the red car")
    assert backend.prompts == []


def test_max_objects_keeps_the_first_and_says_so() -> None:
    grounder = Grounder(scripted([TWO_TRACKS, POINTS, POINTS]))
    tracks = grounder.track(video_clip(), "cars", max_objects=1)
    assert [t.object_id for t in tracks] == [1]
    assert tracks.receipt.notes == ("kept the first 1 of 2 objects, as asked (max_objects=1)",)
    points = grounder.point(IMAGE, "mugs", max_objects=2)
    assert [p.object_id for p in points] == [1, 2]
    assert grounder.point(IMAGE, "mugs", max_objects=3).receipt.notes == ()


def test_at_follows_what_is_under_the_point() -> None:
    backend = scripted([TRACKS])
    Grounder(backend).track(video_clip(), "the red car", at=(0.5, 40.0, 25.0))
    assert '<points coords="0.5 1 500 500">the red car</points>' in backend.prompts[0][0].text


# Which frames are shown


def test_tracking_looks_at_a_grid_and_the_others_at_the_last_frame_too(media: Shelf) -> None:
    path = media(constant_rate, frame_count=12)  # 1.2 s
    backend = scripted([TRACKS, TRACKS, VIDEO_POINTS])
    with Grounder(backend).open(path) as session:
        tracks = session.track("the red car")
        fast = session.track("the red car", fps=5)
        points = session.point("the red car")
    assert tracks.receipt.shown_times_s == (0.0, 0.5, 1.0)
    assert fast.receipt.shown_times_s == pytest.approx((0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert points.receipt.shown_times_s == pytest.approx((0.0, 0.5, 1.0, 1.2))
    assert points[0].source_index == FPS // 2
    assert tracks.receipt.recipe.endswith("; grid-2fps/1")
    assert points.receipt.recipe.endswith("; uniform-last-2fps-max384/1")
    assert tracks.receipt.timings_ms["decode"] > 0


def test_frames_are_read_once_for_all_questions_of_a_kind(media: Shelf) -> None:
    backend = scripted([TRACKS, VIDEO_POINTS, NONE, TRACKS])
    with Grounder(backend).open(media(constant_rate)) as session:
        session.run([Query.track("a"), Query.point("b"), Query.count("c")])
        again = session.track("d")
    clips = [clip for _, clip in backend.prompts]
    assert clips[0] is clips[3]
    assert clips[1] is clips[2]
    assert again.receipt.timings_ms["decode"] == 0.0


def test_more_frames_are_shown_than_places_are_asked_for(media: Shelf) -> None:
    path = media(constant_rate, frame_count=24)  # 10 frames a second, 2.4 s
    answer = '<tracks coords="0.0 1 100 500;0.6 1 150 500;1.0 1 200 500;2.0 1 300 500">a</tracks>'
    backend = scripted([answer])
    tracks = Grounder(backend).track(path, "a", fps=1, show_fps=10)
    assert backend.prompts[0][0].text == "Track a at 1 FPS."
    assert tracks.receipt.prompt == "Track a at 1 FPS."
    assert tracks.receipt.shown_times_s == pytest.approx([k / 10 for k in range(24)])
    assert tracks.receipt.recipe == "track-fps/1; scripted/1; grid-10fps-asked-1fps/1"
    assert tracks.receipt.notes == ()
    # A time that was shown and not asked for is as good as any.
    assert tracks[0].times_s.tolist() == pytest.approx([0.0, 0.6, 1.0, 2.0])
    assert [s.source_index for s in tracks[0].samples] == [0, 6, 10, 20]
    assert tracks.receipt.report.clean
    assert differences(tracks, derive(tracks.receipt)) == ()


@pytest.mark.parametrize(
    ("fps", "show_fps", "shown_fps", "noted"),
    [
        pytest.param(1.0, None, 1.0, False, id="without"),
        pytest.param(1.0, 8.0, 5.0, False, id="what-divides-ten"),
        pytest.param(4.0, 8.0, 4.0, True, id="nothing-divides"),
        pytest.param(5.0, 5.0, 5.0, False, id="all-that-was-wanted"),
    ],
)
def test_the_rate_of_showing_is_noted_when_it_is_not_had(
    media: Shelf, fps: float, show_fps: float | None, shown_fps: float, noted: bool
) -> None:
    tracks = Grounder(scripted([NONE])).track(
        media(constant_rate, frame_count=24), "a", fps=fps, show_fps=show_fps
    )
    assert tracks.receipt.shown_times_s[1] == pytest.approx(1 / shown_fps)
    assert [note.split(":")[0] for note in tracks.receipt.notes] == noted * [
        "the model was shown no more than the 4 frames a second asked for"
    ]


def test_a_receipt_does_not_change_where_no_rate_of_showing_is_given(media: Shelf) -> None:
    path = media(constant_rate, frame_count=24)
    receipts = [
        Grounder(scripted([TRACKS])).track(path, "a", **options).receipt
        for options in ({"fps": 5}, {"fps": 5, "show_fps": None}, {"fps": 5, "show_fps": 5})
    ]
    plain, none, same = (
        receipt.model_copy(update={"timings_ms": {}}).model_dump_json() for receipt in receipts
    )
    assert plain == none
    assert same == plain.replace("grid-5fps/1", "grid-5fps-asked-5fps/1")


def test_questions_that_look_at_the_same_frames_share_them(media: Shelf) -> None:
    backend = scripted([NONE, NONE, NONE])
    with Grounder(backend).open(media(constant_rate, frame_count=24)) as session:
        session.track("a", fps=1, show_fps=5)
        session.track("a", fps=5)
        session.track("a", fps=1)
    clips = [clip for _, clip in backend.prompts]
    assert clips[0] is clips[1]
    assert len(clips[2]) == 3


@pytest.mark.slow
def test_windows_of_a_long_video_are_shown_more_than_they_are_asked_for(media: Shelf) -> None:
    path = media(constant_rate, frame_count=280, fps=2)  # 140 s, asked for a place in two seconds
    answers = [
        '<tracks coords="0.0 1 100 500;52.0 1 200 500;58.0 1 210 500">a</tracks>',
        '<tracks coords="0.0 1 200 500;6.0 1 210 500;50.0 1 250 500">a</tracks>',
        '<tracks coords="2.0 1 260 500">a</tracks>',
    ]
    backend = scripted(answers, max_frames=64)
    tracks = Grounder(backend).track(path, "a", fps=0.5, show_fps=1)
    starts = [child.frame_times_s[0] for child in tracks.receipt.windows]
    assert starts == [0.0, 54.0, 108.0]
    assert [len(child.frame_times_s) for child in tracks.receipt.windows] == [60, 60, 32]
    assert all(start % 2 == 0 for start in starts)  # each window asks about the one grid
    assert tracks.receipt.recipe == "track-fps/1; scripted/1; grid-1fps-asked-0.5fps/1; windows-60-6/2"
    assert differences(tracks, derive(tracks.receipt)) == ()


def test_a_clip_is_shown_as_it_is() -> None:
    clip = video_clip(3)
    backend = scripted([TRACKS, VIDEO_POINTS, TRACKS])
    with Grounder(backend).open(clip) as session:
        session.run([Query.track("a"), Query.point("b"), Query.track("a", fps=1, show_fps=4)])
    assert [shown for _, shown in backend.prompts] == [clip, clip, clip]


def test_a_cap_that_spreads_the_frames_is_noted(media: Shelf) -> None:
    path = media(constant_rate, frame_count=60)  # 6 s
    points = Grounder(scripted([NONE], max_frames=4)).point(path, "the red car")
    assert points.receipt.shown_times_s == pytest.approx((0.0, 2.0, 4.0, 6.0))
    assert points.receipt.notes == (
        "the model sees at most 4 frames, so it was shown one every 2.0 s instead of one every 0.5 s",
    )
    assert Grounder(scripted([NONE], max_frames=13)).point(path, "the red car").receipt.notes == ()


def test_a_long_video_is_tracked_by_windows(media: Shelf) -> None:
    path = media(constant_rate, frame_count=60)  # 6 s: frames at 0, 0.5, … 5.5
    answers = [
        '<tracks coords="0.0 1 100 500;2.5 1 200 500">a</tracks>',
        '<tracks coords="0.5 1 200 500;1.5 1 250 500">a</tracks>',
        '<tracks coords="1.5 1 300 500">a</tracks>',
    ]
    told: list[tuple[str, float]] = []
    tracks = Grounder(scripted(answers, max_frames=6)).track(
        path, "a", on_progress=lambda what, share: told.append((what, share))
    )
    windows = [child.frame_times_s for child in tracks.receipt.windows]
    assert [(times[0], times[-1]) for times in windows] == [(0.0, 2.5), (2.0, 4.5), (4.0, 5.5)]
    assert [t.object_id for t in tracks] == [1]
    assert tracks[0].times_s.tolist() == pytest.approx([0.0, 2.5, 3.5, 5.5])
    assert tracks.receipt.recipe == "track-default/1; scripted/1; grid-2fps/1; windows-6-2/2"
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_a_long_clip_in_memory_is_tracked_by_windows() -> None:
    answers = ['<tracks coords="0.0 1 100 500">a</tracks>', NONE]
    tracks = Grounder(scripted(answers, max_frames=5)).track(video_clip(8), "a")
    assert len(tracks.receipt.windows) == 2


def test_windows_obey_max_objects() -> None:
    answers = ['<tracks coords="0.0 1 100 500 2 900 500">a</tracks>', NONE]
    tracks = Grounder(scripted(answers, max_frames=5)).track(video_clip(8), "a", max_objects=1)
    assert [t.object_id for t in tracks] == [1]
    assert tracks.receipt.notes[-1].startswith("kept the first 1 of 2")
    assert differences(tracks, derive(tracks.receipt)) == ()


@pytest.mark.parametrize("writer", [no_duration, one_frame])
def test_unusual_videos_are_tracked_in_one_look(media: Shelf, writer: object) -> None:
    tracks = Grounder(scripted(['<tracks coords="0.0 1 100 500">a</tracks>'])).track(media(writer), "a")  # type: ignore[arg-type]
    assert len(tracks) == 1
    assert tracks.receipt.windows == ()


# Sessions


def test_a_missing_or_empty_file_is_told_when_it_is_opened(media: Shelf, tmp_path: Path) -> None:
    grounder = Grounder(scripted([]))
    with pytest.raises(SourceError, match="no file"):
        grounder.open(tmp_path / "missing.mp4")
    with pytest.raises(SourceError, match="empty"):
        grounder.open(media(empty))


def test_run_answers_in_order() -> None:
    with Grounder(scripted([NONE, COUNT.replace("1 1", "0.0 1"), "Nothing.", TRACKS])).open(
        video_clip()
    ) as session:
        results = session.run([Query.point("a"), Query.count("b"), Query.ask("c"), Query.track("d")])
        assert session.run([]) == []
    assert [type(result) for result in results] == [Points, Count, Answer, Tracks]


def test_a_closed_session_says_so() -> None:
    session = Grounder(scripted([NONE])).open(video_clip())
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.point("a")


def test_a_session_closes_what_the_backend_opened() -> None:
    backend = scripted([NONE])
    opened = []

    class Watched(ScriptedBackend):
        def open(self, clip: Clip):  # type: ignore[no-untyped-def]  # noqa: ANN202
            opened.append(backend.open(clip))
            return opened[-1]

    session = Session(Watched([]), video_clip())
    session.point("a")
    session.close()
    assert len(opened) == 1
    assert opened[0]._clip is None


def test_progress_is_told_in_words_and_shares(media: Shelf) -> None:
    told: list[tuple[str, float]] = []
    Grounder(scripted([VIDEO_POINTS])).point(
        media(constant_rate), "a", on_progress=lambda what, share: told.append((what, share))
    )
    assert {what for what, _ in told} == {"reading", "answering"}
    assert all(0 <= share <= 1 for _, share in told)
    assert told[-1] == ("answering", 1.0)


# Receipts


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        pytest.param("track", TWO_TRACKS, id="track"),
        pytest.param("point", VIDEO_POINTS, id="point"),
        pytest.param("count", f"There are 1 {VIDEO_POINTS}.", id="count"),
        pytest.param("count", "7", id="number-only"),
        pytest.param("ask", f"{VIDEO_POINTS} and {TWO_TRACKS}", id="ask"),
        pytest.param("track", NONE, id="none"),
    ],
)
def test_the_receipt_gives_the_result_again(task: str, answer: str) -> None:
    result = getattr(Grounder(scripted([answer])), task)(video_clip(), "the red car")
    assert derive(result.receipt) == result
    assert differences(result, derive(result.receipt)) == ()


# Which model


def test_the_model_comes_from_the_call_else_the_environment_else_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    assert default_model() == "tiny"
    monkeypatch.setenv(MODEL_VARIABLE, "")
    assert default_model() == "tiny"
    monkeypatch.setenv(MODEL_VARIABLE, "some/folder")
    assert default_model() == "some/folder"


@pytest.mark.parametrize(
    ("name", "media", "answer"),
    [
        pytest.param("track", video_clip(), TRACKS, id="track"),
        pytest.param("point", IMAGE, POINTS, id="point"),
        pytest.param("count", IMAGE, COUNT, id="count"),
        pytest.param("ask", IMAGE, "A mug.", id="ask"),
    ],
)
def test_module_functions_ask_the_model_they_are_given(name: str, media: Clip, answer: str) -> None:
    grounder = Grounder(scripted([answer, answer]))
    from_function = getattr(mg, name)(media, "the red car", model=grounder)
    from_method = getattr(grounder, name)(media, "the red car")
    assert differences(from_function, from_method) == ()


def test_module_functions_load_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def fake_load(model: str) -> Grounder:
        loaded.append(model)
        return Grounder(scripted([NONE, NONE, NONE]))

    monkeypatch.setattr(grounder_module, "load", fake_load)
    monkeypatch.setenv(MODEL_VARIABLE, "one")
    grounder_module._loaded.cache_clear()
    try:
        mg.point(IMAGE, "a")
        mg.count(IMAGE, "a")
        mg.point(IMAGE, "a", model=Path("two"))
    finally:
        grounder_module._loaded.cache_clear()
    assert loaded == ["one", "two"]


def test_a_servers_address_is_refused_in_words() -> None:
    with pytest.raises(BackendError, match="address of a server"):
        load("http://127.0.0.1:8000/v1#model")


@pytest.mark.slow
def test_the_grounder_segments_as_the_function_does() -> None:
    points = Grounder(ScriptedBackend([POINTS])).point(IMAGE, "mugs")
    masks = Grounder(ScriptedBackend([])).segment(IMAGE, points)
    assert masks == mg.segment(IMAGE, points)
    assert masks.object_ids == tuple(sorted({point.object_id for point in points}))


def test_the_grounder_renders_as_the_function_does(tmp_path: Path) -> None:
    grounder = Grounder(scripted([POINTS]))
    points = grounder.point(IMAGE, "mugs")
    out = grounder.render(IMAGE, points, tmp_path / "out.png")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert grounder.model_id == "scripted"
