"""`Molmo2`: a loaded checkpoint that turns pictures and a question into text."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from molmo2_ground._wanted import Wanted
from molmo2_ground.clip import RgbArray
from molmo2_ground.model.checkpoint import Checkpoint, load_network, open_checkpoint
from molmo2_ground.model.decoding import Sampling, embed, run_prompt, word_logits
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import Media, ModelInputs, VisualInputs, assemble, visual_inputs
from molmo2_ground.model.layer_graphs import CudaRecorder, LayerGraphs
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.prefix import Generated, Prefix, Turn, answer_together
from molmo2_ground.model.resize_plan import resize_frame
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.text_layers import RunLayers
from molmo2_ground.model.token_table import TokenTable
from molmo2_ground.model.vision import (
    FeatureCache,
    TorchTower,
    VisionEncoder,
    VisionTower,
    crops_at_once,
    feature_cache_bytes,
)
from molmo2_ground.model.vision_choice import VisionChoice

if TYPE_CHECKING:
    from transformers import Molmo2ForConditionalGeneration

_DEVICE = Wanted("a device's name", (str, torch.device))

# Words of one run up to which guesses branch. Where a run waits for the weights to be read, some hundred
# words cost hardly more than one; on a CPU each costs, and branching does not pay (`benchmarks/decode.py`).
_TREE_ROWS = 256
# Words that are guessed ahead in one row: more are mostly wrong.
_MOST_GUESSES, _MOST_GUESSES_CPU = 16, 9


class Molmo2:
    """One checkpoint on one device. Not for several threads at once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: Molmo2ForConditionalGeneration,
        *,
        tower: VisionTower | None = None,
    ) -> None:
        """Take a checkpoint and the network that `load_network` made of it.

        tower: what runs the vision tower and the connector; the network's own modules by default.
        """
        self.checkpoint = checkpoint
        self.network = network
        self.device: torch.device = network.lm_head.weight.device
        on_cpu = self.device.type == "cpu"
        self.tree_rows = 0 if on_cpu else _TREE_ROWS
        self.most_guesses = _MOST_GUESSES_CPU if on_cpu else _MOST_GUESSES
        # What runs the layers for an answer's words; None: step by step. Recorded, a card need not be told
        # each step; a CPU has nothing to wait for.
        self.layers: RunLayers | None = None
        if self.device.type == "cuda":
            text: Any = network.model.language_model
            self.layers = LayerGraphs(text, CudaRecorder(self.device))
        self.vision = VisionEncoder(
            tower or TorchTower(network, flags=checkpoint.flags, crops_at_once=crops_at_once(self.device)),
            cache=FeatureCache(max_bytes=feature_cache_bytes(self.device)),
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

    @functools.cached_property
    def token_table(self) -> TokenTable:
        """What each word that the model can write says; made when first asked for."""
        return TokenTable.of(self.codec, size=int(self.network.lm_head.weight.shape[0]))

    @property
    def limits(self) -> ModelLimits:
        """What the checkpoint reads at most."""
        return self.checkpoint.limits

    def resize_frame(self, rgb_hwc: RgbArray) -> RgbArray:
        """Stretch a video frame to the square that the model reads; uint8[side, side, 3]."""
        side = self.flags.image_size_px
        return resize_frame(rgb_hwc, height_px=side, width_px=side)

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
        question = inputs.input_ids[inputs.prefix_length :]
        turn = Turn(prefix=prefix, token_ids=question, max_new_tokens=max_new_tokens)
        sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
        answer = answer_together([turn], sampling=sampling, on_token=on_token)[0]
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


def load_checkpoint(
    path_or_id: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    vision: str = "torch",
) -> Molmo2:
    """Load `tiny`, a folder in the released layout, or a hub id.

    device: `auto` takes an accelerator when there is one. dtype: `auto` is bfloat16 on an accelerator and
    float32 on a CPU; `int8` is the same with the language model's matrices as whole numbers (`model.int8`),
    half the memory of bfloat16 and slower. vision: what runs the vision tower, as `VisionChoice.parse` reads
    it. Raises `CheckpointError` naming the file that is missing or damaged, `MissingExtraError`.
    """
    choice = VisionChoice.parse(vision)
    where = chosen_device(device)
    numbers, int8 = chosen_numbers(dtype, where)
    checkpoint = open_checkpoint(path_or_id, revision=revision)
    if choice.runtime == "torch":
        return Molmo2(checkpoint, load_network(checkpoint, device=where, dtype=numbers, int8=int8))
    from molmo2_ground.model.onnx_vision import open_onnx_vision  # onnxruntime is an extra

    if choice.provider is None and str(device) == "cpu":
        # Whoever names the CPU wants nothing on the card, whatever onnxruntime could do there.
        choice = dataclasses.replace(choice, provider="cpu")
    tower = open_onnx_vision(
        checkpoint, choice=choice, device=where, dtype=numbers, crops_at_once=crops_at_once(where)
    )
    network = load_network(checkpoint, device=where, dtype=numbers, int8=int8)
    return Molmo2(checkpoint, network, tower=tower)


def chosen_device(device: str | torch.device) -> torch.device:
    """The device of a name; `auto` takes an accelerator when there is one.

    Raises `ValueError` for a name that torch does not know, and for a device that is not there.
    """
    _DEVICE.check("device", device)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device == "auto":
        return torch.device("cpu") if found is None else found
    there = (
        () if found is None else tuple(f"{found.type}:{i}" for i in range(torch.accelerator.device_count()))
    )
    try:
        chosen = torch.device(device)
        if found is not None and chosen.type == found.type:
            # Asked by number: making anything there would open the device, which a process that only plans
            # or starts others must not.
            usable = f"{chosen.type}:{chosen.index or 0}" in there
        else:
            torch.empty(1, device=chosen)
            usable = chosen.type != "meta"
    except (RuntimeError, AssertionError):  # torch's words for both list all that it was ever made for
        usable = False
    if not usable:
        raise ValueError(
            f"device must be 'auto' or one that is here: {', '.join(('cpu', *there))}; got '{device}'"
        )
    return chosen


def chosen_numbers(dtype: str | torch.dtype, device: torch.device) -> tuple[torch.dtype, bool]:
    """The type of numbers of a name, and whether the language model's matrices are `int8` beside it."""
    int8 = dtype == "int8"
    return chosen_dtype("auto" if int8 else dtype, device), int8


def chosen_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The type of numbers of a name; `auto` is bfloat16 on an accelerator and float32 on a CPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be 'auto', 'float32', 'bfloat16', 'float16' or 'int8'; got {dtype!r}")
    return found
