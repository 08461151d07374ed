from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from molmo2_ground.masks.mask_policy import MaskChoice, Policy, preferred
from molmo2_ground.masks.sam2 import Sam2, load_sam2
from molmo2_ground.masks.sam_random import write_random_sam2
from tests.small_sam import SHORT_MEMORY, assert_same, frames, point, walked


def squares(*sides: int) -> torch.Tensor:
    """Masks [M, 8, 8] of squares of these sides from the upper left."""
    masks = torch.full((len(sides), 8, 8), -1.0)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = 1.0
    return masks


@pytest.mark.parametrize(
    ("policy", "scores", "sides", "expected"),
    [
        pytest.param("best", [0.5, 0.9, 0.8], [2, 4, 6], 1, id="best-is-the-score"),
        pytest.param("part", [0.8, 0.9, 0.8], [2, 4, 6], 0, id="part-is-the-smallest"),
        pytest.param("whole", [0.8, 0.9, 0.8], [2, 4, 6], 2, id="whole-is-the-largest"),
        pytest.param("whole", [0.8, 0.9, 0.8], [6, 4, 2], 0, id="whole-in-any-order"),
        pytest.param("whole", [0.8, 0.9, 0.6], [2, 4, 6], 1, id="a-poor-whole-is-left"),
        pytest.param("part", [0.6, 0.9, 0.8], [2, 4, 6], 1, id="a-poor-part-is-left"),
        pytest.param("whole", [0.8, 0.9, 0.675], [2, 4, 6], 2, id="the-share-itself-is-enough"),
        pytest.param("part", [0.8, 0.9, 0.8], [1, 4, 6], 1, id="a-part-beside-the-click-is-left"),
        pytest.param("part", [0.8, 0.9, 0.8], [0, 0, 0], 1, id="none-holds-the-click"),
    ],
)
def test_which_mask_is_taken(policy: Policy, scores: list[float], sides: list[int], expected: int) -> None:
    # The click lies in cell (1, 1) of 8 x 8.
    taken = preferred(torch.tensor(scores), squares(*sides), policy=policy, x=1.5 / 8, y=1.5 / 8)
    assert taken == expected


def test_a_click_on_the_far_edge_is_in_the_last_cell() -> None:
    assert preferred(torch.tensor([0.9, 0.8]), squares(4, 8), policy="part", x=1.0, y=1.0) == 1


def test_another_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="policy is one of best, part, whole; got 'all'"):
        MaskChoice("all")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam2(tmp_path_factory.mktemp("sam2"), **SHORT_MEMORY)


@pytest.fixture(scope="module")
def sams(folder: Path) -> dict[Policy, Sam2]:
    policies: tuple[Policy, ...] = ("best", "part", "whole")
    return {policy: load_sam2(folder, device="cpu", policy=policy) for policy in policies}


@pytest.mark.slow
def test_the_whole_is_as_large_as_the_part_and_the_best_or_larger(sams: dict[Policy, Sam2]) -> None:
    shown = frames(1)
    areas = {}
    for policy, sam in sams.items():
        spots = [(x, y) for x in (10, 30, 50, 70) for y in (10, 40, 70)]
        points = [point(number, 0, x, y) for number, (x, y) in enumerate(spots)]
        (masks,) = walked(sam, shown, points)
        areas[policy] = np.array([masks[number].sum() for number in range(len(spots))])
    assert (areas["whole"] >= areas["part"]).all()
    assert (areas["whole"] > areas["part"]).any()


class Watched(MaskChoice):
    """A policy that writes down where it was asked for."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.clicks: list[tuple[float, float]] = []

    @contextmanager
    def at(self, *, x: float, y: float) -> Iterator[None]:
        self.clicks.append((x, y))
        with super().at(x=x, y=y):
            yield


@pytest.mark.slow
def test_the_policy_speaks_at_the_first_click_alone(folder: Path) -> None:
    sam, watched = load_sam2(folder, device="cpu"), Watched("whole")
    sam.choice = watched
    walked(sam, frames(5), [point(1, 0, 24, 40), point(1, 2, 48, 20), point(2, 3, 72, 60)])
    assert watched.clicks == [(0.25, 0.5), (0.75, 0.75)]


@pytest.mark.slow
def test_networks_with_different_policies_do_not_mix(folder: Path, sams: dict[Policy, Sam2]) -> None:
    """Two segmenters over one network each ask for their own mask."""
    shown, points = frames(2), [point(1, 0, 50, 10), point(2, 0, 10, 70)]
    network, checkpoint = load_sam2(folder, device="cpu").network, sams["best"].checkpoint
    shared: dict[Policy, Sam2] = {policy: Sam2(checkpoint, network, policy=policy) for policy in sams}
    for policy, sam in shared.items():
        assert_same(walked(sam, shown, points), walked(sams[policy], shown, points))
