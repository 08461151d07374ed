"""A model that is three times slower than the stream, behind real sockets and by the real clock."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest

from molmo2_ground.answer import RawAnswer
from molmo2_ground.backends.base import BackendSession
from molmo2_ground.grounder import Grounder
from molmo2_ground.integrations.zeromq import Publisher, Received, Subscriber
from molmo2_ground.messages import TracksMessage
from molmo2_ground.query import Decoding, Prompt
from molmo2_ground.sources.feeds.file_feed import FileFeed
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.street import make_scene
from tests.live_scenes import TruthBackend

SAMPLE_S = 0.5
LOOK_S = 3 * SAMPLE_S
VALID_S, MAX_AGE_S = 1.0, 4.0
# What the loop itself, and another process on these cores, may add.
SLACK_S = 1.0


class SlowBackend(TruthBackend):
    """Takes three sampled pictures' time for each look."""

    def answer_together(
        self, asked: Sequence[tuple[BackendSession, Prompt]], *, decoding: Decoding
    ) -> list[RawAnswer]:
        time.sleep(LOOK_S)
        return super().answer_together(asked, decoding=decoding)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "carry", "oldest_s"),
    [
        # A picture waits for nothing but the loop.
        pytest.param("latest", "flow", 0.0, id="carried beside the model"),
        # An answer is as old as its look took, and as the one before it, under way when it was sampled.
        pytest.param("latest", "none", 2 * LOOK_S, id="told when looked at"),
        # Pictures wait their turn, and are left out when they have waited for too long.
        pytest.param("every", "flow", MAX_AGE_S + LOOK_S, id="each sampled one in its turn"),
    ],
)
def test_age_is_bounded_and_every_picture_accounted_for(
    tmp_path_factory: pytest.TempPathFactory,
    policy: Literal["latest", "every"],
    carry: str,
    oldest_s: float,
) -> None:
    film = tmp_path_factory.mktemp("film") / "street.mp4"
    write_clip(make_scene(31, duration_s=12.0), film, fps=10)
    backend = SlowBackend(lambda time_s: {1: (0.2 + 0.04 * time_s, 0.5)})
    stream = Grounder(backend).stream(
        FileFeed(film),
        "people",
        policy=policy,
        carry=carry,
        valid_s=VALID_S,
        max_age_s=MAX_AGE_S,
        capacity=32,
        name="street",
    )
    told: Counter[str] = Counter()
    received: list[Received] = []
    with (
        stream,
        Publisher("tcp://127.0.0.1:*", stream_name="street") as publisher,
        Subscriber(publisher.endpoint, keep="every") as subscriber,
    ):
        publisher.start_health(stream.meter.message)
        assert subscriber.wait_alive(10)
        updates = 0
        for update in stream:
            updates += 1
            told.update(update.dropped)
            publisher.publish(update, questions=stream.questions)
            while (one := subscriber.receive(0, stale_too=True)) is not None:
                received.append(one)
    totals = stream.totals
    assert totals.received == totals.taken + totals.waiting + sum(totals.dropped.values())
    assert totals.taken == updates
    assert all(count <= totals.dropped[reason] for reason, count in told.items())
    tracks = [one.message for one in received if isinstance(one.message, TracksMessage)]
    assert len(tracks) >= 5
    for message in tracks:
        header = message.header
        age_s = (header.pub_ns - header.recv_ns) / 1e9
        assert age_s <= oldest_s + SLACK_S
        assert (header.status == "stale") == (header.pub_ns > header.valid_until_ns)
        if header.status == "ok":
            assert age_s <= VALID_S
