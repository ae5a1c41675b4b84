"""The published layout at its real sizes with random weights: loading, a complete GLB, time and peak memory.

    python benchmarks/released_size.py [--folder DIR] [--device cuda] [--objects 1 4 7 12]

Random weights in half precision (7 GB) are written in the published layout and loaded as the published files
would be. One scene of four objects then runs through every stage to a GLB that is read again, in normal mode
and with networks loaded in turn (low mode); scenes of other sizes are sampled for a few steps, which shows
their memory. Random structures would be full or empty, so every object is a shell of --voxels voxels.

Exits with status 1 when four objects need more memory than --max-gib (normal) or --max-gib-low.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

# Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor, nn

from scenegen.hub.releases import PublishedNetwork, load_networks
from scenegen.pipelines.description import PIPELINE_FILE, PIPELINE_NAME, PipelineConfig
from scenegen.pipelines.export import SCENE_FILE, write_scene
from scenegen.pipelines.networks import GEOMETRY_ENCODER_ROLE, IMAGE_ENCODER_ROLE, Networks
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.texturing import TextureSettings
from scenegen.registry import build_model
from trellis_modules.checkpoint import save_checkpoint, set_compute_dtype
from trellis_modules.config import NamedConfig

GIB = 2**30
DTYPE = torch.float16
FULL_SCENE = 4  # objects of the scene that is completed
SHELL_RADIUS = 24.0  # voxels of 64 an edge
PHOTO_SIZE = (1024, 768)

#: Published file name -> role. The encoders lie beside the folder, as their publishers have them.
NETWORKS = {
    "ss_scenegen_flow": "sparse_structure_flow_model",
    "ss_dec_conv3d_16l8_fp16": "sparse_structure_decoder",
    "slat_flow_img_dit_L_64l8p2_fp16": "slat_flow_model",
    "slat_dec_mesh_swin8_B_64l8m256c_fp16": "slat_decoder_mesh",
    "slat_dec_gs_swin8_B_64l8gs32_fp16": "slat_decoder_gs",
    "dinov2_vitl14_reg": IMAGE_ENCODER_ROLE,
    "VGGT-1B": GEOMETRY_ENCODER_ROLE,
}
SAMPLER = {
    "args": {"sigma_min": 1e-5},
    "params": {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
}
SLAT_MEAN = (-2.16875, -0.00435, -0.13352, -0.08418, -0.52712, 0.72387, -1.14145, 1.20394)
SLAT_STD = (2.37765, 2.38638, 2.12442, 2.17486, 2.66394, 2.37119, 2.62174, 2.68452)


def main() -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, float16, {options.voxels} voxels an object\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        pipelines = in_memory if options.no_disk else partial(on_disk, folder)
        open_pipeline = pipelines(device)
        limits = {False: options.max_gib, True: options.max_gib_low}
        peaks = {low: measure_mode(open_pipeline(low), low, options, folder) for low in (False, True)}
    too_much = [low for low, peak in peaks.items() if peak > limits[low]]
    for low, peak in peaks.items():
        print(f"{mode_name(low)}: {FULL_SCENE} objects need {peak:.2f} GiB, limit {limits[low]:g}")
    return 1 if too_much else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", help="for the checkpoint, kept and used again; default: a temporary one")
    parser.add_argument("--no-disk", action="store_true", help="make the networks in memory, load no files")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 7, 12])
    parser.add_argument("--voxels", type=int, default=12_800, help="of each object")
    parser.add_argument("--steps", type=int, default=25, help="of both samplers, for the completed scene")
    parser.add_argument(
        "--probe-steps", type=int, default=2, help="the same for scenes that show memory only"
    )
    parser.add_argument("--texture-mode", default="direct", help="see inference.py")
    parser.add_argument("--max-gib", type=float, default=10.0)
    parser.add_argument("--max-gib-low", type=float, default=6.0)
    return parser.parse_args()


# --- the checkpoint --------------------------------------------------------------------------------------


def on_disk(folder: Path, device: torch.device) -> Callable[[bool], SceneGenPipeline]:
    """Write the checkpoint unless it is there; returns what loads it, in low mode or not."""
    checkpoint = folder / "scenegen"
    if not (checkpoint / PIPELINE_FILE).is_file():
        start = time.perf_counter()
        write_released_layout(folder, load_networks(), device)
        print(f"random checkpoint written in {time.perf_counter() - start:.1f} s")

    def load(low: bool) -> SceneGenPipeline:
        start = time.perf_counter()
        pipeline = SceneGenPipeline.from_pretrained(checkpoint, device, DTYPE, offload=low)
        print(f"\n{mode_name(low)}: opened in {time.perf_counter() - start:.1f} s")
        return pipeline

    return load


def in_memory(device: torch.device) -> Callable[[bool], SceneGenPipeline]:
    """The same networks without files."""
    published = load_networks()

    def network(name: str, role: str) -> nn.Module:
        made = random_network(published[name].config, device)
        set_compute_dtype(made, DTYPE)
        return made.aggregator if role == GEOMETRY_ENCODER_ROLE else made

    loaders = {role: partial(network, name, role) for name, role in NETWORKS.items()}
    config = PipelineConfig.parse(NamedConfig(PIPELINE_NAME, description()), "released size")

    def make(low: bool) -> SceneGenPipeline:
        networks = Networks(loaders, keep=not low)
        networks.load(networks.roles)
        return SceneGenPipeline(config, networks, device)

    return make


def write_released_layout(
    folder: Path, published: Mapping[str, PublishedNetwork], device: torch.device
) -> None:
    """Write ``scenegen/``, ``VGGT-1B/`` and ``dinov2_vitl14_reg/`` with random weights in half precision.

    Args:
        folder: where all checkpoints go.
        published: configurations of the names in `NETWORKS`.
        device: where the weights are drawn.
    """
    for name, role in NETWORKS.items():
        network = random_network(published[name].config, device)
        if role not in (IMAGE_ENCODER_ROLE, GEOMETRY_ENCODER_ROLE):
            save_checkpoint(network, folder / "scenegen" / "ckpts" / name, DTYPE)
            continue
        save_checkpoint(network, folder / name / "model", DTYPE)
        (folder / name / "model.json").unlink()  # their publishers have no such file
        if role == GEOMETRY_ENCODER_ROLE:
            (folder / name / "config.json").write_text(json.dumps(published[name].args))
    content = {"name": PIPELINE_NAME, "args": description()}
    (folder / "scenegen" / PIPELINE_FILE).write_text(json.dumps(content, indent=2))


def description() -> dict:
    """The ``args`` of the published ``pipeline.json``."""
    encoders = (IMAGE_ENCODER_ROLE, GEOMETRY_ENCODER_ROLE)
    return {
        "models": {role: f"ckpts/{name}" for name, role in NETWORKS.items() if role not in encoders},
        "sparse_structure_sampler": {"name": "FlowEulerGuidanceIntervalSamplerVGGT", **SAMPLER},
        "slat_sampler": {"name": "FlowEulerGuidanceIntervalSampler", **SAMPLER},
        "slat_normalization": {"mean": list(SLAT_MEAN), "std": list(SLAT_STD)},
        "image_cond_model": "dinov2_vitl14_reg",
        "vggt_model": "checkpoints/VGGT-1B",
    }


@torch.no_grad()
def random_network(config: NamedConfig, device: torch.device) -> nn.Module:
    """A network with its initial weights, and small ones where those are zero, so that every branch works.

    Output layers stay near zero: decoded surfaces then follow the voxels, as those of trained weights do.
    """
    torch.manual_seed(0)
    args = {key: value for key, value in config.args.items() if key != "use_fp16"}
    with torch.device(device):
        network = build_model({"name": config.name, "args": args}).eval()
    for name, parameter in network.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=1e-4 if name.startswith("out_layer") else 0.02)
    return network


# --- the scenes ------------------------------------------------------------------------------------------


def measure_mode(pipeline: SceneGenPipeline, low: bool, options: argparse.Namespace, folder: Path) -> float:
    """Complete one scene, sample the others, print both; returns the peak of the completed scene in GiB."""
    steps = options.probe_steps if low else options.steps  # time is of interest in normal mode
    texture = TextureSettings(mode=options.texture_mode)
    start = time.perf_counter()
    result = run_scene(pipeline, FULL_SCENE, options.voxels, steps, texture)
    generated = time.perf_counter() - start
    files = complete_glb(result, folder / f"scene_{mode_name(low)}")
    written = time.perf_counter() - start - generated
    print(f"{mode_name(low)}: complete scene of {FULL_SCENE} objects, {steps} steps, {files}\n")
    print("| stage | seconds | peak GiB |\n|---|---:|---:|")
    for stage, seconds in result.timings.items():
        print(f"| {stage} | {seconds:.2f} | {result.peak_bytes.get(stage, 0) / GIB:.2f} |")
    print(f"| write | {written:.2f} | |")
    print(f"| **total** | **{generated + written:.2f}** | **{peak_gib(result):.2f}** |\n")
    print(f"| objects | seconds of {options.probe_steps} steps, no texture | peak GiB | in stage |")
    print("|---|---:|---:|---|")
    for count in options.objects:
        start = time.perf_counter()
        probe = run_scene(pipeline, count, options.voxels, options.probe_steps, None)
        seconds = time.perf_counter() - start
        stage = max(probe.peak_bytes, key=probe.peak_bytes.get)
        print(f"| {count} | {seconds:.2f} | {peak_gib(probe):.2f} | {stage} |", flush=True)
    return peak_gib(result)


def run_scene(
    pipeline: SceneGenPipeline, count: int, voxels: int, steps: int, texture: TextureSettings | None
) -> SceneResult:
    """A scene of ``count`` objects in a photo of coloured rectangles."""
    width, height = PHOTO_SIZE
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = []
    for index in range(count):
        left, right = (width * edge // count for edge in (index, index + 1))
        mask = np.zeros((height, width), bool)
        mask[100 : 500 + 10 * index, left + 5 : right - 5] = True
        masks.append(mask)
    cutouts = [Image.fromarray(np.dstack([pixels, mask * np.uint8(255)])) for mask in masks]
    sampling = {"steps": steps}
    return pipeline.run(
        Image.fromarray(pixels), cutouts, masks, sampling=sampling, slat_sampling=sampling,
        structure=shells(count, voxels), texture=texture,
    )  # fmt: skip


def shells(count: int, voxels: int, resolution: int = 64) -> Tensor:
    """Occupancy logits (count, R, R, R) of the voxels nearest to a sphere."""
    grid = torch.cartesian_prod(*[torch.arange(resolution, dtype=torch.float32)] * 3)
    distance = ((grid - (resolution - 1) / 2).norm(dim=1) - SHELL_RADIUS * resolution / 64).abs()
    logits = torch.full((resolution**3,), -1.0)
    logits[distance.argsort()[:voxels]] = 1.0
    return logits.reshape(1, *[resolution] * 3).expand(count, -1, -1, -1).contiguous()


def complete_glb(result: SceneResult, folder: Path) -> str:
    """Write the scene, read it again and describe it.

    Raises:
        AssertionError: an object or its texture is missing.
    """
    broken = [item.problem for item in result.objects if item.problem is not None]
    assert not broken, broken
    write_scene(result, folder, ("glb",))
    path = folder / SCENE_FILE
    loaded = trimesh.load(path)
    assert len(loaded.graph.nodes_geometry) == len(result.objects)
    assert all(mesh.visual.material.baseColorTexture is not None for mesh in loaded.geometry.values())
    faces = sum(len(mesh.faces) for mesh in loaded.geometry.values())
    return f"GLB of {path.stat().st_size / 2**20:.1f} MiB, {faces} faces, {len(loaded.geometry)} textures"


def peak_gib(result: SceneResult) -> float:
    """Most memory of any stage."""
    return max(result.peak_bytes.values()) / GIB


def mode_name(low: bool) -> str:
    """Name of a mode."""
    return "low" if low else "normal"


if __name__ == "__main__":
    sys.exit(main())
