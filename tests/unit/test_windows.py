from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip, Frame
from molmo2_ground.errors import AnswerError, SourceError
from molmo2_ground.query import Decoding, Prompt, Query
from molmo2_ground.results import Sample, Track, Tracks
from molmo2_ground.stitcher import CARRY_GATE, CARRY_S, SHARED_GATE, Stitcher
from molmo2_ground.windows import join, shift_to_zero, window_rule
from tests.asked import track_windows

SIZE_PX = (200, 100)


def sample(frame: int, x_norm: float, y_norm: float = 0.5) -> Sample:
    """On the half-second grid."""
    return Sample(
        time_s=frame / 2,
        source_index=frame * 15,
        x_px=x_norm * SIZE_PX[0],
        y_px=y_norm * SIZE_PX[1],
        x_norm=x_norm,
        y_norm=y_norm,
    )


def track(object_id: int, places: dict[int, float], y_norm: float = 0.5) -> Track:
    """places: from the frame's number to x as a share of the width."""
    samples = tuple(sample(frame, x_norm, y_norm) for frame, x_norm in places.items())
    return Track(object_id=object_id, label="the red car", samples=samples)


def stitched(*windows: Sequence[Track]) -> tuple[dict[int, dict[int, float]], list[str]]:
    """From the joined object's id to its places, and which object is which."""
    stitcher = Stitcher()
    for number, window in enumerate(windows, start=1):
        stitcher.add(f"window {number}", window)
    found = {
        t.object_id: {s.source_index // 15: round(s.x_norm, 6) for s in t.samples} for t in stitcher.tracks
    }
    return found, stitcher.joins


@pytest.mark.parametrize(
    ("rate", "max_frames", "expected"),
    [
        pytest.param(2.0, 384, (120, 15), id="a-minute-when-the-model-could-see-more"),
        pytest.param(2.0, 16, (16, 2), id="a-small-model"),
        pytest.param(1.0, 128, (60, 7), id="one-a-second"),
        pytest.param(10.0, 128, (128, 16), id="dense"),
        pytest.param(2.0, 2, (2, 1), id="two-frames"),
        pytest.param(2.0, 1, (1, 0), id="one-frame"),
        pytest.param(0.01, 16, (1, 0), id="slower-than-a-minute"),
    ],
)
def test_the_size_of_windows(rate: float, max_frames: int, expected: tuple[int, int]) -> None:
    assert window_rule(rate=rate, max_frames=max_frames) == expected


@pytest.mark.parametrize(
    ("rate", "max_frames", "shown_a_place", "expected"),
    [
        pytest.param(1.0, 384, 1, (60, 7), id="as-without"),
        pytest.param(1.0, 384, 6, (360, 42), id="six-a-place"),
        pytest.param(1.0, 128, 2, (120, 14), id="a-smaller-cap"),
        pytest.param(2.0, 384, 3, (360, 45), id="two-places-a-second"),
        pytest.param(0.01, 16, 16, (16, 0), id="one-place-a-window"),
    ],
)
def test_windows_of_more_frames_than_places_start_at_places(
    rate: float, max_frames: int, shown_a_place: int, expected: tuple[int, int]
) -> None:
    frames, overlap = window_rule(rate=rate, max_frames=max_frames, shown_a_place=shown_a_place)
    assert (frames, overlap) == expected
    assert frames <= max_frames
    assert (frames - overlap) % shown_a_place == 0


def test_an_object_seen_at_one_place_by_two_windows_is_one() -> None:
    found, notes = stitched([track(1, {0: 0.1, 1: 0.2, 2: 0.3})], [track(1, {1: 0.21, 2: 0.31, 3: 0.4})])
    assert found == {1: {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}}
    assert notes == [
        "window 2: its object 1 is object 1; on 2 shared frames they lie 1.0 % apart (at most 8 %)"
    ]


def test_ids_that_a_window_gives_in_another_order_are_set_right() -> None:
    first = [track(1, {0: 0.1, 1: 0.1}), track(2, {0: 0.9, 1: 0.9})]
    second = [track(1, {1: 0.9, 2: 0.88}), track(2, {1: 0.1, 2: 0.12})]
    found, _ = stitched(first, second)
    assert found == {1: {0: 0.1, 1: 0.1, 2: 0.12}, 2: {0: 0.9, 1: 0.9, 2: 0.88}}


def test_pairs_are_chosen_together_not_greedily() -> None:
    # Nearest first would give 1-A (0.01) and leave 2-B 0.09 apart, beyond the gate.
    first = [track(1, {0: 0.50, 1: 0.50}), track(2, {0: 0.44, 1: 0.44})]
    second = [track(1, {1: 0.49, 2: 0.49}), track(2, {1: 0.53, 2: 0.53})]
    found, _ = stitched(first, second)
    assert found == {1: {0: 0.50, 1: 0.50, 2: 0.53}, 2: {0: 0.44, 1: 0.44, 2: 0.49}}


def test_a_window_that_mixes_objects_up_in_its_first_frame_renames_nobody() -> None:
    # A standing car, and a window whose objects each are somewhere else in its first frame, time and again.
    mixed = [track(1, {0: 0.1, 1: 0.5, 2: 0.5, 3: 0.5}), track(2, {0: 0.5, 1: 0.8, 2: 0.8, 3: 0.8})]

    def later(start: int) -> list[Track]:
        return [
            track(one.object_id, {start + n: s.x_norm for n, s in enumerate(one.samples)}) for one in mixed
        ]

    found, _ = stitched(*(later(start) for start in (0, 2, 4, 6, 8)))
    assert sorted(found) == [1, 2]
    assert {x for frame, x in found[1].items() if frame} == {0.5}
    assert {x for frame, x in found[2].items() if frame} == {0.8}


@pytest.mark.parametrize(
    ("off", "same"),
    [
        pytest.param((0.3, 0.0, 0.0), True, id="first-of-three"),
        pytest.param((0.3, 0.3, 0.0), True, id="the-later-half-counts"),
        pytest.param((0.0, 0.0, 0.3), True, id="one-of-three"),
        pytest.param((0.0, 0.3, 0.3), False, id="two-later-of-three"),
        pytest.param((0.3, 0.0), True, id="first-of-two"),
        pytest.param((0.0, 0.3), False, id="last-of-two"),
        pytest.param((0.3,), False, id="the-only-one"),
    ],
)
def test_later_shared_frames_count_more(off: tuple[float, ...], same: bool) -> None:
    frames = len(off)
    first = [track(1, dict.fromkeys(range(frames), 0.3))]
    second = [track(1, {n: 0.3 + x for n, x in enumerate(off)} | {frames: 0.3})]
    found, _ = stitched(first, second)
    assert len(found) == (1 if same else 2)


def test_a_newcomer_gets_the_next_free_number() -> None:
    first = [track(1, {0: 0.1, 1: 0.1}), track(4, {0: 0.3, 1: 0.3})]
    second = [track(1, {1: 0.1, 2: 0.1}), track(2, {1: 0.9, 2: 0.9}), track(3, {2: 0.6})]
    found, notes = stitched(first, second)
    assert sorted(found) == [1, 4, 5, 6]
    assert found[5] == {1: 0.9, 2: 0.9}
    assert notes[1] == "window 2: its object 2 is object 5; no earlier object is near enough, so it is new"


@pytest.mark.parametrize(
    ("apart", "same"),
    [
        pytest.param(SHARED_GATE - 0.001, True, id="just-inside"),
        pytest.param(SHARED_GATE + 0.001, False, id="just-outside"),
    ],
)
def test_the_gate_on_shared_frames(apart: float, same: bool) -> None:
    found, _ = stitched([track(1, {0: 0.5, 1: 0.5})], [track(1, {1: 0.5 + apart, 2: 0.5})])
    assert len(found) == (1 if same else 2)


def test_both_axes_count() -> None:
    found, _ = stitched([track(1, {0: 0.5, 1: 0.5}, 0.2)], [track(1, {1: 0.5, 2: 0.5}, 0.7)])
    assert len(found) == 2


@pytest.mark.parametrize(
    ("first_x", "same"),
    [
        pytest.param(0.4, True, id="where-it-should-be"),
        pytest.param(0.4 + CARRY_GATE - 0.001, True, id="just-inside"),
        pytest.param(0.4 + CARRY_GATE + 0.001, False, id="just-outside"),
    ],
)
def test_an_object_hidden_on_the_shared_frames_is_carried_on_in_a_straight_line(
    first_x: float, same: bool
) -> None:
    found, notes = stitched([track(1, {0: 0.1, 1: 0.2})], [track(1, {3: first_x, 4: 0.5})])
    assert len(found) == (1 if same else 2)
    assert notes[0].startswith(
        "window 2: its object 1 is object 1; no frame shows it in both; carried on for 1.0 s"
        if same
        else "window 2: its object 1 is object 2; no earlier object"
    )


def test_nothing_is_carried_on_for_long() -> None:
    steps = int(CARRY_S * 2) + 1
    found, _ = stitched([track(1, {0: 0.5, 1: 0.5})], [track(1, {1 + steps: 0.5})])
    assert len(found) == 2


def test_objects_seen_apart_on_a_shared_frame_are_never_carried_on() -> None:
    # On frame 1 they are 0.1 apart: beyond the gate for shared frames, within the one for carrying on.
    found, _ = stitched([track(1, {0: 0.5, 1: 0.5})], [track(1, {1: 0.6, 2: 0.6})])
    assert len(found) == 2


def test_a_window_without_objects_breaks_nothing() -> None:
    found, notes = stitched([], [track(1, {1: 0.1, 2: 0.2})], [], [track(1, {3: 0.3})])
    assert found == {1: {1: 0.1, 2: 0.2, 3: 0.3}}
    assert len(notes) == 2


@pytest.mark.slow
@given(
    count=st.integers(1, 5),
    frames=st.integers(6, 24),
    size=st.integers(4, 8),
    seed=st.integers(0, 2**16),
)
def test_objects_that_stay_apart_keep_one_identity_through_any_windows(
    count: int, frames: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stitcher = Stitcher()
    for number, start in enumerate(range(0, max(1, frames - 2), size - 2)):
        order = rng.permutation(count)
        window = []
        for local_id, truth in enumerate(order, start=1):
            lane = 0.1 + 0.2 * truth
            places = {
                k: 0.1 + 0.02 * k + rng.uniform(-0.02, 0.02) for k in range(start, min(frames, start + size))
            }
            window.append(track(local_id, places, y_norm=float(lane)))
        stitcher.add(f"window {number}", window)
    lanes = [{s.y_norm for s in t.samples} for t in stitcher.tracks]
    assert len(lanes) == count
    assert all(len(lane) == 1 for lane in lanes)
    assert all(len(t.samples) == frames for t in stitcher.tracks)


# The whole way through windows, with recorded answers


def clip(start: int, stop: int) -> Clip:
    """Frames of the half-second grid, from the source frame 15 * start on."""
    rgb = np.zeros((10, 20, 3), dtype=np.uint8)
    frames = tuple(
        Frame(
            rgb=rgb,
            width_px=SIZE_PX[0],
            height_px=SIZE_PX[1],
            source_index=15 * k,
            time_s=k / 2,
            shown_time_s=k / 2,
        )
        for k in range(start, stop)
    )
    return Clip(frames=frames, fps=30.0, duration_s=5.0, source="street.mp4", lost=(f"from {start}",))


def tracked(answers: Sequence[str], windows: Sequence[Clip], query: Query | None = None) -> Tracks:
    return track_windows(
        ScriptedBackend(answers), windows, query or Query.track("the red car"), decoding=Decoding()
    )


WINDOWS = (clip(0, 4), clip(2, 6), clip(4, 8))
ANSWERS = (
    '<tracks coords="0.0 1 100 500;0.5 1 200 500;1.0 1 300 500;1.5 1 400 500">the red car</tracks>',
    '<tracks coords="0.0 1 300 500;0.5 1 400 500 2 900 100;1.0 1 500 500">the red car</tracks>',
    '<tracks coords="0.0 1 500 500;1.5 1 800 500">the red car</tracks>',
)


def test_times_start_at_zero_for_the_model_and_come_back_as_the_videos() -> None:
    shifted = shift_to_zero(WINDOWS[1])
    assert shifted.shown_times_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert [frame.time_s for frame in shifted.frames] == [1.0, 1.5, 2.0, 2.5]
    tracks = tracked(ANSWERS, WINDOWS)
    assert [t.object_id for t in tracks] == [1, 2]
    assert tracks[0].times_s.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 3.5]
    assert tracks[0].xy_px[:, 0].tolist() == pytest.approx([20, 40, 60, 80, 100, 160])
    assert [s.source_index for s in tracks[1].samples] == [45]


def test_a_window_is_not_told_how_many_are_wanted() -> None:
    """Which objects are the first is known when all windows are joined."""
    backend = ScriptedBackend(ANSWERS)
    query = Query.track("the red car", max_objects=1)
    track_windows(backend, WINDOWS, query, decoding=Decoding())
    assert [prompt.most_objects for prompt, _ in backend.prompts] == [None] * 3


def test_the_receipt_holds_one_a_window_and_sums() -> None:
    receipt = tracked(ANSWERS, WINDOWS).receipt
    assert [child.raw_text for child in receipt.windows] == list(ANSWERS)
    assert receipt.raw_text == "\n".join(ANSWERS)
    assert receipt.windows[1].shown_times_s == (0.0, 0.5, 1.0, 1.5)
    assert receipt.windows[1].frame_times_s == (1.0, 1.5, 2.0, 2.5)
    assert receipt.frame_times_s == receipt.shown_times_s == tuple(k / 2 for k in range(8))
    assert receipt.frame_source_indices == tuple(15 * k for k in range(8))
    assert receipt.lost == ("from 0", "from 2", "from 4")
    assert receipt.tokens_out == sum(child.tokens_out for child in receipt.windows)
    assert len(receipt.joins) == 3
    assert receipt.joins[0].startswith("window 2 (1.0–2.5 s): its object 1 is object 1; on 2 shared frames")
    assert receipt.notes == ()


def test_what_a_window_has_to_say_is_said_of_the_whole() -> None:
    told = '<points coords="0.0 1 300 500;0.5 1 400 500">the red car</points>'
    receipt = tracked((ANSWERS[0], told, ANSWERS[2]), WINDOWS).receipt
    assert receipt.notes == ("window 2 (1.0–2.5 s): the answer is in <points>, where <tracks> was expected",)


def test_the_receipts_alone_give_the_same_tracks() -> None:
    tracks = tracked(ANSWERS, WINDOWS)
    again = join(tracks.receipt.windows)
    assert again.tracks == tracks.tracks
    assert again.receipt.notes == tracks.receipt.notes
    assert again.receipt.joins == tracks.receipt.joins


def test_one_window_gives_a_plain_receipt() -> None:
    receipt = tracked(ANSWERS[:1], WINDOWS[:1]).receipt
    assert receipt.windows == ()
    assert receipt.raw_text == ANSWERS[0]


def test_an_unreadable_window_is_left_out_and_named() -> None:
    tracks = tracked((ANSWERS[0], "I would rather not.", ANSWERS[2]), WINDOWS)
    assert tracks[0].times_s.tolist()[:4] == [0.0, 0.5, 1.0, 1.5]
    assert tracks.receipt.notes[0].startswith("window 2 (1.0–2.5 s): its answer could not be read")
    assert join(tracks.receipt.windows).tracks == tracks.tracks


def test_when_no_window_can_be_read_the_error_says_so() -> None:
    with pytest.raises(AnswerError):
        tracked(("no", "no", "no"), WINDOWS)


def test_a_window_where_the_object_is_away_is_no_error() -> None:
    tracks = tracked((ANSWERS[0], "There are none.", "There are none."), WINDOWS)
    assert len(tracks) == 1
    assert tracked(("There are none.",) * 3, WINDOWS).tracks == ()


def test_a_video_without_a_frame_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="no frame"):
        tracked((), ())


def test_progress_rises_to_the_end() -> None:
    told: list[float] = []
    track_windows(
        ScriptedBackend(ANSWERS),
        WINDOWS,
        Query.track("the red car"),
        decoding=Decoding(),
        duration_s=3.5,
        on_progress=lambda what, share: told.append(share),
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


class Gathering(ScriptedBackend):
    """Takes several clips at once and remembers how many came together."""

    def __init__(self, answers: Sequence[str], *, most: int) -> None:
        super().__init__(answers)
        self.most = most
        self.groups: list[int] = []

    def at_once(self, clip: Clip) -> int:
        return self.most

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        self.groups.append(len(asked))
        return super().answer_together(asked, decoding=decoding)


@pytest.mark.parametrize(("most", "groups"), [(1, [1, 1, 1]), (2, [2, 1]), (8, [3])])
def test_windows_asked_together_give_the_same_tracks(most: int, groups: list[int]) -> None:
    backend = Gathering(ANSWERS, most=most)
    told: list[float] = []
    tracks = track_windows(
        backend,
        WINDOWS,
        Query.track("the red car"),
        decoding=Decoding(),
        duration_s=3.5,
        on_progress=lambda what, share: told.append(share),
    )
    assert tracks == tracked(ANSWERS, WINDOWS)
    assert backend.groups == groups
    assert len(told) == len(groups)
    assert told[-1] == 1.0


def test_what_is_followed_from_window_to_window_is_asked_one_by_one() -> None:
    backend = Gathering(ANSWERS, most=8)
    query = Query.track("the red car", at=(0.0, 20.0, 50.0))
    track_windows(backend, WINDOWS, query, decoding=Decoding())
    assert backend.groups == [1, 1, 1]


class Forgetful(ScriptedBackend):
    """Answers in order, and keeps no clip."""

    def next_answer(self, prompt: Prompt, clip: Clip) -> RawAnswer:
        return super().next_answer(prompt, Clip(frames=()))


def test_only_one_window_of_pixels_is_held_at_a_time() -> None:
    alive: list[weakref.ref[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]] = []
    most = 0

    def windows() -> Iterator[Clip]:
        nonlocal most
        for start in (0, 2, 4):
            gc.collect()
            most = max(most, sum(reference() is not None for reference in alive))
            window = clip(start, start + 4)
            alive.append(weakref.ref(window.frames[0].rgb))
            yield window
            del window

    track_windows(Forgetful(ANSWERS), windows(), Query.track("the red car"), decoding=Decoding())
    assert len(alive) == 3
    assert most <= 1


# Following what is under a point


def test_a_point_is_followed_from_window_to_window() -> None:
    query = Query.track("the red car", at=(0.5, 40.0, 50.0))
    tracks = tracked(ANSWERS, WINDOWS, query)
    prompts = [child.prompt for child in tracks.receipt.windows]
    # Each later window is asked about the earliest place that it shares with the one before.
    assert '"0.5 1 200 500"' in prompts[0]
    assert '"0.0 1 300 500"' in prompts[1]
    assert '"0.0 1 500 500"' in prompts[2]


def test_windows_before_the_point_are_not_asked() -> None:
    query = Query.track("the red car", at=(2.5, 100.0, 50.0))
    tracks = tracked(ANSWERS[1:], WINDOWS, query)
    assert len(tracks.receipt.windows) == 2
    assert '"1.5 1 500 500"' in tracks.receipt.windows[0].prompt
    assert tracks.receipt.notes[0] == "window 0.0–1.5 s was not asked: it ends before the point at 2.5 s"


def test_an_object_lost_from_sight_is_not_asked_for_again() -> None:
    query = Query.track("the red car", at=(0.5, 40.0, 50.0))
    tracks = tracked(('<tracks coords="0.5 1 200 500">the red car</tracks>',), WINDOWS, query)
    assert tracks[0].times_s.tolist() == [0.5]
    assert len(tracks.receipt.notes) == 2
    assert "what is followed was last seen at 0.5 s, which is in no frame of it" in tracks.receipt.notes[0]


def test_a_point_on_the_last_frame_of_a_window_is_followed_from_the_next() -> None:
    # Nothing comes after it in its own window, and the next one shows its frame too.
    tracks = tracked(
        ("There are none.", *ANSWERS[1:]), WINDOWS, Query.track("the red car", at=(1.5, 60.0, 50.0))
    )
    prompts = [child.prompt for child in tracks.receipt.windows]
    assert '"1.5 1 300 500"' in prompts[0]
    assert '"0.5 1 300 500"' in prompts[1]
    assert tracks[0].last.time_s == 3.5


def test_behind_an_answer_that_cannot_be_read_nobody_knows_where_it_is() -> None:
    query = Query.track("the red car", at=(0.5, 40.0, 50.0))
    tracks = tracked((ANSWERS[0], "I cannot tell."), WINDOWS, query)
    assert tracks[0].last.time_s == 1.5
    assert "the last answer could not be read" in tracks.receipt.notes[0]


@pytest.mark.parametrize(
    "time_s", [pytest.param(9.0, id="after-the-end"), pytest.param(-3.0, id="before-zero")]
)
def test_a_point_outside_the_video_is_a_wrong_argument(time_s: float) -> None:
    with pytest.raises(ValueError, match="at= names the time"):
        tracked(ANSWERS, WINDOWS, Query.track("the red car", at=(time_s, 40.0, 50.0)))
