"""The scene flow from data roots to scenes: trained, watched on the way, and used by inference.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch.nn import functional as F

import inference
import train
from scenegen.datasets.voxel_files import read_voxels
from scenegen.models.registry import build_model
from tests.lookalike_root import SS_LATENT, lookalike_root
from trellis_modules.checkpoint import save_checkpoint

WIDTH, IMAGE_SIZE, LATENT, VOXELS = 96, 56, (8, 4), 16
FLOW = {"name": "SparseStructureFlowModel", "args": {
    "resolution": LATENT[1], "in_channels": LATENT[0], "out_channels": LATENT[0], "model_channels": 128,
    "cond_channels": WIDTH, "num_blocks": 3, "num_heads": 4, "mlp_ratio": 4, "patch_size": 2,
    "pe_mode": "ape", "qk_rms_norm": True, "use_global": True, "trunk_depth": 1,
    "num_iteration": 2}}  # fmt: skip
STEPS = 1000
NETWORKS = {
    "image_encoder": {"name": "VisionTransformer", "args": {
        "img_size": IMAGE_SIZE, "embed_dim": WIDTH, "depth": 1, "num_heads": 2, "num_register_tokens": 4}},
    "geometry_encoder": {"name": "VGGT", "args": {
        "img_size": IMAGE_SIZE, "embed_dim": WIDTH,
        "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
        "camera_head": None, "depth_head": None, "point_head": None, "track_head": None}},
    "decoder": {"name": "SparseStructureDecoder", "args": {
        "out_channels": 1, "latent_channels": LATENT[0], "num_res_blocks": 1, "num_res_blocks_middle": 1,
        "channels": [32, 16, 16]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four scenes, each of two of six boxes."""
    return lookalike_root(
        tmp_path_factory.mktemp("data") / "root",
        image_size=IMAGE_SIZE,
        ss_latent=LATENT,
        resolution=VOXELS,
        geometry=(9, 2 * WIDTH),
        scenes=(2, 2, 2, 2),
    )


@pytest.fixture(scope="module")
def networks(tmp_path_factory, root) -> Path:
    """Folder of toy networks: encoders as they are drawn, and a decoder that knows the six boxes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("networks")
    built = {name: build_model(raw) for name, raw in NETWORKS.items()}
    _learn_boxes(built["decoder"], root)
    for name, network in built.items():
        save_checkpoint(network, folder / name, torch.float32)
    return folder


def _learn_boxes(decoder, root, steps=80):
    """Train a decoder on the latents of a data root, which stand for its voxels."""
    latents, grids = [], []
    for path in sorted((root / "ss_latents" / SS_LATENT).iterdir()):
        latents.append(torch.from_numpy(np.load(path)["mean"]))
        grid = torch.zeros(VOXELS, VOXELS, VOXELS)
        grid[tuple(read_voxels(root / "voxels" / f"{path.stem}.ply", VOXELS).T)] = 1
        grids.append(grid)
    latents, grids = torch.stack(latents), torch.stack(grids)[:, None]
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    for _ in range(steps):
        noise = 0.1 * torch.randn_like(latents)
        loss = F.binary_cross_entropy_with_logits(
            decoder(latents + noise), grids, pos_weight=torch.tensor(4.0)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def experiment(networks: Path, **arguments) -> dict:
    """A configuration with the keys of the published one, at toy size."""
    decoder = str(networks / "decoder")
    dataset = {
        "latent_model": SS_LATENT, "data_file_name": "metadata_scene", "max_batch_size": 4,
        "max_gpu_batch_size": 3, "min_aesthetic_score": 4.5, "image_size": IMAGE_SIZE,
        "pretrained_ss_dec": decoder, "use_single_asset": False,
        "validation_file_name": "metadata_scene",
    }  # fmt: skip
    trainer = {
        "max_steps": 3, "batch_size": 4, "batch_split": 1,
        "optimizer": {"name": "AdamW", "args": {"lr": 1.5e-3, "weight_decay": 0.0, "betas": [0.9, 0.98]}},
        "ema_rate": [0.9], "fp16_mode": None, "grad_clip": 1.0, "i_print": 100, "i_log": 1,
        "i_sample": 100000, "i_save": 100000, "p_uncond": 0.1,
        "t_schedule": {"name": "logitNormal", "args": {"mean": 1.0, "std": 1.0}},
        "image_cond_model": str(networks / "image_encoder"), "smooth_scale": 0.02, "trans_weight": 7,
        "rot_weight": 5, "scale_weight": 3, "pretrained_ss_dec": decoder,
    }  # fmt: skip
    return {
        "models": {"denoiser": FLOW},
        "dataset": {"name": "ImageConditionedSparseStructureLatentVGGT", "args": dataset},
        "trainer": {"name": "ImageConditionedVGGTFlowMatchingCFGTrainer", "args": {**trainer, **arguments}},
    }


def run_training(root: Path, networks: Path, output: Path, **arguments) -> list[dict]:
    """Train and return the records of the log."""
    config = output.with_suffix(".json")
    config.write_text(json.dumps(experiment(networks, **arguments)))
    status = train.main(
        ["--config", str(config), "--output_dir", str(output), "--data_dir", str(root), "--device", "cpu"]
    )
    assert status == 0
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def pipeline_of(trained: Path, networks: Path, folder: Path) -> Path:
    """A checkpoint of the trained flow and the networks around it."""
    stems = {name: str(networks / name) for name in NETWORKS}
    sampler = {"name": "FlowEulerGuidanceIntervalSamplerVGGT", "params": {"steps": 10, "cfg_strength": 2.0}}
    args = {
        "models": {
            "sparse_structure_flow_model": str(trained / "ckpts" / "denoiser"),
            "sparse_structure_decoder": stems["decoder"],
        },
        "sparse_structure_sampler": sampler,
        "image_cond_model": stems["image_encoder"],
        "vggt_model": stems["geometry_encoder"],
        "image_size": IMAGE_SIZE,
    }
    folder.mkdir()
    (folder / "pipeline.json").write_text(json.dumps({"name": "SceneGenImageToScenePipeline", "args": args}))
    return folder


def test_a_checkpoint_of_the_released_trainer_makes_scenes(tmp_path, root, networks):
    run_training(root, networks, tmp_path / "run", use_collision_loss=True, collision_resolution=16)
    checkpoint = pipeline_of(tmp_path / "run", networks, tmp_path / "checkpoint")
    room = tmp_path / "in" / "room"
    shutil.copytree(root / "masked_images" / "0000001", room)
    count = len(list(room.glob("*_mask.png")))
    paths = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", checkpoint]
    assert inference.main([*map(str, paths), "--device", "cpu"]) == 0
    scene = trimesh.load(tmp_path / "out" / "room" / "scene.glb")
    assert sorted(scene.graph.nodes_geometry) == [f"obj_{number}" for number in range(count)]


@pytest.mark.slow
def test_four_scenes_are_learnt_by_heart(tmp_path, root, networks):
    """Errors of velocities and poses fall tenfold, and the last snapshot looks like the truth.

    Each of the two objects of a scene is the query of a case; two of the eight cases make a step.
    """
    records = run_training(
        root,
        networks,
        tmp_path / "run",
        max_steps=STEPS,
        batch_split=2,
        validate_every=STEPS,
        i_log=20,
        ema_rate=[0.98],
        lr_scheduler={"name": "WarmupCosineLRScheduler", "args": {"warmup_steps": 30, "decay_fraction": 0.4}},
        position_weight_min_ratio=0.5,
    )
    looks = [record for record in records if "validation" in record]
    before, after = looks[0], looks[-1]
    for name in ("mse", "translation_error", "rotation_error_deg", "log_scale_error"):
        assert after[f"validation/{name}"] < 0.1 * before[f"validation/{name}"], name
    shown = {suffix: snapshot(tmp_path / "run", suffix) for suffix in ("init", "final")}
    for kind in ("sample", "scene"):
        first, last = (np.abs(shown[s][kind] - shown[s][f"{kind}_gt"]).mean() for s in ("init", "final"))
        assert last < 0.5 * first, kind


def snapshot(run: Path, suffix: str) -> dict[str, np.ndarray]:
    """The pictures of a snapshot by name, as means of 8 x 8 pixels: voxels of scenes are single dots."""
    folder = run / "samples" / suffix
    return {
        path.stem.removesuffix(f"_{suffix}"): np.asarray(Image.open(path).reduce(8)).astype(float)
        for path in folder.glob("*.jpg")
    }
