from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from molmo2_ground.errors import BackendError
from molmo2_ground.model import Molmo2
from molmo2_ground.model.decoding import Sampling, choose, embed

LOGITS = torch.tensor([0.5, 0.1, 0.3, 0.1]).log()


def drawn(sampling: Sampling, count: int = 400) -> np.ndarray:
    generator = torch.Generator().manual_seed(sampling.seed)
    words = [choose(LOGITS, sampling=sampling, generator=generator) for _ in range(count)]
    return np.bincount(words, minlength=4) / count


def test_greedy_takes_the_likeliest_and_the_first_of_equals() -> None:
    generator = torch.Generator()
    assert choose(LOGITS, sampling=Sampling(), generator=generator) == 0
    assert choose(torch.zeros(5), sampling=Sampling(), generator=generator) == 0


def test_sampling_follows_the_chances() -> None:
    assert np.abs(drawn(Sampling(temperature=1.0, seed=1)) - [0.5, 0.1, 0.3, 0.1]).max() < 0.07


def test_however_small_a_temperature_is_it_takes_the_likeliest() -> None:
    assert drawn(Sampling(temperature=1e-320, seed=1), 20)[0] == 1.0


def test_temperature_sharpens() -> None:
    assert drawn(Sampling(temperature=0.2, seed=1))[0] > 0.85


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        pytest.param(0.4, [0], id="one-word-always-stays"),
        pytest.param(0.55, [0, 2], id="the-word-that-reaches-it-stays"),
        pytest.param(0.85, [0, 1, 2], id="first-of-equals"),
        pytest.param(1.0, [0, 1, 2, 3], id="all"),
    ],
)
def test_top_p_keeps_the_likeliest(top_p: float, kept: list[int]) -> None:
    found = drawn(Sampling(temperature=1.0, top_p=top_p, seed=5))
    assert np.flatnonzero(found).tolist() == kept


def test_a_seed_repeats() -> None:
    same = [drawn(Sampling(temperature=1.0, seed=3), 50).tolist() for _ in range(2)]
    assert same[0] == same[1] != drawn(Sampling(temperature=1.0, seed=4), 50).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_out_of_range_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(BackendError, match="bfloat16"):
        choose(
            torch.tensor([0.0, bad]),
            sampling=Sampling(temperature=temperature),
            generator=torch.Generator(),
        )


@pytest.mark.parametrize(
    "arguments",
    [{"temperature": -0.1}, {"temperature": math.nan}, {"top_p": 0.0}, {"top_p": 1.1}],
    ids=["negative", "nan", "nothing-kept", "above-one"],
)
def test_wrong_sampling_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Sampling(**arguments)  # type: ignore[arg-type]  # a table of floats


def test_features_and_patch_tokens_must_match(model: Molmo2) -> None:
    with pytest.raises(ValueError, match="1 patch tokens need as many features; got 2"):
        embed(
            model.network,
            torch.tensor([1, 302]),
            patch_L=torch.tensor([False, True]),
            features_TD=torch.zeros(2, 48),
        )
