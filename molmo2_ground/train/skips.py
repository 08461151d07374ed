"""`skip_tokens`: the few tokens of a track that decide that something is out of sight for a while."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRACKS = re.compile(r'<tracks coords="([^"]*)(">)?')
_KEY = re.compile(r"(?:^|;)([0-9]+\.[0-9])(?= )")


def skip_tokens(pieces: Sequence[str], *, step_s: float = 0.5) -> list[int]:
    """Numbers of the tokens, spelled by `pieces`, that pass over moments or end the track.

    Those of a time more than `step_s` after the one before (of the first one: after 0), and of the mark
    behind the last place. A model that goes on to the next moment by habit gets nearly every other token
    right, so averages hide that it never learnt these.
    """
    text = "".join(pieces)
    spans: list[tuple[int, int]] = []
    for track in _TRACKS.finditer(text):
        before = -step_s
        for key in _KEY.finditer(track[1]):
            if float(key[1]) - before > 1.5 * step_s:
                spans.append((track.start(1) + key.start(1), track.start(1) + key.end(1)))
            before = float(key[1])
        if track[2]:
            spans.append(track.span(2))
    found, start = [], 0
    for number, piece in enumerate(pieces):
        end = start + len(piece)
        if any(first < end and start < last for first, last in spans):
            found.append(number)
        start = end
    return found
