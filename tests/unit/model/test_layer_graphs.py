"""Recorded layers give what the layers give, for every number of words and every past."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.layer_graphs import SIZES, CudaRecorder, LayerGraphs, Work
from molmo2_ground.model.prefix import Prefix, answer_together
from molmo2_ground.model.random_checkpoint import Kind, write_random_checkpoint
from molmo2_ground.model.text_layers import run_layers

CLIPS = [
    Clip.from_arrays(np.random.default_rng(n).integers(0, 256, (n + 2, 30, 40, 3), dtype=np.uint8), fps=2.0)
    for n in range(2)
]
QUESTIONS = ("Track it.", "Where is the red car, if there is one?", "How many?")


class Again:
    """Does recorded work once more, as a graph would; obeys `Recorder`."""

    def __init__(self) -> None:
        self.played = 0
        self.recorded = 0

    def __call__(self, work: Work) -> Work:
        self.recorded += 1
        work()

        def play() -> None:
            self.played += 1
            work()

        return play


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Molmo2]:
    names: list[Kind] = ["qwen", "qwen-4b", "olmo"]
    made: dict[str, Molmo2] = {}
    for kind in names:
        folder = tmp_path_factory.mktemp(kind)
        write_random_checkpoint(folder, kind=kind)
        made[kind] = load_checkpoint(folder, device="cpu")
    return made


def answers(model: Molmo2, layers: Any, *, words: int = 12) -> list[tuple[int, ...]]:
    model.layers = layers
    prefixes = [Prefix(model, model.build_visual(clip)) for clip in CLIPS]
    turns = [prefix.turn(text, max_new_tokens=words) for prefix in prefixes for text in QUESTIONS]
    return [answer.token_ids for answer in answer_together(turns, sampling=Sampling())]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen", "qwen-4b", "olmo"])
def test_answers_are_the_same(kind: str, kinds: dict[str, Molmo2]) -> None:
    model, recorder = kinds[kind], Again()
    known = answers(model, None)
    layers = LayerGraphs(model.network.model.language_model, recorder)
    assert answers(model, layers) == known
    assert recorder.played > recorder.recorded
    before = recorder.recorded
    assert answers(model, layers) == known
    assert recorder.recorded == before  # sizes are recorded once


class Alone:
    """A past of the new words alone, each seeing all; obeys `Past`. Notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[torch.Tensor] = []

    def keep(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    def look(self, module: Any, query: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        self.asked.append(query.clone())
        heads = query.shape[1] // kept.shape[1]
        seen = kept.cumsum(2).repeat_interleave(heads, dim=1) + query
        return seen.transpose(1, 2)


def compare(text: Any, graphs: LayerGraphs, count: int, *, tolerance: float) -> None:
    """Both ways twice, with other numbers each time."""
    weight = text.norm.weight
    generator = torch.Generator().manual_seed(count)
    for _ in range(2):
        embeds = torch.randn(count, len(weight), generator=generator).to(weight.device, weight.dtype)
        positions = torch.randint(0, 500, (count,), generator=generator).to(weight.device)
        pasts = Alone(), Alone()
        with torch.inference_mode():
            known = run_layers(text, embeds, positions_Q=positions, past=pasts[0])
            found = graphs(embeds, positions_Q=positions, past=pasts[1])
        torch.testing.assert_close(found, known, atol=tolerance, rtol=tolerance)
        for one, other in zip(pasts[1].asked, pasts[0].asked, strict=True):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 9, SIZES[-1], SIZES[-1] + 1], ids=str)
def test_any_number_of_words(count: int, kinds: dict[str, Molmo2]) -> None:
    for model in kinds.values():
        text: Any = model.network.model.language_model
        recorder = Again()
        compare(text, LayerGraphs(text, recorder), count, tolerance=1e-5)
        assert bool(recorder.recorded) == (count <= SIZES[-1])


@pytest.mark.slow  # the compiler alone takes seconds to load
def test_compiled_steps_give_the_same(kinds: dict[str, Molmo2]) -> None:
    for model in kinds.values():
        text: Any = model.network.model.language_model
        # Traced as for a card; what then runs is torch's own, since not every machine has a C compiler.
        compiler = functools.partial(torch.compile, dynamic=True, backend="aot_eager")
        compare(text, LayerGraphs(text, Again(), compiler=compiler), 3, tolerance=1e-5)


def test_what_was_given_is_kept(kinds: dict[str, Molmo2]) -> None:
    text: Any = kinds["qwen"].network.model.language_model
    graphs = LayerGraphs(text, Again())
    embeds = torch.randn(2, text.embed_tokens.weight.shape[1], generator=torch.Generator().manual_seed(0))
    first = graphs(embeds, positions_Q=torch.tensor([0, 1]), past=Alone())
    before = first.clone()
    graphs(embeds * 3, positions_Q=torch.tensor([5, 6]), past=Alone())
    assert torch.equal(first, before)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen", "qwen-4b", "olmo"])
def test_a_card_plays_what_it_recorded(kind: Kind, tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, kind=kind)
    model = load_checkpoint(tmp_path, device="cuda", dtype="float32")
    graphs = model.layers
    assert isinstance(graphs, LayerGraphs)
    assert answers(model, graphs) == answers(model, None)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 3, 64, SIZES[-1]])
def test_a_card_plays_in_halves(count: int, tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, kind="qwen-4b")
    text: Any = load_checkpoint(tmp_path, device="cuda", dtype="bfloat16").network.model.language_model
    graphs = LayerGraphs(text, CudaRecorder(text.norm.weight.device))
    compare(text, graphs, count, tolerance=0.05)
