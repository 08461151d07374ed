"""The loss against plain cross-entropy. Numbers are those of the recipe's invariants.

Shapes: L tokens, C channels, V words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from molmo2_ground.train.loss import weighted_loss
from molmo2_ground.train.tree import IGNORE


class Batch(NamedTuple):
    hidden_LC: torch.Tensor
    table_VC: torch.Tensor
    targets_L: torch.Tensor
    weights_L: torch.Tensor

    @property
    def weight_sum(self) -> float:
        return float(self.weights_L[self.targets_L != IGNORE].sum())


def random_batch(
    seed: int = 0, *, length: int = 40, words: int = 97, dtype: torch.dtype = torch.float32
) -> Batch:
    """About half of the tokens are learnt; weights spread over two orders of magnitude, as tasks do."""
    generator = torch.Generator().manual_seed(seed)
    learnt = torch.rand(length, generator=generator) < 0.5
    learnt[0] = True
    targets = torch.randint(words, (length,), generator=generator)
    weights = 4.0 * torch.rand(length, generator=generator) ** 4 + 0.05
    return Batch(
        hidden_LC=(2 * torch.randn(length, 16, generator=generator)).to(dtype).requires_grad_(),
        table_VC=torch.randn(words, 16, generator=generator).to(dtype).requires_grad_(),
        targets_L=torch.where(learnt, targets, IGNORE),
        weights_L=torch.where(learnt, weights, 0.0),
    )


def plain_loss(batch: Batch, *, weight_sum: float, z_loss: float = 0.0) -> torch.Tensor:
    """The whole table at once, every token, library cross-entropy."""
    logits = F.linear(batch.hidden_LC, batch.table_VC).float()
    losses = F.cross_entropy(logits, batch.targets_L, ignore_index=IGNORE, reduction="none")
    losses = losses + z_loss * torch.logsumexp(logits, -1).square()
    return (losses * batch.weights_L).sum() / weight_sum


def gradients(loss: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, [batch.hidden_LC, batch.table_VC])


def assert_close(found: Any, expected: Any, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("z_loss", [0.0, 1e-2], ids=["plain", "with-z-loss"])
@pytest.mark.parametrize("tokens_a_chunk", [1, 7, 1000], ids=["token-by-token", "with-a-rest", "one-chunk"])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(z_loss: float, tokens_a_chunk: int) -> None:
    batch = random_batch()
    expected = plain_loss(batch, weight_sum=batch.weight_sum, z_loss=z_loss)
    found = weighted_loss(
        *batch, weight_sum=batch.weight_sum, z_loss=z_loss, chunk_bytes=tokens_a_chunk * 4 * 97
    ).loss
    assert_close(found, expected)
    for ours, theirs in zip(gradients(found, batch), gradients(expected, batch), strict=True):
        assert_close(ours, theirs)


@pytest.mark.slow
def test_a_vocabulary_of_152_thousand_words_gives_the_same() -> None:
    batch = random_batch(length=12, words=152_064)
    found = weighted_loss(*batch, weight_sum=3.0, chunk_bytes=4 * 4 * 152_064).loss
    expected = plain_loss(batch, weight_sum=3.0)
    assert_close(found, expected)
    for ours, theirs in zip(gradients(found, batch), gradients(expected, batch), strict=True):
        assert_close(ours, theirs)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, torch.Tensor):
                self.elements = max(self.elements, part.numel())
        return result


@pytest.mark.parametrize("length", [400, 800])
def test_no_tensor_is_larger_than_one_chunk_however_many_tokens_there_are(length: int) -> None:
    words, tokens_a_chunk = 1000, 20
    batch = random_batch(length=length, words=words)
    with LargestTensor() as seen:
        weighted_loss(*batch, weight_sum=1.0, chunk_bytes=tokens_a_chunk * 4 * words).loss.backward()
    assert seen.elements <= tokens_a_chunk * words
    with LargestTensor() as seen:
        plain_loss(batch, weight_sum=1.0).backward()
    assert seen.elements == length * words


def test_only_learnt_tokens_reach_the_table() -> None:
    batch = random_batch()
    learnt = (batch.targets_L != IGNORE).nonzero().squeeze(1)
    found = weighted_loss(*batch, weight_sum=1.0)
    assert found.index_M.tolist() == learnt.tolist()
    (grad_hidden, _) = gradients(found.loss, batch)
    assert (grad_hidden.abs().sum(1) > 0).nonzero().squeeze(1).tolist() == learnt.tolist()


def test_a_target_without_weight_is_not_learnt() -> None:
    batch = random_batch()
    lighter = batch._replace(weights_L=batch.weights_L.clone())
    lighter.weights_L[0] = 0.0
    assert weighted_loss(*lighter, weight_sum=1.0).index_M[0] > 0


def test_the_parts_are_given_unweighted_for_logs() -> None:
    batch = random_batch()
    found = weighted_loss(*batch, weight_sum=batch.weight_sum, z_loss=1e-2, chunk_bytes=4 * 97 * 5)
    logits = F.linear(batch.hidden_LC, batch.table_VC)
    expected = F.cross_entropy(logits, batch.targets_L, ignore_index=IGNORE, reduction="none")
    assert_close(found.cross_entropy_M, expected[found.index_M].detach())
    assert not found.cross_entropy_M.requires_grad


def split_over(batch: Batch, parts: int, seed: int) -> list[Batch]:
    """Arbitrary shares of the tokens; one of them gets nothing to learn."""
    owner = torch.from_numpy(np.random.default_rng(seed).integers(parts - 1, size=len(batch.targets_L)))
    owner[batch.targets_L == IGNORE] = parts - 1
    return [
        Batch(
            batch.hidden_LC[owner == n],
            batch.table_VC,
            batch.targets_L[owner == n],
            batch.weights_L[owner == n],
        )
        for n in range(parts)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_invariant_10_the_mean_over_ranks_with_any_split_is_the_loss_of_the_whole_batch(seed: int) -> None:
    batch = random_batch(seed)
    whole = weighted_loss(*batch, weight_sum=batch.weight_sum, z_loss=1e-3).loss
    ranks = 4
    losses = [
        weighted_loss(*part, weight_sum=batch.weight_sum, ranks=ranks, z_loss=1e-3).loss
        for part in split_over(batch, ranks, seed)
    ]
    mean = torch.stack(losses).mean()
    assert_close(mean, whole, rtol=1e-6)
    for ours, theirs in zip(gradients(mean, batch), gradients(whole, batch), strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_invariant_10_gradients_gathered_over_parts_of_a_batch_are_those_of_the_whole(seed: int) -> None:
    batch = random_batch(seed)
    whole = weighted_loss(*batch, weight_sum=batch.weight_sum).loss
    expected = gradients(whole, batch)
    total = 0.0
    for part in split_over(batch, 3, seed):
        loss = weighted_loss(*part, weight_sum=batch.weight_sum).loss
        loss.backward()
        total += float(loss.detach())
    assert total == pytest.approx(float(whole.detach()), rel=1e-6)
    for leaf, theirs in zip((batch.hidden_LC, batch.table_VC), expected, strict=True):
        assert_close(leaf.grad, theirs)


@pytest.mark.parametrize("factor", [0.01, 3.0, 1e4])
def test_invariant_11_a_common_factor_on_all_weights_changes_nothing(factor: float) -> None:
    batch = random_batch()
    scaled = batch._replace(weights_L=batch.weights_L * factor)
    one = weighted_loss(*batch, weight_sum=batch.weight_sum).loss
    other = weighted_loss(*scaled, weight_sum=scaled.weight_sum).loss
    assert_close(other, one)
    for ours, theirs in zip(gradients(other, batch), gradients(one, batch), strict=True):
        assert_close(ours, theirs)


def test_a_batch_without_a_learnt_token_has_no_loss_and_gradients_of_nought() -> None:
    batch = random_batch()
    nothing = batch._replace(targets_L=torch.full_like(batch.targets_L, IGNORE))
    found = weighted_loss(*nothing, weight_sum=5.0)
    assert float(found.loss.detach()) == 0.0
    for gradient in gradients(found.loss, batch):
        assert (gradient == 0).all()


def test_products_in_bfloat16_give_a_loss_in_single_precision() -> None:
    batch = random_batch(length=300, dtype=torch.bfloat16)
    found = weighted_loss(*batch, weight_sum=batch.weight_sum, chunk_bytes=4 * 97)
    exact = Batch(
        batch.hidden_LC.detach().float().requires_grad_(),
        batch.table_VC.detach().float().requires_grad_(),
        batch.targets_L,
        batch.weights_L,
    )
    expected = plain_loss(exact, weight_sum=batch.weight_sum)
    assert found.loss.dtype == torch.float32
    assert_close(found.loss, expected, rtol=5e-3)
    for ours, theirs in zip(gradients(found.loss, batch), gradients(expected, exact), strict=True):
        assert ours.dtype == torch.bfloat16
        assert float((ours.float() - theirs).norm() / theirs.norm()) < 1e-2


@pytest.mark.slow
def test_small_gradients_of_many_chunks_add_up_in_single_precision() -> None:
    # Every token pulls the first word by one half; a sum in bfloat16 stands still at 128.
    length = 1000
    table = torch.zeros(2, 16, dtype=torch.bfloat16, requires_grad=True)
    hidden = torch.ones(length, 16, dtype=torch.bfloat16)
    targets, weights = torch.zeros(length, dtype=torch.int64), torch.ones(length)
    weighted_loss(hidden, table, targets, weights, weight_sum=1.0, chunk_bytes=1).loss.backward()
    assert table.grad is not None
    assert table.grad[:, 0].tolist() == [-length / 2, length / 2]


def test_a_table_in_single_precision_gets_its_gradient_in_single_precision() -> None:
    batch = random_batch(dtype=torch.float32)
    mixed = batch._replace(hidden_LC=batch.hidden_LC.detach().bfloat16().requires_grad_())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weighted_loss(*mixed, weight_sum=1.0)
    grad_hidden, grad_table = gradients(found.loss, mixed)
    assert (grad_hidden.dtype, grad_table.dtype) == (torch.bfloat16, torch.float32)


def test_a_frozen_table_and_a_forward_pass_alone_cost_no_gradient() -> None:
    batch = random_batch(words=500)
    frozen = batch._replace(table_VC=batch.table_VC.detach())
    loss = weighted_loss(*frozen, weight_sum=1.0).loss
    (gradient,) = torch.autograd.grad(loss, [batch.hidden_LC])
    assert_close(gradient, gradients(plain_loss(batch, weight_sum=1.0), batch)[0])
    with torch.no_grad():
        found = weighted_loss(*batch, weight_sum=1.0)
    assert not found.loss.requires_grad
    assert_close(found.loss, loss.detach())


def test_a_loss_goes_backward_once() -> None:
    batch = random_batch()
    loss = weighted_loss(*batch, weight_sum=1.0).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


@pytest.mark.parametrize("weight_sum", [0.0, -1.0, float("nan"), torch.zeros(())], ids=str)
def test_a_weight_sum_that_is_not_positive_is_refused(weight_sum: Any) -> None:
    with pytest.raises(ValueError, match="weight_sum must be above 0"):
        weighted_loss(*random_batch(), weight_sum=weight_sum)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    batch = random_batch()
    with pytest.raises(ValueError, match=r"hidden_LC \[L, C\]"):
        weighted_loss(*batch._replace(weights_L=batch.weights_L[1:]), weight_sum=1.0)
    with pytest.raises(ValueError, match=r"hidden_LC \[L, C\]"):
        weighted_loss(*(part[None] for part in batch), weight_sum=1.0)
