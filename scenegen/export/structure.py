"""Pictures of the structures: the voxels that the structure stage found, before anything is made of them."""

from __future__ import annotations

from pathlib import Path

import torch
import trimesh
from PIL import Image
from torch import Tensor

from scenegen.export.frames import zup_transform
from scenegen.export.options import ExportOptions
from scenegen.pipelines.result import SceneResult
from trellis_modules.renderers.structure_preview import (
    OBJECT_SIZE,
    SCENE_SIZE,
    scene_preview,
    structure_preview,
)

SCENE_FILE = "structure.png"

_SSAA = {"cpu": 2, "cuda": 4}  # samples per pixel and axis; the released pictures have 4


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``structure.png``, the voxels of all objects in place, and ``obj_<k>_structure.png``.

    Each has four views. Objects that could not be made are drawn as well, but for those without a voxel.
    """
    device = torch.device(options.device)
    ssaa = _SSAA["cuda" if device.type == "cuda" else "cpu"]
    voxels = [(item.logits > 0).nonzero().to(device) for item in result.objects]
    resolution = result.objects[0].logits.shape[-1]
    poses = torch.stack([item.pose for item in result.objects]).to(device)
    picture = scene_preview(voxels, resolution, zup_transform(poses), size=SCENE_SIZE, ssaa=ssaa)
    names = [_save(picture, folder, SCENE_FILE)]
    for item, coords in zip(result.objects, voxels, strict=True):
        if len(coords):
            picture = structure_preview(coords, resolution, size=OBJECT_SIZE, ssaa=ssaa)
            names.append(_save(picture, folder, f"{item.node}_structure.png"))
    return names


def _save(picture: Tensor, folder: Path, name: str) -> str:
    Image.fromarray(picture.cpu().numpy()).save(folder / name)
    return name
