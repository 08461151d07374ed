"""`OpenMedia`: the files that a group of examples is about, each open while it is asked about."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from molmo2_ground.asking import Asking
from molmo2_ground.eval.example import Example, Suite
from molmo2_ground.query import Decoding
from molmo2_ground.replay import Result

if TYPE_CHECKING:
    from molmo2_ground.grounder import Grounder
    from molmo2_ground.session import Session


class OpenMedia:
    """Opens a file when the first question about it starts, and closes it behind the last; a context manager.

    folder: where the suite makes media for this process; it is gone at the end.
    """

    def __init__(
        self, grounder: Grounder, suite: Suite, examples: Sequence[Example], *, scratch: Path
    ) -> None:
        self._grounder = grounder
        self._suite = suite
        self._left = Counter(str(example.media) for example in examples)
        self._sessions: dict[str, dict[Path, Session]] = {}
        self.folder = scratch / str(os.getpid())

    def asking(self, example: Example, *, decoding: Decoding) -> Asking[Result]:
        """An example's question on its way to its answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._suite.prepare(example, self.folder)
        # Examples about one file may be about different parts of it.
        sessions = self._sessions.setdefault(str(example.media), {})
        if path not in sessions:
            sessions[path] = self._grounder.open(path)
        return (yield from sessions[path].asking(example.query, decoding=decoding))

    def done(self, example: Example) -> None:
        """An example has been answered, or has failed."""
        media = str(example.media)
        self._left[media] -= 1
        if not self._left[media]:
            self._close(media)

    def close(self) -> None:
        """Let go of everything; closing again does nothing."""
        for media in list(self._sessions):
            self._close(media)
        shutil.rmtree(self.folder, ignore_errors=True)  # a file that cannot go now goes with the run

    def _close(self, media: str) -> None:
        for session in self._sessions.pop(media, {}).values():
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
