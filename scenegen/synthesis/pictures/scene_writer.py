"""Write rendered scenes to disk: the masked-image folder that inference reads, and the truth beside it.

Below one root, for a set named ``test``:

* ``masked_images_test/<scene_id>/``: ``scene.jpg``, and for object k = 0, 1, ... ``k.png`` (RGBA cut-out,
  518 x 518) and ``k_mask.png`` (3 channels, 0 or 255, as large as the photo);
* ``scene_test/<scene_id>.glb``: nodes ``obj_0``, ... in the query frame, centred, longest side 1.96;
* ``scene_test/<scene_id>.json``: the poses in the query frame, the camera, and how the GLB was normalised;
* ``depth_test/<scene_id>.png`` on request: 16 bits, millimetres, 0 = nothing there.

Objects are numbered by visible area, so object 0, the query, is the one with the largest mask.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from scenegen.geometry import (
    CAMERA_FRAME,
    GLB_FRAME,
    ROTATION,
    SCALE,
    SCENE_EXTENT,
    TRANSLATION,
    pose_to_transform,
)
from scenegen.inputs.cutouts import cut_out
from scenegen.inputs.names import PHOTO_NAME, cutout_name, mask_name
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.layouts.scene_layout import (
    PlacedObject,
    SceneLayout,
    augment_vertices,
    query_poses,
    yaw_matrix,
)
from scenegen.synthesis.pictures.scene_renderer import ScenePicture
from trellis_modules.files import atomic_write, atomic_write_bytes, atomic_write_text
from trellis_modules.gltf import GltfMesh, GltfNode, encode_glb

CUTOUT_SIZE = 518
FRAME = "query object: origin at its box centre, y up, front +z, unit = its longest side"
_JPEG_QUALITY = 92
_PICTURE = re.compile(r"\d+(_mask)?\.png")


@dataclass(frozen=True)
class ScenePaths:
    """Where the files of one scene lie."""

    images: Path
    glb: Path
    truth: Path
    depth: Path

    @classmethod
    def of(cls, root: Path, set_name: str, scene_id: str) -> ScenePaths:
        """Paths of ``scene_id`` in the set ``set_name`` below ``root``."""
        truth = root / f"scene_{set_name}"
        return cls(
            images=root / f"masked_images_{set_name}" / scene_id,
            glb=truth / f"{scene_id}.glb",
            truth=truth / f"{scene_id}.json",
            depth=root / f"depth_{set_name}" / f"{scene_id}.png",
        )

    def complete(self, with_depth: bool = False) -> bool:
        """True when the scene has been written to its end."""
        return self.images.is_dir() and self.truth.is_file() and (self.depth.is_file() or not with_depth)


def write_masked_scene(
    layout: SceneLayout,
    picture: ScenePicture,
    meshes: Mapping[str, FurnitureMesh],
    infos: Mapping[str, ModelInfo],
    paths: ScenePaths,
    with_depth: bool = False,
) -> None:
    """Write one scene; the truth JSON comes last and marks the scene as complete.

    Args:
        layout, picture: the scene, objects sorted by visible area, and its picture.
        meshes: model id -> mesh for the truth GLB.
        infos: model id -> its record, for names and symmetries.

    Raises:
        ValueError: an object has no pixel.
    """
    seen = np.isin(np.arange(len(layout.objects)), picture.instances)
    if not seen.all():
        hidden = layout.objects[int(seen.argmin())].model_id
        raise ValueError(
            f"{layout.scene_id}: expected every object in the picture, {hidden} has no pixel; move it"
        )
    for folder in (paths.images.parent, paths.glb.parent):
        folder.mkdir(parents=True, exist_ok=True)
    write_images(layout, picture, paths.images)
    if with_depth:
        write_depth(picture.depth, paths.depth)
    scene, normalisation = truth_scene(layout, meshes)
    atomic_write_bytes(paths.glb, truth_glb(scene))
    truth = truth_record(layout, infos, picture.instances.shape[0], normalisation)
    atomic_write_text(paths.truth, json.dumps(truth, indent=1) + "\n")


def write_images(layout: SceneLayout, picture: ScenePicture, folder: Path) -> None:
    """Write the masked-image folder of a composed scene, see `write_object_images`."""
    masks = picture.drawn_masks
    if masks is None:
        masks = [picture.instances == number for number in range(len(layout.objects))]
    write_object_images(picture.colour, masks, folder, optimize=True)


def write_object_images(
    colour: np.ndarray,
    masks: Sequence[np.ndarray],
    folder: Path,
    with_masks: bool = True,
    optimize: bool = False,
) -> None:
    """Write the masked-image folder of a photo, under a temporary name first.

    Of an earlier run of the scene only the pictures are replaced, or removed where it had more objects; other
    files in the folder stay.

    Args:
        colour: (H, W, 3) uint8.
        masks: (H, W) bool, one an object, none empty.
        with_masks: whether masks are written beside the cut-outs.
        optimize: make files a twentieth smaller in seven times the time.

    Raises:
        ValueError: a mask is empty.
        OSError: the disk refuses.
    """
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        Image.fromarray(colour).save(temporary / PHOTO_NAME, quality=_JPEG_QUALITY, subsampling=0)
        for number, mask in enumerate(masks):
            cutout(colour, mask).save(temporary / cutout_name(number), optimize=optimize)
            if with_masks:
                channels = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
                Image.fromarray(channels).save(temporary / mask_name(number), optimize=optimize)
        _replace_pictures(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_pictures(new: Path, folder: Path) -> None:
    """Move the pictures of a scene into its folder, and remove those that it has no more."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if _PICTURE.fullmatch(path.name) and not (new / path.name).is_file():
            path.unlink()
    for path in new.iterdir():
        path.replace(folder / path.name)


def cutout(colour: np.ndarray, mask: np.ndarray, size: int = CUTOUT_SIZE) -> Image.Image:
    """Cut an object out of a photo.

    Args:
        colour: (H, W, 3) uint8.
        mask: (H, W) bool, not empty.
        size: side of the result; the longer side of the mask's box fills it.

    Returns:
        RGBA image, transparent outside the mask; colour from outside the mask never bleeds in.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        raise ValueError("cutout: expected a mask with at least one pixel, got an empty one")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    close = cut_out(Image.fromarray(colour[box]), mask[box])
    scale = size / max(close.size)
    new_size = max(1, int(close.width * scale + 1e-6)), max(1, int(close.height * scale + 1e-6))
    resized = close.resize(new_size, Image.Resampling.BILINEAR)  # Pillow weights RGB by alpha
    padded = Image.new("RGBA", (size, size))
    padded.paste(resized, ((size - new_size[0]) // 2, (size - new_size[1]) // 2))
    return padded


def write_depth(depth: np.ndarray, path: Path) -> None:
    """Write depth in metres (S, S) as a 16-bit PNG in millimetres; 0 where infinite or beyond 65.5 m."""
    millimetres = np.round(depth * 1000)
    levels = np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)
    with atomic_write(path) as temporary:
        Image.fromarray(levels).save(temporary, format="PNG")


def truth_scene(
    layout: SceneLayout, meshes: Mapping[str, FurnitureMesh]
) -> tuple[trimesh.Scene, dict[str, Any]]:
    """Assemble the truth: nodes ``obj_k`` whose geometry is in the object frame, placed by their nodes.

    Returns:
        The scene, and {"scale", "centre"} with ``x_glb = scale * (x_query - centre)``.
    """
    geometries = [_coloured_trimesh(meshes[placed.model_id], placed) for placed in layout.objects]
    matrices = pose_to_transform(query_poses(layout).double()).numpy()
    points = np.concatenate(
        [trimesh.transform_points(mesh.vertices, matrix) for mesh, matrix in zip(geometries, matrices)]
    )
    low, high = points.min(axis=0), points.max(axis=0)
    scale, centre = SCENE_EXTENT / float((high - low).max()), (low + high) / 2
    normalise = np.diag([scale, scale, scale, 1.0])
    normalise[:3, 3] = -scale * centre
    scene = trimesh.Scene()
    for number, (mesh, matrix) in enumerate(zip(geometries, matrices)):
        name = f"obj_{number}"
        scene.add_geometry(mesh, node_name=name, geom_name=name, transform=normalise @ matrix)
    return scene, {"scale": scale, "centre": centre.tolist()}


def truth_glb(scene: trimesh.Scene) -> bytes:
    """Encode a truth: flat faces; each object has a node of translation, rotation, scale, and a material."""
    nodes = []
    for name in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[name]
        mesh = scene.geometry[geometry]
        colours = np.asarray(mesh.visual.vertex_colors)
        nodes.append(GltfNode(name, GltfMesh(mesh.vertices, mesh.faces, colours=colours), transform))
    return encode_glb(nodes, {"frame": GLB_FRAME})


def truth_record(
    layout: SceneLayout, infos: Mapping[str, ModelInfo], image_size: int, normalisation: Mapping[str, Any]
) -> dict[str, Any]:
    """Poses, yaw symmetries and camera of a scene in the query frame, JSON-ready."""
    objects = [
        {
            "id": number,
            "node": f"obj_{number}",
            "name": infos[placed.model_id].name,
            "model_id": placed.model_id,
            "symmetry": infos[placed.model_id].symmetry,
            "translation": pose[TRANSLATION].tolist(),
            "rotation_wxyz": pose[ROTATION].tolist(),
            "scale": float(pose[SCALE]),
        }
        for number, (placed, pose) in enumerate(zip(layout.objects, query_poses(layout).double()))
    ]
    query, extrinsics = layout.objects[0], layout.camera.extrinsics()
    query_to_camera = np.eye(4)  # rigid, in units of the query's longest side
    query_to_camera[:3, :3] = extrinsics[:3, :3] @ yaw_matrix(query.yaw)
    query_to_camera[:3, 3] = (extrinsics[:3, :3] @ query.centre + extrinsics[:3, 3]) / query.size_m
    return {
        "scene_id": layout.scene_id,
        "frame": FRAME,
        "query": 0,
        "query_size_m": query.size_m,
        "objects": objects,
        "camera": {
            "frame": CAMERA_FRAME,
            "extrinsics": query_to_camera.tolist(),
            "intrinsics": layout.camera.intrinsics().tolist(),
            "fov_deg": layout.camera.fov_deg,
            "image_size": image_size,
        },
        "glb": {"frame": GLB_FRAME, **normalisation},
    }


def _coloured_trimesh(mesh: FurnitureMesh, placed: PlacedObject) -> trimesh.Trimesh:
    """Mesh in the object frame; a vertex has its faces' mean colour, in linear light as glTF asks."""
    vertices = augment_vertices(mesh.vertices, placed)
    faces = mesh.faces[:, ::-1] if placed.mirror else mesh.faces
    linear = (mesh.face_colours / 255.0) ** 2.2
    sums = np.zeros((len(vertices), 3))
    np.add.at(sums, mesh.faces.reshape(-1), np.repeat(linear, 3, axis=0))
    uses = np.bincount(mesh.faces.reshape(-1), minlength=len(vertices)).clip(min=1)
    colours = np.full((len(vertices), 4), 255, np.uint8)
    colours[:, :3] = np.round(sums / uses[:, None] * 255)
    return trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)
