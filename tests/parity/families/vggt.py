"""Golden cases of the geometry encoder and its DINOv2 patch encoder."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tests.parity.golden import GoldenCase, evaluate_input, family
from vggt.geometry import depth_to_camera_points, depth_to_world_points, invert_se3
from vggt.heads.camera_head import CameraHead
from vggt.heads.dpt_head import DPTHead
from vggt.heads.head_activations import activate_head
from vggt.heads.track_head import TrackHead
from vggt.layers.rope import apply_rotary, grid_positions, rotary_table
from vggt.layers.vision_transformer import VisionTransformer
from vggt.models.aggregator import Aggregator
from vggt.models.vggt import VGGT
from vggt.pose_encoding import cameras_to_encoding, encoding_to_extrinsics, encoding_to_intrinsics
from vggt.rotation import matrix_to_xyzw, xyzw_to_matrix


@family("DINOv2 ViT with registers")
@torch.no_grad()
def vision_transformer(case: GoldenCase) -> dict[str, Tensor]:
    config = dict(case.config)
    assert config.pop("block_chunks", 0) == 0, "chunked block names are not supported"
    model = case.fill(VisionTransformer(**config)).eval()
    images = case.input("image")
    grid = model.patch_embed.grid_size(images)
    return model(images) | {"pos_embed_interpolated": model.position_table(*grid)}


@family("Aggregator")
@torch.no_grad()
def aggregator(case: GoldenCase) -> dict[str, Tensor]:
    model = case.fill(Aggregator(**case.config)).eval()
    outputs, patch_start_idx = model(case.input("images"))
    (last,), _ = model(case.input("images"), last_only=True)
    torch.testing.assert_close(last, outputs[-1], rtol=0, atol=0)
    return {f"tokens{i}": tokens for i, tokens in enumerate(outputs)} | {
        "patch_start_idx": torch.tensor(patch_start_idx)
    }


@family("CameraHead")
@torch.no_grad()
def camera_head(case: GoldenCase) -> dict[str, Tensor]:
    head = case.fill(CameraHead(**case.config)).eval()
    poses = head(case.input("aggregated_tokens_list[-1]"), case.input("num_iterations"))
    return {f"pose_enc{i}": pose for i, pose in enumerate(poses)}


@family("DPTHead")
@torch.no_grad()
def dpt_head(case: GoldenCase) -> dict[str, Tensor]:
    head = case.fill(DPTHead(**case.config)).eval()
    tokens = case.input_list("aggregated_tokens_list[i]")
    chunk = case.input("frames_chunk_size")
    out = head(tokens, _image_size(case), case.input("patch_start_idx"), chunk)
    return {"features": out} if head.feature_only else {"preds": out[0], "conf": out[1]}


def _image_size(case: GoldenCase) -> tuple[int, int]:
    """Height and width from an input entry such as "only the shape (1, 3, 3, 42, 70) is used"."""
    shape = re.search(r"\(([\d, ]+)\)", case.meta["inputs"]["images"])[1]
    return tuple(int(size) for size in shape.split(",")[-2:])


@family("TrackHead")
@torch.no_grad()
def track_head(case: GoldenCase) -> dict[str, Tensor]:
    head = case.fill(TrackHead(**case.config)).eval()
    tokens = case.input_list("aggregated_tokens_list[i]")
    size, patch_start_idx = _image_size(case), case.input("patch_start_idx")
    tracks, visibility, confidence = head(tokens, size, patch_start_idx, case.input("query_points"))
    features = head.feature_extractor(tokens, size, patch_start_idx).flatten(3)
    return {f"coords{i}": coords for i, coords in enumerate(tracks)} | {
        "vis": visibility,
        "conf": confidence,
        "feature_maps_mean_std": torch.stack((features.mean(-1), features.std(-1))),
    }


@family("VGGT")
@torch.no_grad()
def vggt(case: GoldenCase) -> dict[str, Tensor]:
    config = dict(case.config)
    if config["depth_head"] == "same with output_dim 2, activation exp":
        config["depth_head"] = config["point_head"] | {"output_dim": 2, "activation": "exp"}
    predictions = case.fill(VGGT(**config)).eval()(case.input("images"))
    return predictions | {"extrinsics": encoding_to_extrinsics(predictions["pose_enc"])}


@family("vggt_head_activations")
def head_activations(case: GoldenCase) -> dict[str, Tensor]:
    maps = case.input("out")
    computed = {}
    for pair in {name.rsplit(".", 1)[0] for name in case.tensors}:
        computed[f"{pair}.preds"], computed[f"{pair}.conf"] = activate_head(maps, *pair.split("."))
    return computed


@family("2D rotary embedding")
def rotary_embedding(case: GoldenCase) -> dict[str, Tensor]:
    tokens = evaluate_input(case.meta["inputs"]["tokens"])
    positions = case.input("positions")
    grid = grid_positions(4, 5)
    head_dim = tokens.shape[-1]
    frequency = case.config["frequency"]

    def rotate(given: Tensor, base: float) -> Tensor:
        return apply_rotary(tokens, rotary_table(given[:, None], head_dim, base))

    return {
        "grid_positions": grid.expand(len(tokens), -1, -1),
        "positions": positions,
        "out_grid": apply_rotary(tokens, rotary_table(grid, head_dim, frequency)),
        "out": rotate(positions, frequency),
        "out_freq10": rotate(positions, 10),
    }


@family("pose_encoding")
def pose_encoding(case: GoldenCase) -> dict[str, Tensor]:
    encoding, image_size = case.tensors["pose_enc"], tuple(case.config["image_size_hw"])
    extrinsics = encoding_to_extrinsics(encoding)
    intrinsics = encoding_to_intrinsics(encoding, image_size)
    case.skip("pose_enc", "the input")
    return {
        "extrinsics": extrinsics,
        "intrinsics": intrinsics,
        "pose_enc_back": cameras_to_encoding(extrinsics, intrinsics, image_size),
        "quat_to_mat": xyzw_to_matrix(encoding[..., 3:7]),
        "mat_to_quat": matrix_to_xyzw(extrinsics[..., :3]),
    }


@family("depth_unprojection")
def depth_unprojection(case: GoldenCase) -> dict[str, Tensor]:
    depth, extrinsics, intrinsics = (case.tensors[name] for name in ("depth", "extrinsics", "intrinsics"))
    for name in ("depth", "extrinsics", "intrinsics"):
        case.skip(name, "an input")
    depth = depth.squeeze(-1)
    points, mask = depth_to_camera_points(depth, intrinsics)
    return {
        "world_points": depth_to_world_points(depth, extrinsics, intrinsics),
        "frame0_camera_points": points[0],
        "frame0_mask": mask[0],
        "inverse_se3": invert_se3(extrinsics),
    }
