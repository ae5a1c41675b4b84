"""Few small models in a folder, as the source ``folder`` takes them: one of each format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from scenegen.synthesis.furniture.procedural.pack import generate_pack

_MATERIAL = "newmtl painted\nKd 1 1 1\nmap_Kd textures/paint.png\nnewmtl blue\nKd 0.1 0.2 0.9\n"


def write_models(folder: Path) -> list[Path]:
    """Write an OBJ with a texture whose origin is at its floor, a GLB of furniture, and a PLY."""
    return [_write_obj(folder / "desk"), _write_glb(folder), _write_ply(folder)]


def _write_obj(folder: Path) -> Path:
    """A box of 2 x 1 x 0.5, y up, standing on the origin: painted in front, blue elsewhere."""
    (folder / "textures").mkdir(parents=True)
    texels = np.zeros((8, 8, 3), np.uint8)
    texels[:, :4, 0], texels[:, 4:, 1] = 220, 160
    Image.fromarray(texels).save(folder / "textures" / "paint.png")
    (folder / "raw_model.mtl").write_text(_MATERIAL)
    box = trimesh.creation.box((2.0, 1.0, 0.5))
    lines = ["mtllib raw_model.mtl", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    lines += [f"v {x} {y + 0.5} {z}" for x, y, z in box.vertices]
    for face, normal in zip(box.faces + 1, box.face_normals):
        corners = [f"{corner}/{1 + number}" for number, corner in enumerate(face)]
        lines += ["usemtl painted" if normal[2] > 0.5 else "usemtl blue", "f " + " ".join(corners)]
    path = folder / "raw_model.obj"
    path.write_text("\n".join(lines) + "\n")
    return path


def _write_glb(folder: Path) -> Path:
    (mesh, _), *_ = generate_pack(1, seed=3).models()
    chair = trimesh.Trimesh(mesh.vertices, mesh.faces, face_colors=mesh.face_colours, process=False)
    path = folder / "made.glb"
    path.write_bytes(chair.export(file_type="glb"))
    return path


def _write_ply(folder: Path) -> Path:
    """A cone of 1 x 1 x 2, z up."""
    cone = trimesh.creation.cone(0.5, 2.0, sections=12)
    path = folder / "cone.ply"
    path.write_bytes(cone.export(file_type="ply"))
    return path
