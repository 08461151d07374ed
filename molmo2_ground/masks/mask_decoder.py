"""`MaskDecoder`: what makes masks of points and features, and how another one takes the network's place.

Shapes: O objects, N points of each, M masks proposed for each object: the one that is meant to be right by
itself, then the three of an ambiguous click. C channels, h and w cells of the coarse features.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Every mask that SAM proposes for some objects, before one is chosen.

    masks     logits [O, M, 4h, 4w], above 0 on the object.
    scores    [O, M], how well each mask is predicted to fit, 0 to 1.
    pointers  [O, M, C], what memory is told of an object whose mask this is.
    sight     [O, 1], above 0 when the object is in sight.
    """

    masks: torch.Tensor
    scores: torch.Tensor
    pointers: torch.Tensor
    sight: torch.Tensor


class MaskDecoder(Protocol):
    """Makes masks."""

    def decode(
        self,
        fine: torch.Tensor,
        middle: torch.Tensor,
        coarse: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
    ) -> Decoded:
        """Masks of the objects in one picture.

        fine [1, C/8, 4h, 4w] and middle [1, C/4, 2h, 2w] are the picture's, coarse [O, C, h, w] each object's
        own, with memory in it. points [O, N, 2], x and y in pixels of the network's picture; labels [O, N],
        1 on the object, -1 for no point.
        """
        ...


class DecoderGraph(torch.nn.Module):
    """What the graph of the prompt encoder and the mask decoder computes, by the library's own modules."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = [network]  # in a list: its other parts are none of this module's
        with torch.no_grad():
            self.register_buffer("places", network.get_image_wide_positional_embeddings())

    def forward(
        self,
        fine: torch.Tensor,
        middle: torch.Tensor,
        coarse: torch.Tensor,
        points: torch.Tensor,
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Masks, scores, pointers and sight as in `Decoded`; arguments as of `MaskDecoder.decode`."""
        network = self._network[0]
        sparse, dense = network.prompt_encoder(points[:, None], labels[:, None], None, None)
        tokens: list[torch.Tensor] = []
        decoder = _asked_for_all(network.mask_decoder, tokens)
        # Not called as a module: whoever listens to the network's decoder is not meant.
        masks, scores, _, sight = decoder.forward(
            image_embeddings=coarse,
            image_positional_embeddings=self.places,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=[fine, middle],
        )
        # The first token is the object's, the second the scores'; those of the masks follow, and the points'.
        of_masks = tokens[0][:, 0, 2 : 2 + decoder.num_mask_tokens]
        return masks[:, 0], scores[:, 0], network.object_pointer_proj(of_masks), sight[:, 0]


def _asked_for_all(library: Any, tokens: list[torch.Tensor]) -> Any:
    """The library's decoder, which answers with one mask or with three, made to answer with all of them.

    Its rule for taking one by stability takes all; tokens: gets what its transformer makes of its tokens.
    """
    decoder = copy.copy(library)
    decoder.dynamic_multimask_via_stability = True
    decoder._dynamic_multimask_via_stability = lambda masks, scores: (masks, scores)
    decoder._modules = {**library._modules, "transformer": _Heard(library.transformer, tokens)}
    return decoder


class _Heard(torch.nn.Module):
    """A transformer whose tokens are also put in a list."""

    def __init__(self, library: Any, tokens: list[torch.Tensor]) -> None:
        super().__init__()
        self._library, self._tokens = [library], tokens

    def forward(self, **given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, picture = self._library[0](**given)
        self._tokens.append(tokens)
        return tokens, picture


def with_decoder(network: Any, decoder: MaskDecoder) -> Any:
    """A network that shares all weights with this one and has its masks made by `decoder`.

    It chooses among the masks as the library does. Prompts are points; boxes and masks raise `ValueError`.
    """
    other = copy.copy(network)
    other._modules = {
        **network._modules,
        "prompt_encoder": _Prompts(network.prompt_encoder),
        "mask_decoder": _Masks(network.mask_decoder, decoder),
        "object_pointer_proj": torch.nn.Identity(),  # the decoder has done it
    }
    nowhere = torch.zeros((1, 1, 1, 1))
    # The decoder knows the places of the features.
    other.get_image_wide_positional_embeddings = lambda: nowhere
    return other


class _Prompts(torch.nn.Module):
    """In place of the prompt encoder: points go to the decoder as they are."""

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.mask_input_size = library.mask_input_size
        self.image_embedding_size = library.image_embedding_size

    def forward(
        self, input_points: torch.Tensor, input_labels: torch.Tensor, input_boxes: None, input_masks: None
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], None]:
        if input_boxes is not None or input_masks is not None:
            raise ValueError("this network's decoder takes points alone; got a box or a mask as a prompt")
        return (input_points, input_labels), None


class _Masks(torch.nn.Module):
    """In place of the mask decoder: another makes the masks, and the library's rules choose among them."""

    def __init__(self, library: Any, decoder: MaskDecoder) -> None:
        super().__init__()
        self._library = [library]
        self._decoder = decoder

    def forward(
        self,
        *,
        image_embeddings: torch.Tensor,
        sparse_prompt_embeddings: tuple[torch.Tensor, torch.Tensor],
        multimask_output: bool,
        high_resolution_features: list[torch.Tensor],
        **_of_no_use: Any,
    ) -> tuple[torch.Tensor, ...]:
        """As the library's: masks [O, 1, m, 4h, 4w], scores and pointers of m masks, 1 or 3; sight."""
        library = self._library[0]
        points, labels = sparse_prompt_embeddings
        fine, middle = high_resolution_features
        made = self._decoder.decode(fine, middle, image_embeddings, points.squeeze(1), labels.squeeze(1))
        masks, scores, pointers = (part[:, None] for part in (made.masks, made.scores, made.pointers))
        sight = made.sight[:, None]
        if multimask_output:
            return masks[:, :, 1:], scores[:, :, 1:], pointers[:, :, 1:], sight
        if library.dynamic_multimask_via_stability:
            masks, scores = library._dynamic_multimask_via_stability(masks, scores)
        return masks[:, :, :1], scores[:, :, :1], pointers[:, :, :1], sight
