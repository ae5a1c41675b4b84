"""Photos of two boxes with their masks, and the true boxes as a prediction of them."""

import json
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.silhouettes import Surface, visible_objects

SIZE = (192, 144)  # of the photo
BOXES = [trimesh.creation.box((1.0, 0.8, 0.6)), trimesh.creation.box((0.5, 0.9, 0.5))]
BOXES[1].apply_translation((0.4, 0.1, 0.8))


def view() -> PhotoCamera:
    """The camera of the photo."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[2, 3] = rotation_of(0.3, 0.2), 4
    return PhotoCamera(extrinsics, focal=1.1, aspect=SIZE[1] / SIZE[0])


def write_photo(root: Path, scene_id: str) -> None:
    """A grey photo with one mask for each box, as the camera sees them."""
    surfaces = [Surface(np.asarray(mesh.vertices), np.asarray(mesh.faces)) for mesh in BOXES]
    owner = visible_objects(surfaces, [view()], SIZE[0])[0]
    folder = root / scene_id
    folder.mkdir(parents=True)
    Image.new("RGB", SIZE, (90, 120, 150)).save(folder / "scene.png")
    for index in range(len(BOXES)):
        Image.fromarray((owner == index).astype(np.uint8) * 255).save(folder / f"{index}_mask.png")


def write_prediction(root: Path, scene_id: str, *, skip=(), camera=True, names="obj_{}") -> None:
    """The same boxes, the scene file twice as large as the frame of the camera and moved."""
    folder = root / scene_id
    folder.mkdir(parents=True)
    scene = trimesh.Scene()
    for index, mesh in enumerate(BOXES):
        if index not in skip:
            moved = mesh.copy().apply_translation((-0.5, 0, 0)).apply_scale(2)
            scene.add_geometry(moved, node_name=names.format(index), geom_name=f"m{index}")
    scene.export(folder / "scene.glb")
    found = view()
    record = {"extrinsics": found.extrinsics.tolist(), "intrinsics": found.intrinsics().tolist()}
    content = {"camera": record if camera else None, "glb": {"scale": 2.0, "centre": [0.5, 0, 0]}}
    (folder / "poses.json").write_text(json.dumps(content))
