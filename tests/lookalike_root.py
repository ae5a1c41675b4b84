"""A data root at toy size that looks like those of the preparation steps, made in a second.

Every file and column that training reads is there and agrees with the others: assets are coloured boxes whose
voxels, latents, meshes and pictures show the same box, and photos show them where their poses say. Nothing is
learnt or rendered with a library: rays are cut with boxes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.metadata import ASSET, AssetRow, SceneRow, write_assets, write_scenes
from trellis_modules.representations.ply import write_ply_vertices

SS_LATENT = "ss_enc_conv3d_16l8_fp16"
FEATURE = "dinov2_vitl14_reg"
SLAT = "dinov2_vitl14_reg_slat_enc_swin8_B_64l8_fp16"
PHOTO_FOV = math.radians(60)
_VIEW_FOV, _VIEW_DISTANCE = math.radians(40), 2.0
_ZUP_TO_YUP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, y, z) -> (x, z, -y)


@dataclass(frozen=True)
class _Box:
    """One asset: a box that stands on the origin of its model file, which is y up."""

    sha256: str
    model_id: str
    size: np.ndarray  # (3,) y up, in the unit of the file
    colour: np.ndarray  # (3,) in [0, 1]

    @property
    def scale(self) -> float:
        return float(self.size.max())

    @property
    def center(self) -> np.ndarray:
        return np.array([0.0, self.size[1] / 2, 0.0])

    @property
    def unit_size(self) -> np.ndarray:
        """(3,) z up, the longest side is 1."""
        return self.size[[0, 2, 1]] / self.scale


@dataclass(frozen=True)
class _Sizes:
    """See `lookalike_root`."""

    image_size: int
    views: int
    resolution: int
    ss_latent: tuple[int, int]
    feature_channels: int
    slat_channels: int
    geometry: tuple[int, int]


@dataclass(frozen=True)
class _Seen:
    """A box before a camera that looks along -z, y up."""

    colour: np.ndarray  # (3,)
    half: np.ndarray  # (3,) half of its sides, z up
    rotation: np.ndarray  # (3, 3) from the z-up object to the camera
    centre: np.ndarray  # (3,)


def lookalike_root(
    folder: Path,
    *,
    assets: int = 6,
    scenes: Sequence[int] = (3, 3, 2, 3),
    image_size: int = 64,
    views: int = 2,
    resolution: int = 16,
    ss_latent: tuple[int, int] = (8, 16),
    feature_channels: int = 16,
    slat_channels: int = 8,
    geometry: tuple[int, int] = (9, 64),
    single_assets: bool = False,
    seed: int = 0,
) -> Path:
    """Write a data root.

    Args:
        folder: made where it is missing; the same arguments give the same content in any folder.
        assets: rows of ``metadata.csv``; all have everything, scores from 4.6 to 6 and two captions.
        scenes: objects of each photo, at most ``assets``.
        image_size: pixels per side of photos, cut-outs and pictures of assets.
        views: pictures of each asset in ``renders/`` and in ``renders_cond/``.
        resolution: voxels per side of ``voxels/``, ``features/`` and ``latents/``.
        ss_latent: channels and side of the structure latents.
        feature_channels, slat_channels: of ``features/`` and ``latents/``.
        geometry: tokens and channels of the geometry feature of a photo.
        single_assets: also a scene row for each asset alone, in one of its own pictures.
        seed: of everything.

    Returns:
        ``folder``.
    """
    sizes = _Sizes(image_size, views, resolution, ss_latent, feature_channels, slat_channels, geometry)
    rng = np.random.default_rng(seed)
    boxes = [_box(number, seed, rng) for number in range(assets)]
    rows = [_write_asset(folder, box, rng, sizes) for box in boxes]
    write_assets(rows, folder / "metadata.csv")
    scene_rows = []
    for number, count in enumerate(scenes):
        placed = [(boxes[index], rows[index]) for index in rng.permutation(assets)[:count]]
        scene_rows += _write_scene(folder, f"{number + 1:07d}", placed, rng, sizes)
    if single_assets:
        scene_rows += [_single(folder, row, geometry) for row in rows]
    write_scenes(scene_rows, folder / "metadata_scene.csv")
    return folder


def _box(number: int, seed: int, rng: np.random.Generator) -> _Box:
    sha256 = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
    size = rng.uniform(0.35, 1.0, 3)
    size[number % 3] = 1.0
    return _Box(sha256, f"model-{seed}-{number}", size * rng.uniform(0.6, 1.6), rng.uniform(0.2, 1.0, 3))


# ---- assets


def _write_asset(root: Path, box: _Box, rng: np.random.Generator, sizes: _Sizes) -> AssetRow:
    voxels = _surface_voxels(box.unit_size, sizes.resolution)
    (root / "voxels").mkdir(parents=True, exist_ok=True)
    centres = (voxels + 0.5) / sizes.resolution - 0.5
    write_ply_vertices(root / "voxels" / f"{box.sha256}.ply", dict(zip("xyz", centres.T)))
    latent = _structure_latent(box.unit_size, *sizes.ss_latent)
    write_arrays(root / "ss_latents" / SS_LATENT / f"{box.sha256}.npz", mean=latent)
    indices = voxels.astype(np.uint8)
    at_voxels = np.hstack([centres * 4, np.tile(box.colour, (len(voxels), 1))])
    features = _mixed(at_voxels, sizes.feature_channels).astype(np.float16)
    write_arrays(root / "features" / FEATURE / f"{box.sha256}.npz", indices=indices, patchtokens=features)
    feats = _mixed(at_voxels, sizes.slat_channels).astype(np.float32)
    write_arrays(root / "latents" / SLAT / f"{box.sha256}.npz", feats=feats, coords=indices)
    for name in ("renders", "renders_cond"):
        _write_views(root / name / box.sha256, box, rng, sizes.image_size, sizes.views)
    trimesh.creation.box(box.unit_size).export(root / "renders" / box.sha256 / "mesh.ply")
    model = root / "raw" / "3D-FUTURE-model" / box.model_id / "raw_model.obj"
    model.parent.mkdir(parents=True)
    mesh = trimesh.creation.box(box.size)
    mesh.apply_translation(box.center)
    mesh.export(model)
    return AssetRow(
        sha256=box.sha256,
        file_identifier=f"3D-FUTURE-model/{box.model_id}",
        aesthetic_score=float(rng.uniform(4.6, 6.0)),
        captions=json.dumps([f"a box called {box.model_id}", "a box, painted"]),
        rendered=True,
        voxelized=True,
        num_voxels=len(voxels),
        cond_rendered=True,
        local_path=model.relative_to(root).as_posix(),
        status={f"feature_{FEATURE}": True, f"latent_{SLAT}": True, f"ss_latent_{SS_LATENT}": True},
    )


def _surface_voxels(size: np.ndarray, resolution: int) -> np.ndarray:
    """(N, 3) voxels that the surface of a box of that size touches, z up."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    inside = (np.abs(places) < size / 2).all(-1)
    core = (np.abs(places) < size / 2 - 1 / resolution).all(-1)
    return np.argwhere(inside & ~core)


def _structure_latent(size: np.ndarray, channels: int, side: int) -> np.ndarray:
    """(channels, side, side, side) float32: smooth functions of how deep a place is inside the box."""
    axis = (np.arange(side) + 0.5) / side - 0.5
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    depth = (size / 2 - np.abs(places)).min(-1)  # (side,) * 3, above 0 inside
    waves = np.arange(1, channels + 1)[:, None, None, None]
    return np.float32(1.5 * np.sin(3 * waves * depth + waves))


def _mixed(values: np.ndarray, channels: int) -> np.ndarray:
    """(N, channels) fixed mixtures of the columns of (N, K) values."""
    return values @ np.random.default_rng(0).normal(0, 0.7, (values.shape[1], channels))


def _write_views(folder: Path, box: _Box, rng: np.random.Generator, size: int, views: int) -> None:
    folder.mkdir(parents=True)
    frames = []
    for number in range(views):
        yaw, pitch = rng.uniform(-math.pi, math.pi), rng.uniform(-0.4, 0.8)
        to_world = _look_at_origin(yaw, pitch)
        to_camera = to_world[:3, :3].T
        seen = _Seen(box.colour, box.unit_size / 2, to_camera, -to_camera @ to_world[:3, 3])
        colour, owner = _draw([seen], _VIEW_FOV, size)
        alpha = np.where(owner >= 0, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([colour, alpha])).save(folder / f"{number:03d}.png")
        frames.append(
            {
                "file_path": f"{number:03d}.png",
                "camera_angle_x": _VIEW_FOV,
                "transform_matrix": to_world.tolist(),
            }
        )
    offset = -_ZUP_TO_YUP.T @ box.center / box.scale
    content = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": 1 / box.scale, "offset": offset.tolist()}
    (folder / "transforms.json").write_text(json.dumps({**content, "frames": frames}))


def _look_at_origin(yaw: float, pitch: float) -> np.ndarray:
    """(4, 4) camera to world of a camera around an asset, z up; OpenGL axes."""
    backward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])
    right = np.array([-math.sin(yaw), math.cos(yaw), 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    matrix[:3, 3] = _VIEW_DISTANCE * backward
    return matrix


# ---- scenes


def _write_scene(
    root: Path,
    scene_id: str,
    placed: Sequence[tuple[_Box, AssetRow]],
    rng: np.random.Generator,
    sizes: _Sizes,
) -> list[SceneRow]:
    tilt = Rotation.from_euler("xyz", [rng.uniform(15, 30), 0, 0], degrees=True)  # the camera looks down
    annotated, seen = [], []
    for number, (box, _) in enumerate(placed):
        turn = tilt * Rotation.from_euler("y", rng.uniform(-180, 180), degrees=True)
        place = [1.7 * (number - (len(placed) - 1) / 2), -0.5, rng.uniform(-1.0, 0.5)]
        translation = tilt.apply(place) + [0, 0, -3.2 - 1.3 * len(placed) / 2]
        annotated.append((translation, turn.as_euler("xyz", degrees=True)))
        half, centre = box.unit_size / 2 * box.scale, turn.apply(box.center) + translation
        seen.append(_Seen(box.colour, half, turn.as_matrix() @ _ZUP_TO_YUP, centre))
    photo, owner = _draw(seen, PHOTO_FOV, sizes.image_size, rng.uniform(0.5, 0.9, 3))
    folder = root / "masked_images" / scene_id
    folder.mkdir(parents=True)
    Image.fromarray(photo).save(folder / "scene.jpg", quality=95)
    feature = _scene_feature(photo, sizes.geometry)
    write_arrays(root / "vggt_features" / f"{scene_id}.npz", vggt_feature=feature)
    rows = []
    for number, ((box, asset), (translation, euler)) in enumerate(zip(placed, annotated)):
        _write_cutout(folder / f"{number}.png", photo, owner == number)
        rows.append(
            _scene_row(
                asset,
                scene_id=scene_id,
                model_id=box.model_id,
                translation=tuple(map(float, translation)),
                rotation=tuple(map(float, euler)),
                scale=box.scale,
                vggt_feature=f"vggt_features/{scene_id}.npz",
                masked_image_path=f"masked_images/{scene_id}/{number}.png",
                scene_image_path=f"masked_images/{scene_id}/scene.jpg",
                instance_id=number,
                center=tuple(map(float, box.center)),
            )
        )
    return rows


def _write_cutout(path: Path, photo: np.ndarray, mask: np.ndarray) -> None:
    """A cut-out around its object, padded to a square, and the mask of the whole photo beside it."""
    assert mask.any(), f"{path}: the object is hidden; choose another seed"
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    crop = Image.fromarray(np.dstack([photo, mask.astype(np.uint8) * 255])[window])
    side = max(crop.size)
    square = Image.new("RGBA", (side, side))
    square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    square.resize((len(photo), len(photo)), Image.Resampling.BILINEAR).save(path)
    Image.fromarray(np.dstack([mask.astype(np.uint8) * 255] * 3)).save(
        path.with_name(f"{path.stem}_mask.png")
    )


def _scene_feature(photo: np.ndarray, geometry: tuple[int, int]) -> np.ndarray:
    """(1, P, 2C) float16: fixed mixtures of what strips of the photo look like."""
    tokens, channels = geometry
    pixels = photo.reshape(-1, 3)[: photo.size // 3 // tokens * tokens].reshape(tokens, -1, 3) / 255
    seen = np.hstack([pixels.mean(1), pixels.std(1), np.linspace(-1, 1, tokens)[:, None]])
    return _mixed(seen, channels).astype(np.float16)[None]


def _single(root: Path, asset: AssetRow, geometry: tuple[int, int]) -> SceneRow:
    view = f"renders_cond/{asset.sha256}/000.png"
    photo = np.asarray(Image.open(root / view).convert("RGB"))
    feature = f"vggt_features/{asset.sha256}.npz"
    write_arrays(root / feature, vggt_feature=_scene_feature(photo, geometry))
    return _scene_row(
        asset,
        scene_id=asset.sha256,
        model_id=asset.file_identifier.rpartition("/")[2],
        vggt_feature=feature,
        masked_image_path=view,
        scene_image_path=view,
        kind=ASSET,
    )


def _scene_row(asset: AssetRow, **values: object) -> SceneRow:
    shared = {**vars(asset), "status": {f"ss_latent_{SS_LATENT}": True}}
    return SceneRow(**shared, **values)


def _draw(
    boxes: Sequence[_Seen], fov: float, size: int, background: Sequence[float] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw boxes.

    Args:
        boxes: before the camera.
        fov: horizontal, in radians.
        size: pixels per side.
        background: colour where there is no box.

    Returns:
        (size, size, 3) uint8 and, per pixel, which box is seen, -1 for none.
    """
    steps = ((np.arange(size) + 0.5) / size * 2 - 1) * math.tan(fov / 2)
    x, y = np.meshgrid(steps, -steps)
    rays = np.stack([x, y, np.full_like(x, -1.0)], -1)  # (S, S, 3)
    nearest = np.full((size, size), np.inf)
    owner = np.full((size, size), -1)
    colour = np.broadcast_to(np.asarray(background, np.float64), (size, size, 3)).copy()
    for number, box in enumerate(boxes):
        direction, origin = rays @ box.rotation, -box.centre @ box.rotation  # in the frame of the box
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([(sign * box.half - origin) / direction for sign in (-1, 1)])  # (2, S, S, 3)
        near, far = ends.min(0), ends.max(0)
        enter = near.max(-1)
        seen = (enter < far.min(-1)) & (enter > 0) & (enter < nearest)
        shade = np.array([0.75, 0.55, 1.0])[near.argmax(-1)]  # sides along x and y, top
        nearest[seen], owner[seen] = enter[seen], number
        colour[seen] = (box.colour * shade[..., None])[seen]
    return np.uint8(np.clip(colour, 0, 1) * 255), owner
