"""`Molmo2`: a loaded checkpoint that turns pictures and a question into text."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from molmo2_ground.clip import RgbArray
from molmo2_ground.errors import PromptTooLongError
from molmo2_ground.model.checkpoint import Checkpoint, load_network, open_checkpoint
from molmo2_ground.model.crops import resize_rgb
from molmo2_ground.model.decoding import (
    Drafter,
    Sampling,
    decode,
    embed,
    run_prompt,
    use_prompt_rule,
    word_logits,
)
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import Media, ModelInputs, VisualInputs, assemble, prompt_ids, visual_inputs
from molmo2_ground.model.kv_cache import BranchCache
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.vision import FeatureCache, VisionEncoder

if TYPE_CHECKING:
    from transformers import Molmo2ForConditionalGeneration

# On an accelerator, features of a few hundred frames of a large model; on a CPU, hundreds of a small one's.
_FEATURE_CACHE_BYTES = 256 * 2**20
_FEATURE_CACHE_BYTES_CPU = 32 * 2**20
# Room in the cache for an answer before it has to grow.
_ANSWER_ROOM = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """An answer as written.

    text         special words left out. token_ids: without the word that ended the answer.
    stop_reason  `end` when the model ended it, `length` when it was cut at the token limit.
    forwards     runs of the language model that wrote the answer, without those that read the prompt.
    timings_ms   `vision`, `prefill` (reading the prompt) and `decode_text`: milliseconds for this answer.
    """

    text: str
    token_ids: tuple[int, ...]
    stop_reason: Literal["end", "length"]
    forwards: int
    tokens_in: int
    timings_ms: Mapping[str, float]


class Molmo2:
    """One checkpoint on one device. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, network: Molmo2ForConditionalGeneration) -> None:
        """Take a checkpoint and the network that `load_network` made of it."""
        use_prompt_rule(network)
        self.checkpoint = checkpoint
        self.network = network
        self.device: torch.device = network.lm_head.weight.device
        on_cpu = self.device.type == "cpu"
        self.vision = VisionEncoder(
            network,
            flags=checkpoint.flags,
            crops_at_once=8 if on_cpu else 32,
            cache=FeatureCache(max_bytes=_FEATURE_CACHE_BYTES_CPU if on_cpu else _FEATURE_CACHE_BYTES),
        )

    @property
    def model_id(self) -> str:
        """What the checkpoint was asked for as: `tiny`, a folder, a hub id."""
        return self.checkpoint.model_id

    @property
    def revision(self) -> str | None:
        """The hub's commit, None for a folder."""
        return self.checkpoint.revision

    @property
    def flags(self) -> InputFlags:
        """How pictures and text become input."""
        return self.checkpoint.flags

    @property
    def codec(self) -> TextCodec:
        """Text to token ids and back."""
        return self.checkpoint.codec

    @property
    def limits(self) -> ModelLimits:
        """What the checkpoint reads at most."""
        return ModelLimits(
            max_frames=self.flags.max_frames,
            track_frames=self.flags.track_frames,
            max_fps=self.flags.max_fps,
            max_crops=self.flags.max_crops,
            context_tokens=self.checkpoint.context_tokens,
        )

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Stretch a video frame to the square that the model reads; uint8[side, side, 3]."""
        side = self.flags.image_size_px
        return resize_rgb(rgb_hwc, height_px=side, width_px=side)

    def build_visual(
        self, media: Media, *, max_crops: int | None = None, shown_times_s: Sequence[float] | None = None
    ) -> VisualInputs | None:
        """The pictures of a prompt; None when there are none. Arguments as `build_inputs`."""
        return visual_inputs(
            media, codec=self.codec, flags=self.flags, max_crops=max_crops, shown_times_s=shown_times_s
        )

    def build_inputs(
        self,
        media: Media,
        user_text: str,
        *,
        max_crops: int | None = None,
        shown_times_s: Sequence[float] | None = None,
    ) -> ModelInputs:
        """One prompt of pictures and a question.

        media: a clip, whose frames are all taken; a list of images uint8[H, W, 3]; or an empty list.
        max_crops: of each still image, in place of the checkpoint's number.
        shown_times_s: the times to tell the model in place of the frames' own, seconds.
        """
        visual = self.build_visual(media, max_crops=max_crops, shown_times_s=shown_times_s)
        return assemble(visual, user_text, codec=self.codec, flags=self.flags)

    @torch.inference_mode()
    def logits(self, inputs: ModelInputs) -> torch.Tensor:
        """float32[L, V]: after each token of the prompt, how likely each word comes next."""
        features = None if inputs.visual is None else self.vision.encode(inputs.visual)
        embeds = embed(self.network, inputs.input_ids, patch_L=inputs.patch_L, features_TD=features)
        hidden = run_prompt(self.network, embeds, visual_L=inputs.visual_L, cache=None)
        return word_logits(self.network, hidden)

    def generate(
        self,
        inputs: ModelInputs,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> Generated:
        """Answer one prompt; temperature 0 is greedy.

        The answer is cut at `max_new_tokens` or where the context ends. Raises `PromptTooLongError` when the
        prompt leaves no room for an answer.
        """
        prefix = Prefix(self, inputs.visual)
        answer = prefix.answer_ids(
            inputs.input_ids[inputs.prefix_length :],
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
            on_token=on_token,
        )
        stages = {**prefix.timings_ms, **answer.timings_ms}
        stages["prefill"] += prefix.timings_ms["prefill"]
        return dataclasses.replace(answer, timings_ms=stages)

    def prefix(
        self,
        media: Media,
        *,
        max_crops: int | None = None,
        shown_times_s: Sequence[float] | None = None,
    ) -> Prefix:
        """Read pictures once for any number of questions. Arguments as `build_inputs`."""
        return Prefix(self, self.build_visual(media, max_crops=max_crops, shown_times_s=shown_times_s))


class Prefix:
    """Pictures read once: their features and the keys and values of everything before the user's turn.

    Questions are answered one after another over the same prefix, each exactly as if it were asked alone.
    """

    def __init__(self, model: Molmo2, visual: VisualInputs | None) -> None:
        """Encode the pictures and read them; `timings_ms` says how long it took."""
        self._model = model
        inputs = assemble(visual, "", codec=model.codec, flags=model.flags)
        self._head = inputs.prefix_length
        self._visual_L = inputs.visual_L[: self._head]
        self._check_room(self._head)
        text: Any = model.checkpoint.config.text_config
        self._cache = BranchCache(layers=text.num_hidden_layers)
        self._cache.reserve(self._head + _ANSWER_ROOM)
        self.timings_ms: dict[str, float] = {}
        self._read(inputs)

    @torch.inference_mode()
    def _read(self, inputs: ModelInputs) -> None:
        model = self._model
        clock = _Clock(model.device)
        features = None if inputs.visual is None else model.vision.encode(inputs.visual)
        self.timings_ms["vision"] = clock.lap_ms()
        head = slice(0, self._head)
        embeds = embed(
            model.network, inputs.input_ids[head], patch_L=inputs.patch_L[head], features_TD=features
        )
        run_prompt(model.network, embeds, visual_L=self._visual_L, cache=self._cache)
        self.timings_ms["prefill"] = clock.lap_ms()

    def __len__(self) -> int:
        """Tokens before the user's turn."""
        return self._head

    def generate(
        self,
        user_text: str,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> Generated:
        """Answer one question about the pictures; as `Molmo2.generate`, at the price of the answer alone.

        `timings_ms` holds what this question took; the reading of the pictures is in the prefix's own.
        """
        return self.answer_ids(
            torch.tensor(prompt_ids(self._model.codec, user_text), dtype=torch.int64),
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
            on_token=on_token,
        )

    @torch.inference_mode()
    def answer_ids(
        self,
        turn_ids: torch.Tensor,
        *,
        max_new_tokens: int,
        sampling: Sampling,
        on_token: Callable[[int], None] | None = None,
    ) -> Generated:
        """Answer a user's turn given as token ids int64[Q]."""
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more; got {max_new_tokens}")
        model = self._model
        tokens_in = self._head + len(turn_ids)
        room = self._check_room(tokens_in)
        self._cache.cut_back(self._head)
        clock = _Clock(model.device)
        visual_L = torch.cat([self._visual_L, torch.zeros(len(turn_ids), dtype=torch.bool)])
        embeds = embed(model.network, turn_ids, patch_L=visual_L[self._head :], features_TD=None)
        hidden = run_prompt(model.network, embeds, visual_L=visual_L, cache=self._cache)
        logits_V = word_logits(model.network, hidden[-1:])[0]
        prefill_ms = clock.lap_ms()
        decoded = decode(
            model.network,
            logits_V,
            cache=self._cache,
            max_new_tokens=min(max_new_tokens, room),
            stop_ids=model.codec.stop_ids,
            sampling=sampling,
            drafter=Drafter(model.codec),
            on_token=on_token,
        )
        return Generated(
            text=model.codec.decode(decoded.token_ids),
            token_ids=decoded.token_ids,
            stop_reason=decoded.stop_reason,
            forwards=decoded.forwards,
            tokens_in=tokens_in,
            timings_ms={"prefill": prefill_ms, "decode_text": clock.lap_ms()},
        )

    def _check_room(self, tokens: int) -> int:
        """Tokens that are left for an answer; at least one."""
        limit = self._model.checkpoint.context_tokens
        if tokens >= limit:
            raise PromptTooLongError(
                f"the prompt has {tokens:,} tokens and the model reads {limit:,}: {tokens - limit + 1:,} too "
                "many to leave room for an answer; show fewer frames or images"
            )
        return limit - tokens


class _Clock:
    """Milliseconds between laps, with the device's work done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap_ms(self) -> float:
        last, self._last = self._last, self._now()
        return (self._last - last) * 1000.0


def load_checkpoint(
    path_or_id: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
) -> Molmo2:
    """Load `tiny`, a folder in the released layout, or a hub id.

    device: `auto` takes an accelerator when there is one. dtype: `auto` is bfloat16 on an accelerator and
    float32 on a CPU. Raises `CheckpointError` naming the file that is missing or damaged.
    """
    where = chosen_device(device)
    numbers = _dtype(dtype, where)
    checkpoint = open_checkpoint(path_or_id, revision=revision)
    return Molmo2(checkpoint, load_network(checkpoint, device=where, dtype=numbers))


def chosen_device(device: str | torch.device) -> torch.device:
    """The device of a name; `auto` takes an accelerator when there is one."""
    if device != "auto":
        return torch.device(device)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if found is None else found


def _dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be 'auto', 'float32', 'bfloat16' or 'float16'; got {dtype!r}")
    return found
