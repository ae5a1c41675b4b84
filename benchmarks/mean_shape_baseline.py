"""Baseline without learning: the mean training shape at each mask's box.

The shape is the mean surface occupancy (64^3) of the floor-standing models of the training split, cut at the
level that keeps their mean number of voxels. Each object gets it upright, turned like the query, where a
fixed camera puts the mask's box:

* camera: vertical field of view 50 degrees, looking down by 25 degrees, level, one unit above a flat floor;
  the same for every photo, near the middle of the ranges from which scenes are composed.
* place: the middle of the box's lower edge touches the floor; above the horizon a steepest distance applies.
* size: from the box's width and height at that distance (geometric mean of the two estimates).
* query: the largest mask; its front faces the camera.

Writes folders like those of inference.py: `<output>/<scene_id>/{scene.glb, poses.json}`.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes
from tqdm import tqdm

from scenegen.cli.parser import CommandParser
from scenegen.export.scene_files import write_scene
from scenegen.geometry import world_pose, world_poses_to_query_poses
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import find_scene_folders
from scenegen.inputs.masks import order_by_area
from scenegen.inputs.scene_folder import read_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.synthesis.furniture.mesh_pack import MeshPack, PackError
from trellis_modules.representations.voxels import surface_voxels

_LOG = logging.getLogger("mean_shape_baseline")

RESOLUTION = 64
FOV_DEG = 50.0
ELEVATION_DEG = 25.0
_MIN_SLOPE = np.tan(np.deg2rad(3.0))  # rays at or above the horizon meet the floor as if 3 degrees below it
_GREY = 150


@dataclass(frozen=True)
class MeanShape:
    """The mean shape in the object y-up frame: box centred at 0, longest side 1.

    Attributes:
        mesh: its surface.
        logits: (64, 64, 64) float32, log-odds of the cut, object z-up frame.
        sides: (3,) sides of its box along x, y, z.
        num_models: how many models were averaged.
    """

    mesh: trimesh.Trimesh
    logits: torch.Tensor
    sides: np.ndarray
    num_models: int


def mean_training_shape(pack: MeshPack) -> MeanShape:
    """Average the surface occupancy of the floor-standing models of a training pack.

    Raises:
        ValueError: the pack holds a model of another split, or none that stands on the floor.
    """
    total, count = np.zeros((RESOLUTION,) * 3), 0
    for index, info in enumerate(pack.infos):
        if info.split != "train":
            raise ValueError(
                f"mean_training_shape: expected training models only, got {info.id} of the "
                f"{info.split} split; pass the training pack"
            )
        if info.tier == "floor":
            mesh = pack.mesh(index)
            total += surface_voxels(mesh.vertices, mesh.faces, RESOLUTION)
            count += 1
    if count == 0:
        raise ValueError(
            "mean_training_shape: expected floor-standing models, got none; pass the training pack"
        )
    return shape_from_mean(total / count, count)


def shape_from_mean(mean: np.ndarray, num_models: int) -> MeanShape:
    """Cut a mean occupancy grid (64, 64, 64), axes y-up, where the mean number of voxels stays inside."""
    keep = max(int(round(mean.sum())), 1)
    level = np.partition(mean.ravel(), -keep)[-keep]
    # Half a step down: the surface passes outside the last kept voxel, not through its centre.
    lower = mean[mean < level]
    level = (level + lower.max()) / 2 if lower.size else level / 2
    vertices, faces, _, _ = marching_cubes(np.pad(mean, 1), level)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    side = (high - low).max()
    colours = np.full((len(vertices), 4), (_GREY, _GREY, _GREY, 255), np.uint8)
    # marching_cubes winds faces for a field that falls inwards; ours rises, so the order is turned.
    mesh = trimesh.Trimesh(
        (vertices - (low + high) / 2) / side, faces[:, ::-1], vertex_colors=colours, process=False
    )
    odds = np.clip(mean, 1e-6, 1 - 1e-6)
    logits = np.log(odds / (1 - odds)) - np.log(level / (1 - level))
    # y-up (x, y, z) is z-up (x, -z, y): the z-up grid is indexed [x, -z, y].
    logits_zup = logits.transpose(0, 2, 1)[:, ::-1, :]
    return MeanShape(
        mesh, torch.tensor(logits_zup.copy(), dtype=torch.float32), (high - low) / side, num_models
    )


def place_by_box(mask: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, float]:
    """Put a shape of given sides where the fixed camera sees the box of a mask.

    Args:
        mask: (H, W) bool, not empty.
        sides: (3,) sides of the shape's box, longest 1.

    Returns:
        (3,) box centre and longest side, in camera heights; world with y up, floor y = 0, camera above the
        origin looking towards -z.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    focal = height / 2 / np.tan(np.deg2rad(FOV_DEG) / 2)  # pixels
    right = ((columns[0] + columns[-1] + 1) / 2 - width / 2) / focal
    down = (rows[-1] + 1 - height / 2) / focal
    sine, cosine = np.sin(np.deg2rad(ELEVATION_DEG)), np.cos(np.deg2rad(ELEVATION_DEG))
    depth = 1 / max(sine + down * cosine, _MIN_SLOPE)  # along the optical axis, where the ray meets the floor
    contact = np.array([right * depth, 0.0, -depth * (cosine - down * sine)])
    box_width, box_height = (side * depth / focal for side in (np.ptp(columns) + 1, np.ptp(rows) + 1))
    size = np.sqrt(box_width / sides[0] * box_height / (sides[1] * cosine + sides[2] * sine))
    # The lower edge of the box shows the front of the object's base.
    return contact + size * np.array([0.0, sides[1], -sides[2]]) / 2, float(size)


def predict_scene(images: SceneImages, shape: MeanShape) -> SceneResult:
    """Place the mean shape once for each mask of a photo."""
    placed = [place_by_box(mask, shape.sides) for mask in images.masks]
    centres = torch.tensor(np.stack([centre for centre, _ in placed]), dtype=torch.float32)
    sizes = torch.tensor([size for _, size in placed], dtype=torch.float32)
    query = order_by_area([int(mask.sum()) for mask in images.masks])[0]
    poses = world_poses_to_query_poses(world_pose(centres, torch.zeros_like(sizes), sizes), query)
    objects = tuple(
        GeneratedObject(object_id, pose, shape.logits, shape.mesh)
        for object_id, pose in zip(images.object_ids, poses, strict=True)
    )
    settings = {
        "method": "mean training shape at the mask's box",
        "models": shape.num_models,
        "fov_deg": FOV_DEG,
        "elevation_deg": ELEVATION_DEG,
    }
    return SceneResult(objects, images.object_ids[query], settings=settings)


def main(argv: list[str] | None = None) -> int:
    """Predict every scene of a folder; exit status 1 when a scene failed, 2 when nothing could start."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = CommandParser(__doc__)
    parser.add_argument(
        "--input", type=Path, required=True, metavar="DIR", help="folder of masked-image folders"
    )
    parser.add_argument(
        "--pack", type=Path, required=True, metavar="FILE", help="mesh pack of the training split"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of predictions")
    parser.add_argument("--limit", type=int, help="only the first scenes")
    arguments = parser.parse_args(argv)
    try:
        shape = mean_training_shape(MeshPack.load(arguments.pack))
        folders = find_scene_folders(arguments.input)[: arguments.limit]
    except (PackError, SceneInputError, ValueError) as error:
        _LOG.error("%s", error)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for folder in tqdm(folders, desc="mean shape", unit="scene"):
        try:
            write_scene(
                predict_scene(read_scene(folder)[0], shape), arguments.output / folder.name, ("glb", "poses")
            )
        except SceneInputError as error:
            _LOG.error("%s", error)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
