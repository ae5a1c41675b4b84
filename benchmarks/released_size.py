"""The published layout at its real sizes with random weights: loading, a complete GLB, time, peak memory.

    python benchmarks/released_size.py [--device cuda] [--objects 1 4 7 12] [--modes normal low]
    python benchmarks/released_size.py --radiance-field --output pictures --modes normal --objects

Random weights in half precision (6.6 GB) in the published layout are loaded, strictly, as the published files
would be. One scene of four objects runs through every stage to a GLB that is read again, in normal mode and
with networks loaded in turn (low mode); scenes of other sizes are sampled for a few steps, which shows their
memory. Random structures would be full or empty, so every object is a shell of --voxels voxels. The tensors
stay in main memory; --folder writes them to files and reads those, and keeps them for the next run.

With --radiance-field the complete scene has radiance fields and is textured from views of them; structures,
fields and (with the packages for videos) turntables of fields and Gaussians are drawn.
Every stage is printed as it ends. Fewer --steps, --objects and --modes take less time.
Exits with status 1 when four objects need more memory than --max-gib (normal) or --max-gib-low.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor, nn

from scenegen.checkpoints.networks import CheckpointFolder, NetworkFiles
from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    ENCODER_ROLES,
    FLOW_ROLE,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    PIPELINE_FILE,
    PIPELINE_NAME,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
    SLAT_RADIANCE_FIELD_ROLE,
)
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.parser import CommandParser
from scenegen.export.names import SCENE_FILE
from scenegen.export.options import ExportOptions
from scenegen.export.registry import FormatUnavailable
from scenegen.export.scene_files import write_scene
from scenegen.hub.releases import PublishedNetwork, load_networks
from scenegen.inputs.scene_images import SceneImages
from scenegen.models.registry import build_model
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.result import Representation, SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import NamedConfig
from trellis_modules.memory import release_memory

GIB = 2**30
DTYPE = torch.float16  # of the published files
FULL_SCENE = 4  # objects of the scene that is completed
OUT_STD = 1e-4  # of random output layers
SHELL_RADIUS = 24.0  # voxels of 64 an edge
PHOTO_SIZE = (1024, 768)

FIELD_DECODER = "slat_dec_rf_swin8_B_64l8r16_fp16"  # published; part of the checkpoint with --radiance-field
FIELD_OUT_STD = 0.1  # of its random output layer: fields that hide what is behind them

#: Published file name -> role. The encoders lie beside the folder, as their publishers have them.
NETWORKS = {
    "ss_scenegen_flow": FLOW_ROLE,
    "ss_dec_conv3d_16l8_fp16": DECODER_ROLE,
    "slat_flow_img_dit_L_64l8p2_fp16": SLAT_FLOW_ROLE,
    "slat_dec_mesh_swin8_B_64l8m256c_fp16": SLAT_MESH_ROLE,
    "slat_dec_gs_swin8_B_64l8gs32_fp16": SLAT_GAUSSIAN_ROLE,
    "dinov2_vitl14_reg": IMAGE_ENCODER_ROLE,
    "VGGT-1B": GEOMETRY_ENCODER_ROLE,
}
SAMPLER = {
    "args": {"sigma_min": 1e-5},
    "params": {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
}
SLAT_MEAN = (-2.16875, -0.00435, -0.13352, -0.08418, -0.52712, 0.72387, -1.14145, 1.20394)
SLAT_STD = (2.37765, 2.38638, 2.12442, 2.17486, 2.66394, 2.37119, 2.62174, 2.68452)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments(arguments)
    show_stages()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(f"{name}, torch {torch.__version__}, {options.dtype}, {options.voxels} voxels an object")
    limits = {"normal": options.max_gib, "low": options.max_gib_low}
    peaks = {}
    with tempfile.TemporaryDirectory() as scratch:
        open_pipeline = prepare(Path(options.folder or scratch), options)
        for mode in options.modes:
            start = time.perf_counter()
            pipeline = open_pipeline(mode == "low")
            say(f"\n{mode}: opened in {time.perf_counter() - start:.1f} s")
            peaks[mode] = measure_mode(pipeline, mode, options, options.output or Path(scratch))
            del pipeline
            release_memory()
    for mode, peak in peaks.items():
        say(f"{mode}: {FULL_SCENE} objects need {peak:.2f} GiB, limit {limits[mode]:g}")
    return 1 if any(peak > limits[mode] for mode, peak in peaks.items()) else 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    parser.add_argument("--folder", help="keep the checkpoint there, in files, and use it again")
    parser.add_argument("--modes", nargs="+", choices=("normal", "low"), default=["normal", "low"])
    parser.add_argument(
        "--objects", type=int, nargs="*", default=[1, 4, 7, 12], help="sizes of the scenes that show memory"
    )
    parser.add_argument("--voxels", type=int, default=12_800, help="of each object")
    parser.add_argument("--steps", type=int, default=25, help="of both samplers, in normal mode")
    parser.add_argument(
        "--probe-steps", type=int, default=2, help="the same in low mode and for scenes that show memory"
    )
    parser.add_argument("--texture-mode", help="see inference.py")
    parser.add_argument("--texture-size", type=int, default=TextureSettings().size)
    parser.add_argument("--radiance-field", action="store_true", help="make and draw radiance fields, too")
    parser.add_argument("--output", type=Path, help="keep the files of the complete scenes there")
    parser.add_argument("--max-gib", type=float, default=10.0)
    parser.add_argument("--max-gib-low", type=float, default=6.0)
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Print at once, so that a run that is cut off has told what it found."""
    print(text, flush=True)


def show_stages() -> None:
    """Print every stage of the pipeline as it ends."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    stages = logging.getLogger("scenegen.pipelines.memory")
    stages.handlers[:] = [handler]
    stages.setLevel(logging.INFO)


# --- the checkpoint --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderInMemory(CheckpointFolder):
    """A checkpoint folder whose weight files are empty; their tensors are in main memory.

    Attributes:
        tensors: weight file -> state dict.
    """

    tensors: Mapping[Path, dict[str, Tensor]] = field(default_factory=dict)

    def read(self, files: NetworkFiles) -> dict[str, Tensor]:
        """See `CheckpointFolder.read`."""
        return self.tensors[files.weights.resolve()]


def prepare(folder: Path, options: argparse.Namespace) -> Callable[[bool], SceneGenPipeline]:
    """Make the checkpoint unless its files are there; returns what loads it, in low mode or not."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    checkpoint = folder / "scenegen"
    networks = NETWORKS | ({FIELD_DECODER: SLAT_RADIANCE_FIELD_ROLE} if options.radiance_field else {})
    start = time.perf_counter()
    if options.folder is not None:
        if not (checkpoint / PIPELINE_FILE).is_file():
            write_released_layout(folder, load_networks(), device, networks=networks)
            say(f"random checkpoint written in {time.perf_counter() - start:.1f} s")
        return lambda low: SceneGenPipeline.from_pretrained(checkpoint, device, dtype, offload=low)
    tensors: dict[Path, dict[str, Tensor]] = {}
    write_released_layout(folder, load_networks(), device, tensors, networks)
    release_memory()
    size = sum(tensor.nbytes for state in tensors.values() for tensor in state.values())
    say(f"{size / 1e9:.2f} GB of random weights made in {time.perf_counter() - start:.1f} s")
    source = FolderInMemory(checkpoint, PipelineConfig.load(checkpoint), device, dtype, tensors=tensors)

    def load(low: bool) -> SceneGenPipeline:
        networks = source.networks(keep=not low)
        networks.load(networks.roles)
        return SceneGenPipeline(source.config, networks, device, source=source)

    return load


def write_released_layout(
    folder: Path,
    published: Mapping[str, PublishedNetwork],
    device: torch.device,
    tensors: dict[Path, dict[str, Tensor]] | None = None,
    networks: Mapping[str, str] = NETWORKS,
) -> None:
    """Write ``scenegen/``, ``VGGT-1B/`` and ``dinov2_vitl14_reg/`` with random weights in half precision.

    Args:
        folder: where all checkpoints go.
        published: configurations of the networks.
        device: where the weights are drawn.
        tensors: takes the state dict of each weight file, which is left empty; None writes them.
        networks: published name -> role.
    """
    for name, role in networks.items():
        out_std = FIELD_OUT_STD if role == SLAT_RADIANCE_FIELD_ROLE else OUT_STD
        network = random_network(published[name].config, device, out_std)
        is_encoder = role in ENCODER_ROLES
        stem = folder / name / "model" if is_encoder else folder / "scenegen" / "ckpts" / name
        if tensors is None:
            save_checkpoint(network, stem, DTYPE)
        else:
            tensors[keep_place(stem, published[name].config)] = half_state(network)
        if is_encoder:
            stem.with_suffix(".json").unlink()  # their publishers have no such file
        if role == GEOMETRY_ENCODER_ROLE:
            (folder / name / "config.json").write_text(json.dumps(published[name].args))
        say(f"  {name}: {sum(weights.numel() for weights in network.parameters()) / 1e6:.1f} M weights")
    content = {"name": PIPELINE_NAME, "args": description(networks)}
    (folder / "scenegen" / PIPELINE_FILE).write_text(json.dumps(content, indent=2))


def keep_place(stem: Path, config: NamedConfig) -> Path:
    """Write the description of a network and an empty weight file, whose path is returned."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps({"name": config.name, "args": config.args}))
    weights = stem.with_suffix(".safetensors")
    weights.touch()
    return weights.resolve()


def half_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict as it would be on the disk: in main memory, floating point numbers in half precision."""
    return {
        name: (tensor.to(DTYPE) if tensor.is_floating_point() else tensor).cpu()
        for name, tensor in network.state_dict().items()
    }


def description(networks: Mapping[str, str]) -> dict:
    """The ``args`` of the published ``pipeline.json``."""
    return {
        "models": {role: f"ckpts/{name}" for name, role in networks.items() if role not in ENCODER_ROLES},
        "sparse_structure_sampler": {"name": "FlowEulerGuidanceIntervalSamplerVGGT", **SAMPLER},
        "slat_sampler": {"name": "FlowEulerGuidanceIntervalSampler", **SAMPLER},
        "slat_normalization": {"mean": list(SLAT_MEAN), "std": list(SLAT_STD)},
        IMAGE_ENCODER_ROLE: "dinov2_vitl14_reg",
        GEOMETRY_ENCODER_ROLE: "checkpoints/VGGT-1B",
    }


@torch.no_grad()
def random_network(config: NamedConfig, device: torch.device, out_std: float = OUT_STD) -> nn.Module:
    """A network with its initial weights, and small ones where those are zero, so that every branch works.

    Output layers, with the deviation ``out_std``, stay near zero: decoded surfaces then follow the voxels, as
    those of trained weights do.
    """
    torch.manual_seed(0)
    args = {key: value for key, value in config.args.items() if key != "use_fp16"}
    with torch.device(device):
        network = build_model({"name": config.name, "args": args}).eval()
    for name, parameter in network.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=out_std if name.startswith("out_layer") else 0.02)
    return network


# --- the scenes ------------------------------------------------------------------------------------------


def measure_mode(pipeline: SceneGenPipeline, mode: str, options: argparse.Namespace, folder: Path) -> float:
    """Complete one scene, sample the others, print both; returns the peak of the completed scene in GiB."""
    steps = options.steps if mode == "normal" else options.probe_steps
    source, wanted = ("radiance_field", ("gaussian",)) if options.radiance_field else (None, ())
    texture = TextureSettings(source=source, mode=options.texture_mode, size=options.texture_size)
    start = time.perf_counter()
    result = run_scene(pipeline, FULL_SCENE, options.voxels, steps, texture, wanted)
    generated = time.perf_counter() - start
    files = complete_glb(result, folder / f"scene_{mode}")
    written = time.perf_counter() - start - generated
    say(f"{mode}: complete scene of {FULL_SCENE} objects, {steps} steps, {files}\n")
    say("| stage | seconds | peak GiB |\n|---|---:|---:|")
    for stage, seconds in result.timings.items():
        say(f"| {stage} | {seconds:.2f} | {result.peak_bytes.get(stage, 0) / GIB:.2f} |")
    say(f"| write | {written:.2f} | |")
    say(f"| **total** | **{generated + written:.2f}** | **{peak_gib(result):.2f}** |\n")
    if options.radiance_field:
        draw_representations(result, folder / f"pictures_{mode}", options.device)
    lines = []
    for count in options.objects:
        start = time.perf_counter()
        probe = run_scene(pipeline, count, options.voxels, options.probe_steps, None)
        seconds = time.perf_counter() - start
        stage = max(probe.peak_bytes, key=probe.peak_bytes.get)
        lines.append(f"| {mode} | {count} | {seconds:.2f} | {peak_gib(probe):.2f} | {stage} |")
        say(f"{lines[-1]}\n")
    if lines:
        title = f"| mode | objects | seconds, {options.probe_steps} steps, no texture | peak GiB | in stage |"
        say("\n".join([title, "|---|---:|---:|---:|---|", *lines, ""]))
    return peak_gib(result)


def run_scene(
    pipeline: SceneGenPipeline,
    count: int,
    voxels: int,
    steps: int,
    texture: TextureSettings | None,
    representations: Collection[Representation] = (),
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
    settings = RunSettings(
        sampling=sampling,
        slat_sampling=sampling,
        structure=shells(count, voxels, resolution_of(pipeline)),
        texture=texture,
        representations=representations,
    )
    return pipeline.run([SceneImages(Image.fromarray(pixels), cutouts, masks)], settings)


def resolution_of(pipeline: SceneGenPipeline) -> int:
    """Voxels along an edge of the structures that the appearance stage takes."""
    stem = pipeline.config.models[SLAT_FLOW_ROLE]
    return pipeline.source.find(stem).config.args["resolution"]


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


def draw_representations(result: SceneResult, folder: Path, device: str) -> None:
    """Write pictures of voxels, fields and Gaussians, each kind to a folder, and print the times."""
    say("| pictures | seconds |\n|---|---:|")
    for name in ("structure", "radiance_field", "turntable_radiance_field", "turntable_gaussian"):
        _, is_video, source = name.partition("turntable_")
        options = ExportOptions(turntable=source or "mesh", device=device)
        start = time.perf_counter()
        try:
            write_scene(result, folder / name, ("mp4" if is_video else name,), options)
            say(f"| {name} | {time.perf_counter() - start:.2f} |")
        except FormatUnavailable as error:
            say(f"| {name} | left out: {error} |")


def peak_gib(result: SceneResult) -> float:
    """Most memory of any stage."""
    return max(result.peak_bytes.values()) / GIB


if __name__ == "__main__":
    sys.exit(main())
