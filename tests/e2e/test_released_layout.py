"""The published layouts with random weights at toy size: names, folders and keys as they are published."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import released_size
from scenegen.checkpoints import networks as pipeline_networks
from scenegen.checkpoints.roles import PIPELINE_FILE
from scenegen.cli.infer import check_checkpoint
from scenegen.cli.inference_options import parse_arguments
from scenegen.hub.releases import PublishedNetwork
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.checkpoint import CheckpointError

WIDTH = 32
FLOW = {
    "in_channels": 8, "out_channels": 8, "model_channels": WIDTH, "cond_channels": WIDTH, "num_blocks": 1,
    "num_heads": 2, "mlp_ratio": 4, "pe_mode": "ape", "qk_rms_norm": True, "use_fp16": True,
}  # fmt: skip
SLAT = {
    "resolution": 8, "latent_channels": 8, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 4,
    "attn_mode": "swin", "window_size": 8, "use_fp16": True,
}  # fmt: skip
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009, "scaling_bias": 0.004, "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}  # fmt: skip
#: Name of the file -> class and arguments: the keys of the published files with small values.
TOY = {
    "ss_scenegen_flow": ("SparseStructureFlowModel", {
        **FLOW, "resolution": 4, "patch_size": 1, "use_checkpoint": False, "use_global": True,
        "trunk_depth": 1, "num_iteration": 2, "use_batch_encoder": False}),
    "ss_dec_conv3d_16l8_fp16": ("SparseStructureDecoder", {
        "out_channels": 1, "latent_channels": 8, "num_res_blocks": 1, "num_res_blocks_middle": 1,
        "channels": [16, 8], "use_fp16": True}),
    "slat_flow_img_dit_L_64l8p2_fp16": ("ElasticSLatFlowModel", {
        **FLOW, "resolution": 8, "patch_size": 2, "num_io_res_blocks": 2, "io_block_channels": [16]}),
    "slat_dec_mesh_swin8_B_64l8m256c_fp16": ("ElasticSLatMeshDecoder", {
        **SLAT, "model_channels": 256, "representation_config": {"use_color": True}}),
    "slat_dec_gs_swin8_B_64l8gs32_fp16": ("ElasticSLatGaussianDecoder", {
        **SLAT, "model_channels": WIDTH, "representation_config": GAUSSIANS}),
    "dinov2_vitl14_reg": ("VisionTransformer", {"embed_dim": WIDTH, "depth": 1, "num_heads": 2}),
    "VGGT-1B": ("VGGT", {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH}),
}  # fmt: skip


@pytest.fixture(scope="module")
def published() -> dict[str, PublishedNetwork]:
    """The published networks by name, at toy size."""
    sizes = {"aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"}}
    heads = dict.fromkeys(("camera_head", "point_head", "depth_head", "track_head"))
    return {
        name: PublishedNetwork(released_size.NETWORKS[name], 0, kind, {**args, **sizes, **heads})
        if kind == "VGGT"
        else PublishedNetwork(released_size.NETWORKS[name], 0, kind, args)
        for name, (kind, args) in TOY.items()
    }


@pytest.fixture(scope="module")
def release(tmp_path_factory, published) -> Path:
    """Folder with ``scenegen``, ``VGGT-1B`` and ``dinov2_vitl14_reg``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    released_size.write_released_layout(folder, published, torch.device("cpu"))
    return folder


@pytest.fixture(autouse=True)
def toy_sizes(monkeypatch):
    """The published encoders are known by name; here the names stand for toys."""
    monkeypatch.setitem(pipeline_networks.RELEASED_SIZES, "dinov2_vitl14_reg", (WIDTH, 1, 2))
    toy_keys = ("aggregator", "camera_head", "point_head", "depth_head", "track_head")
    monkeypatch.setattr(pipeline_networks, "_VGGT_KEYS", (*pipeline_networks._VGGT_KEYS, *toy_keys))


def _run(pipeline: SceneGenPipeline, count: int, source=None, representations=()):
    small = TextureSettings(source=source, size=64, fill_holes=False)
    masks = np.zeros((count, 40, 60), bool)
    for index in range(count):
        masks[index, 4:30, 4 + 20 * index : 20 + 18 * index] = True
    photo = np.full((40, 60, 3), 90, np.uint8)
    cutouts = [released_size.Image.fromarray(np.dstack([photo, mask * np.uint8(255)])) for mask in masks]
    settings = RunSettings(
        sampling={"steps": 1},
        slat_sampling={"steps": 1},
        structure=released_size.shells(count, 60, resolution=8),
        texture=small,
        representations=representations,
    )
    return pipeline.run([SceneImages(released_size.Image.fromarray(photo), cutouts, list(masks))], settings)


def test_scenegen_release_loads_as_it_is_and_makes_a_complete_scene(release, tmp_path):
    pipeline = SceneGenPipeline.from_pretrained(release / "scenegen", dtype=torch.bfloat16)
    result = _run(pipeline, 2)
    text = released_size.complete_glb(result, tmp_path / "scene")
    assert "2 textures" in text
    assert result.settings["texture"]["source"] == "gaussian" and result.settings["dtype"] == "bfloat16"


def test_benchmark_draws_radiance_fields(published, tmp_path, monkeypatch, small_pictures):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed (extra video)")
    monkeypatch.setattr("scenegen.pipelines.texturing._VIEWS", {"cpu": (4, 48)})
    monkeypatch.setattr(released_size, "FIELD_OUT_STD", 1.0)  # as narrow a decoder gives fields of mist
    name, role = released_size.FIELD_DECODER, "slat_decoder_rf"
    args = {**SLAT, "model_channels": WIDTH, "representation_config": {"rank": 2, "dim": 3}}
    decoder = PublishedNetwork(role, 0, "ElasticSLatRadianceFieldDecoder", args)
    networks = {**released_size.NETWORKS, name: role}
    released_size.write_released_layout(
        tmp_path, {**published, name: decoder}, torch.device("cpu"), networks=networks
    )
    pipeline = SceneGenPipeline.from_pretrained(tmp_path / "scenegen", dtype=torch.bfloat16)
    result = _run(pipeline, 2, "radiance_field", ("gaussian",))
    released_size.draw_representations(result, tmp_path / "pictures", "cpu")
    picture = released_size.Image.open(tmp_path / "pictures/radiance_field/obj_1_radiance_field.png")
    assert np.asarray(picture).std() > 10  # not all of it white
    assert (tmp_path / "pictures/structure/structure.png").is_file()
    for source in ("radiance_field", "gaussian"):
        assert (tmp_path / f"pictures/turntable_{source}/turntable.mp4").is_file()


def test_trellis_release_stands_its_objects_in_a_row(release, tmp_path):
    folder = shutil.copytree(release / "scenegen", tmp_path / "trellis")
    shutil.copytree(release / "dinov2_vitl14_reg", tmp_path / "dinov2_vitl14_reg")
    flow = released_size.random_network(
        released_size.NamedConfig(
            "SparseStructureFlowModel", {**FLOW, "resolution": 4, "patch_size": 1, "use_fp16": False}
        ),
        torch.device("cpu"),
    )
    released_size.save_checkpoint(flow, folder / "ckpts" / "ss_flow_img_dit_L_16l8_fp16")
    description = json.loads((folder / PIPELINE_FILE).read_text())
    description["name"] = "TrellisImageTo3DPipeline"
    del description["args"]["vggt_model"]
    description["args"]["models"]["sparse_structure_flow_model"] = "ckpts/ss_flow_img_dit_L_16l8_fp16"
    description["args"]["sparse_structure_sampler"]["name"] = "FlowEulerGuidanceIntervalSampler"
    (folder / PIPELINE_FILE).write_text(json.dumps(description))
    pipeline = SceneGenPipeline.from_pretrained(folder)
    result = _run(pipeline, 3)
    assert not result.settings["close_holes"]  # nothing places the objects before the photo's camera
    with pytest.raises(CheckpointError, match="--keep-holes: holes are closed where a network places"):
        check_checkpoint(pipeline, parse_arguments("", ["--keep-holes"]))
    boxes = [item.mesh.bounds + item.pose[:3].numpy() for item in result.objects]
    order = sorted(range(3), key=lambda index: boxes[index][0, 0])
    for left, right in zip(order, order[1:], strict=False):
        assert boxes[left][1, 0] < boxes[right][0, 0]
    np.testing.assert_allclose([box[0, 1] for box in boxes], boxes[0][0, 1], atol=1e-5)


def test_missing_network_tells_where_it_comes_from(release, tmp_path):
    folder = shutil.copytree(release / "scenegen", tmp_path / "scenegen")
    with pytest.raises(CheckpointError) as error:
        SceneGenPipeline.from_pretrained(folder)
    message = str(error.value)
    assert "dinov2_vitl14_reg" in message and "scenegen download --only" in message
    assert "checkpoints/scenegen-small" in message and "\n" not in message


def test_benchmark_prints_stages_and_peaks_as_it_goes(published, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(released_size, "load_networks", lambda: published)
    monkeypatch.setattr(released_size, "FULL_SCENE", 2)
    options = ["--device", "cpu", "--dtype", "float32", "--voxels", "60", "--steps", "1", "--objects", "1"]
    options += ["--probe-steps", "1", "--texture-size", "64"]
    assert released_size.main([*options, "--max-gib", "100", "--max-gib-low", "100"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  sample latents: ") == 4 and printed.count("2 textures") == 2
    assert printed.index("| normal | 1 |") < printed.index("low: opened") < printed.index("| low | 1 |")
    again = [*options, "--modes", "normal", "--folder", str(tmp_path), "--max-gib", "0"]
    assert released_size.main(again) == 1 and (tmp_path / "VGGT-1B" / "model.safetensors").stat().st_size > 0


def test_shells_have_as_many_voxels_as_asked():
    logits = released_size.shells(3, 100, resolution=16)
    assert (logits > 0).sum(dim=(1, 2, 3)).tolist() == [100] * 3
    assert logits.shape == (3, 16, 16, 16)
