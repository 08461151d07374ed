"""`PackedStep`: a network that reads packed batches and says what they cost.

    step = PackedStep(network, flags=flags, options=StepOptions(response_dropout=0.1))
    found = step(batch, weight_sum=sum(part.weight_sum for part in parts), dropout_seed=seed)
    found.loss.backward()

The network is the library's, as `load_network` gives it. All of it runs inside one module's forward, so that
it can be sharded as a whole. Shapes: B rows, L tokens a row, M of all of them learnt; C crops or frames, N
patches of each, P bytes of a patch, F features of a patch; T patch tokens; D width of the language model.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from molmo2_ground.model.vision import normalised, patch_features, pooled_tokens
from molmo2_ground.train.block_mask import build_block_mask, dense_mask, row_tokens
from molmo2_ground.train.dropout import ResidualDropout, response_tokens
from molmo2_ground.train.loss import CHUNK_BYTES, weighted_loss
from molmo2_ground.train.packed_attention import use_packed_attention

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask

    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.train.packed_batch import PackedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a batch is run.

    z_loss             factor on the squared normaliser of the logits; 1e-4 in the paper's stages.
    response_dropout   chance of a number to be dropped from what a layer adds to a token with loss, training.
    other_dropout      the same for all other tokens.
    tied_head          the output table is the base words' rows of the input table: both are learnt as one.
    bidirectional      words of pictures see each other both ways.
    crops_at_once      crops that the vision tower reads together.
    recompute_vision   keep nothing of the tower's and the connector's layers for the backward pass, and run
                       them again there: the tower's crops_at_once at a time.
    recompute_language the same for the language model, layer by layer.
    block_mask         FlexAttention; None: on an accelerator. Without it the mask is dense, B x L x L.
                       On a CPU it has no backward pass.
    chunk_bytes        bound on the logits that are held at once.
    """

    z_loss: float = 1e-4
    response_dropout: float = 0.0
    other_dropout: float = 0.0
    tied_head: bool = False
    bidirectional: bool = True
    crops_at_once: int = 16
    recompute_vision: bool = False
    recompute_language: bool = False
    block_mask: bool | None = None
    chunk_bytes: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        if self.crops_at_once < 1:
            raise ValueError(f"crops_at_once must be 1 or more; got {self.crops_at_once}")
        for name in ("response_dropout", "other_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1; got {getattr(self, name)}")

    @property
    def drops(self) -> bool:
        """Whether anything is dropped while training."""
        return self.response_dropout > 0 or self.other_dropout > 0


class PackedLoss(NamedTuple):
    """The loss of a batch as its part of a step, and what it is made of.

    loss             scalar; the one to call `backward` on.
    index_M          int64: places of the learnt tokens among the B x L.
    cross_entropy_M  float32, unweighted and without z-loss.
    numbers          for a log: `cross_entropy`, the mean over learnt tokens, which stays on the device; and
                     `learnt`, `tokens`, `crops`, how many there were; and `fill`, of the rows.
    """

    loss: Tensor
    index_M: Tensor
    cross_entropy_M: Tensor
    numbers: dict[str, float | Tensor]


class PackedStep(nn.Module):
    """Batch in, loss out; `train()` and `eval()` turn dropout and recomputation on and off."""

    def __init__(self, network: Any, *, flags: InputFlags, options: StepOptions | None = None) -> None:
        """Take the network as loaded; which of its weights learn is the caller's choice.

        A network is for one step with dropout: its layers would drop for each.
        """
        super().__init__()
        self.options = StepOptions() if options is None else options
        self.flags = flags
        self.network = network
        use_packed_attention(network)
        language = network.model.language_model
        self._dropout = ResidualDropout(language.layers) if self.options.drops else None
        if self.options.recompute_language:
            language.activation_checkpointing_enable(
                activation_checkpointing_kwargs={
                    "use_reentrant": False,
                    # All that is random in a layer comes from the dropout's seed.
                    "preserve_rng_state": False,
                    "context_fn": self._recomputation,
                }
            )
        else:
            language.activation_checkpointing_disable()

    def forward(
        self,
        batch: PackedBatch,
        *,
        weight_sum: float | Tensor | None = None,
        ranks: int = 1,
        dropout_seed: int | None = None,
    ) -> PackedLoss:
        """The loss of one batch.

        weight_sum    the weights of the whole step: every batch that is accumulated, every process. By
                      default this batch is the whole step.
        ranks         processes whose gradients are averaged afterwards; 1 where they are summed.
        dropout_seed  of this step, this process and this batch; needed when training with dropout.
        """
        device = self._device
        targets_BL = self._rows(batch, "targets")
        weights_BL = self._rows(batch, "weights")
        with self._dropping(response_tokens(targets_BL, weights_BL), dropout_seed):
            hidden_BLD = self.hidden(batch)
        if torch.is_autocast_enabled(device.type):
            hidden_BLD = hidden_BLD.to(torch.get_autocast_dtype(device.type))
        found = weighted_loss(
            hidden_BLD.flatten(0, 1),
            self._table,
            targets_BL.flatten(),
            weights_BL.flatten(),
            weight_sum=batch.weight_sum if weight_sum is None else weight_sum,
            ranks=ranks,
            z_loss=self.options.z_loss,
            chunk_bytes=self.options.chunk_bytes,
        )
        numbers: dict[str, float | Tensor] = {
            "cross_entropy": found.cross_entropy_M.mean(),
            "learnt": len(found.index_M),
            "tokens": batch.tokens,
            "crops": batch.crops,
            "fill": batch.fill,
        }
        return PackedLoss(*found, numbers)

    def hidden(self, batch: PackedBatch) -> Tensor:
        """The language model's last states, [B, L, D]; `network.lm_head` makes logits of them."""
        language = self.network.model.language_model
        embeds_BLD = language.embed_tokens(self._rows(batch, "ids"))
        if len(batch.patches_CNP):
            embeds_BLD = self._with_pictures(embeds_BLD, batch)
        hidden: Tensor = language(
            inputs_embeds=embeds_BLD,
            attention_mask=self._mask(batch),
            position_ids=self._rows(batch, "positions"),
            use_cache=False,
        ).last_hidden_state
        return hidden

    def _with_pictures(self, embeds_BLD: Tensor, batch: PackedBatch) -> Tensor:
        """The embeddings with every picture feature added to its patch token."""
        pooling_TK = batch.pooling_TK
        if not len(pooling_TK):
            # Crops that nobody looks at: the tower runs, for the sake of other processes, and adds nothing.
            unused_TD = self.features(batch.patches_CNP, torch.zeros(1, 1, dtype=torch.int64))
            return embeds_BLD + 0.0 * unused_TD.sum().to(embeds_BLD.dtype)
        features_TD = self.features(batch.patches_CNP, pooling_TK)
        flat = embeds_BLD.flatten(0, 1)
        places_T = batch.places_T.to(flat.device, non_blocking=True)
        return flat.index_add(0, places_T, features_TD.to(flat.dtype)).view_as(embeds_BLD)

    def features(self, patches_CNP: Tensor, pooling_TK: Tensor) -> Tensor:
        """uint8 patches -> [T, D], the tower in chunks, only the layers that are read kept."""
        parts = [self._tower(part) for part in torch.split(patches_CNP, self.options.crops_at_once)]
        features_CNF = torch.cat(parts)
        pooling_TK = pooling_TK.to(features_CNF.device, non_blocking=True)
        return self._again_in_backward(pooled_tokens, self.network, features_CNF, pooling_TK)

    def _tower(self, patches_CNP: Tensor) -> Tensor:
        weight = self.network.model.vision_tower.patch_embedding.weight
        patches_CNP = patches_CNP.to(self._device, non_blocking=True)
        pixels_CNP = normalised(patches_CNP, flags=self.flags, dtype=weight.dtype)
        return self._again_in_backward(patch_features, self.network, pixels_CNP)

    def _again_in_backward(self, part: Any, *given: Any) -> Tensor:
        if self.options.recompute_vision and self.training and torch.is_grad_enabled():
            found: Tensor = checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False)
        else:
            found = part(*given)
        return found

    def _mask(self, batch: PackedBatch) -> Tensor | BlockMask:
        tokens = row_tokens(batch.rows, bidirectional=self.options.bidirectional, device=self._device)
        wanted = self.options.block_mask
        in_blocks = self._device.type != "cpu" if wanted is None else wanted
        return build_block_mask(tokens) if in_blocks else dense_mask(tokens)

    def _rows(self, batch: PackedBatch, name: str) -> Tensor:
        rows = torch.stack([torch.from_numpy(getattr(row, name)) for row in batch.rows])
        return rows.to(self._device, non_blocking=True)

    @property
    def _table(self) -> Tensor:
        """The output table [V, D]."""
        table: Tensor = self.network.lm_head.weight
        if self.options.tied_head:
            rows: Tensor = self.network.model.language_model.embed_tokens.weight
            table = rows[: len(table)]
        return table

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.network.lm_head.weight.device
        return device

    def _dropping(self, response_BL: Tensor, seed: int | None) -> AbstractContextManager[None]:
        if self._dropout is None or not self.training:
            return nullcontext()
        if seed is None:
            raise ValueError(
                "training with dropout needs dropout_seed, which says what is dropped; got None. Make one of "
                "the step, the process and the part of the step"
            )
        return self._dropout.active(
            response_BL,
            seed=seed,
            response_p=self.options.response_dropout,
            other_p=self.options.other_dropout,
        )

    def _recomputation(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a layer's run and of its second one."""
        return nullcontext(), nullcontext() if self._dropout is None else self._dropout.again()
