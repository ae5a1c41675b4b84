"""Toy checkpoints and scenes: the real classes at sizes that run in a blink."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.conditioning.scene_conditioner import PATCH_DETAILS
from scenegen.conditioning.scene_light import LIGHT_TONES
from scenegen.hub import file_sha256
from scenegen.models.registry import build_model
from tests.e2e.malformed import CommandFault, Inputs
from tests.hub_server import Hub
from trellis_modules.checkpoint import save_checkpoint

WIDTH = 32
IMAGE_SIZE = 28
PHOTO_SIZE = (48, 36)

NETWORKS = {
    "flow": ("SparseStructureFlowModel", {
        "resolution": 2, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
        "num_blocks": 2, "num_heads": 2, "patch_size": 1, "qk_rms_norm": True, "share_mod": True,
        "use_global": True, "trunk_depth": 1, "num_iteration": 2}),
    "decoder": ("SparseStructureDecoder", {
        "out_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1,
        "channels": [16, 16, 16]}),
    "image_encoder": ("VisionTransformer", {
        "img_size": IMAGE_SIZE, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}),
    "geometry_encoder": ("VGGT", {
        "img_size": IMAGE_SIZE, "embed_dim": WIDTH,
        "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
        "camera_head": None, "depth_head": None, "point_head": None, "track_head": None}),
}  # fmt: skip

SLAT = {"resolution": 8, "latent_channels": 4, "num_blocks": 1, "num_heads": 2, "window_size": 4}
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 4, "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009, "scaling_bias": 0.03, "opacity_bias": 0.9,
    "scaling_activation": "softplus",
}  # fmt: skip
APPEARANCE_NETWORKS = {
    "slat_flow": ("ElasticSLatFlowModel", {
        "resolution": 8, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
        "num_blocks": 1, "num_heads": 2, "patch_size": 2, "io_block_channels": [16], "qk_rms_norm": True}),
    "slat_dec_gs": ("ElasticSLatGaussianDecoder", {
        **SLAT, "model_channels": WIDTH, "representation_config": GAUSSIANS}),
    "slat_dec_rf": ("ElasticSLatRadianceFieldDecoder", {
        **SLAT, "model_channels": WIDTH, "representation_config": {"rank": 2, "dim": 3}}),
    "slat_dec_mesh": ("ElasticSLatMeshDecoder", {
        **SLAT, "model_channels": WIDTH, "upsample_channels": [32],
        "representation_config": {"use_color": True}}),
}  # fmt: skip
ENCODER = {
    "encoder": ("SparseStructureEncoder", {
        "in_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "num_res_blocks_middle": 1,
        "channels": [16, 16, 16]}),
}  # fmt: skip
"""Of the structures, which is published beside the networks that make scenes."""

APPEARANCE_ROLES = {
    "slat_flow_model": "ckpts/slat_flow",
    "slat_decoder_mesh": "ckpts/slat_dec_mesh",
    "slat_decoder_gs": "ckpts/slat_dec_gs",
    "slat_decoder_rf": "ckpts/slat_dec_rf",
}

SAMPLER = {
    "name": "FlowEulerGuidanceIntervalSamplerVGGT",
    "args": {"sigma_min": 1e-5},
    "params": {"steps": 2, "cfg_strength": 3.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
}

FEW_STEPS = {"steps": 4, "cfg_strength": 0.0, "rescale_t": 3.0}
"""Settings of a flow of few steps."""


def write_checkpoint(
    folder: Path, mean_logit: float, appearance: bool = False, patch_grid: int = 0, light: bool = False
) -> Path:
    """Write a random checkpoint whose structure decoder is shifted towards full or empty grids.

    With an appearance stage its layout is that of the published one, but for a colour grid and light.
    """
    torch.manual_seed(0)
    networks = {**NETWORKS, **(APPEARANCE_NETWORKS if appearance else {}), **ENCODER}
    for stem, (name, args) in networks.items():
        if stem == "slat_flow":
            details = (PATCH_DETAILS if patch_grid else 0) + (LIGHT_TONES if light else 0)
            args = args | {"cond_channels": WIDTH + details}
        network = build_model({"name": name, "args": args})
        _fill_zeros(network)
        if stem == "decoder":
            torch.nn.init.constant_(network.out_layer[-1].bias, mean_logit)
        save_checkpoint(network, folder / "ckpts" / stem)
    weights = [f"ckpts/{stem}.safetensors" for stem in networks]
    args = {
        "models": {
            "sparse_structure_flow_model": "ckpts/flow",
            "sparse_structure_decoder": "ckpts/decoder",
        },
        "sparse_structure_sampler": SAMPLER,
        "image_cond_model": "ckpts/image_encoder",
        "vggt_model": "ckpts/geometry_encoder",
        "image_size": IMAGE_SIZE,
        "sha256": {name: file_sha256(folder / name) for name in weights},
    }
    if appearance:
        args["models"] |= APPEARANCE_ROLES
        args["slat_sampler"] = {**SAMPLER, "name": "FlowEulerGuidanceIntervalSampler"}
        args |= {"slat_patch_grid": patch_grid, "slat_light": light}
        args["slat_normalization"] = {"mean": [0.5, -0.5, 0.0, 1.0], "std": [1.0, 2.0, 0.5, 1.0]}
    description = {"name": "SceneGenImageToScenePipeline", "args": args}
    (folder / "pipeline.json").write_text(json.dumps(description))
    return folder


def add_few_steps_flow(folder: Path) -> Path:
    """Give a checkpoint a second flow of structures, with other weights."""
    name, args = NETWORKS["flow"]
    torch.manual_seed(1)
    network = build_model({"name": name, "args": args})
    _fill_zeros(network)
    save_checkpoint(network, folder / "ckpts" / "few")

    def add(args: dict[str, Any]) -> None:
        args["models"]["sparse_structure_flow_few_steps_model"] = "ckpts/few"
        args["few_step_sampler"] = {"params": FEW_STEPS}
        args["sha256"]["ckpts/few.safetensors"] = file_sha256(folder / "ckpts" / "few.safetensors")

    edit_args(folder, add)
    return folder


def edit_args(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the arguments in the description of a checkpoint."""
    path = folder / "pipeline.json"
    raw = json.loads(path.read_text())
    change(raw["args"])
    path.write_text(json.dumps(raw))


def _fill_zeros(network: torch.nn.Module) -> None:
    """Give weight to the branches and outputs that start at zero, so that conditions have an effect."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


@pytest.fixture(scope="session")
def finished_roots(tmp_path_factory) -> dict[str, Path]:
    """Finished data roots, by the names of `tests.scene_road`; tests work on copies of them."""
    from tests.scene_road import write_roots  # imports every command of dataset_toolkits

    return write_roots(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def small_pictures(monkeypatch) -> None:
    """Pictures of voxels and radiance fields, and videos, that take a blink."""
    for name in ("structure.OBJECT_SIZE", "structure.SCENE_SIZE", "radiance_field.SIZE", "turntable.SIZE"):
        monkeypatch.setattr(f"scenegen.export.{name}", 32)
    monkeypatch.setattr("scenegen.export.turntable.FRAMES", 3)


@pytest.fixture(scope="session")
def shared_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint that tests only read; its objects are solid blocks."""
    return write_checkpoint(tmp_path_factory.mktemp("shared") / "toy", mean_logit=3.0)


@pytest.fixture(scope="session")
def shared_appearance_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint with an appearance stage that tests only read."""
    return write_checkpoint(tmp_path_factory.mktemp("shared") / "appearance", 3.0, appearance=True)


@pytest.fixture
def appearance_checkpoint(tmp_path) -> Path:
    """A checkpoint with an appearance stage that a test may damage."""
    return write_checkpoint(tmp_path / "appearance", 3.0, appearance=True)


@pytest.fixture
def colour_checkpoint(tmp_path) -> Path:
    """A checkpoint whose appearance flow also sees the colours of the patches of a crop."""
    return write_checkpoint(tmp_path / "colours", 3.0, appearance=True, patch_grid=IMAGE_SIZE // 14)


@pytest.fixture
def light_checkpoint(tmp_path) -> Path:
    """A checkpoint whose appearance flow also sees the tones of the photo."""
    return write_checkpoint(tmp_path / "light", 3.0, appearance=True, light=True)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint that a test may damage."""
    return write_checkpoint(tmp_path / "toy", mean_logit=3.0)


@pytest.fixture
def empty_checkpoint(tmp_path) -> Path:
    """A checkpoint that finds no occupied voxel."""
    return write_checkpoint(tmp_path / "toy", mean_logit=-100.0)


@pytest.fixture(scope="session")
def write_room() -> Callable[[Path, int], Path]:
    """As `write_scene`, for fixtures that several tests share."""
    return _write_scene


@pytest.fixture
def write_scene() -> Callable[[Path, int], Path]:
    """Function (folder, number of objects) -> folder: a photo of coloured rectangles, larger to the right."""
    return _write_scene


def _write_scene(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    width, height = PHOTO_SIZE
    photo = np.full((height, width, 3), 128, np.uint8)
    masks = np.zeros((count, height, width), bool)
    for index in range(count):
        left = 2 + index * (width - 4) // count
        masks[index, 4 : 12 + index, left : left + (width - 4) // count - 1] = True
        photo[masks[index]] = 20 * index, 255 - 20 * index, 90
    Image.fromarray(photo).save(folder / "scene.jpg")
    for index, mask in enumerate(masks):
        alpha = mask.astype(np.uint8) * 255
        Image.fromarray(np.dstack([photo, alpha])).save(folder / f"{index}.png")
        Image.fromarray(alpha).save(folder / f"{index}_mask.png")
    return folder


@pytest.fixture
def inputs(tmp_path, shared_checkpoint, write_scene, monkeypatch, capsys, caplog) -> Iterator[Inputs]:
    """Good inputs; the hub answers only when a case asks it."""
    monkeypatch.setenv("no_proxy", "*")
    root, checkpoint = tmp_path / "work", tmp_path / "toy"
    root.mkdir()
    shutil.copytree(shared_checkpoint, checkpoint)
    scene = write_scene(tmp_path / "room", 2)

    def run(command: Any, *arguments: Any) -> None:
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
        assert status == 2
        logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        raise CommandFault(logged[-1] if logged else capsys.readouterr().err.strip().splitlines()[-1])

    files = {
        f"owner/toy/{path.relative_to(checkpoint)}": path.read_bytes() for path in checkpoint.rglob("*.json")
    }
    with Hub(files).serve() as hub:
        yield Inputs(root, checkpoint, scene, hub, run)


@pytest.fixture
def appearance_inputs(inputs, appearance_checkpoint) -> Inputs:
    """The same with a checkpoint that has an appearance stage."""
    inputs.checkpoint = appearance_checkpoint
    return inputs
