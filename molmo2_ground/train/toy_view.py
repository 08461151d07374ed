"""`View`: a few frames of a toy scene at the model's size, with the truth at their times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from molmo2_ground.clip import Clip, Frame
from molmo2_ground.train.tiny_shape import IMAGE_PX
from molmo2_ground.train.toy.layout import FRAME_HEIGHT_PX, FRAME_WIDTH_PX

if TYPE_CHECKING:
    import numpy.typing as npt

    from molmo2_ground.train.toy.actors import ActorState
    from molmo2_ground.train.toy.scene import Scene

Kind = Literal["image", "video"]
# Scenes of the held-out set have seeds below this; training draws from far above it.
FIRST_TRAINING_SEED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What the model is shown of a scene: frames, the times it is told, and the truth at those times.

    id_maps: one a frame, uint8[360, 640], whose pixel each one is.
    """

    scene: Scene
    clip: Clip
    states: tuple[tuple[ActorState, ...], ...]
    id_maps: tuple[npt.NDArray[np.uint8], ...]

    @property
    def visible_ids(self) -> list[int]:
        """Actors that can be seen in at least one frame."""
        return sorted({s.object_id for frame in self.states for s in frame if s.visible})


def show(scene: Scene, times_s: npt.NDArray[np.float64], kind: Kind, rng: np.random.Generator) -> View:
    """Render a scene at these times as a camera and a codec would deliver it, at the model's size."""
    frames, states, id_maps = [], [], []
    start_s = times_s[0]
    for number, time_s in enumerate(times_s):
        rgb, ids = scene.render(float(time_s))
        states.append(scene.truth(float(time_s), ids))
        id_maps.append(ids)
        shown_s = round(float(time_s - start_s), 6) if kind == "video" else None
        frames.append(
            Frame(
                rgb=_as_filmed(rgb, rng),
                width_px=FRAME_WIDTH_PX,
                height_px=FRAME_HEIGHT_PX,
                source_index=number,
                time_s=shown_s,
                shown_time_s=shown_s,
            )
        )
    clip = Clip(frames=tuple(frames), source="toy street")
    return View(scene=scene, clip=clip, states=tuple(states), id_maps=tuple(id_maps))


def _as_filmed(rgb: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Chroma at half resolution and a little noise, like the H.264 files that the model will meet."""
    halved = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), cv2.COLOR_YUV2RGB_I420)
    small = cv2.resize(halved, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_LINEAR)
    noise = rng.integers(-3, 4, size=small.shape, dtype=np.int16)
    noisy: npt.NDArray[np.uint8] = np.clip(small + noise, 0, 255).astype(np.uint8)
    return noisy
