"""Charts for the report, as SVG that takes its colours from the page; all of them go from 0 to 100 %."""

from __future__ import annotations

from collections.abc import Sequence

from molmo2_ground.eval.groups import Group
from molmo2_ground.eval.words import between, examples, percent
from molmo2_ground.viewer.markup import escaped

_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 34, 66
_ROW = 30
_LABEL_WIDTH = 150
_BINS = 10


def by_number(groups: Sequence[Group], *, title: str, x_label: str) -> str:
    """A dot with its interval for each group, in order, the number of examples beneath."""
    step = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    spots = [(_LEFT + (i + 0.5) * step, _y(group.value)) for i, group in enumerate(groups)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts = [_opened(_HEIGHT, title, f"by {x_label}"), *_grid(), f'<polyline points="{line}" class="join"/>']
    for group, (x, y) in zip(groups, spots, strict=True):
        parts.append(
            f'<g class="{"" if group.telling else "guess"}"><title>{escaped(_told(group))}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_y(group.low):.1f}" y2="{_y(group.high):.1f}" '
            f'class="range"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" class="dot"/>'
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" class="tick" text-anchor="middle">'
            f"{escaped(group.label)}</text>"
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 33}" class="few" text-anchor="middle">'
            f"n = {group.examples}</text></g>"
        )
    return "\n".join([*parts, _named_below(x_label), "</svg>"])


def spread(scores: Sequence[float], *, title: str) -> str:
    """How many examples reached which score: ten bars of equal width."""
    counts = [0] * _BINS
    for score in scores:
        counts[min(_BINS - 1, max(0, int(score * _BINS)))] += 1
    most = max(counts)
    step = (_WIDTH - _LEFT - _RIGHT) / _BINS
    parts = [_opened(_HEIGHT, title, "how many examples reached which score")]
    for i, count in enumerate(counts):
        x, y = _LEFT + i * step, _y(0.94 * count / most)
        words = f"{count} of {len(scores)} examples score {10 * i} to {10 * (i + 1)} %"
        parts.append(
            f'<g><title>{escaped(words)}</title><rect x="{x + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" '
            f'height="{max(0.0, _y(0) - y):.1f}" rx="2" class="fill"/>'
            f'<text x="{x + step / 2:.1f}" y="{y - 5:.1f}" class="few" text-anchor="middle">'
            f"{count or ''}</text></g>"
        )
    for i in range(0, _BINS + 1, 2):
        parts.append(
            f'<text x="{_LEFT + i * step:.1f}" y="{_HEIGHT - _BOTTOM + 17}" class="tick" '
            f'text-anchor="middle">{10 * i}</text>'
        )
    parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(0)}" y2="{_y(0)}" class="grid"/>')
    return "\n".join([*parts, _named_below("score of one example, %; above each bar: how many"), "</svg>"])


def by_category(groups: Sequence[Group], *, title: str) -> str:
    """A bar with its interval for each group."""
    height = _TOP + len(groups) * _ROW + 12
    room = _WIDTH - _LABEL_WIDTH - 76
    parts = [
        _opened(height, title, "by kind"),
        f'<text x="{_WIDTH - 2}" y="18" class="few" text-anchor="end">n</text>',
    ]
    for row, group in enumerate(groups):
        middle = _TOP + (row + 0.5) * _ROW
        low, value, high = (_LABEL_WIDTH + room * share for share in (group.low, group.value, group.high))
        label = group.label if len(group.label) <= 22 else group.label[:21] + "…"
        parts.append(
            f'<g class="{"" if group.telling else "guess"}"><title>{escaped(_told(group))}</title>'
            f'<text x="{_LABEL_WIDTH - 8}" y="{middle + 4:.1f}" class="tick" text-anchor="end">'
            f"{escaped(label)}</text>"
            f'<rect x="{_LABEL_WIDTH}" y="{middle - 8:.1f}" width="{room}" height="16" rx="3" class="rail"/>'
            f'<rect x="{_LABEL_WIDTH}" y="{middle - 8:.1f}" width="{max(0.0, value - _LABEL_WIDTH):.1f}" '
            f'height="16" rx="3" class="fill"/>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" class="range"/>'
            f'<text x="{_WIDTH - 70}" y="{middle + 4:.1f}" class="tick">{percent(group.value)}</text>'
            f'<text x="{_WIDTH - 2}" y="{middle + 4:.1f}" class="few" text-anchor="end">'
            f"{group.examples}</text></g>"
        )
    return "\n".join([*parts, "</svg>"])


def whisker(value: float, low: float, high: float) -> str:
    """A small picture of one score and its interval on a line from 0 to 100 %."""
    x = [4 + 152 * min(1.0, max(0.0, share)) for share in (low, value, high)]
    return (
        '<svg class="whisker" viewBox="0 0 160 18" aria-hidden="true">'
        '<line x1="4" x2="156" y1="9" y2="9" class="rail"/>'
        f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="9" y2="9" class="range"/>'
        f'<circle cx="{x[1]:.1f}" cy="9" r="5" class="dot"/></svg>'
    )


def _told(group: Group) -> str:
    return (
        f"{group.label}: {percent(group.value)}, between {between(group.low, group.high)}, "
        f"{examples(group.examples)}"
    )


def _opened(height: int, title: str, about: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escaped(f"{title}, {about}")}">'
        f'<text x="2" y="18" class="title">{escaped(title)}</text>'
    )


def _grid() -> list[str]:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">{100 * share:.0f} %</text>'
        )
    return parts


def _named_below(x_label: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    place = f'x="{middle:.1f}" y="{_HEIGHT - 8}"'
    return f'<text {place} class="name" text-anchor="middle">{escaped(x_label)}</text>'


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share
