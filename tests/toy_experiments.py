"""An experiment for every trainer, at a size that trains in seconds, and what each of them needs.

`toy_data` makes a data root, packs and frozen networks; `experiment` gives the configuration of a trainer and
the flags that it is trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.datasets.cond_tokens import view_tokens_path, write_tokens
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.models.registry import build_model
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scenegen.trainers import snapshots, validation, watching
from tests.lookalike_root import FEATURE, SLAT, SS_LATENT, lookalike_root
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.samplers import SamplingParams

WIDTH, IMAGE_SIZE, RESOLUTION, STEPS = 32, 28, 8, 4
TOKENS = 9  # of a picture: its class, four registers and four patches
FEATURES, LATENTS, STRUCTURE = 16, 3, (4, 2)  # channels at voxels; channels and side of structure latents
VIEW_TOKENS = "toy"

ONLINE = {
    "shapes": 6, "objects_per_step": 4, "object_counts": [0.0, 1.0], "render_size": 64,
    "image_size": IMAGE_SIZE, "patch_grid": 2, "resolution": RESOLUTION, "surface_samples": 500,
}  # fmt: skip
TRAINER = {
    "max_steps": STEPS, "lr_scheduler": {"name": "WarmupCosineLRScheduler", "args": {"warmup_steps": 1}},
    "fp16_mode": None, "grad_clip": 1.0, "i_log": 1, "i_save": 2,
}  # fmt: skip

# ---- networks

VAE = {
    "latent_channels": STRUCTURE[0],
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [8, 8, 8],
}
SLAT_SIZES = {
    "resolution": RESOLUTION, "model_channels": WIDTH, "latent_channels": LATENTS, "num_blocks": 1,
    "num_heads": 2, "window_size": 4,
}  # fmt: skip
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 4, "scaling_bias": 0.03, "opacity_bias": 0.95,
    "scaling_activation": "softplus",
}  # fmt: skip
FLOW = {
    "in_channels": STRUCTURE[0], "out_channels": STRUCTURE[0], "resolution": STRUCTURE[1],
    "model_channels": WIDTH, "cond_channels": WIDTH, "num_blocks": 1, "num_heads": 2, "patch_size": 1,
    "qk_rms_norm": True,
}  # fmt: skip
SCENE_FLOW = {**FLOW, "num_blocks": 2, "use_global": True, "trunk_depth": 1, "num_iteration": 2}
SLAT_FLOW = {
    "in_channels": LATENTS, "out_channels": LATENTS, "resolution": RESOLUTION, "model_channels": WIDTH,
    "cond_channels": WIDTH, "num_blocks": 1, "num_heads": 2, "patch_size": 2, "io_block_channels": [16],
    "qk_rms_norm": True,
}  # fmt: skip


def network(name: str, *parts: dict[str, Any], **args: Any) -> dict[str, Any]:
    """A network of a configuration."""
    return {"name": name, "args": {key: value for part in (*parts, args) for key, value in part.items()}}


IMAGE_ENCODER = network(
    "VisionTransformer", img_size=IMAGE_SIZE, embed_dim=WIDTH, depth=1, num_heads=2, num_register_tokens=4
)
STRUCTURE_ENCODER = network("SparseStructureEncoder", VAE, in_channels=1)
STRUCTURE_DECODER = network("SparseStructureDecoder", VAE, out_channels=1)
GAUSSIAN_DECODER = network("SLatGaussianDecoder", SLAT_SIZES, representation_config=GAUSSIANS)
MESH_DECODER = network(
    "SLatMeshDecoder", SLAT_SIZES, upsample_channels=[WIDTH], representation_config={"use_color": True}
)
AGGREGATOR = {
    "img_size": IMAGE_SIZE, "embed_dim": WIDTH, "point_head": None, "track_head": None,
    "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
}  # fmt: skip
DEPTH_HEAD = {
    "features": 8, "out_channels": [8] * 4, "intermediate_layer_idx": [0] * 4, "down_ratio": 2,
}  # fmt: skip

FROZEN = {
    "image_encoder": IMAGE_ENCODER,
    "structure_encoder": STRUCTURE_ENCODER,
    "structure_decoder": STRUCTURE_DECODER,
    "slat_encoder": network("SLatEncoder", SLAT_SIZES, in_channels=132),
    "gaussian_decoder": GAUSSIAN_DECODER,
}
"""Networks that experiments use and do not train, by the names of their files in the folder of `toy_data`."""


class Words(nn.Module):
    """A text encoder: the token of a caption is its length everywhere."""

    width = WIDTH

    def forward(self, captions: list[str]) -> Tensor:
        return torch.tensor([float(len(text)) for text in captions])[:, None, None].expand(-1, 5, WIDTH)


def look_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those who watch a training sample in few steps, measure one batch and draw small pictures."""
    params = SamplingParams(steps=2, cfg_strength=3.0)
    for module in (snapshots, validation):
        monkeypatch.setattr(module, "SAMPLING", params)
    monkeypatch.setattr(watching, "Validation", partial(validation.Validation, batches=1))
    monkeypatch.setattr(snapshots, "_LOOKED_AT", 2)
    size = snapshots.PictureSize(objects=8, scene=8, samples=1)
    monkeypatch.setattr(snapshots.PictureSize, "on", lambda device: size)


# ---- data


def toy_data(folder: Path) -> Path:
    """A data root ``root`` with ready tokens, packs of two splits, and the networks of `FROZEN`."""
    torch.manual_seed(0)
    root = lookalike_root(
        folder / "root", image_size=IMAGE_SIZE, resolution=RESOLUTION, ss_latent=STRUCTURE,
        feature_channels=FEATURES, slat_channels=LATENTS, geometry=(TOKENS, 2 * WIDTH), scenes=(3, 2, 3, 3),
    )  # fmt: skip
    for row in read_assets(root / ASSETS_NAME):
        path = view_tokens_path(root, VIEW_TOKENS, row.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tokens(path, {"000.png": torch.randn(TOKENS, WIDTH)})
    pack = generate_pack(6, seed=1, remove_hidden=False)
    pack.save(folder / "train.safetensors")
    held_out = [(mesh, replace(info, split="validation")) for mesh, info in pack.models()]
    MeshPack.from_meshes(held_out).save(folder / "validation.safetensors")
    for name, raw in FROZEN.items():
        save_checkpoint(build_model(raw), folder / name, torch.float32)
    return folder


# ---- experiments


@dataclass(frozen=True)
class Toy:
    """What an experiment of a trainer says beside what all say.

    Attributes:
        models: by role.
        dataset: its name.
        data: its arguments. Text in braces stands for a file in the folder of `toy_data`.
        trainer: arguments of the trainer, likewise.
        encoder: makes the latents of an online data set, of `FROZEN`.
    """

    models: dict[str, Any]
    dataset: str
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None


STORED_STRUCTURE = {"latent_model": SS_LATENT, "pretrained_ss_dec": "{structure_decoder}"}
STORED_SLAT = {"latent_model": SLAT, "pretrained_slat_dec": "{gaussian_decoder}"}
PICTURES = {"image_size": IMAGE_SIZE}
READY = {"cond_tokens": VIEW_TOKENS}
SHOWN = {"image_cond_model": "{image_encoder}"}
DENSE = {"denoiser": network("SparseStructureFlowModel", FLOW)}
SPARSE = {"denoiser": network("ElasticSLatFlowModel", SLAT_FLOW)}
RENDERED = {"image_size": 16}
NO_LPIPS = {"lambda_lpips": 0.0}
TWO_PASSES = {"batch_size_per_gpu": 4, "batch_split": 2}

PLACING_FLOW = network(
    "SparseStructureFlowModel", SCENE_FLOW, cond_channels=WIDTH + PLACE_CHANNELS, share_mod=True
)
SCENE_ENCODERS = {
    "image_encoder": IMAGE_ENCODER,
    "geometry_encoder": network("VGGT", AGGREGATOR, camera_head=None, depth_head=None),
}
SCENES = {**ONLINE, "object_counts": [0, 0, 0, 1.0], "render_size": 128}

TOYS: dict[str, Toy] = {
    "ImageConditionedVGGTFlowMatchingCFGTrainer": Toy(
        {"denoiser": network("SparseStructureFlowModel", SCENE_FLOW)},
        "ImageConditionedSparseStructureLatentVGGT",
        {
            **STORED_STRUCTURE,
            **PICTURES,
            "max_batch_size": 4,
            "use_single_asset": False,
            "min_aesthetic_score": 4.5,
            "validation_share": 0.5,
        },
        {
            **SHOWN,
            "batch_size": 4,
            "use_collision_loss": True,
            "collision_resolution": 8,
            "pretrained_ss_dec": "{structure_decoder}",
            "overlap_weight": 0.1,
            "overlap_resolution": 4,
            "rotation_loss": "either_sign",
            "validate_every": 2,
            "unfreeze_weights": ["global", "position"],
        },
    ),
    "FlowMatchingTrainer": Toy(DENSE, "SparseStructureLatent", STORED_STRUCTURE, TWO_PASSES),
    "FlowMatchingCFGTrainer": Toy(
        DENSE, "ImageConditionedSparseStructureLatent", {**STORED_STRUCTURE, **READY}, TWO_PASSES
    ),
    "ImageConditionedFlowMatchingCFGTrainer": Toy(
        DENSE,
        "ImageConditionedSparseStructureLatent",
        {**STORED_STRUCTURE, **PICTURES},
        {**SHOWN, **TWO_PASSES},
    ),
    "TextConditionedFlowMatchingCFGTrainer": Toy(
        DENSE, "TextConditionedSparseStructureLatent", STORED_STRUCTURE, TWO_PASSES
    ),
    "SparseFlowMatchingTrainer": Toy(SPARSE, "SLat", STORED_SLAT, TWO_PASSES),
    "SparseFlowMatchingCFGTrainer": Toy(SPARSE, "ImageConditionedSLat", {**STORED_SLAT, **READY}, TWO_PASSES),
    "ImageConditionedSparseFlowMatchingCFGTrainer": Toy(
        SPARSE, "ImageConditionedSLat", {**STORED_SLAT, **PICTURES}, {**SHOWN, **TWO_PASSES}
    ),
    "TextConditionedSparseFlowMatchingCFGTrainer": Toy(
        SPARSE, "TextConditionedSLat", STORED_SLAT, TWO_PASSES
    ),
    "SparseStructureVaeTrainer": Toy(
        {"encoder": STRUCTURE_ENCODER, "decoder": STRUCTURE_DECODER},
        "SparseStructure",
        {"resolution": RESOLUTION},
        {"batch_size": 4, "loss_type": "dice", "lambda_kl": 0.001},
    ),
    "SLatVaeGaussianTrainer": Toy(
        {
            "encoder": network("ElasticSLatEncoder", SLAT_SIZES, in_channels=FEATURES),
            "decoder": GAUSSIAN_DECODER,
        },
        "SparseFeat2Render",
        {**RENDERED, "model": FEATURE, "resolution": RESOLUTION},
        {**TWO_PASSES, **NO_LPIPS, "regularizations": {"lambda_vol": 1.0, "lambda_opacity": 0.001}},
    ),
    "SLatVaeRadianceFieldDecoderTrainer": Toy(
        {
            "decoder": network(
                "SLatRadianceFieldDecoder", SLAT_SIZES, representation_config={"rank": 2, "dim": 4}
            )
        },
        "SLat2Render",
        {**RENDERED, "latent_model": SLAT},
        {"batch_size": 2, **NO_LPIPS},
    ),
    "SLatVaeMeshDecoderTrainer": Toy(
        {"decoder": MESH_DECODER},
        "Slat2RenderGeo",
        {**RENDERED, "latent_model": SLAT},
        {"batch_size": 2, **NO_LPIPS, "lambda_tsdf": 0.01, "lambda_color": 0.1},
    ),
    "geometry_encoder": Toy(
        {
            "vggt": network(
                "VGGT", AGGREGATOR, camera_head={"trunk_depth": 1, "num_heads": 2}, depth_head=DEPTH_HEAD
            )
        },
        "scene_pairs",
        ONLINE,
    ),
    "image_encoder": Toy({"image_encoder": IMAGE_ENCODER}, "scenes", ONLINE),
    "scene_flow": Toy(
        {"flow": PLACING_FLOW, **SCENE_ENCODERS},
        "scene_latents",
        SCENES,
        {"append_places": True, "draws": 2, "validate_every": 2},
        "structure_encoder",
    ),
    "scene_flow_distillation": Toy(
        {"flow": PLACING_FLOW, "teacher": PLACING_FLOW, **SCENE_ENCODERS},
        "scene_latents",
        SCENES,
        {
            "append_places": True,
            "steps": 2,
            "teacher_steps": 4,
            "validate_every": 2,
            "freeze_weights": [r"^(teacher|image_encoder|geometry_encoder)\."],
        },  # fmt: skip
        "structure_encoder",
    ),
    "object_flow": Toy(
        {
            "flow": network(
                "SparseStructureFlowModel", FLOW, cond_channels=WIDTH + PLACE_CHANNELS, share_mod=True
            ),
            "image_encoder": IMAGE_ENCODER,
        },
        "object_latents",
        {**ONLINE, "object_counts": [1.0], "hidden_share": 0.5},
        {"append_places": True, "draws": 2},
        "structure_encoder",
    ),
    "structured_latent_vae": Toy(
        {
            "encoder": network("SLatEncoder", SLAT_SIZES, in_channels=132),
            "decoder_gs": GAUSSIAN_DECODER,
            "decoder_mesh": MESH_DECODER,
        },
        "voxel_fields",
        ONLINE,
    ),
    "structured_latent_flow": Toy(
        {"flow": network("SLatFlowModel", SLAT_FLOW, share_mod=True), "image_encoder": IMAGE_ENCODER},
        "latent_pictures",
        {**ONLINE, "pretrained_slat_dec": "{gaussian_decoder}"},
        {},
        "slat_encoder",
    ),
}


def experiment(name: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The experiment of a trainer as JSON types, and the flags that say what it learns from.

    Args:
        name: of the trainer.
        folder: of `toy_data`.
    """
    toy = TOYS[name]
    config = {
        "models": toy.models,
        "dataset": {"name": toy.dataset, "args": _with_files(toy.data, folder)},
        "trainer": {"name": name, "args": {**TRAINER, **_with_files(toy.trainer, folder)}},
    }
    if toy.dataset[0].isupper():  # the sets of data roots
        return config, ["--data_dir", str(folder / "root")]
    files = {"--packs": "train.safetensors"}
    if toy.encoder is not None:
        files |= {"--latent_encoder": toy.encoder}
    if toy.encoder == "structure_encoder":
        files |= {"--structure_decoder": "structure_decoder"}
    if "validate_every" in toy.trainer:
        files |= {"--validation_packs": "validation.safetensors"}
    return config, [part for flag, file in files.items() for part in (flag, str(folder / file))]


def _with_files(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        key: str(folder / value[1:-1]) if isinstance(value, str) and value.startswith("{") else value
        for key, value in arguments.items()
    }
