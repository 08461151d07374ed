from __future__ import annotations

from molmo2_ground.sources.losses import Losses


def test_neighbours_are_told_together_and_in_order_of_time() -> None:
    losses = Losses()
    losses.frames("undecoded", first_s=5.0, last_s=5.2, count=3)
    losses.frames("damaged", first_s=1.0, last_s=1.0)
    losses.frames("undecoded", first_s=5.3, last_s=5.3)
    losses.note("the file is cut short")
    assert losses.take() == (
        "the file is cut short",
        "the frame at 1.00 s is damaged and shown as far as readable",
        "4 frames between 5.00 s and 5.30 s could not be decoded",
    )
    assert losses.take() == ()


def test_far_stretches_and_holes_stay_apart() -> None:
    losses = Losses()
    losses.frames("unreadable", first_s=1.0, last_s=2.0)
    losses.frames("unreadable", first_s=2.5, last_s=3.0)
    losses.frames("backwards", first_s=1.0, last_s=1.0, count=2)
    losses.frames("backwards", first_s=9.0, last_s=9.0)
    assert losses.take() == (
        "nothing could be read between 1.00 s and 2.00 s",
        "2 frames between 1.00 s and 1.00 s have times before the frame ahead; left out",
        "nothing could be read between 2.50 s and 3.00 s",
        "the frame at 9.00 s has a time before the frame ahead; left out",
    )


def test_a_thousand_stretches_are_told_in_few_lines() -> None:
    losses = Losses()
    for start in range(1000):
        losses.frames("undecoded", first_s=10.0 * start, last_s=10.0 * start)
    losses.unseen_time()
    lines = losses.take()
    assert len(lines) == 22
    assert lines[-2:] == (
        "980 more places like these",
        "1 wanted time left out: no picture could be read there",
    )
