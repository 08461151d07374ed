"""`PromptOrder`: a prompt's tokens run with those of pictures first, which may all look at each other.

So nearly all of what a prompt looks at needs no mask: pictures see the tokens before these and the pictures,
whole; only the few words between frames are looked at, and look, under the rule. Nobody's position changes,
and who reads the prompt later sees all of it, in whatever order its keys lie.
Shapes: L tokens of the past and new, Q new ones.
"""

from __future__ import annotations

import torch

from molmo2_ground.model.attention import Tokens, may_look


class PromptOrder:
    """The order of a prompt's new tokens, those of pictures first."""

    def __init__(self, visual_L: torch.Tensor, *, start: int) -> None:
        """Tell pictures and words apart. visual_L: bool[L] over all tokens; those from `start` on are new."""
        new = visual_L[start:]
        places = torch.arange(start, len(visual_L), device=visual_L.device)
        self.positions_Q = torch.cat([places[new], places[~new]])
        self.pictures = int(new.sum())
        self._start = start
        before = torch.arange(start, device=visual_L.device)
        every = torch.cat([before, self.positions_Q])
        self._tokens = Tokens(place=every, visual=visual_L[every])

    def sorted(self, new_QD: torch.Tensor) -> torch.Tensor:
        """Rows of the new tokens in this order."""
        return new_QD[self.positions_Q - self._start]

    def restored(self, sorted_QD: torch.Tensor) -> torch.Tensor:
        """Rows in this order as they stand in the prompt."""
        restored = torch.empty_like(sorted_QD)
        restored[self.positions_Q - self._start] = sorted_QD
        return restored

    def rule_of_pictures(self) -> PromptRule:
        """What the new tokens of pictures may look at."""
        return PromptRule(self._tokens, first=self._start, free=self._start + self.pictures)

    def rule_of_words(self) -> PromptRule:
        """What the new words between them may look at: of the past everything, which came before."""
        return PromptRule(self._tokens, first=self._start + self.pictures, free=self._start)


class PromptRule:
    """The attention rule over a prompt, in its order; obeys `Rule`."""

    def __init__(self, tokens: Tokens, *, first: int, free: int) -> None:
        """Count rows from `first` on; all may look at the first `free` tokens."""
        self._rows = Tokens._make(None if part is None else part[first:, None] for part in tokens)
        self._columns = Tokens._make(None if part is None else part[None, free:] for part in tokens)
        self.free = free

    def rows(self, start: int, stop: int) -> torch.Tensor | None:
        """As `Rule`."""
        if not self._columns.place.shape[1]:
            return None
        asked = Tokens._make(None if part is None else part[start:stop] for part in self._rows)
        return may_look(asked, self._columns)
