"""Time and peak memory of one forward pass of the structured-latent flow, with random weights.

    python benchmarks/structured_latent_flow.py [--assets 1 4] [--voxels 12800] [--conv auto]

The voxels of an asset are those nearest to a sphere in a grid of 64^3.  "new voxels" includes neighbour maps
and coarse grids of voxels seen for the first time, "same voxels" is a later step of a sampler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from trellis_modules.models import SLatFlowModel, build_model
from trellis_modules.sparse import SparseTensor
from trellis_modules.sparse.conv.backends import BACKEND_VARIABLE, BACKENDS

MANIFEST = Path(__file__).resolve().parent.parent / "tests/data/manifests/slat_flow_img_dit_L_64l8p2.json"
SPHERE_RADIUS = 24.0  # voxels; the released structures are surfaces of about this extent
CONTEXT_TOKENS = 1374  # of the released image encoder


def main() -> None:
    """Measure and print a Markdown table."""
    options = parse_arguments()
    os.environ[BACKEND_VARIABLE] = options.conv
    device = torch.device(options.device)
    args = json.loads(MANIFEST.read_text())["args"] | {"use_fp16": False}
    if options.blocks is not None:
        args["num_blocks"] = options.blocks
    with torch.device(device):
        model: SLatFlowModel = build_model({"name": "SLatFlowModel", "args": args}).eval()
    model.convert_torso(getattr(torch, options.dtype))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {options.dtype} torso, convolution {options.conv}\n")
    print("| assets | voxels | stage | median ms | peak GiB |\n|---|---|---|---|---|")
    for assets in options.assets:
        x = sphere_voxels(assets, options.voxels, args["resolution"], args["in_channels"], device)
        cond = torch.randn(assets, CONTEXT_TOKENS, args["cond_channels"], device=device)
        t = torch.full((assets,), 500.0, device=device)
        stages = {
            "new voxels": lambda x=x: SparseTensor(x.feats, x.coords, x.batch_size),
            "same voxels": lambda x=x: x,
        }
        for stage, voxels in stages.items():
            milliseconds, gib = measure(model, (voxels, t, cond), device, options.repeats)
            print(f"| {assets} | {len(x.coords)} | {stage} | {milliseconds:.1f} | {gib:.2f} |")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--assets", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--voxels", type=int, default=12800, help="of each asset")
    parser.add_argument("--blocks", type=int, help="transformer blocks; default: the released number")
    parser.add_argument("--conv", choices=["auto", *BACKENDS], default="auto", help="sparse convolution")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--repeats", type=int, default=20)
    return parser.parse_args()


def sphere_voxels(
    assets: int, voxels: int, resolution: int, channels: int, device: torch.device
) -> SparseTensor:
    """Noise at the voxels nearest to a sphere, the same ones in every asset."""
    grid = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    distance = ((grid - (resolution - 1) / 2).norm(dim=1) - SPHERE_RADIUS).abs()
    xyz = grid[distance.argsort()[:voxels].sort().values]
    batch = torch.arange(assets).repeat_interleave(len(xyz))
    coords = torch.cat([batch[:, None], xyz.repeat(assets, 1)], dim=1).int().to(device)
    return SparseTensor(torch.randn(len(coords), channels, device=device), coords, assets)


@torch.inference_mode()
def measure(
    model: SLatFlowModel,
    inputs: tuple[Callable[[], SparseTensor], Tensor, Tensor],
    device: torch.device,
    repeats: int,
) -> tuple[float, float]:
    """Median wall time of a pass in milliseconds after two warm-up passes, and the peak memory in GiB."""
    voxels, t, cond = inputs
    on_gpu = device.type == "cuda"
    times = []
    for _ in range(repeats + 2):
        if on_gpu:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        model(voxels(), t, cond)
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else float("nan")
    return 1000 * statistics.median(times[2:]), peak


if __name__ == "__main__":
    main()
