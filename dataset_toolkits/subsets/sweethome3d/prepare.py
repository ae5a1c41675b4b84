"""Per-model preparation, resumable: the normalised textured GLB, the face-coloured mesh and its measures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from trimesh.exchange.gltf import export_glb

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from dataset_toolkits.subsets.sweethome3d.meshes import TexturedPart, face_coloured, load_parts, place_parts
from safe_files.arrays import read_archive
from scenegen.synthesis.furniture.records import FurnitureMesh, take_faces
from scenegen.synthesis.furniture.symmetry import symmetry_order
from scenegen.synthesis.furniture.visibility import visible_faces
from trellis_modules.files import atomic_write

MESH_FOLDER = Path("meshes")
COLOURED_FOLDER = Path("coloured")


@dataclass(frozen=True)
class PreparedModel:
    """A face-coloured mesh in the object frame with what was measured on it.

    Attributes:
        mesh: all faces of the model.
        visible: (F,) bool, faces that can be seen from outside.
        symmetry: yaw symmetry order of the visible surface.
        obj_sha256: hash of the OBJ file it was made from.
    """

    mesh: FurnitureMesh
    visible: np.ndarray
    symmetry: int
    obj_sha256: str

    def outer_mesh(self) -> FurnitureMesh:
        """The mesh without hidden faces; all of it when nothing is visible."""
        return take_faces(self.mesh, self.visible) if self.visible.any() else self.mesh


def mesh_path(model_id: str) -> Path:
    """Path of the textured GLB relative to the data root."""
    return MESH_FOLDER / f"{model_id}.glb"


def coloured_path(model_id: str) -> Path:
    """Path of the face-coloured mesh relative to the data root."""
    return COLOURED_FOLDER / f"{model_id}.npz"


def prepare_model(root: Path, obj_path: Path, entry: CatalogueEntry) -> PreparedModel:
    """Write the GLB and the face-coloured mesh of one model unless both are there for the same OBJ.

    Args:
        root: data root.
        obj_path: unpacked OBJ, relative to `root`.
        entry: its catalogue entry.

    Raises:
        MeshError: the OBJ cannot be loaded.
    """
    digest = hashlib.sha256((root / obj_path).read_bytes()).hexdigest()
    done = load_prepared(root, entry.id)
    if done is not None and done.obj_sha256 == digest and (root / mesh_path(entry.id)).is_file():
        return done
    parts, _ = place_parts(load_parts(root / obj_path), entry)
    mesh = face_coloured(parts)
    visible = visible_faces(mesh)
    outer = take_faces(mesh, visible) if visible.any() else mesh
    prepared = PreparedModel(mesh, visible, symmetry_order(outer), digest)
    with atomic_write(root / mesh_path(entry.id), shared=True) as path:
        path.write_bytes(textured_glb(parts, entry.id))
    with atomic_write(root / coloured_path(entry.id), shared=True) as path:
        _save_prepared(path, prepared)
    return prepared


def load_prepared(root: Path, model_id: str) -> PreparedModel | None:
    """Read what `prepare_model` wrote; None when it is missing or damaged."""
    path = root / coloured_path(model_id)
    if not path.is_file():
        return None
    try:
        arrays = read_archive(path, with_texts=True)
        return PreparedModel(
            mesh=FurnitureMesh(arrays["vertices"], arrays["faces"], arrays["face_colours"]),
            visible=arrays["visible"],
            symmetry=int(arrays["symmetry"]),
            obj_sha256=str(arrays["obj_sha256"]),
        )
    except (KeyError, OSError, ValueError, TypeError):
        return None


def textured_glb(parts: list[TexturedPart], name: str) -> bytes:
    """Encode placed parts as a GLB, one double-sided material each; base colours are linear, as glTF asks."""
    scene = trimesh.Scene()
    for number, part in enumerate(parts):
        material = trimesh.visual.material.PBRMaterial(
            name=f"material_{number}",
            baseColorFactor=[*np.round(_linear(part.colour) * 255).astype(np.uint8), 255],
            baseColorTexture=part.texture,
            metallicFactor=0.0,
            roughnessFactor=0.7,
            doubleSided=True,
        )
        visual = trimesh.visual.TextureVisuals(uv=part.uv, material=material)
        mesh = trimesh.Trimesh(part.vertices, part.faces, visual=visual, process=False)
        scene.add_geometry(mesh, node_name=f"{name}#{number}", geom_name=f"part_{number}")
    return export_glb(scene, tree_postprocessor=_name_images)


def _name_images(tree: dict[str, Any]) -> None:
    """Name images for their materials, which trimesh leaves out; converters keep textures by name."""
    for material in tree.get("materials", []):
        texture = material["pbrMetallicRoughness"].get("baseColorTexture")
        if texture is not None:
            tree["images"][tree["textures"][texture["index"]]["source"]].setdefault("name", material["name"])


def _linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _save_prepared(path: Path, prepared: PreparedModel) -> None:
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            vertices=prepared.mesh.vertices,
            faces=prepared.mesh.faces,
            face_colours=prepared.mesh.face_colours,
            visible=prepared.visible,
            symmetry=prepared.symmetry,
            obj_sha256=prepared.obj_sha256,
        )
