"""`Trails`: where each thing was during the last moments, for drawing."""

from __future__ import annotations

from collections import deque

from molmo2_ground.live.update import Update

Path = tuple[tuple[float, float], ...]


class Trails:
    """Remembers places of what is followed, for `length_s` seconds and at most `most` of each thing.

    A trail begins anew with each connection: between two of them nothing was seen.
    """

    def __init__(self, *, length_s: float = 2.0, most: int = 64) -> None:
        self._length_ns, self._most = round(length_s * 1e9), most
        self._places: dict[int, deque[tuple[int, float, float]]] = {}
        self._epoch: int | None = None

    def take(self, update: Update) -> dict[int, Path]:
        """The trail of each thing in the update, by object id: places in pixels, the newest last."""
        if update.epoch != self._epoch:
            self._epoch = update.epoch
            self._places.clear()
        for track in update.tracks:
            row = self._places.setdefault(track.object_id, deque(maxlen=self._most))
            row.append((update.stamp_ns, track.x_px, track.y_px))
        oldest_ns = update.stamp_ns - self._length_ns
        for object_id, row in tuple(self._places.items()):
            while row and row[0][0] < oldest_ns:
                row.popleft()
            if not row:
                del self._places[object_id]
        present = {track.object_id for track in update.tracks}
        return {
            name: tuple((x, y) for _, x, y in row) for name, row in self._places.items() if name in present
        }
