"""A result said in a sentence or two."""

from __future__ import annotations

from molmo2_ground._amount import amount
from molmo2_ground.render import Result, Timeline
from molmo2_ground.render.text import clock
from molmo2_ground.results import Answer, Count, Points, Tracks


def in_words(result: Result) -> str:
    """What was found, for a reader who sees nothing else."""
    if isinstance(result, Count):
        return _counted(result)
    if isinstance(result, Tracks):
        return _followed(result)
    if isinstance(result, Points):
        return _pointed(result)
    return _answered(result)


def cautions(result: Result) -> tuple[str, ...]:
    """What a reader should know before trusting the result, one sentence each; empty when there is
    nothing.
    """
    receipt = result.receipt
    report = receipt.report
    said = []
    if report.truncated:
        said.append("The answer was cut off at the token limit; there may have been more.")
    if report.repeats_cut:
        said.append(f"The answer repeated itself; {_number(report.repeats_cut, 'repeat')} left out.")
    if report.rejected:
        said.append(f"{amount(len(report.rejected), 'piece')} of the answer could not be used; see below.")
    if isinstance(result, Count) and not result.agrees:
        said.append(f"The text says {result.stated}, but {_number(result.value, 'place')} pointed at.")
    said += [f"{line[:1].upper()}{line[1:].rstrip('.')}." for line in (*receipt.lost, *receipt.notes) if line]
    return tuple(said)


def _counted(count: Count) -> str:
    if count.value == 0:
        return "Counted none."
    if len(count.points) == 0:
        return f"Counted {count.value}, without pointing at them."
    return f"Counted {count.value}{_moments(count.points)}."


def _followed(tracks: Tracks) -> str:
    timeline = Timeline(tracks)
    if not timeline.legs:
        return "Found none."
    seen_s = sorted({round(time_s, 4) for leg in timeline.legs for time_s in leg.times_s})
    looked = len(timeline.looked_s)
    who = "One object" if len(tracks) == 1 else f"{len(tracks)} objects"
    frames = f"seen in {len(seen_s)} of the {looked} frames that the model looked at"
    return f"{who} followed, {frames}, {_span(seen_s[0], seen_s[-1])}."


def _pointed(points: Points) -> str:
    if len(points) == 0:
        return "Found none."
    return f"Found {len(points)}{_moments(points)}."


def _answered(answer: Answer) -> str:
    return answer.text.strip() or "The model wrote nothing."


def _moments(points: Points) -> str:
    times_s = sorted({point.time_s for point in points if point.time_s is not None})
    if times_s:
        return f", {_span(times_s[0], times_s[-1])}"
    images = {point.source_index for point in points}
    return f", in {len(images)} images" if len(images) > 1 else ""


def _span(first_s: float, last_s: float) -> str:
    return f"at {clock(first_s)}" if first_s == last_s else f"from {clock(first_s)} to {clock(last_s)}"


def _number(count: int, noun: str) -> str:
    return f"1 {noun} was" if count == 1 else f"{count} {noun}s were"
