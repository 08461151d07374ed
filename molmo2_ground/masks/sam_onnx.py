"""SAM's picture encoder and mask decoder as ONNX graphs, run by onnxruntime as parts of the same segmenter.

The encoder is most of the work of a frame. It takes `pixels` float32[1, 3, S, S], as `SamPictures.pixels`
makes them, and gives `fine`, `middle`, `coarse`: features [h * w, 1, channels], and `places`: codes of the
coarse features' places, the same for every picture.

The decoder, with the encoder of points before it, takes and gives what `MaskDecoder.decode` does, in float32
and for any number of objects and points; the labels are int64. Which of its masks is taken depends on their
values and is left to torch, as are memory's encoder and its attention, whose sizes change as memory fills.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from molmo2_ground.errors import BackendError
from molmo2_ground.masks.mask_decoder import Decoded, DecoderGraph
from molmo2_ground.masks.picture_encoder import PictureFeatures
from molmo2_ground.masks.sam2 import Sam2
from molmo2_ground.masks.sam_graph import GraphRecord, SamPart, Tensors, export_part, open_part
from molmo2_ground.model.checkpoint import one_line
from molmo2_ground.model.onnx_session import OnnxSession

ENCODER = SamPart(
    title="picture encoder",
    format="molmo2-ground/segmenter-onnx/1",
    stem="encoder",
    inputs=("pixels",),
    outputs=("fine", "middle", "coarse", "places"),
    weights=("vision_encoder.", "mask_decoder.conv_s"),
)
DECODER = SamPart(
    title="mask decoder",
    format="molmo2-ground/segmenter-decoder-onnx/1",
    stem="decoder",
    inputs=("fine", "middle", "coarse", "points", "labels"),
    outputs=("masks", "scores", "pointers", "sight"),
    weights=("prompt_encoder.", "mask_decoder.", "shared_image_embedding.", "object_pointer_proj."),
    sizes={"coarse": {0: "O"}, "points": {0: "O", 1: "N"}, "labels": {0: "O", 1: "N"}},
    decoder_settings=("num_attention_heads", "attention_downsample_rate"),
)
GRAPH_FILE, RECORD_FILE = ENCODER.graph_file, ENCODER.record_file
DECODER_GRAPH_FILE, DECODER_RECORD_FILE = DECODER.graph_file, DECODER.record_file


class _EncoderGraph(torch.nn.Module):
    """What the encoder's graph computes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = [network]  # in a list: its other parts are none of this module's

    def forward(self, pixels: torch.Tensor) -> Tensors:
        made = self._network[0].get_image_features(pixels, return_dict=True)
        return (*made.fpn_hidden_states, made.fpn_position_encoding[-1])


class _OnnxPart:
    """A part that onnxruntime runs."""

    def __init__(
        self, opened: OnnxSession, *, part: SamPart, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take an open graph. device, dtype: of what it gives, the network's."""
        self._opened, self._part, self._device, self._dtype = opened, part, device, dtype

    @property
    def provider(self) -> str:
        """What really runs the graph, in onnxruntime's words."""
        return self._opened.provider

    def _run(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """`BackendError` when onnxruntime fails, for want of memory in most cases."""
        given = {name: tensor.cpu().numpy() for name, tensor in zip(self._part.inputs, inputs, strict=True)}
        try:
            made = self._opened.session.run(list(self._part.outputs), given)
        except Exception as error:  # its errors have no common class that it makes public
            raise BackendError(
                f"{self._opened} could not run the {self._part.title}: {one_line(error)}; load the segmenter "
                "without onnx"
            ) from error
        return [torch.from_numpy(one).to(device=self._device, dtype=self._dtype) for one in made]


class OnnxEncoder(_OnnxPart):
    """A `PictureEncoder` that onnxruntime runs."""

    def encode(self, pixels_1CSS: torch.Tensor) -> PictureFeatures:
        """As `PictureEncoder`; `BackendError` when onnxruntime fails."""
        *levels, places = self._run(pixels_1CSS.float())
        # Only the coarse level's places are looked at, which come last.
        return PictureFeatures(levels=levels, positions=[places])


class OnnxDecoder(_OnnxPart):
    """A `MaskDecoder` that onnxruntime runs."""

    def decode(
        self,
        fine: torch.Tensor,
        middle: torch.Tensor,
        coarse: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
    ) -> Decoded:
        """As `MaskDecoder`; `BackendError` when onnxruntime fails."""
        masks, scores, pointers, sight = self._run(
            fine.float(), middle.float(), coarse.float(), points.float(), labels.long()
        )
        return Decoded(masks=masks, scores=scores, pointers=pointers, sight=sight)


def export_encoder(segmenter: Sam2, folder: Path) -> GraphRecord:
    """Write the encoder to `folder`; arguments and errors as of `export_part`."""
    side = segmenter.pictures.side_px
    pixels = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    graph = _EncoderGraph(segmenter.network).eval()
    return export_part(segmenter, folder, ENCODER, graph=graph, trials=[(pixels,)])


def export_decoder(segmenter: Sam2, folder: Path) -> GraphRecord:
    """Write the decoder to `folder`; arguments and errors as of `export_part`."""
    # What is traced has sizes that are not 1, which the exporter would take for fixed; the others are those
    # of a walk: a point of one object, and a frame without any.
    trials = [
        decoder_inputs(segmenter, objects=2, points=3),
        decoder_inputs(segmenter, objects=1, points=1),
        decoder_inputs(segmenter, objects=1, points=0),
    ]
    graph = DecoderGraph(segmenter.network).eval()
    return export_part(segmenter, folder, DECODER, graph=graph, trials=trials)


def decoder_inputs(segmenter: Sam2, *, objects: int, points: int, seed: int = 0) -> Tensors:
    """Noise in the place of features, and points anywhere in the picture; 0 is a frame without a point."""
    random = torch.Generator().manual_seed(seed)
    network = segmenter.network
    channels = int(network.hidden_dim)
    fine, middle, coarse = network.backbone_feature_sizes
    at = torch.rand((objects, max(points, 1), 2), generator=random) * segmenter.pictures.side_px
    labels = torch.ones(at.shape[:2], dtype=torch.int64)
    return (
        torch.randn((1, channels // 8, *fine), generator=random),
        torch.randn((1, channels // 4, *middle), generator=random),
        torch.randn((objects, channels, *coarse), generator=random),
        at if points else torch.zeros_like(at),
        labels if points else -labels,
    )


def open_encoder(segmenter: Sam2, folder: Path, *, provider: str | None = None) -> OnnxEncoder:
    """The encoder in `folder`, to be set as this segmenter's; arguments and errors as of `open_part`."""
    opened = open_part(segmenter, folder, ENCODER, provider=provider)
    return OnnxEncoder(opened, part=ENCODER, device=segmenter.device, dtype=segmenter.dtype)


def open_decoder(segmenter: Sam2, folder: Path, *, provider: str | None = None) -> OnnxDecoder:
    """The decoder in `folder`, to be set as this segmenter's; arguments and errors as of `open_part`."""
    opened = open_part(segmenter, folder, DECODER, provider=provider)
    return OnnxDecoder(opened, part=DECODER, device=segmenter.device, dtype=segmenter.dtype)


def with_onnx(segmenter: Sam2, folder: Path, *, provider: str | None = None) -> Sam2:
    """The same segmenter with the parts that `folder` holds run by onnxruntime.

    The encoder must be there; with an older export, which holds no decoder, torch decodes. Errors as of
    `open_part`.
    """
    encoder = open_encoder(segmenter, folder, provider=provider)
    has_decoder = any((folder / name).exists() for name in (DECODER_GRAPH_FILE, DECODER_RECORD_FILE))
    decoder = open_decoder(segmenter, folder, provider=provider) if has_decoder else None
    return segmenter.with_parts(encoder=encoder, decoder=decoder)
