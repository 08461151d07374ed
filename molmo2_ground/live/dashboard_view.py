"""How the dashboard looks: one still of a stream, drawn with rich for a terminal of 80 x 24 or more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich import box
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from molmo2_ground._amount import amount
from molmo2_ground.live.latency import STAGES
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.update import LiveTrack, Update, WatchEvent
from molmo2_ground.messages.health import HealthMessage, StatusEvent

_STATE_STYLES = {
    "connecting": "yellow", "connected": "green", "stalled": "yellow", "reconnecting": "yellow",
    "ended": "bright_black", "failed": "red",
}  # fmt: skip
_LEDGER_STYLES = {"birth": "green", "return": "cyan", "merge": "yellow", "death": "red"}
_COLOURS = ("cyan", "magenta", "yellow", "green", "bright_blue", "bright_red", "bright_white")
_BARS = " ▁▂▃▄▅▆▇█"
_DIM, _BORDER = "bright_black", "grey37"
_MAP_PX = (18, 5)  # of characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is drawn.

    changes    of the camera's state, the newest last. ages_ms: of the last updates, in order.
    told       what watches saw and when it was told (unix nanoseconds: a camera's clock may be another), the
               newest last; ledger: likewise. now_ns: unix.
    """

    health: HealthMessage
    update: Update | None
    changes: Sequence[StatusEvent] = ()
    told: Sequence[tuple[int, WatchEvent]] = ()
    ledger: Sequence[LedgerEntry] = ()
    ages_ms: Sequence[float] = field(default=())
    now_ns: int


def drawn(shown: Shown) -> RenderableType:
    """The whole picture."""
    whole = Layout()
    questions = list(_questions(shown.health))
    whole.split_column(
        Layout(_head(shown), size=1),
        Layout(Group(*questions), size=len(questions)),
        Layout(name="top", ratio=1),
        Layout(name="middle", ratio=1),
        Layout(name="bottom", ratio=1),
    )
    whole["top"].split_row(
        Layout(_panel("camera", _camera(shown)), ratio=1),
        Layout(_panel("latency, ms", _latency(shown)), ratio=1),
    )
    whole["middle"].split_row(
        Layout(_panel(f"followed now: {_count(shown)}", _followed(shown)), ratio=1),
        Layout(_panel("pictures and looks", _figures(shown.health)), ratio=1),
    )
    whole["bottom"].split_row(
        Layout(_panel("events", _told(shown)), ratio=1), Layout(_panel("identities", _ledger(shown)), ratio=1)
    )
    return whole


def status_line(shown: Shown) -> str:
    """The same in one line, for a log."""
    health = shown.health
    dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(health.dropped.items())) or "none"
    made = health.latency_ms.get("made")
    return (
        f"{health.source}: {health.state}, up {_span(health.uptime_s)}, "
        f"{health.extra['updates_per_s']:.1f} updates/s, picture {_age(health.frame_age_ms)} old, "
        f"{health.taken} of {health.received} used, dropped {dropped}, {_count(shown)} followed, "
        f"{amount(health.extra['watch_events'], 'event')}, {amount(health.extra['looked'], 'look')}, "
        f"{amount(health.tokens, 'token')}" + (f", p99 made {_ms(made['p99'])} ms" if made else "")
    )


def _panel(title: str, inside: RenderableType) -> Panel:
    return Panel(
        inside,
        title=Text(title, style="bold default"),
        title_align="left",
        box=box.ROUNDED,
        border_style=_BORDER,
        padding=(0, 1),
    )


def _head(shown: Shown) -> RenderableType:
    health, style = shown.health, _STATE_STYLES[shown.health.state]
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    row.add_column(no_wrap=True, justify="right")
    stale = shown.update is not None and shown.now_ns > shown.update.valid_until_ns
    left = Text.assemble((" ● ", style), (health.source, "bold"), " ", (health.state, f"bold {style}"))
    right = Text.assemble(
        (f"{health.extra['updates_per_s']:.1f}", "bold"), ("/s   age ", _DIM),
        (_age(health.frame_age_ms), "bold red" if stale else "bold"), ("   up ", _DIM),
        (_span(health.uptime_s), "bold"), " ",
    )  # fmt: skip
    row.add_row(left, right)
    return row


def _questions(health: HealthMessage) -> Iterable[Text]:
    """At most two lines; how many more there are is said."""
    asked = list(health.questions.items())
    if not asked:
        yield Text("   nothing is asked", style=_DIM)
    for number, (name, words) in enumerate(asked[:2]):
        more = f"  and {len(asked) - 2} more" if number == 1 and len(asked) > 2 else ""
        label = () if name == words else ((f"{name}  ", "cyan"),)
        line = Text.assemble(("   ? ", "cyan"), *label, words, (more, _DIM))
        line.no_wrap, line.overflow = True, "ellipsis"
        yield line


def _rows(*columns: str) -> Table:
    """A table without lines; `<` left, `>` right, `*` left and as wide as there is room."""
    table = Table.grid(padding=(0, 1), expand=True)
    for column in columns:
        table.add_column(
            justify="right" if column == ">" else "left",
            ratio=1 if column == "*" else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _camera(shown: Shown) -> RenderableType:
    health = shown.health
    table = _rows("<", "*")
    age = Text.assemble((_age(health.frame_age_ms), "bold"), "  ", (_sparks(shown.ages_ms), "cyan"))
    table.add_row(Text("picture", style=_DIM), age)
    table.add_row(
        Text("connected", style=_DIM), f"{health.connections} time{'s' * (health.connections != 1)}"
    )
    for change in reversed(shown.changes):
        attempt = f" ({change.attempt})" if change.attempt else ""
        said = Text.assemble((change.state + attempt, _STATE_STYLES[change.state]), f" {change.reason}")
        table.add_row(Text(_ago(shown.now_ns - change.at_ns), style=_DIM), said)
    return table


def _latency(shown: Shown) -> RenderableType:
    table = _rows("<", ">", ">", ">")
    table.add_row("", *(Text(name, style=_DIM) for name in ("p50", "p99", "max")))
    found = shown.health.latency_ms
    # What there is no room for is left out from the end: the whole and our own steps come first.
    first = ("made", "published", "decode", "prefill", "vision", "carried", "decoded", "received")
    assert set(first) == set(STAGES)
    for stage in [name for name in first if name in found] + [name for name in found if name not in first]:
        quantiles = found[stage]
        # The model takes the time that it takes; of our own steps a slow one stands out.
        ours = stage not in ("vision", "prefill", "decode")
        values = (
            Text(_ms(quantiles[name]), style=_heat(quantiles[name]) if ours else "")
            for name in ("p50", "p99", "max")
        )
        table.add_row(Text(stage, style=_DIM), *values)
    if not found:
        table.add_row(Text("nothing measured in the last minute", style=_DIM), "", "", "")
    return table


def _count(shown: Shown) -> int:
    return 0 if shown.update is None else len(shown.update.tracks)


def _colour(track_id: int) -> str:
    return _COLOURS[track_id % len(_COLOURS)]


def _followed(shown: Shown) -> RenderableType:
    if shown.update is None or not shown.update.tracks:
        return Text("nothing", style=_DIM)
    both = Table.grid(padding=(0, 1), expand=True)
    both.add_column(width=_MAP_PX[0])
    both.add_column(ratio=1)
    table = _rows(">", "*", ">")
    for track in shown.update.tracks:
        seen_s = (shown.update.stamp_ns - track.observed_ns) / 1e9
        style = _DIM if track.state == "predicted" else ""
        seen = Text("now", style="green") if track.state == "observed" else Text(_short(seen_s), style=_DIM)
        table.add_row(Text(f"{track.object_id}", style=f"bold {_colour(track.object_id)}"),
                      Text(track.label, style=style), seen)  # fmt: skip
    both.add_row(_map(shown.update.tracks), table)
    return both


def _map(tracks: Sequence[LiveTrack]) -> Text:
    """Where things are in the picture."""
    width, height = _MAP_PX
    cells: dict[tuple[int, int], LiveTrack] = {}
    for track in tracks:
        column, row = int(track.x_norm * width), int(track.y_norm * height)
        cells[min(max(row, 0), height - 1), min(max(column, 0), width - 1)] = track
    text = Text(no_wrap=True)
    for row in range(height):
        for column in range(width):
            there = cells.get((row, column))
            if there is None:
                text.append("·" if (row + column) % 2 == 0 else " ", style="grey23")
            else:
                mark = "○" if there.state == "predicted" else "●"
                text.append(mark, style=f"bold {_colour(there.object_id)}")
        if row < height - 1:
            text.append("\n")
    return text


def _figures(health: HealthMessage) -> RenderableType:
    table = _rows("<", "*")

    def row(name: str, *parts: str | tuple[str, str]) -> None:
        table.add_row(Text(name, style=_DIM), Text.assemble(*parts))

    row("used", (_number(health.taken), "bold"), f" of {_number(health.received)}")
    row("dropped", _by_reason(health.dropped) or "none")
    row("looks", (_number(health.extra["looked"]), "bold"), f" {_by_reason(health.looks)}")
    row("tokens", (_number(health.tokens), "bold"))
    errors = _by_reason(health.extra["parse_errors"])
    row("unread", (errors, "red") if errors else ("nothing", ""))
    return table


def _told(shown: Shown) -> RenderableType:
    if not shown.told:
        return Text("none so far", style=_DIM)
    table = _rows("<", "*", ">")
    for told_ns, event in reversed(shown.told):
        ago = Text(_ago(shown.now_ns - told_ns), style=_DIM)
        thing = Text(f"#{event.event.object_id}", style=_colour(event.event.object_id))
        table.add_row(ago, Text(event.watch, style="bold"), thing)
    return table


def _ledger(shown: Shown) -> RenderableType:
    if not shown.ledger:
        return Text("no change so far", style=_DIM)
    table = _rows("<", ">", "*")
    for entry in reversed(shown.ledger):
        into = "" if entry.into is None else f" into {entry.into}"
        thing = Text(f"#{entry.object_id}{into}", style=_colour(entry.object_id))
        table.add_row(
            Text(entry.kind, style=_LEDGER_STYLES[entry.kind]), thing, Text(entry.reason, style=_DIM)
        )
    return table


def _by_reason(counts: dict[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{reason} {_number(count)}" for reason, count in ranked)


def _sparks(values: Sequence[float]) -> str:
    """One bar a value, from 0 to the highest; values that are all the same are half high."""
    most = max(max(values, default=0.0), 2 * median(values or [0.0])) or 1.0
    return "".join(_BARS[max(0, min(8, round(8 * value / most)))] for value in values)


def _heat(ms: float) -> str:
    return "" if ms < 200 else "yellow" if ms < 1000 else "red"


def _ms(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{ms:,.0f}"


def _age(ms: float | None) -> str:
    return "–" if ms is None else f"{ms / 1e3:.2f} s" if ms < 10_000 else _span(ms / 1e3)


def _span(seconds: float) -> str:
    """`4 s`, `12:31`, `3:05:00`, `12 d 03:05`."""
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    hours, minutes = divmod(rest // 60, 60)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d}"
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}" if minutes else f"{whole} s"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else _span(seconds)


def _ago(ns: int) -> str:
    return f"-{_span(max(0, ns) / 1e9)}"


def _number(count: int) -> str:
    """`950`, `12.3 k`, `4.56 M`."""
    if count < 10_000:
        return str(count)
    return f"{count / 1e3:.1f} k" if count < 1_000_000 else f"{count / 1e6:.2f} M"
