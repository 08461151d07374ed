"""Vision first: teach the ViT and the connector to see the toy world, with heads that are thrown away.

Each visual token says which cell of the picture it is, whether the middle of a thing lies there, of which
kind and colour it is and where in the whole picture; each patch says what covers it. Measured on two cores:
without this a tiny model from scratch stays blind for an hour. Shapes as in tiny_model.py; Q is the number of
cells (visual tokens) of all frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from molmo2_ground.train.tiny_model import (
    patch_features,
    patches,
    visual_tokens,
)
from molmo2_ground.train.tiny_shape import GRID, IMAGE_PX, PATCH_PX, POOL
from molmo2_ground.train.toy.actors import COLOURS, KINDS
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from molmo2_ground.train.toy.street import make_scene
from molmo2_ground.train.toy_view import FIRST_TRAINING_SEED, show

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor
    from transformers import Molmo2ForConditionalGeneration

    from molmo2_ground.train.toy_view import View

CELLS = GRID // POOL
NONE = -1
# Places are read as one of so many steps across the picture, as the language model will write them: the cell
# alone is known to no token, and a language model that has to find it out first learns no place for long.
BINS = 126
BLUR = 0.008


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisionBatch:
    """Frames and what their cells and patches show.

    frames_FNV   uint8 patches.
    kind_Q, colour_Q  int64: class of the thing whose middle lies in the cell, NONE without one.
    place_Q2     float32: that middle in the picture, 0 to 1 each way.
    number_Q     int64: how many middles lie in the cell, 3 for more.
    patch_kind, patch_colour  int64[F * N]: what covers the middle of the patch; 0 nothing, class + 1 else.
    patch_vote   float32[F * N, 2]: the way from there to the middle of that thing, in cells.
    Arrays when it is made, tensors (`on_device`) when the model takes it.
    """

    frames_FNV: Any
    kind_Q: Any
    colour_Q: Any
    place_Q2: Any
    number_Q: Any
    patch_kind: Any
    patch_colour: Any
    patch_vote: Any


class VisionBatches:
    """Batch number `step`: `frames` pictures, `views` of each scene at different times."""

    def __init__(self, *, frames: int, views: int, seed: int, steps: int) -> None:
        self.frames, self.views, self.seed, self.steps = frames, views, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> VisionBatch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        rng = np.random.default_rng([self.seed, step])
        pictures: list[npt.NDArray[np.uint8]] = []
        cells, covers = [], []
        while len(pictures) < self.frames:
            scene = make_scene(FIRST_TRAINING_SEED + int(rng.integers(2**40)), duration_s=8.0)
            for part in range(self.views):
                time_s = (part + rng.uniform()) * 8.0 / self.views
                view = show(scene, np.array([time_s]), "image", rng)
                pictures.append(view.clip.frames[0].rgb)
                cells.append(_cells(view))
                covers.append(_cover(view))
        joined = [np.concatenate(parts) for parts in zip(*cells, strict=True)]
        patch_kind, patch_colour, patch_vote = (np.concatenate(parts) for parts in zip(*covers, strict=True))
        return VisionBatch(
            frames_FNV=patches(np.stack(pictures)),
            kind_Q=joined[0],
            colour_Q=joined[1],
            place_Q2=joined[2],
            number_Q=joined[3],
            patch_kind=patch_kind,
            patch_colour=patch_colour,
            patch_vote=patch_vote,
        )


def _cells(view: View) -> tuple[npt.NDArray[np.int64], ...]:
    kind = np.full(CELLS * CELLS, NONE, dtype=np.int64)
    colour = kind.copy()
    place = np.zeros((CELLS * CELLS, 2), dtype=np.float32)
    number = np.zeros(CELLS * CELLS, dtype=np.int64)
    best = np.full(CELLS * CELLS, np.inf)
    actors = {actor.object_id: actor for actor in view.scene.actors}
    for state in view.states[0]:
        if not state.visible:
            continue
        x, y = state.x_px / FRAME_WIDTH_PX * CELLS, state.y_px / FRAME_HEIGHT_PX * CELLS
        column, row = min(int(x), CELLS - 1), min(int(y), CELLS - 1)
        cell = row * CELLS + column
        number[cell] = min(number[cell] + 1, 3)
        # Two middles in one cell: the heads answer for the one nearer to the cell's own middle.
        distance = (x - column - 0.5) ** 2 + (y - row - 0.5) ** 2
        if distance < best[cell]:
            best[cell] = distance
            actor = actors[state.object_id]
            kind[cell], colour[cell] = KINDS.index(actor.kind), COLOURS.index(actor.colour)
            place[cell] = (x / CELLS, y / CELLS)
    return kind, colour, place, number  # type: ignore[return-value]


def _cover(view: View) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    middles = (np.arange(GRID) * PATCH_PX + PATCH_PX // 2) / IMAGE_PX
    rows, columns = (middles * FRAME_HEIGHT_PX).astype(int), (middles * FRAME_WIDTH_PX).astype(int)
    kind, colour = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    place = np.zeros((256, 2), dtype=np.float32)
    for actor in view.scene.actors:
        kind[actor.object_id] = KINDS.index(actor.kind) + 1
        colour[actor.object_id] = COLOURS.index(actor.colour) + 1
    for state in view.states[0]:
        place[state.object_id] = (state.x_px / FRAME_WIDTH_PX, state.y_px / FRAME_HEIGHT_PX)
    ids = view.id_maps[0][rows][:, columns].reshape(-1)
    own = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
    vote = np.where(ids[:, None] > 0, (place[ids] - own) * CELLS, 0.0).astype(np.float32)
    return kind[ids], colour[ids], vote


def _place_loss(logits: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy against a Gaussian around the place (0 to 1), and how far the likeliest bin is off."""
    bins = torch.linspace(0, 1, BINS, device=place.device)
    wanted = torch.exp(-0.5 * ((bins - place[:, None]) / BLUR) ** 2)
    loss = F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
    return loss, (bins[logits.detach().argmax(-1)] - place).abs()


class VisionHeads(nn.Module):
    """Linear readers of visual tokens and patches, for this stage only."""

    def __init__(self, token_width: int, patch_width: int) -> None:
        super().__init__()
        self.sizes = (4, len(KINDS), len(COLOURS), BINS, BINS, CELLS, CELLS)
        self.token = nn.Linear(token_width, sum(self.sizes))
        self.patch_sizes = (len(KINDS) + 1, len(COLOURS) + 1, 2)
        self.patch = nn.Linear(patch_width, sum(self.patch_sizes))

    def loss(
        self, tokens_QC: Tensor, patches_NC: Tensor, batch: VisionBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the readers' losses, and how often each is right."""
        number, kind, colour, x, y, column, row = self.token(tokens_QC).float().split(self.sizes, -1)
        number_Q, kind_Q, colour_Q = (
            torch.as_tensor(x) for x in (batch.number_Q, batch.kind_Q, batch.colour_Q)
        )
        there = kind_Q != NONE
        place = torch.as_tensor(batch.place_Q2)[there]
        cell = torch.arange(CELLS * CELLS, device=there.device).repeat(len(kind_Q) // CELLS**2)
        x_loss, x_error = _place_loss(x[there], place[:, 0])
        y_loss, y_error = _place_loss(y[there], place[:, 1])
        patch_kind, patch_colour, patch_vote = self.patch(patches_NC).float().split(self.patch_sizes, -1)
        wanted_kind, wanted_colour = torch.as_tensor(batch.patch_kind), torch.as_tensor(batch.patch_colour)
        covered = wanted_kind > 0
        vote_error = (patch_vote - torch.as_tensor(batch.patch_vote))[covered].abs()
        loss = (
            2 * F.cross_entropy(number, number_Q)
            + F.cross_entropy(kind[there], kind_Q[there])
            + F.cross_entropy(colour[there], colour_Q[there])
            + 0.5 * (x_loss + y_loss)
            + 0.2 * (F.cross_entropy(column, cell % CELLS) + F.cross_entropy(row, cell // CELLS))
            + F.cross_entropy(patch_kind, wanted_kind)
            + 0.5 * F.cross_entropy(patch_colour, wanted_colour)
            + 2 * vote_error.mean()
        )
        hits = {
            "number": (number[number_Q > 0].argmax(-1) == number_Q[number_Q > 0]).float().mean(),
            "kind": (kind[there].argmax(-1) == kind_Q[there]).float().mean(),
            "colour": (colour[there].argmax(-1) == colour_Q[there]).float().mean(),
            "x error": x_error.mean(),
            "y error": y_error.mean(),
            "patch kind": (patch_kind[covered].argmax(-1) == wanted_kind[covered]).float().mean(),
            "vote": vote_error.mean(),
        }
        return loss, {name: value.detach() for name, value in hits.items()}


def vision_loss(
    model: Molmo2ForConditionalGeneration, heads: VisionHeads, batch: VisionBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step's loss of this stage."""
    features = patch_features(model, torch.as_tensor(batch.frames_FNV))
    tokens = visual_tokens(model, features)
    # The language model gets tokens of unit size; the readers learn on the same.
    scale_loss = (tokens.float().square().mean() - 1.0).abs()
    loss, hits = heads.loss(tokens, features.reshape(-1, features.shape[-1]), batch)
    return loss + 0.1 * scale_loss, hits


@torch.no_grad()
def normalise_visual_tokens(
    model: Molmo2ForConditionalGeneration, frames_FNV: npt.NDArray[np.uint8], *, patch_id: int
) -> tuple[float, float]:
    """Bring visual tokens to mean 0 and unit spread before the language model sees the first one.

    The vision stage holds their size only loosely. The connector's last matrix is scaled, and the constant
    part is taken up by the embedding of the patch word, to which the tokens are added.
    Returns (spread, size of the constant) as they were.
    """
    frames = torch.from_numpy(frames_FNV).to(model.device)
    tokens = visual_tokens(model, patch_features(model, frames)).float()
    mean = tokens.mean(0)
    spread = float((tokens - mean).square().mean().sqrt())
    model.model.multi_modal_projector.image_projector.down_proj.weight.div_(spread)
    table = model.model.language_model.embed_tokens.weight
    table[patch_id] = (-mean / spread).to(table.dtype)
    return spread, float(mean.square().mean().sqrt())
