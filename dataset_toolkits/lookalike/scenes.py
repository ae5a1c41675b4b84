"""Photos of a look-alike, and their annotations in the form of 3D-FUTURE."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
from skimage.measure import find_contours

from dataset_toolkits.lookalike.models import Furniture
from dataset_toolkits.lookalike.raw_files import RawSet
from scenegen.inputs.coco_masks import compress_counts, decode_segmentation, encode_counts
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_layout import Camera, PlacedObject, SceneLayout, yaw_matrix
from scenegen.synthesis.layouts.scene_list import SceneList
from scenegen.synthesis.layouts.scene_selection import VisibilityRule, balanced_counts, select_scenes
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import ScenePicture, render_scene

FIRST_PHOTO = {"train": "000", "test": "100"}
"""What the seven digits of a photo's name begin with."""

_OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0])
_MIN_POLYGON_IOU = 0.98  # below it, as for objects with holes, run lengths are written
_MIN_CORNERS = 3


def compose_set(
    furniture: Sequence[Furniture],
    model_ids: Mapping[str, str],
    split: str,
    count: int,
    max_objects: int,
    size: int,
    seed: int,
) -> RawSet:
    """Choose, draw and annotate the scenes of a set.

    Args:
        furniture: the models that scenes are made of, all of the split.
        model_ids: furniture id -> name of its folder in the zip.
        split: train or test.
        count: number of scenes.
        max_objects: most objects of a scene.
        size: pixels per side of the photos.
        seed: scene k depends on it and on k only.

    Raises:
        CompositionError, ValueError: the models are too few or too alike for a scene.
        SplitError: a model is of another split.
    """
    rule = VisibilityRule(image_size=size, min_pixels=max(16, 400 * size**2 // 512**2))
    meshes = {info.id: RenderMesh.from_furniture(mesh) for mesh, info in furniture}
    counts = [min(number, max_objects) for number in balanced_counts(count)]
    pool = ModelPool([info for _, info in furniture])
    layouts = tuple(select_scenes(seed, pool, meshes, counts, FIRST_PHOTO[split], rule))
    raw = RawSet(scene_list=SceneList(split, f"seed {seed}; {rule.describe()}", size, layouts))
    heights = {info.id: info.size_m[1] for _, info in furniture}
    for number, layout in enumerate(layouts, start=1):
        picture = render_scene(layout, meshes, size, antialias=True)
        add_photo(raw, number, layout, picture, model_ids, heights)
    return raw


def add_photo(
    raw: RawSet,
    image_id: int,
    layout: SceneLayout,
    picture: ScenePicture,
    model_ids: Mapping[str, str],
    heights_m: Mapping[str, float],
) -> None:
    """Append one photo with an annotation for each object, and one for the floor, which has no model."""
    height, width = picture.instances.shape
    buffer = io.BytesIO()
    Image.fromarray(picture.colour).save(buffer, "JPEG", quality=95, subsampling=0)
    raw.photos[layout.scene_id] = buffer.getvalue()
    raw.images.append({"id": image_id, "file_name": layout.scene_id, "width": width, "height": height})
    fov = math.radians(layout.camera.fov_deg)
    for number, placed in enumerate(layout.objects):
        translation, euler = camera_pose(placed, layout.camera, heights_m[placed.model_id])
        mask = picture.instances == number
        raw.annotations.append(
            {
                "id": len(raw.annotations) + 1,
                "image_id": image_id,
                "category_id": 1,
                "segmentation": segmentation_of(mask, len(raw.annotations)),
                "area": int(mask.sum()),
                "model_id": model_ids[placed.model_id],
                "pose": {"translation": translation, "euler": euler},
                "fov": fov,
            }
        )
    floor = [0, height - 2, width - 1, height - 2, width - 1, height - 1, 0, height - 1]
    raw.annotations.append(
        {
            "id": len(raw.annotations) + 1,
            "image_id": image_id,
            "category_id": 2,
            "segmentation": [floor],
            "area": 2 * width,
            "model_id": None,
            "pose": {"translation": None, "euler": None},
            "fov": fov,
        }
    )


def camera_pose(placed: PlacedObject, camera: Camera, height_m: float) -> tuple[list[float], list[float]]:
    """Pose of an OBJ of `lookalike.models` in the camera's frame (x right, y up, looking along -z).

    Returns:
        Position of the file's origin, the foot of the object, in metres; Euler angles in degrees about the
        fixed axes x, y, z.
    """
    extrinsics = camera.extrinsics()
    foot = np.asarray(placed.centre) - [0.0, height_m / 2, 0.0]  # upright: a turn about y leaves it there
    rotation = _OPENCV_TO_OPENGL @ extrinsics[:3, :3] @ yaw_matrix(placed.yaw)
    translation = _OPENCV_TO_OPENGL @ (extrinsics[:3, :3] @ foot + extrinsics[:3, 3])
    euler = Rotation.from_matrix(rotation).as_euler("xyz", degrees=True)
    return [round(float(v), 9) for v in translation], [round(float(v), 9) for v in euler]


def segmentation_of(mask: np.ndarray, number: int) -> Any:
    """A mask in one of the three forms: polygons, compressed and plain run lengths, by its number in turn."""
    if number % 3 == 0:
        polygons = polygons_of(mask)
        drawn = decode_segmentation(polygons, *mask.shape) if polygons else np.zeros_like(mask)
        if (drawn & mask).sum() >= _MIN_POLYGON_IOU * (drawn | mask).sum():
            return polygons
    counts = encode_counts(mask)
    return {"size": list(mask.shape), "counts": compress_counts(counts) if number % 3 < 2 else counts}


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask through the centres of its border pixels."""
    padded = np.pad(mask, 1).astype(float)
    polygons = []
    for contour in find_contours(padded, 0.999):  # so near 1 that rounding ends on pixels of the mask
        corners = np.round(contour[:, ::-1] - 1)
        corners = corners[np.any(corners != np.roll(corners, 1, axis=0), axis=1)]
        if len(corners) >= _MIN_CORNERS:
            polygons.append(corners.ravel().tolist())
    return polygons
