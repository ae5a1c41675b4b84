"""Pictures of the radiance field of each object, from four sides on white."""

from __future__ import annotations

from pathlib import Path

import trimesh
from PIL import Image
from torch import Tensor

from scenegen.export.options import ExportOptions
from scenegen.pipelines.result import SceneResult
from trellis_modules.renderers import render_octree, snapshots
from trellis_modules.renderers.pictures import two_by_two
from trellis_modules.renderers.rendering import Rendering
from trellis_modules.representations.moving import to_device
from trellis_modules.representations.strivec import Strivec

SIZE = 512  # pixels per edge of a view

_BACKGROUND = (1.0, 1.0, 1.0)


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``obj_<k>_radiance_field.png`` of the objects that have a radiance field."""
    names = []
    for item in result.objects:
        if item.radiance_field is not None:
            names.append(f"{item.node}_radiance_field.png")
            picture = four_views(to_device(item.radiance_field, options.device), SIZE)
            Image.fromarray(picture.numpy()).save(folder / names[-1])
    return names


def four_views(field: Strivec, size: int) -> Tensor:
    """A field from its four sides, (2 * size, 2 * size, 3) uint8 on the CPU."""

    def draw(extrinsics: Tensor, intrinsics: Tensor) -> Rendering:
        return render_octree(field, extrinsics, intrinsics, size, background=_BACKGROUND)

    return two_by_two(snapshots(draw))
