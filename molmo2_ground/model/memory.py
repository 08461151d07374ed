"""How much memory a question needs at most, told from a checkpoint's files and the sizes of its pictures.

Every term is what the code of `vision`, `prefix`, `kv_cache` and `text_layers` holds at the same time; a
change there is a change here, and `benchmarks/plan.py` holds the sums against measured peaks.
Shapes: L tokens, D width of the language model, I of its MLP, A of its heads together; w width of the
picture tower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from molmo2_ground.model.checkpoint import Checkpoint
from molmo2_ground.model.int8 import saved_parameters
from molmo2_ground.model.masked_attention import LEAST_FREE, mask_entries
from molmo2_ground.model.prefix import ANSWER_ROOM
from molmo2_ground.model.vision import crops_at_once, feature_cache_bytes

# What the libraries load and keep when they are first used: kernels and tables, and decoders for a video.
# Measured on Linux, above what their import takes; it hardly changes with the model.
_LIBRARIES_BYTES = 29 * 2**20
_DECODERS_BYTES = 14 * 2**20
# A reader holds a wanted frame as RGB, as RGBA and as float32 RGBA, and the decoder some frames of its own.
_READING_BYTES_A_PIXEL = 3 + 4 + 16
_DECODER_FRAMES, _DECODER_BYTES_A_PIXEL = 4, 1.5
# malloc takes smaller blocks from its heap, in places that were written to before; see `_heap`.
_LARGE_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at the moment when most are held, by what they hold.

    pixels: pictures in bytes, as read and cut into patches; on an accelerator they stay in the machine's own
    memory and are not counted. working: what layers hold while they run, and the libraries themselves.
    """

    weights: int
    keys_values: int = 0
    features: int = 0
    pixels: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a question looks at, in numbers.

    tokens        of the prompt of the longest look, and of its answer.
    crops         that the picture tower runs for one look; unit_crops: most that belong to one picture.
    patch_tokens  of one look; patches_a_token: of the picture tower's patches that a token stands for.
    pixel_bytes   of the pictures of one look as they are read.
    together      looks that are held and answered at the same time.
    all_tokens    patch tokens of all looks, a frame that two windows share counted once.
    frame_pixels  of a frame of a video file, width times height; 0 for what is no such file.
    """

    tokens: int
    answer_tokens: int
    crops: int
    unit_crops: int
    patch_tokens: int
    patches_a_token: int
    pixel_bytes: int
    frame_pixels: int
    together: int = 1
    all_tokens: int = 0


def peak_memory(
    checkpoint: Checkpoint, sight: Sight, *, device: torch.device, dtype: torch.dtype, int8: bool = False
) -> Memory:
    """The most that loading the checkpoint and answering once holds at a time; int8: as `load_network`."""
    estimate = _Estimate(checkpoint, sight, device=device, dtype=dtype, int8=int8)
    stages = (
        estimate.loading(),
        estimate.reading(),
        estimate.vision(),
        estimate.prefill(),
        estimate.answer(),
    )
    return max(stages, key=lambda memory: memory.total)


class _Estimate:
    """The stages of one question, each with all that is held while it runs."""

    def __init__(
        self, checkpoint: Checkpoint, sight: Sight, *, device: torch.device, dtype: torch.dtype, int8: bool
    ) -> None:
        # The library types its sub-configs as optional dicts; after construction they are objects.
        self._text: Any = checkpoint.config.text_config
        self._tower: Any = checkpoint.config.vision_config
        self._adapter: Any = checkpoint.config.adapter_config
        self._checkpoint, self._sight = checkpoint, sight
        self._on_cpu = device.type == "cpu"
        self._device, self._bytes = device, dtype.itemsize
        self._float32 = dtype == torch.float32
        self._converts = not checkpoint.stored_as(dtype)
        self._rounded = saved_parameters(self._text) if int8 else 0
        # Numbers that stay in their file are read to be rounded, and count as long as the file is open.
        self._mapped = self._on_cpu and not self._converts
        gone = 0 if self._mapped else self._rounded
        self._weights = (checkpoint.parameters - gone) * dtype.itemsize + self._rounded
        # One matrix at a time is spread to the inputs' type.
        text: Any = checkpoint.config.text_config
        self._spread = text.hidden_size * text.intermediate_size * dtype.itemsize if int8 else 0
        decoders = _DECODERS_BYTES if sight.frame_pixels else 0
        self._libraries = _LIBRARIES_BYTES + decoders if self._on_cpu else 0

    def loading(self) -> Memory:
        # Stored numbers of another type are mapped until all of them are converted, and rounded after that.
        weights = self._seen(self._text_bytes())
        if self._on_cpu and self._converts:
            weights += self._checkpoint.stored_bytes + self._rounded * (self._bytes - 1)
        return Memory(weights=weights, working=self._libraries)

    def _seen(self, unseen: int) -> int:
        """Bytes of the weights without some that no stage before has used.

        On a CPU, weights that are not converted stay in their file until they are used.
        """
        return self._weights - (unseen if self._mapped else 0)

    def reading(self) -> Memory:
        reads = _READING_BYTES_A_PIXEL + _DECODER_FRAMES * _DECODER_BYTES_A_PIXEL
        working = int(self._sight.frame_pixels * reads) if self._on_cpu else 0
        # Frames are read before the model runs for the first time and loads what it needs.
        working -= _LIBRARIES_BYTES if self._on_cpu else 0
        weights = self._seen(self._text_bytes())
        return self._with(weights=weights, working=working, looks_read=0, patches=False, features=0)

    def vision(self) -> Memory:
        sight, width = self._sight, self._tower.hidden_size
        chunk = max(sight.unit_crops, min(sight.crops, crops_at_once(self._device)))
        patches = chunk * self._tower.num_position_embeddings
        at_once = min(chunk, crops_at_once(self._device)) * self._tower.num_position_embeddings
        kept = patches * width * len(self._adapter.vision_feature_layer)
        values = 3 * self._tower.patch_size**2
        layer = max(2 * at_once * self._tower.intermediate_size + at_once * width, 5 * at_once * width)
        tower = self._bytes * (2 * at_once * width + layer + kept) + 4 * at_once * values
        pixels = 8 * at_once * values
        tokens = sight.patch_tokens * chunk // max(1, sight.crops)
        gathered = tokens * sight.patches_a_token * (kept // max(1, patches))
        keys = 2 * tokens * sight.patches_a_token * self._adapter.hidden_size
        projected = 3 * tokens * self._adapter.intermediate_size
        pooling = self._bytes * (kept + max(2 * gathered + keys, projected))
        # The features of a look are held once by chunk and once in a row.
        features = 2 * sight.patch_tokens * self._text.hidden_size
        return self._with(
            weights=self._seen(self._text_bytes()),
            working=max(tower, pixels, pooling),
            looks_read=sight.together - 1,
            patches=True,
            features=self._bytes * features,
        )

    def prefill(self) -> Memory:
        sight, text = self._sight, self._text
        tokens, width = sight.tokens, text.hidden_size
        heads = tokens * text.num_attention_heads * text.head_dim
        shared = tokens * text.num_key_value_heads * text.head_dim
        sharing = text.num_attention_heads // text.num_key_value_heads
        # Pictures look at pictures without a mask, and apart from it at the words between them.
        words, entries = tokens - sight.patch_tokens, mask_entries(self._device)
        apart = sight.patch_tokens >= LEAST_FREE
        columns = words if apart else tokens
        # Off a CPU, a mask of several blocks goes with shared keys and values copied out for each head.
        copied = not self._on_cpu and sharing > 1 and sharing * tokens * columns > entries
        placing = 3 * heads + 4 * shared  # the projection, its normed queries and keys, and those swapped
        looking = heads + shared + (3 + copied + 2 * apart) * heads
        attention = tokens * width + max(placing, looking)
        mlp = tokens * width + 3 * tokens * text.intermediate_size
        stream = 3 * tokens * width  # as embedded, as sorted, and what flows through the layers
        copies = 1 if copied else sharing
        masked = sum(min(entries, copies * pairs) for pairs in (tokens * columns, words * tokens))
        mask = masked * (1 + (4 if self._on_cpu else self._bytes))
        working = self._bytes * (stream + max(attention, mlp))
        working = max(working, self._bytes * (stream + attention) + mask)
        if not self._float32:
            working += 2 * 4 * max(tokens * width, heads + shared)  # norms are taken in float32
        # Of the last layer, a prompt's keys and values are all that is wanted.
        layer = 2 * width * text.num_attention_heads * text.head_dim + 3 * width * text.intermediate_size
        unseen = self._bytes * (layer + text.vocab_size * width)
        return self._with(
            weights=self._seen(min(unseen, self._text_bytes())),
            working=working + self._left_over() + self._spread,
            looks_read=sight.together,
            patches=True,
            features=self._bytes * sight.patch_tokens * width,
        )

    def answer(self) -> Memory:
        text, sight = self._text, self._sight
        heads = (sight.tokens + sight.answer_tokens) * text.num_attention_heads * text.head_dim
        # At most: of all that is there, where the last words' mask takes several blocks.
        alone = self._on_cpu or text.num_attention_heads == text.num_key_value_heads
        copied = 0 if alone else 2 * heads
        return self._with(
            weights=self._weights,
            working=self._bytes * copied + self._left_over() + self._spread,
            looks_read=sight.together,
            patches=False,
            features=0,
            answered=True,
        )

    def _text_bytes(self) -> int:
        """Weights of the language model and its tables that loading does not read."""
        of_pictures = ("model.vision_backbone.", "model.vision_tower.", "model.multi_modal_projector.")
        entries = self._checkpoint.entries.items()
        numbers = sum(math.prod(e.shape) for name, e in entries if not name.startswith(of_pictures))
        return (numbers - self._rounded) * self._bytes

    def _left_over(self) -> int:
        """Small blocks of the picture tower's work that stay in malloc's heap and rarely fit again."""
        if not self._on_cpu:
            return 0
        sight, adapter = self._sight, self._adapter
        patches = min(sight.crops, crops_at_once(self._device)) * self._tower.num_position_embeddings
        tokens = sight.patch_tokens * min(sight.crops, crops_at_once(self._device)) // max(1, sight.crops)
        keys = tokens * sight.patches_a_token * adapter.hidden_size
        projected = tokens * adapter.intermediate_size
        blocks = [patches * self._tower.hidden_size] * 8 + [keys] * 2 + [projected] * 3
        return sum(block * self._bytes for block in blocks if block * self._bytes < _LARGE_BYTES)

    def _with(
        self,
        *,
        weights: int,
        working: int,
        looks_read: int,
        patches: bool,
        features: int,
        answered: bool = False,
    ) -> Memory:
        """What is held beside a stage's own work. looks_read: that have their keys and values."""
        sight = self._sight
        pixels = sight.together * sight.pixel_bytes
        if patches:
            pixels += sight.crops * self._tower.num_position_embeddings * 3 * self._tower.patch_size**2
        every = max(sight.all_tokens, sight.patch_tokens) * self._text.hidden_size * self._bytes
        cached = min(feature_cache_bytes(self._device), every)
        return Memory(
            weights=weights,
            keys_values=looks_read * self._kv_bytes(sight.answer_tokens if answered else 0),
            features=features + cached,
            pixels=pixels if self._on_cpu else 0,
            working=working + self._libraries,
        )

    def _kv_bytes(self, answer_tokens: int) -> int:
        """Of one look. On a CPU, room that is not written to takes no memory, unless it is a used place."""
        text, sight = self._text, self._sight
        token = 2 * int(text.num_hidden_layers * text.num_key_value_heads * text.head_dim) * self._bytes
        used = sight.tokens + answer_tokens
        room = sight.tokens + ANSWER_ROOM
        if used > room:
            room = max(used, room * 3 // 2)
        if not self._on_cpu:
            return token * room
        block = room * text.num_key_value_heads * text.head_dim * self._bytes
        return int(token * (used if block >= _LARGE_BYTES else room))
