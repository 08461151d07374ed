"""Attention over parts, joined, is attention over all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molmo2_ground.model.part_attention import attend_part, attend_whole, gives_sums, joined

NEVER = torch.finfo(torch.float32).min / 2


def plainly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor, scale: float
) -> torch.Tensor:
    """The definition, in float64: softmax of products over what each row may look at; [1, Q, N, H]."""
    sharing = query.shape[1] // key.shape[1]
    key, value = (part.double().repeat_interleave(sharing, dim=1) for part in (key, value))
    products = query.double() @ key.transpose(-1, -2) * scale
    return (products.masked_fill(~allowed, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def drawn(
    seed: int,
    *,
    rows: int,
    length: int,
    heads: int,
    shared: int,
    width: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, heads, rows, width, generator=generator).to(dtype)
    key, value = (torch.randn(1, shared, length, width, generator=generator).to(dtype) for _ in range(2))
    return query, key, value, generator


@pytest.mark.slow
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 20),
    free=st.integers(1, 40),
    behind=st.integers(1, 40),
    groups=st.sampled_from([(1, 1), (4, 1), (4, 2), (3, 3)]),
    width=st.sampled_from([4, 16, 20]),
    loud=st.sampled_from([1.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_two_parts_are_the_whole(
    seed: int, rows: int, free: int, behind: int, groups: tuple[int, int], width: int, loud: float
) -> None:
    heads, shared = groups
    query, key, value, generator = drawn(
        seed, rows=rows, length=free + behind, heads=heads, shared=shared, width=width
    )
    query = query * loud
    # Some rows look at nothing behind the free tokens.
    allowed = torch.rand(rows, behind, generator=generator) < torch.rand(rows, 1, generator=generator).round()
    mask = torch.where(allowed, 0.0, NEVER).repeat(heads // shared, 1)
    scale = width**-0.5
    found = joined(
        attend_part(query, key[:, :, :free], value[:, :, :free], None, scale=scale),
        attend_part(query, key[:, :, free:], value[:, :, free:], mask, scale=scale),
    )
    every = torch.cat([torch.ones(rows, free, dtype=torch.bool), allowed], dim=1)
    known = plainly(query, key, value, every, scale)
    torch.testing.assert_close(found.double(), known, atol=2e-5, rtol=1e-4)
    numbers = torch.where(every, 0.0, NEVER).repeat(heads // shared, 1)
    torch.testing.assert_close(
        attend_whole(query, key, value, numbers, scale=scale), found, atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("dtype", "works"),
    [(torch.float32, True), (torch.bfloat16, True), (torch.float8_e4m3fn, False)],
    ids=["float32", "bfloat16", "float8"],
)
def test_a_processor_gives_sums(dtype: torch.dtype, works: bool) -> None:
    assert gives_sums(torch.zeros(1, 1, 1, 16, dtype=dtype)) == works


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rows", [1, 17, 300])
def test_a_card_gives_sums(dtype: torch.dtype, rows: int) -> None:
    query, key, value, generator = drawn(1, rows=rows, length=2048, heads=8, shared=2, width=64, dtype=dtype)
    assert gives_sums(query.cuda())
    allowed = torch.rand(rows, 48, generator=generator) < 0.5
    mask = torch.where(allowed, 0.0, torch.finfo(dtype).min / 2).to(dtype).repeat(4, 1)
    query, key, value, mask = (part.cuda() for part in (query, key, value, mask))
    found = joined(
        attend_part(query, key[:, :, :2000], value[:, :, :2000], None, scale=0.125),
        attend_part(query, key[:, :, 2000:], value[:, :, 2000:], mask, scale=0.125),
    )
    every = torch.cat([torch.ones(rows, 2000, dtype=torch.bool), allowed], dim=1).cuda()
    known = plainly(query, key, value, every, 0.125)
    torch.testing.assert_close(found.double(), known, atol=4 * torch.finfo(dtype).eps, rtol=0.02)
