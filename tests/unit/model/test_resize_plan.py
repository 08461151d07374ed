from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.clip import RgbArray
from molmo2_ground.model.crops import resize_rgb
from molmo2_ground.model.resize_plan import ResizePlan, resize_frame, resize_plan, same_sums_as_torch


def noise(height: int, width: int, *, seed: int = 0) -> RgbArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def expected(picture: RgbArray, target: tuple[int, int]) -> RgbArray:
    return resize_rgb(picture, height_px=target[0], width_px=target[1])


def test_this_processor_adds_up_as_a_plan_does() -> None:
    # Where it does not, frames go through torch's kernel, and the tests of plans below say nothing.
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert same_sums_as_torch()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param((1080, 1920), (378, 378), id="full-hd"),
        pytest.param((1920, 1080), (378, 378), id="upright"),
        pytest.param((756, 756), (378, 378), id="half"),
        pytest.param((720, 1280), (84, 84), id="tiny-models-size"),
        pytest.param((378, 2000), (378, 378), id="one-side-stays"),
        # The 48th row lies on a source row: whether that is the upper or the lower of the pair shows in sums.
        pytest.param((211, 320), (97, 101), id="a-row-on-a-row"),
    ],
)
@pytest.mark.skipif(not same_sums_as_torch(), reason="frames go through torch's kernel here")
def test_a_plan_gives_the_bytes_of_torchs_kernel(source: tuple[int, int], target: tuple[int, int]) -> None:
    picture = noise(*source)
    assert np.array_equal(resize_plan(source, target).apply(picture), expected(picture, target))


@pytest.mark.slow
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(0, 200), st.integers(0, 200)),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.skipif(not same_sums_as_torch(), reason="frames go through torch's kernel here")
def test_a_plan_between_any_two_sizes(target: tuple[int, int], more: tuple[int, int], seed: int) -> None:
    source = (target[0] + more[0], target[1] + more[1])
    picture = noise(*source, seed=seed)
    plan = resize_plan.__wrapped__(source, target)
    assert np.array_equal(plan.apply(picture), expected(picture, target))


@pytest.mark.skipif(not same_sums_as_torch(), reason="frames go through torch's kernel here")
def test_a_plan_gives_the_same_sums_with_any_number_of_threads() -> None:
    picture, plan = noise(480, 854), resize_plan((480, 854), (201, 203))
    before = torch.get_num_threads()
    sums = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sums.append(plan.sums(picture))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param((300, 400), (42, 42), id="by-plan"),
        pytest.param((60, 80), (42, 42), id="small"),
        pytest.param((30, 4000), (42, 42), id="one-side-grows"),
        pytest.param((42, 42), (42, 42), id="same-size"),
        pytest.param((1, 40000), (1, 20), id="longer-than-a-plan-counts"),
    ],
)
def test_every_frame_is_resized_as_a_picture_is(source: tuple[int, int], target: tuple[int, int]) -> None:
    picture = noise(*source)
    resized = resize_frame(picture, height_px=target[0], width_px=target[1])
    assert np.array_equal(resized, expected(picture, target))


def test_a_frame_that_is_a_view_is_resized_like_its_copy() -> None:
    picture = noise(300, 400)[::-1, ::-1]
    resized = resize_frame(picture, height_px=42, width_px=42)
    assert np.array_equal(resized, expected(picture.copy(), (42, 42)))


def test_where_sums_differ_frames_go_through_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: ResizePlan, rgb_hwc: RgbArray) -> RgbArray:
        raise AssertionError("the plan was used")

    monkeypatch.setattr(ResizePlan, "apply", never)
    monkeypatch.setattr("molmo2_ground.model.resize_plan.same_sums_as_torch", lambda: False)
    picture = noise(300, 400)
    assert np.array_equal(resize_frame(picture, height_px=42, width_px=42), expected(picture, (42, 42)))
