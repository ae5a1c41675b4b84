"""Models of a look-alike: furniture as OBJ files in metres, whose origin lies at the floor below the box."""

from __future__ import annotations

import hashlib
import io
import math
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_toolkits.lookalike.raw_files import (
    MATERIAL_NAME,
    OBJ_NAME,
    PICTURE_NAME,
    TEXTURE_NAME,
    RawModel,
)
from dataset_toolkits.subsets.mesh_library import MeshLibrary
from dataset_toolkits.subsets.sweethome3d.prepare import load_prepared
from scenegen.synthesis.furniture.mesh_pack import MeshPack, PackError, palette_of
from scenegen.synthesis.furniture.procedural import generate_any
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.split import check_split
from scenegen.synthesis.layouts.scene_layout import Camera, Lighting, PlacedObject, Room, SceneLayout, vector3
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import render_scene

PROCEDURAL = "procedural"
Furniture = tuple[FurnitureMesh, ModelInfo]

_TIERS = ("floor", "small")
_SMALL_SHARE = 5  # one model in so many may stand on tables; the first always stands on the floor
_PALETTE_SIDE = 16  # texels per edge of a texture, one a colour
_PICTURE_SIZE, _PICTURE_FOV_DEG = 256, 35.0
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://arxiv.org/abs/2508.15769")


def draw_furniture(sources: Sequence[str], split: str, count: int, seed: int) -> list[Furniture]:
    """Choose furniture of one split, in an order that the seed fixes.

    Args:
        sources: ``["procedural"]``, mesh packs, or data roots of prepared furniture.
        split: train or test. Procedural furniture belongs to no split: each gets variants of its own.
        count: how many.

    Raises:
        PackError, MetadataError: a source cannot be read.
        ValueError: the sources have too little furniture of the split.
        SplitError: a model is not of the split.
    """
    rng = np.random.default_rng([seed, ("train", "test").index(split)])
    if list(sources) == [PROCEDURAL]:
        return _procedural(rng, split, count)
    available = [item for source in sources for item in _stored(Path(source), split)]
    shuffled = [available[index] for index in rng.permutation(len(available))]
    small = [item for item in shuffled if item[1].tier == "small"]
    floor = [item for item in shuffled if item[1].tier == "floor"]
    chosen: list[Furniture] = []
    while len(chosen) < count and (floor or small):
        wants_small = chosen and len(chosen) % _SMALL_SHARE == 0
        take = small if small and (wants_small or not floor) else floor
        mesh, info = take.pop()
        chosen.append((mesh() if callable(mesh) else mesh, info))
    if len(chosen) < count:
        raise ValueError(
            f"{' '.join(sources)}: expected {count} models of the {split} split, got {len(chosen)}; "
            "give more --source or fewer --assets"
        )
    check_split((info.id for _, info in chosen), split)
    return chosen


def raw_model(mesh: FurnitureMesh, info: ModelInfo, rng: np.random.Generator) -> RawModel:
    """The files of one model: OBJ, material, texture and picture."""
    indices, palette = palette_of(mesh.face_colours)
    comment = f"{info.id}; {info.licence}; {info.creator}".encode()  # also makes every picture another one
    picture = _encoded(Image.fromarray(_picture(mesh, info)), "JPEG", quality=90, comment=comment)
    files = {
        PICTURE_NAME: picture,
        OBJ_NAME: obj_text(mesh, indices, max(info.size_m)).encode(),
        MATERIAL_NAME: f"newmtl surface\nKd 1 1 1\nKa 0 0 0\nmap_Kd {TEXTURE_NAME}\n".encode(),
        TEXTURE_NAME: _encoded(Image.fromarray(_texture(palette)), "PNG"),
    }
    model_id = str(uuid.uuid5(_NAMESPACE, info.id))
    score = round(float(rng.uniform(4.6, 7.0)), 4)
    return RawModel(model_id, hashlib.sha256(picture).hexdigest(), files, info, score)


def obj_text(mesh: FurnitureMesh, colour_indices: np.ndarray, size_m: float) -> str:
    """A mesh of the object frame as OBJ in metres: y up, its box centred about x = z = 0 and on y = 0.

    Args:
        colour_indices: (F,) texel of each face, see `_texture`.
        size_m: longest side in metres.
    """
    vertices = mesh.vertices.astype(np.float64) * size_m
    vertices[:, 1] -= vertices[:, 1].min()
    used, texels = np.unique(colour_indices, return_inverse=True)
    u = (used % _PALETTE_SIDE + 0.5) / _PALETTE_SIDE
    v = 1 - (used // _PALETTE_SIDE + 0.5) / _PALETTE_SIDE
    lines = [f"mtllib {MATERIAL_NAME}", "usemtl surface"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
    lines += [f"vt {a:.5f} {b:.5f}" for a, b in zip(u, v)]
    for (a, b, c), texel in zip((mesh.faces + 1).tolist(), (texels + 1).tolist()):
        lines.append(f"f {a}/{texel} {b}/{texel} {c}/{texel}")
    return "\n".join(lines) + "\n"


def _procedural(rng: np.random.Generator, split: str, count: int) -> list[Furniture]:
    chosen: list[Furniture] = []
    while len(chosen) < count:
        mesh, info = generate_any(rng, remove_hidden=False)
        if info.tier == "floor" or (chosen and len(chosen) % _SMALL_SHARE == 0):
            chosen.append((mesh, info))
    return chosen


def _stored(source: Path, split: str) -> list[tuple[object, ModelInfo]]:
    """Meshes, or functions that load them, of a pack or of a data root."""
    if not source.is_dir():
        models = MeshPack.load(source).models()
        return [(mesh, info) for mesh, info in models if info.split == split and info.tier in _TIERS]
    library = MeshLibrary(source)
    return [(_Loader(source, info.id), info) for info in library.of_split(split)]


class _Loader:
    """Reads the visible mesh of one prepared model when it is chosen."""

    def __init__(self, root: Path, model_id: str) -> None:
        self.root, self.model_id = root, model_id

    def __call__(self) -> FurnitureMesh:
        prepared = load_prepared(self.root, self.model_id)
        if prepared is None:
            raise PackError(f"{self.root}: {self.model_id} has no prepared mesh; run build_metadata again")
        return prepared.outer_mesh()


def _texture(palette: np.ndarray) -> np.ndarray:
    """(16, 16, 3) uint8: colour k in row k // 16, column k % 16."""
    texels = np.zeros((_PALETTE_SIDE**2, 3), np.uint8)
    texels[: len(palette)] = palette
    return texels.reshape(_PALETTE_SIDE, _PALETTE_SIDE, 3)


def _picture(mesh: FurnitureMesh, info: ModelInfo) -> np.ndarray:
    """The model alone before white, from the front and a little above: (256, 256, 3) uint8."""
    size = max(info.size_m)
    middle = np.array([0.0, info.size_m[1] / 2, 0.0])
    distance = 0.95 * float(np.linalg.norm(info.size_m)) / math.tan(math.radians(_PICTURE_FOV_DEG) / 2) / 1.6
    direction = np.array([0.45, 0.4, 0.8])
    eye = middle + direction / np.linalg.norm(direction) * (distance + size / 2)
    layout = SceneLayout(
        scene_id=info.id,
        objects=(PlacedObject(info.id, vector3(middle), 0.0, size),),
        camera=Camera(vector3(eye), vector3(middle), _PICTURE_FOV_DEG),
        lighting=Lighting((0.36, 0.8, 0.48), 0.5, 0.6),
        room=Room((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    )
    return render_scene(layout, {info.id: RenderMesh.from_furniture(mesh)}, _PICTURE_SIZE, True).colour


def _encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
