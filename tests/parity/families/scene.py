"""Golden families of image preparation, masks, conditions and scene composition."""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from scenegen.conditioning.image_preparation import (
    images_to_tensor,
    prepare_asset_image,
    prepare_geometry_image,
    prepare_training_asset,
)
from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import (
    SceneConditioner,
    assemble_cond,
    drop_cond,
)
from scenegen.geometry import (
    ROTATION,
    SCENE_EXTENT,
    TRANSLATION,
    apply_transform,
    compose_poses,
    pose_to_transform,
    relative_pose,
    sanitize_pose,
)
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.assembly import scene_transforms
from tests.parity.golden import GoldenCase, evaluate_input, family, make_input, make_uniform


def _picture(label: str, shape: tuple[int, ...]) -> np.ndarray:
    return (make_uniform(label, shape) * 255).astype(np.uint8)


# --- image preparation ---------------------------------------------------------------------------------

_ASSET_PICTURE = re.compile(r"make_uniform\('(\w+)\.img',\((\d+),(\d+),4\)\)")
_ASSET_BOX = re.compile(r"rows (\d+):(\d+), cols (\d+):(\d+)")


def _asset_picture(description: str) -> np.ndarray:
    """The RGBA picture of a "preprocess_asset" case: a gradient with noise, opaque in a box."""
    label, height, width = (int(g) if g.isdigit() else g for g in _ASSET_PICTURE.search(description).groups())
    noise = _picture(f"{label}.img", (height, width, 4))
    y, x = np.mgrid[:height, :width]
    gradient = np.stack(
        (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (height + width - 2)), axis=-1
    )
    colour = (noise[..., :3] // 4 + gradient * 3 // 4).astype(np.uint8)
    soft = _picture(f"{label}.soft", (height, width))
    alpha = np.where(soft > 230, 0, soft // 2).astype(np.uint8)
    top, bottom, left, right = map(int, _ASSET_BOX.search(description).groups())
    alpha[top:bottom, left:right] = 255
    return np.dstack((colour, alpha))


class _RedThreshold:
    """The stand-in for background removal: opaque where the picture is red."""

    def __call__(self, image: Image.Image) -> Image.Image:
        self.size = image.size
        rgb = np.asarray(image)
        alpha = np.where(rgb[..., 0] > 100, 255, 30).astype(np.uint8)
        return Image.fromarray(np.dstack((rgb, alpha)))


@family("preprocess_asset")
def preprocess_asset(case: GoldenCase) -> dict[str, Tensor]:
    """Asset crops for inference, from cut-outs and through background removal."""
    description = case.meta["inputs"]["image"]
    rgba = _asset_picture(description)
    if "DISCARDED" in description:
        remover = _RedThreshold()
        result = prepare_asset_image(Image.fromarray(rgba[..., :3]), remove_background=remover)
        computed = {"size_passed_to_background_removal_wh": torch.tensor(remover.size)}
    else:
        result = prepare_asset_image(Image.fromarray(rgba))
        computed = {"input": torch.from_numpy(rgba)}
        case.skip("input_alpha_bbox", "describes the input")
    pixels = np.asarray(result)
    return computed | {
        "full_shape": torch.tensor(pixels.shape),
        "strided": torch.from_numpy(pixels[::5, ::5].copy()),
        "mean": torch.from_numpy(pixels.mean(axis=(0, 1))),
        "row_mean": torch.from_numpy(pixels.mean(axis=1)),
    }


@family("preprocess_geometry")
def preprocess_geometry(case: GoldenCase) -> dict[str, Tensor]:
    """Padded input of the geometry encoder."""
    image = prepare_geometry_image(Image.fromarray(case.input("image").numpy()))
    return {
        "full_shape": torch.tensor(image.shape),
        "strided": image[0, 0, :, ::7, ::7],
        "mean": image.mean(dim=(-2, -1)),
        "row_mean": image[0, 0].mean(dim=-1),
    }


@family("training image preparation")
def preprocess_training(case: GoldenCase) -> dict[str, Tensor]:
    """Asset crop, mask and scene picture of a training sample."""
    rgba = Image.fromarray(case.tensors["input_rgba"].numpy())
    case.skip("input_rgba", "an input")
    size = case.config["image_size"]
    pictures = {
        "cond": prepare_training_asset(rgba, size)[None],
        "mask_cond": images_to_tensor([rgba.getchannel("A")], size),
        "scene_image": images_to_tensor([rgba], size),
    }
    computed = {"shapes": torch.tensor([list(picture.shape) for picture in pictures.values()])}
    for name, picture in pictures.items():
        computed[f"{name}.strided"] = picture[0, :, ::6, ::6]
        computed[f"{name}.row_mean"] = picture[0].mean(dim=-1)
    return computed


# --- masks ---------------------------------------------------------------------------------------------


@family("split_masks")
def split(case: GoldenCase) -> dict[str, Tensor]:
    """Cut-outs, masks and areas per order; an order without a name of its own keeps ascending labels."""
    photo = Image.fromarray(case.input("rgb").numpy())
    labels = Image.fromarray(case.tensors["seg_input"].numpy())
    case.skip("seg_input", "an input")
    values = np.asarray(labels.convert("L"))  # the original knows grey values only, no colours
    images = SceneImages.from_masks(photo, [values == value for value in np.unique(values[values > 0])])
    areas = [int(mask.sum()) for mask in images.masks]
    ascending = list(range(len(areas)))
    smallest = sorted(ascending, key=areas.__getitem__)  # stable: equal areas stay in ascending label
    orders = {"order": ascending, "smallest": smallest, "largest": smallest[::-1], "other": ascending}
    computed = {}
    for name, order in orders.items():
        masks = np.stack([images.masks[index] for index in order])
        cutouts = np.stack([np.asarray(images.cutouts[index]) for index in order])
        computed |= {
            f"{name}.rgba": torch.from_numpy(cutouts),
            f"{name}.mask": torch.from_numpy(masks.astype(np.uint8) * 255),
            f"{name}.area": torch.tensor([areas[index] for index in order]),
            f"{name}.n_scene_images": torch.tensor(len(order)),
        }
    return computed


# --- conditions ----------------------------------------------------------------------------------------


class _PooledImageEncoder(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pooled = F.adaptive_avg_pool2d(images, (2, 2)).flatten(2).mT  # (B, 4, 3)
        return {"x_prenorm": pooled @ torch.from_numpy(make_input("gc.W", (3, 1024)))}


class _PooledGeometryEncoder(nn.Module):
    def forward(self, images: Tensor, last_only: bool) -> tuple[list[Tensor], int]:
        pooled = F.adaptive_avg_pool2d(images[:, 0], (2, 2)).flatten(2).mT
        return [(pooled @ torch.from_numpy(make_input("gc.Wv", (3, 2048))))[:, None]], 0


@family("cond_assembly")
def cond_assembly(case: GoldenCase) -> dict[str, Tensor]:
    """Token order and switches, from pictures (inference) or from encoded features (training)."""
    return _training_cond(case) if "u" in case.meta["inputs"] else _inference_cond(case)


def _inference_cond(case: GoldenCase) -> dict[str, Tensor]:
    def image(label: str, height: int, width: int) -> Image.Image:
        return Image.fromarray(_picture(label, (height, width, 3)))

    assets = images_to_tensor([image("gc.i0", 20, 30), image("gc.i1", 30, 20)])
    masks = images_to_tensor([image("gc.m0", 20, 30), image("gc.m1", 30, 20)])
    photo = image("gc.s", 30, 45)
    scene, geometry = images_to_tensor([photo]), prepare_geometry_image(photo).squeeze(1)
    conditioner = SceneConditioner(_PooledImageEncoder(), _PooledGeometryEncoder())
    parts = {
        "all": CondParts(),
        "no_mask": CondParts(mask=False),
        "no_scene": CondParts(scene=False),
        "no_vggt": CondParts(geometry=False),
    }
    return {
        name: conditioner.encode_tensors(assets, masks, scene, geometry, parts=parts[name])[0][..., ::16]
        for name in case.tensors
    }


def _training_cond(case: GoldenCase) -> dict[str, Tensor]:
    asset, mask, scene = (
        torch.from_numpy(make_input(f"cond.{kind}", (4, 2, 1024))) for kind in ("img", "mask", "scene")
    )
    geometry = torch.from_numpy(make_input("cond.vggt", (1, 3, 2048)))
    draws = evaluate_input(case.meta["inputs"]["u"])
    full = assemble_cond(asset, mask, scene, geometry)
    computed = {
        "u": draws,
        "all": drop_cond(full, draws < 0.4),
        "no_dropout": full,
        "no_mask": assemble_cond(asset, None, scene, geometry),
    }
    return {name: value if name == "u" else value[..., ::16] for name, value in computed.items()}


# --- scene composition -------------------------------------------------------------------------------------

_POSES = re.compile(r"g=(make_input\([^)]*\)\)); g\[:,7\]=(make_uniform\('[^']*',\([^)]*\),[^)]*\))")
_VERTICES = re.compile(r"vertices (make_uniform\('[^']*',\([^)]*\),[^)]*\))")


@family("scene composition")
def scene_composition(case: GoldenCase) -> dict[str, Tensor]:
    """Node transforms with the published normalisation and, as "centred", with the correct one."""
    poses = _composition_poses(case.meta["inputs"]["positions_raw"])
    order = case.config["order"] or list(range(len(poses)))
    template = _VERTICES.search(case.meta["inputs"]["meshes"])[1]
    vertices = [evaluate_input(template.replace("{i}", str(i))).double().numpy() for i in range(len(poses))]
    computed = {"positions_raw": poses}
    own_frame = relative_pose(poses.double(), poses[order[0]].double())
    for prefix, transforms in (
        ("", _published_transforms(vertices, poses, order[0])),
        ("centred.", scene_transforms(vertices, own_frame)),
    ):
        placed = [apply_transform(*pair) for pair in zip(transforms, vertices, strict=True)]
        for index, (transform, points) in enumerate(zip(transforms, placed, strict=True)):
            computed[f"{prefix}asset{index}.transform"] = torch.from_numpy(transform)
            computed[f"{prefix}asset{index}.vertices_world"] = torch.from_numpy(points)
        if not prefix:
            corners = np.concatenate(placed)
            computed["bounds"] = torch.from_numpy(np.stack((corners.min(axis=0), corners.max(axis=0))))
    shift = computed["asset0.transform"] - computed["centred.asset0.transform"]
    computed["reference_minus_centred_translation"] = shift[:3, 3]
    return computed | _global_poses(case, poses, order)


def _published_transforms(vertices: list[np.ndarray], poses: Tensor, frame_of: int) -> np.ndarray:
    """Node matrices of the published code, in the frame of one object.

    It undoes a pose by a transposition, which leaves a factor scale**2, and shifts the box before it is
    scaled, which leaves the scene off the centre.
    """
    transforms = pose_to_transform(sanitize_pose(poses.double())).numpy()
    undo = np.eye(4)
    undo[:3, :3] = transforms[frame_of, :3, :3].T
    undo[:3, 3] = -undo[:3, :3] @ transforms[frame_of, :3, 3]
    transforms = undo @ transforms
    points = np.concatenate([apply_transform(*pair) for pair in zip(transforms, vertices, strict=True)])
    low, high = points.min(axis=0), points.max(axis=0)
    fit = np.diag([*[SCENE_EXTENT / (high - low).max()] * 3, 1.0])
    fit[:3, 3] = -(low + high) / 2
    return fit @ transforms


def _composition_poses(description: str) -> Tensor:
    """The poses of a composition case: normal draws with uniform scales, the query's pose in row 0."""
    draws, scales = (evaluate_input(text) for text in _POSES.search(description).groups())
    draws[:, 7] = scales
    draws[0] = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
    return draws


def _global_poses(case: GoldenCase, poses: Tensor, order: list[int]) -> dict[str, Tensor]:
    """Poses after the published turn of the query frame by +90 degrees about x."""
    half = 0.5**0.5
    query = torch.tensor([0, 0, 0, half, half, 0, 0, 1], dtype=torch.float64)
    turned = compose_poses(query.expand(len(poses), 8), poses.double())
    computed = {"query_quat": query[ROTATION], "returned_positions": turned[order][:, TRANSLATION]}
    if len(poses) > 1:
        quaternions, expected = turned[1:, ROTATION], case.tensors["global_quats"]
        same_side = torch.sign((quaternions * expected).sum(dim=-1, keepdim=True))
        computed |= {"global_positions": turned[1:, TRANSLATION], "global_quats": quaternions * same_side}
    return computed
