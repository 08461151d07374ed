from __future__ import annotations

import socket
import threading
import tracemalloc
import urllib.error
import urllib.request
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from molmo2_ground.clocks import Clocks
from molmo2_ground.live.health import HealthMeter
from molmo2_ground.live.latency import BOUNDS_MS, STAGES, Latencies
from molmo2_ground.live.metrics_page import MetricsPage, prometheus_text
from molmo2_ground.messages.health import FeedState, HealthMessage, StatusEvent
from molmo2_ground.results import ParseReport, Rejected
from molmo2_ground.sources.feeds.waiting_room import Totals
from tests.found import tracks
from tests.hand_updates import capture, look, update


class Hands:
    """Clocks that a test sets."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    @property
    def clocks(self) -> Clocks:
        return Clocks(unix_ns=lambda: 10**18 + self.now_ns, monotonic_ns=lambda: self.now_ns)

    def pass_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


TOTALS = Totals(received=100, taken=57, waiting=0, dropped={"rate": 30, "replaced": 10, "late": 3})


@dataclass
class HandFigures:
    totals: Totals = TOTALS
    tokens: int = 1000
    state: FeedState = "connected"
    epoch: int | None = 1_700_000_000_000
    connections: int = 2
    newest_monotonic_ns: int | None = 4_750_000_000


def meter_of(hands: Hands, **fields: object) -> HealthMeter:
    return HealthMeter("cam/1", figures=HandFigures(**fields), clocks=hands.clocks)  # type: ignore[arg-type]


def noted(meter: HealthMeter) -> HealthMeter:
    report = ParseReport(rejected=(Rejected(text="1037", reason="x > 1000"),) * 2, truncated=True)
    found = tracks(looked_s=[0.0], tokens_in=900, tokens_out=100, report=report)
    looks = [look(0.0, result=found, reasons=("age", "scene_cut")), look(0.0, error="unreadable")]
    timings = {"vision": 80.0, "prefill": 40.0, "decode": 300.0, "carried": 4.0}
    meter.take(
        update(0.0, {1: (5, 5), 2: (9, 9)}, looks=looks, timings_ms=timings, dropped={"late": 3, "rate": 1})
    )
    meter.take(update(0.1, {1: (5, 5)}, capture=capture(0.1, stamped_by="camera"), dropped={"replaced": 1}))
    return meter


def test_a_message_says_what_happened() -> None:
    hands = Hands()
    meter = noted(meter_of(hands))
    meter.ask({"people": "people in red"})
    event = StatusEvent(state="connected", at_ns=1)
    meter.saw([event])
    hands.pass_s(2.0)
    message = meter.message()
    assert (message.source, message.seq, message.state, message.connections) == ("cam/1", 0, "connected", 2)
    assert (message.uptime_s, message.frame_age_ms) == (2.0, 2250.0)
    assert (message.received, message.taken) == (100, 57)
    assert message.dropped == {"rate": 30, "replaced": 10, "late": 3}
    assert message.received == message.taken + sum(message.dropped.values())
    assert (message.looks, message.tokens) == ({"age": 2, "scene_cut": 1}, 1000)
    assert message.questions == {"people": "people in red"}
    assert message.events == (event,)
    assert list(message.latency_ms) == [
        "received",
        "decoded",
        "vision",
        "prefill",
        "decode",
        "carried",
        "made",
    ]
    assert message.latency_ms["received"] == {"p50": 1.0, "p99": 1.0, "max": 1.0}
    assert message.latency_ms["made"]["max"] == 10.0
    assert message.extra == {
        "updates": 2, "updates_per_s": 1.0, "stale": 0, "followed": 1, "watch_events": 0, "looked": 2,
        "parse_errors": {"rejected": 2, "truncated": 1, "unreadable": 1}, "events_lost": 0,
    }  # fmt: skip
    assert HealthMessage.model_validate_json(message.model_dump_json()) == message


def test_only_the_publisher_takes_events_and_numbers() -> None:
    meter = meter_of(Hands())
    meter.saw([StatusEvent(state="stalled", at_ns=1)])
    assert [len(meter.peek().events), len(meter.peek().events)] == [1, 1]
    assert (meter.message().seq, len(meter.peek().events), meter.peek().seq) == (0, 0, 1)
    assert (meter.message().seq, meter.message().events) == (1, ())


def test_before_the_first_picture_nothing_is_made_up() -> None:
    message = meter_of(Hands(), newest_monotonic_ns=None, epoch=None, state="connecting").message()
    assert (message.frame_age_ms, message.epoch, message.latency_ms, message.events) == (None, None, {}, ())


def test_events_are_bounded_and_the_lost_ones_counted() -> None:
    meter = meter_of(Hands())
    meter.saw(StatusEvent(state="stalled", at_ns=n) for n in range(70))
    message = meter.message()
    assert ([e.at_ns for e in message.events], message.extra["events_lost"]) == (list(range(6, 70)), 6)


@settings(max_examples=40)
@given(values=st.lists(st.floats(0, 1e5), min_size=1, max_size=60))
def test_quantiles_and_buckets_are_those_of_brute_force(values: list[float]) -> None:
    latencies = Latencies(clocks=Hands().clocks)
    for value in values:
        latencies.add("made", value)
    found = latencies.quantiles()["made"]
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        assert found[name] == min(
            v for v in values if sum(w <= v for w in values) >= share * len(values) - 1e-9
        )
    histogram = latencies.histograms()["made"]
    edges = [-1.0, *BOUNDS_MS, float("inf")]
    expected = [sum(low < v <= high for v in values) for low, high in pairwise(edges)]
    assert list(histogram.counts) == expected
    assert histogram.total_ms == pytest.approx(sum(values))
    assert histogram.count == len(values)


def test_quantiles_are_of_the_last_minute_and_histograms_of_all_time() -> None:
    hands = Hands()
    latencies = Latencies(clocks=hands.clocks)
    latencies.add("made", 500.0)
    hands.pass_s(61)
    latencies.add_all({"made": 3.0, "received": 1.0})
    assert latencies.quantiles()["made"]["max"] == 3.0
    assert latencies.histograms()["made"].count == 2
    hands.pass_s(61)
    assert latencies.quantiles() == {}


def test_a_rare_stage_holds_no_more_than_its_last_minute() -> None:
    hands = Hands()
    latencies = Latencies(clocks=hands.clocks)
    held = []
    tracemalloc.start()
    try:
        for second in range(3000):
            hands.pass_s(1)
            latencies.add("vision", float(second))
            if second % 1000 == 999:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[2] - held[0] < 2000


def test_stages_come_in_the_order_of_the_way_and_are_bounded() -> None:
    latencies = Latencies(clocks=Hands().clocks)
    for stage in ("zoom", *reversed(STAGES)):
        latencies.add(stage, -1.0)
    assert list(latencies.quantiles()) == [*STAGES, "zoom"]
    assert latencies.quantiles()["zoom"]["max"] == 0.0  # a clock that was set back
    with pytest.raises(ValueError, match="got nan for 'made'"):
        latencies.add("made", float("nan"))
    for number in range(32 - len(latencies.histograms())):
        latencies.add(f"stage {number}", 1.0)
    with pytest.raises(ValueError, match="at most 32 stages; got 'one more'"):
        latencies.add("one more", 1.0)


def test_many_threads_may_note_and_read() -> None:
    meter = meter_of(Hands())

    def note() -> None:
        for _ in range(50):
            meter.published(2.0)
            meter.take(update(0.0, looks=True))
            meter.peek()

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.histograms()["published"].count == 200
    assert meter.message().extra["updates"] == meter.message().looks["age"] == 200


def figures(text: str) -> dict[tuple[str, ...], float]:
    return {
        (
            sample.name,
            *(value for name, value in sorted(sample.labels.items()) if name != "source"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_the_page_is_what_prometheus_reads() -> None:
    hands = Hands()
    meter = noted(meter_of(hands, state="stalled"))
    meter.published(12.0)
    with MetricsPage(meter, port=0) as page:
        assert page.url == f"http://127.0.0.1:{page.port}/metrics"
        with urllib.request.urlopen(page.url, timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = answer.read().decode()
        with (
            pytest.raises(urllib.error.HTTPError, match="404"),
            urllib.request.urlopen(page.url + "x", timeout=10),
        ):
            pass
    found = figures(text)
    expected = {
        ("ground_frames_in_total",): 100,
        ("ground_frames_used_total",): 57,
        ("ground_frames_dropped_total", "replaced"): 10,
        ("ground_frames_dropped_total", "late"): 3,
        ("ground_looks_total", "age"): 2,
        ("ground_tokens_total",): 1000,
        ("ground_parse_errors_total", "rejected"): 2,
        ("ground_connections_total",): 2,
        ("ground_frame_age_seconds",): 0.25,
        ("ground_feed_state", "stalled"): 1,
        ("ground_feed_state", "connected"): 0,
        ("ground_stage_seconds_count", "published"): 1,
        ("ground_stage_seconds_sum", "published"): 0.012,
        ("ground_stage_seconds_bucket", "0.01", "published"): 0,
        ("ground_stage_seconds_bucket", "0.015", "published"): 1,
        ("ground_stage_seconds_bucket", "+Inf", "published"): 1,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)
    sources = {s.labels["source"] for f in text_string_to_metric_families(text) for s in f.samples}
    assert sources == {"cam/1"}


def test_two_streams_do_not_mix() -> None:
    first, second = meter_of(Hands(), tokens=0), noted(meter_of(Hands()))
    assert figures(prometheus_text(first))[("ground_tokens_total",)] == 0
    assert figures(prometheus_text(second))[("ground_tokens_total",)] == 1000


@pytest.mark.slow
def test_the_page_ends_and_gives_its_port_back() -> None:
    meter = meter_of(Hands())
    page = MetricsPage(meter, port=0)
    silent = socket.create_connection(("127.0.0.1", page.port), timeout=10)  # a client that says nothing
    page.close()
    page.close()
    silent.close()
    with MetricsPage(meter, port=page.port) as again, pytest.raises(OSError, match="in use"):
        MetricsPage(meter, port=again.port)


@pytest.mark.slow
def test_only_loopback_unless_told_otherwise() -> None:
    meter = meter_of(Hands())
    for host in ("0.0.0.0", "::", "", "camera.example"):
        with pytest.raises(ValueError, match="served on loopback; got the host"):
            MetricsPage(meter, host=host, port=0)
    with MetricsPage(meter, host="0.0.0.0", port=0, wide=True) as page:
        assert page.port > 0
