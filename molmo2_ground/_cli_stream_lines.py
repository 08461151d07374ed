"""What `stream` prints for people: a line for each answer, for events, and for who came and went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from molmo2_ground._amount import amount

if TYPE_CHECKING:
    from molmo2_ground.live.update import Look, Update, WatchEvent
    from molmo2_ground.sources.feeds.waiting_room import Totals

_MOST_NAMED = 6


def lines_of(update: Update) -> Iterator[str]:
    """The lines of one update; none for one in which nothing new was learnt."""
    when = f"{update.time_s:8.1f} s"
    for look in update.looks:
        yield f"{when}  {_look(look, update)}"
    for entry in update.ledger:
        into = "" if entry.into is None else f" into #{entry.into}"
        yield f"{when}  {entry.question}: {entry.kind} of #{entry.object_id}{into}: {entry.reason}"
    for event in update.events:
        yield f"{when}  {event_line(event)}"


def _look(look: Look, update: Update) -> str:
    asked = f"asked for {', '.join(look.reasons)}; {(look.answered_ns - look.asked_ns) / 1e9:.1f} s"
    if look.result is None:
        return f"{look.question}: no answer ({asked}): {look.error}"
    from molmo2_ground.results import Count, Points

    if isinstance(look.result, Count):
        return f"{look.question}: {look.result.value} ({asked})"
    if isinstance(look.result, Points):
        places = [f"({point.x_px:.0f}, {point.y_px:.0f})" for point in look.result]
    else:
        places = [f"#{t.object_id} ({t.x_px:.0f}, {t.y_px:.0f})" for t in update.of(look.question)]
    more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
    return f"{look.question}: {' '.join(places[:_MOST_NAMED]) or 'none'}{more} ({asked})"


def event_line(event: WatchEvent) -> str:
    """What a watch saw: `someone enters the yard: #3 person entered the yard [clip.mp4]`."""
    from molmo2_ground.analytics.events import what_happened

    clip = f" [{event.clip}]" if event.clip is not None else ""
    who = f"#{event.event.object_id} {event.event.label}"
    return f"{event.watch}: {who} {what_happened(event.event)}{clip}"


def nothing_line(totals: Totals, *, trouble: str, name: str) -> str:
    """Why there was no update: what came and what became of it, and why the source was lost, if it was."""
    if not totals.received:
        return f"no picture came from {name}{f': {trouble}' if trouble else ''}"
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.dropped.items()) if count)
    became = f"none could be used: {counts}" if counts else "none was used"
    came = f"{amount(totals.received, 'picture')} came from {name}, {became}"
    return f"{came}; {trouble}" if trouble else came
