"""`LayerGraphs`: the layers of the language model recorded once as CUDA graphs and played for each run.

A run of a few words waits for its small steps to be told to the card one by one, not for their work. What
does not depend on the past is the same work each time, so it is recorded for some numbers of words (fewer are
filled up); only the past is kept and looked at step by step between two graphs, which leaves caches, masks,
prefixes and the number of answers free. The numbers are those of `run_layers`.
Shapes: Q new tokens, D width of the language model, N heads (of queries, or of the fewer keys and values),
H width of a head.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from molmo2_ground.model.text_layers import (
    Angles,
    Past,
    angles_of,
    asked,
    gone_on,
    last_norm,
    projected,
    run_layers,
)

# Words of a run that are recorded; longer runs are work enough for the card.
SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)

# A process can record one graph at a time; models in other threads wait.
_ONE_AT_A_TIME = threading.Lock()

Work = Callable[[], None]
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


class Recorder(Protocol):
    """Records work on tensors that keep their places."""

    def __call__(self, work: Work) -> Work:
        """What does the same work again, with what then lies in these places."""
        ...


class CudaRecorder:
    """Records CUDA graphs, all with one pool of memory, for they never run at the same time.

    And on one stream of its device: torch's own for recordings belongs to the card that it was first used on,
    and each further one would keep a workspace for matrix products.
    """

    def __init__(self, device: torch.device) -> None:
        """Record on one device."""
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """As `Recorder`."""
        with _ONE_AT_A_TIME, torch.cuda.device(self._device):
            # Once outside, so that libraries set themselves up, which a recording forbids.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                work()
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the card: a camera's decoder, a segmenter.
            options: dict[str, Any] = {"stream": self._stream, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(graph, pool=self._pool, **options):
                work()
        return graph.replay


class LayerGraphs:
    """Obeys `RunLayers` for one network, whose weights stay where they are.

    A number of words is recorded when it is first run.
    """

    def __init__(self, text: Any, recorder: Recorder, *, compiler: Compiler | None = None) -> None:
        """Take the library's `Molmo2TextModel`.

        compiler: joins the small steps between matrix products before they are recorded, such as
        `functools.partial(torch.compile, dynamic=True)`, which takes about half a minute at the first run.
        """
        self._text, self._recorder = text, recorder
        self._asked = asked if compiler is None else compiler(asked)
        self._gone_on = gone_on if compiler is None else compiler(gone_on)
        self._places = _Places(text, SIZES[-1])
        self._plays: dict[int, list[Work]] = {}

    @torch.inference_mode()
    def __call__(
        self, embeds_QD: torch.Tensor, *, positions_Q: torch.Tensor, past: Past[Any]
    ) -> torch.Tensor:
        """As `RunLayers`."""
        count, places = len(embeds_QD), self._places
        if count > SIZES[-1]:
            return run_layers(self._text, embeds_QD, positions_Q=positions_Q, past=past)
        plays = self._recorded(SIZES[bisect.bisect_left(SIZES, count)])
        places.hidden[:count] = embeds_QD
        for kind, angles in angles_of(self._text, embeds_QD, positions_Q).items():
            for place, numbers in zip(places.angles[kind], angles, strict=True):
                place[:count] = numbers
        for layer, play in zip(self._text.layers, plays, strict=False):  # one more comes behind the last
            play()
            query, key, value = (part[:count].transpose(0, 1)[None] for part in places.asked)
            kept = past.keep(layer.self_attn, key, value)
            places.looked[:, :count] = past.look(layer.self_attn, query, kept)
        plays[-1]()
        reached: torch.Tensor = places.hidden[:count].clone()  # the next run writes over it
        return reached

    def _recorded(self, size: int) -> list[Work]:
        if size not in self._plays:
            layers, kinds = list(self._text.layers), self._text.rope_types
            pairs = zip([None, *layers], [*layers, None], [*kinds, None], strict=True)
            works = [functools.partial(self._between, *pair, size=size) for pair in pairs]
            try:
                self._plays[size] = [self._recorder(work) for work in works]
            except BaseException:
                # Graphs that go take workspaces along which the others use (pytorch/pytorch issue 193402).
                self._plays.clear()
                raise
        return self._plays[size]

    def _between(self, before: Any, layer: Any, kind: str | None, *, size: int) -> None:
        """The work between two looks at the past: hidden states behind one layer, what the next one asks."""
        places = self._places
        hidden = places.hidden[:size]
        if before is not None:
            hidden.copy_(self._gone_on(before, hidden, projected(before, places.looked[:, :size])))
        if layer is None:
            hidden.copy_(last_norm(self._text, hidden))
            return
        assert kind is not None
        angles = Angles._make(part[:size] for part in places.angles[kind])
        for place, part in zip(places.asked, self._asked(layer, hidden, angles), strict=True):
            place[:size].copy_(part[0].transpose(0, 1))


class _Places:
    """Where what goes in and comes out lies, for so many words at most; [Q, D], [1, Q, N, H], [Q, N, H]."""

    def __init__(self, text: Any, words: int) -> None:
        weight = text.norm.weight
        attention = text.layers[0].self_attn
        heads, shared = attention.config.num_attention_heads, attention.config.num_key_value_heads
        with torch.inference_mode():
            self.hidden = weight.new_zeros(words, len(weight))
            self.looked = weight.new_zeros(1, words, heads, attention.head_dim)
            self.asked: Sequence[torch.Tensor] = [
                weight.new_zeros(words, own, attention.head_dim) for own in (heads, shared, shared)
            ]
            positions = torch.zeros(words, dtype=torch.int64, device=weight.device)
            self.angles = angles_of(text, self.hidden, positions)
