"""Batch sources by name, the files they are made of, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from scenegen.conditioning.scene_light import LIGHT_TONES
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import build_model
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.split import load_split
from scenegen.synthesis.sources.picture_set import PictureSet
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.data import build_source
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import ConfigError, NamedConfig

CPU = torch.device("cpu")
SETTINGS = {
    "shapes": 4, "objects_per_step": 2, "object_counts": [0.0, 1.0], "render_size": 64, "image_size": 28,
    "patch_grid": 2, "resolution": 8, "surface_samples": 500,
}  # fmt: skip
STRUCTURE_ENCODER = {"name": "SparseStructureEncoder", "args": {
    "in_channels": 1, "latent_channels": 4, "num_res_blocks": 0, "num_res_blocks_middle": 0,
    "channels": [8, 8]}}  # fmt: skip
FIELD_ENCODER = {"name": "SLatEncoder", "args": {
    "resolution": 8, "in_channels": 132, "model_channels": 32, "latent_channels": 3, "num_blocks": 1,
    "num_heads": 2, "window_size": 4}}  # fmt: skip


@pytest.fixture
def pack(tmp_path, furniture):
    furniture.save(tmp_path / "train.safetensors")
    return tmp_path / "train.safetensors"


@pytest.fixture
def pictures(tmp_path):
    """A file of three pictures."""
    three = torch.ones(3, dtype=torch.long)
    images, projections = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 3, 4)
    latents, light = torch.zeros(3, 2, dtype=torch.half), torch.zeros(3, LIGHT_TONES)
    xyz, ids = images[:, :, 0, 0], ("procedural/bed/1",)
    pictures = PictureSet(images, three, xyz, latents, projections, light, ids)
    pictures.save(tmp_path / "pictures")
    return tmp_path / "pictures"


def source(name, *packs, encoder=None, **settings):
    return build_source(NamedConfig(name, SETTINGS | settings), SourceOptions(CPU, packs, encoder))


def saved(folder, encoder):
    """Checkpoint stem of a new encoder, and the encoder."""
    torch.manual_seed(0)
    network = build_model(encoder).eval()
    save_checkpoint(network, folder / "encoder", dtype=torch.float32)
    return folder / "encoder", network


@pytest.mark.parametrize("name", ["shapes", "scenes", "scene_pairs", "voxel_fields"])
def test_sources_of_packs_make_their_kind_of_batch(pack, name):
    assert type(source(name, pack).batch(0)) is SOURCES[name].makes


def test_latents_of_scenes_are_those_of_the_encoder(tmp_path, pack):
    stem, encoder = saved(tmp_path, STRUCTURE_ENCODER)
    shapes = source("shapes", pack, objects_per_step=3).batch(0).occupancy.float()
    batch = source("scene_latents", pack, encoder=stem).batch(0)
    assert type(batch) is SOURCES["scene_latents"].makes
    assert batch.x_0.shape[:2] == batch.visible.shape
    assert batch.x_0.shape[2:] == encoder(shapes).shape[1:]


def test_latents_of_single_objects_are_those_of_the_encoder(tmp_path, pack):
    stem, encoder = saved(tmp_path, STRUCTURE_ENCODER)
    batch = source("object_latents", pack, encoder=stem, object_counts=[1.0]).batch(0)
    assert type(batch) is SOURCES["object_latents"].makes and len(batch.visible) == 2
    assert batch.x_0.shape[1:] == encoder(torch.zeros(1, 1, 8, 8, 8)).shape[1:]
    with pytest.raises(ConfigError, match=r"object_counts: expected scenes of one object, got \[0.0, 1.0\]"):
        source("object_latents", pack, encoder=stem)


def test_latents_of_pictures_are_those_of_the_encoder(tmp_path, pack):
    stem, _ = saved(tmp_path, FIELD_ENCODER)
    batch = source("latent_pictures", pack, encoder=stem).batch(0)
    assert type(batch) is SOURCES["latent_pictures"].makes and batch.x_0.shape == (len(batch.coords), 3)


def test_stored_pictures_are_a_source_by_name(pictures):
    args = {"files": [str(pictures), str(pictures)], "objects_per_step": 6}
    batch = build_source(NamedConfig("picture_set", args), SourceOptions(CPU)).batch(0)
    assert type(batch) is SOURCES["picture_set"].makes and len(batch.asset_image) == 6


def test_a_pack_with_test_models_is_refused(tmp_path, pack, furniture):
    name = next(entry.id for entry in load_split().values() if entry.split == "test")
    path = tmp_path / "test.safetensors"
    MeshPack.from_meshes([(furniture.mesh(0), replace(furniture.infos[0], id=name, split="test"))]).save(path)
    with pytest.raises(ValueError, match=f"{path}: expected models of the train split only, got '{name}'"):
        source("shapes", pack, path)


def test_an_encoder_that_nothing_would_use_is_refused(tmp_path, pack):
    with pytest.raises(
        ConfigError, match="dataset scenes: expected no --latent-encoder, which it does not use"
    ):
        source("scenes", pack, encoder=tmp_path / "encoder")


def test_packs_are_joined(pack):
    assert len(source("shapes", pack, pack).pool.bank.infos) == 16


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_takes_the_files_that_it_is_made_of_and_no_others(pack, pictures, name):
    kind = SOURCES[name]
    args = SETTINGS if kind.takes_packs else {"files": [str(pictures)], "objects_per_step": 1}

    def refusal(packs, encoder):
        with pytest.raises(ConfigError) as caught:
            build_source(NamedConfig(name, args), SourceOptions(CPU, packs, encoder))
        return str(caught.value)

    encoder = pack.with_name("encoder") if kind.takes_latent_encoder else None
    wrong = () if kind.takes_packs else (pack,)
    expected = f"dataset {name}: expected {'' if kind.takes_packs else 'no '}--packs"
    assert refusal(wrong, encoder).startswith(expected)
    packs = (pack,) if kind.takes_packs else ()
    other = None if kind.takes_latent_encoder else pack.with_name("encoder")
    expected = f"dataset {name}: expected {'' if kind.takes_latent_encoder else 'no '}--latent-encoder"
    assert refusal(packs, other).startswith(expected)


def test_what_the_registry_does_not_know_is_refused(pack):
    with pytest.raises(ConfigError, match="dataset: unknown name 'texture'; known: "):
        source("texture", pack)
    with pytest.raises(ConfigError, match="dataset shapes: unknown key 'shape' for SourceConfig"):
        source("shapes", pack, shape=3)
