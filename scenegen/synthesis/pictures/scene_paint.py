"""All that changes the looks of the scenes of a batch before their pictures are taken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.synthesis.pictures.looks import Looks
from scenegen.synthesis.pictures.object_paint import ObjectPaint
from scenegen.synthesis.pictures.room_paint import RoomPaint
from scenegen.synthesis.pictures.scene_light import SceneLight


@dataclass(frozen=True)
class ScenePaint:
    """Paint of rooms and objects, and light; None where the looks ask for none."""

    room: RoomPaint | None = None
    objects: ObjectPaint | None = None
    light: SceneLight | None = None

    @classmethod
    def draw(
        cls, scene: dict[str, Tensor], num_objects: int, looks: Looks, generator: torch.Generator
    ) -> ScenePaint:
        """Draw the looks of a batch of ``num_objects`` in all; ``scene`` as in `shading.render_scenes`."""
        paints_objects = looks.patterns > 0 or looks.gloss > 0
        return cls(
            RoomPaint.draw(scene, looks.room, generator) if looks.room > 0 else None,
            ObjectPaint.draw(num_objects, looks, generator) if paints_objects else None,
            SceneLight.draw(scene, looks.light, generator) if looks.light > 0 else None,
        )


PLAIN = ScenePaint()
"""Nothing is changed."""
