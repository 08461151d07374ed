from __future__ import annotations

import io

import pytest
from rich.console import Console

from molmo2_ground.analytics import Rules, Zone
from molmo2_ground.live.dashboard import Dashboard
from molmo2_ground.live.dashboard_view import Shown, _number, _span, drawn
from molmo2_ground.live.health import HealthMeter
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from molmo2_ground.messages.health import FeedState, StatusEvent
from molmo2_ground.sources.feeds.waiting_room import Totals
from tests.hand_updates import START_NS, look, thing, update
from tests.unit.live.test_health import HandFigures, Hands

RED = Zone(name="red zone", polygon=((50, 0), (100, 0), (100, 100), (50, 100)))


def full(console: Console, hands: Hands | None = None) -> Dashboard:
    """A dashboard of a stream in which everything has happened."""
    hands = hands or Hands()
    hands.now_ns += START_NS - 10**18
    totals = Totals(received=100, taken=60, waiting=0, dropped={"rate": 30, "replaced": 10})
    figures = HandFigures(totals=totals, newest_monotonic_ns=hands.now_ns - 120_000_000)
    meter = HealthMeter("cam/1", figures=figures, clocks=hands.clocks)
    meter.ask({"people": "people in red", "cars": "cars"})
    states: list[FeedState] = ["connecting", "connected", "stalled", "connected"]
    for at_s, state in enumerate(states, start=1):
        reason = "no picture for 5 s" if state == "stalled" else ""
        meter.saw([StatusEvent(state=state, at_ns=START_NS + at_s * 10**9, reason=reason)])
    dashboard = Dashboard(meter, console=console, clocks=hands.clocks)
    watching = Watching([Watch.enters(RED), Watch.count_at_least(None, 2)], rules=Rules())
    for step in range(12):
        people = [
            thing(1, (30.0 + 4 * step, 40.0), time_s=step / 10),
            thing(2, (70.0, 80.0), label="cyclist", state="observed", time_s=step / 10),
        ]
        made = update(
            step / 10, people, looks=[look(step / 10, reasons=("age",))] if step % 4 == 0 else False,
            timings_ms={"vision": 80.0 + step, "prefill": 40.0, "decode": 300.0, "carried": 4.0}, seq=step,
        )  # fmt: skip
        born = LedgerEntry(
            kind="birth", object_id=2, question="people", stamp_ns=START_NS, source_index=0, reason="newcomer"
        )
        events = watching.take(made)
        made = update(step / 10, people, looks=made.looks, events=events, ledger=(born,) if step == 0 else (),
                      timings_ms=made.timings_ms, seq=step)  # fmt: skip
        meter.take(made)
        dashboard.take(made)
    meter.published(2.0)
    return dashboard


def printed(width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(full(console), height=height)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 16)])
def test_it_fits_any_terminal(width: int, height: int) -> None:
    lines = printed(width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_a_plain_terminal_shows_all_facts() -> None:
    text = "\n".join(printed(80, 24))
    for fact in (
        "cam/1 connected", "age 0.12 s", "people in red", "stalled", "no picture for", "connected 2 times",
        "p50", "p99", "published", "decode", "60 of 100", "rate 30, replaced 10", "age 3",
        "followed now: 2", "cyclist", "now", "enters red zone", "#1", "birth", "newcomer",
    ):  # fmt: skip
        assert fact in text, f"{fact!r} is missing in\n{text}"


def test_before_anything_happened_it_says_so() -> None:
    figures = HandFigures(newest_monotonic_ns=None, state="connecting", connections=0)
    meter = HealthMeter("cam/1", figures=figures, clocks=Hands().clocks)
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, color_system=None)
    console.print(Dashboard(meter, console=console), height=24)
    for fact in ("connecting", "nothing is asked", "none so far", "no change so far", "age –"):
        assert fact in out.getvalue()


def test_what_is_no_terminal_gets_lines() -> None:
    out = io.StringIO()
    with full(Console(file=out, width=40)):
        pass  # one line at the start and one at the end, however wide the console thinks that it is
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("cam/1: connected, up ")
    for fact in (
        "60 of 100 used",
        "dropped rate 30, replaced 10",
        "2 followed",
        "2 events",
        "3 looks",
        "p99 made",
    ):
        assert fact in lines[0]


def test_in_a_terminal_it_draws_and_gives_the_screen_back() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True)
    dashboard = full(console).start()
    dashboard.close()
    dashboard.close()
    text = out.getvalue()
    assert text.startswith("\x1b[?1049h")
    assert text.index("\x1b[?1049l") < text.index("60 of 100 used")
    with pytest.raises(RuntimeError, match="started once"):
        dashboard.start()


def test_a_terminal_that_is_gone_ends_the_dashboard_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("gone")

    with full(Console(file=Closed())) as dashboard:
        assert dashboard._thread is not None
        dashboard._thread.join(timeout=20)
        dashboard.take(update(9.0))
    assert "the stream goes on" in caplog.text


def test_names_with_brackets_are_no_markup() -> None:
    figures = HandFigures()
    meter = HealthMeter("cam[red]/1", figures=figures, clocks=Hands().clocks)
    meter.ask({"[bold]": "a [link=x] thing"})
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, color_system=None)
    console.print(drawn(Shown(health=meter.peek(), update=None, now_ns=0)), height=24)
    assert "cam[red]/1" in out.getvalue()
    assert "[bold]  a [link=x] thing" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1:01"),
        (3605, "1:00:05"),
        (86_400 * 12 + 3 * 3600 + 300, "12 d 03:05"),
    ],
)
def test_spans_are_short(seconds: float, words: str) -> None:
    assert _span(seconds) == words


def test_numbers_are_short() -> None:
    assert [_number(n) for n in (950, 9999, 12_345, 4_560_000)] == ["950", "9999", "12.3 k", "4.56 M"]
