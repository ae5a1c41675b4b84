"""Batch sources by objective, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from scenegen.models.registry import build_model
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.split import load_split
from scenegen.synthesis.sources.registry import build_source
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import ConfigError

CPU = torch.device("cpu")
SETTINGS = {
    "shapes": 4, "objects_per_step": 2, "object_counts": [0.0, 1.0], "render_size": 64, "image_size": 28,
    "patch_grid": 2, "resolution": 8, "surface_samples": 500,
}  # fmt: skip
ENCODER = {
    "in_channels": 1, "latent_channels": 4, "num_res_blocks": 0, "num_res_blocks_middle": 0,
    "channels": [8, 8],
}  # fmt: skip


@pytest.fixture
def pack(tmp_path, furniture):
    furniture.save(tmp_path / "train.safetensors")
    return tmp_path / "train.safetensors"


def source(objective, *packs, encoder=None, **settings):
    return build_source(objective, SETTINGS | settings, packs, 0, encoder, CPU)


def test_each_objective_gets_the_batches_it_reads(tmp_path, pack):
    assert source("structure_vae", pack).batch(0).keys() == {"occupancy"}
    assert "second_scene_image" in source("geometry_encoder", pack).batch(0)
    torch.manual_seed(0)
    encoder = build_model({"name": "SparseStructureEncoder", "args": ENCODER}).eval()
    save_checkpoint(encoder, tmp_path / "encoder", dtype=torch.float32)
    shapes = source("structure_vae", pack, objects_per_step=3).batch(0)["occupancy"].float()
    batch = source("scene_flow", pack, encoder=tmp_path / "encoder").batch(0)
    assert batch["x_0"].shape[:2] == batch["visible"].shape
    assert batch["x_0"].shape[2:] == encoder(shapes).shape[1:]
    assert "second_scene_image" not in batch


def test_a_pack_with_test_models_is_refused(tmp_path, pack, furniture):
    name = next(entry.id for entry in load_split().values() if entry.split == "test")
    path = tmp_path / "test.safetensors"
    MeshPack.from_meshes([(furniture.mesh(0), replace(furniture.infos[0], id=name, split="test"))]).save(path)
    with pytest.raises(ValueError, match=f"{path}: expected models of the train split only, got '{name}'"):
        source("structure_vae", pack, path)


def test_an_encoder_that_nothing_would_use_is_refused(tmp_path, pack):
    message = "image_encoder: --latent_encoder is for scene_flow and structured_latent_flow; leave it out"
    with pytest.raises(ValueError, match=message):
        source("image_encoder", pack, encoder=tmp_path / "encoder")


def test_packs_are_joined(pack):
    assert len(source("structure_vae", pack, pack).pool.bank.infos) == 16


def test_wrong_requests_say_what_to_do(pack):
    with pytest.raises(ValueError, match="scene_flow: expected --latent_encoder"):
        source("scene_flow", pack)
    with pytest.raises(ValueError, match="unknown objective 'texture'"):
        source("texture", pack)
    with pytest.raises(ConfigError, match="source: unknown key 'shape' for SourceConfig"):
        source("structure_vae", pack, shape=3)
