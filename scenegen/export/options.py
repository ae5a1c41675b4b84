"""How the files of a scene are written, whatever their format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from scenegen.physics.packages import DENSITY

TextureFormat = Literal["png", "jpeg", "webp"]

Turntable = Literal["mesh", "gaussian", "radiance_field"]
"""What the video is drawn from."""


@dataclass(frozen=True)
class ExportOptions:
    """What a caller may choose about files.

    Attributes:
        texture_format: of the pictures in GLB, OBJ and USD files; OBJ and USD, whose readers do not know
            WebP, get PNG in its place. PNG keeps every texel.
        compress: quantised normals in GLB files (KHR_mesh_quantization): a fifth less for each vertex.
        turntable: what the video shows: shaded meshes, or Gaussians or radiance fields in their own colours.
        device: where Gaussians, radiance fields and voxels are drawn.
        physics: USD files say what a simulator needs: z up, metres, rigid bodies with mass and colliders.
        metres: height of the scene above its floor, for formats with physics; None estimates it.
        density: kilograms a cubic metre of objects, for formats with physics.
    """

    texture_format: TextureFormat = "png"
    compress: bool = False
    turntable: Turntable = "mesh"
    device: str = "cpu"
    physics: bool = False
    metres: float | None = None
    density: float = DENSITY

    def __post_init__(self) -> None:
        if self.texture_format not in get_args(TextureFormat):
            raise ValueError(
                f"ExportOptions: texture_format must be one of {get_args(TextureFormat)}, "
                f"got {self.texture_format!r}"
            )
        if self.turntable not in get_args(Turntable):
            raise ValueError(
                f"ExportOptions: turntable must be one of {get_args(Turntable)}, got {self.turntable!r}"
            )
        for name, value in (("metres", self.metres), ("density", self.density)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"ExportOptions: expected {name} above 0, got {value}")
