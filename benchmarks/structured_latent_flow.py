"""Time, peak memory and parts of one forward pass of the structured-latent flow, with random weights.

    python benchmarks/structured_latent_flow.py [--assets 1 4] [--voxels 12800] [--conv auto spconv]
        [--cuda-graph] [--profile]

The voxels of an asset are those nearest to a sphere in a grid of 64^3.  Several assets are timed twice: with
as many voxels each, and with 0.7 to 1.3 times as many, in all the same.  Stages:

    new voxels        neighbour maps and coarse grids of voxels seen for the first time included
    same voxels       a later pass over the same voxels
    sampler step      the same with the context projected beforehand, as samplers do
    CUDA graph        "same voxels" recorded once and replayed: the time without launches

The parts of "same voxels" follow, between events on the GPU's stream; where the GPU waits for launches the
waiting counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scenegen.cli.parser import CommandParser
from trellis_modules.models import SLatFlowModel, build_model
from trellis_modules.sparse import SparseTensor
from trellis_modules.sparse.conv.backends import BACKEND_VARIABLE, BACKENDS, REGISTRY

MANIFEST = Path(__file__).resolve().parent.parent / "tests/data/manifests/slat_flow_img_dit_L_64l8p2.json"
SPHERE_RADIUS = 24.0  # voxels; the released structures are surfaces of about this extent
CONTEXT_TOKENS = 1374  # of the released image encoder
#: Milliseconds of the original code with spconv on an H200, by number of assets of 12,800 voxels each.
ORIGINAL_MS = {1: 48.6, 4: 76.0}
SMALLEST_SHARE = 0.7  # voxels of the smallest of unequal assets, relative to their mean
WARM_UP = 2

#: Modules of the model by part; what is left are norms, modulation, gates and sums.
PARTS = {
    "embedding and output": ("t_embedder", "input_layer", "out_layer"),
    "io convolutions": ("input_blocks.?", "out_blocks.?"),
    "modulation vectors": ("blocks.*.adaLN_modulation",),
    "self attention": ("blocks.*.self_attn",),
    "context projection": ("blocks.*.cross_attn.to_kv",),
    "cross attention": ("blocks.*.cross_attn",),
    "feed-forward": ("blocks.*.mlp",),
}

Inputs = tuple[SparseTensor, Tensor, Any]


def main() -> None:
    """Measure and print Markdown tables."""
    options = parse_arguments()
    device = torch.device(options.device)
    args = json.loads(MANIFEST.read_text())["args"] | {"use_fp16": False}
    if options.blocks is not None:
        args["num_blocks"] = options.blocks
    with torch.device(device):
        model: SLatFlowModel = build_model({"name": "SLatFlowModel", "args": args}).eval()
    model.convert_torso(getattr(torch, options.dtype))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {options.dtype} torso")
    for conv in options.conv:
        if conv != "auto" and not BACKENDS[conv].installed():
            print(f"\nconvolution {conv}: not installed, left out")
            continue
        os.environ[BACKEND_VARIABLE] = conv
        REGISTRY.clear()
        print(f"\n## Convolution {conv}\n")
        # spconv looks at its results on the CPU, which no recording allows.
        report(model, options, device, options.cuda_graph and conv != "spconv")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--assets", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--voxels", type=int, default=12800, help="of each asset")
    parser.add_argument("--blocks", type=int, help="transformer blocks; default: the released number")
    parser.add_argument(
        "--conv", choices=["auto", *BACKENDS], nargs="+", default=["auto"], help="sparse convolution"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--cuda-graph", action="store_true", help="also time a recorded pass (not with spconv)"
    )
    parser.add_argument("--profile", action="store_true", help="list the GPU kernels of the last case")
    return parser.parse_args()


@torch.inference_mode()
def report(model: SLatFlowModel, options: argparse.Namespace, device: torch.device, cuda_graph: bool) -> None:
    """Time all cases with the selected convolution and print the tables of stages and parts."""
    cases = {
        f"{assets}{' unequal' if unequal else ''}": make_inputs(
            model, asset_sizes(assets, options.voxels, unequal), device
        )
        for assets in options.assets
        for unequal in ((False, True) if assets > 1 else (False,))
    }
    print("| assets | voxels | stage | median ms | original ms | peak GiB |\n|---|---|---|---|---|---|")
    for case, inputs in cases.items():
        bar = ORIGINAL_MS.get(inputs[0].batch_size, "") if options.voxels == 12800 else ""
        for stage, run in stages(model, inputs, cuda_graph).items():
            milliseconds, gib = measure(run, device, options.repeats)
            print(f"| {case} | {len(inputs[0].coords)} | {stage} | {milliseconds:.1f} | {bar} | {gib:.2f} |")
    print("\nMilliseconds of the parts of a pass over the same voxels:\n")
    print("| assets | " + " | ".join([*PARTS, "rest", "sum"]) + " |\n" + "|---" * (len(PARTS) + 3) + "|")
    for case, inputs in cases.items():
        times = part_times(model, inputs, device, options.repeats)
        print(f"| {case} | " + " | ".join(f"{value:.2f}" for value in times.values()) + " |")
    if options.profile:
        print_kernels(model, inputs)  # of the last case


def asset_sizes(assets: int, voxels: int, unequal: bool) -> list[int]:
    """Voxels of each asset, ``assets * voxels`` in all."""
    if not unequal:
        return [voxels] * assets
    shares = torch.linspace(SMALLEST_SHARE, 2 - SMALLEST_SHARE, assets)
    sizes = (shares * voxels).long().tolist()
    return [*sizes[:-1], assets * voxels - sum(sizes[:-1])]


def make_inputs(model: SLatFlowModel, sizes: list[int], device: torch.device) -> Inputs:
    """Noise at voxels of spheres, times, and a random condition."""
    config = model.config
    grid = torch.cartesian_prod(*[torch.arange(config.resolution)] * 3)
    order = ((grid - (config.resolution - 1) / 2).norm(dim=1) - SPHERE_RADIUS).abs().argsort()
    coords = torch.cat(
        [
            torch.nn.functional.pad(grid[order[:size].sort().values], (1, 0), value=index)
            for index, size in enumerate(sizes)
        ]
    )
    feats = torch.randn(len(coords), config.in_channels, device=device)
    cond = torch.randn(len(sizes), CONTEXT_TOKENS, config.cond_channels, device=device)
    times = torch.full((len(sizes),), 500.0, device=device)
    return SparseTensor(feats, coords.int().to(device), len(sizes)), times, cond


def stages(model: SLatFlowModel, inputs: Inputs, cuda_graph: bool) -> dict[str, Callable[[], Any]]:
    """The passes to time, by name."""
    x, t, cond = inputs
    prepared = model.precompute_context(cond)
    runs = {
        "new voxels": lambda: model(SparseTensor(x.feats, x.coords, x.batch_size), t, cond),
        "same voxels": lambda: model(x, t, cond),
        "sampler step": lambda: model(x, t, prepared),
    }
    if cuda_graph:
        runs["CUDA graph"] = recorded(runs["same voxels"])
    return runs


def recorded(run: Callable[[], Any]) -> Callable[[], Any]:
    """Record the kernels of a pass; calling the result launches them all at once."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def measure(run: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, float]:
    """Median wall time of a pass in milliseconds after the warm-up, and the peak memory in GiB."""
    on_gpu = device.type == "cuda"
    times = []
    for _ in range(repeats + WARM_UP):
        if on_gpu:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else float("nan")
    return 1000 * statistics.median(times[WARM_UP:]), peak


def part_times(model: SLatFlowModel, inputs: Inputs, device: torch.device, repeats: int) -> dict[str, float]:
    """Mean milliseconds of each part of a pass, what is left, and the whole pass."""
    mark = partial(cuda_mark, device) if device.type == "cuda" else time.perf_counter
    spans: list[tuple[str, Any, Any]] = []
    with watched_parts(model, mark, spans):
        for repeat in range(repeats + WARM_UP):
            if repeat == WARM_UP:
                spans.clear()
            start = mark()
            model(*inputs)
            spans.append(("sum", start, mark()))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    totals: Counter[str] = Counter()
    for part, start, stop in spans:
        totals[part] += start.elapsed_time(stop) if device.type == "cuda" else 1000 * (stop - start)
    times = {part: totals[part] / repeats for part in PARTS}
    whole = totals["sum"] / repeats
    return times | {"rest": whole - sum(times.values()), "sum": whole}


def cuda_mark(device: torch.device) -> torch.cuda.Event:
    """A point in the work of the device's current stream."""
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


@contextmanager
def watched_parts(
    model: nn.Module, mark: Callable[[], Any], spans: list[tuple[str, Any, Any]]
) -> Iterator[None]:
    """While open, append (part, start, stop) for every call of a module that ``PARTS`` names."""
    starts: dict[nn.Module, Any] = {}

    def enter(module: nn.Module, arguments: tuple) -> None:
        starts[module] = mark()

    def leave(part: str, module: nn.Module, arguments: tuple, output: Any) -> None:
        spans.append((part, starts.pop(module), mark()))

    hooks = []
    for name, module in model.named_modules():
        for part, patterns in PARTS.items():
            # A name matches a pattern of as many words: "blocks.*.mlp" is not "blocks.0.mlp.mlp".
            if any(name.count(".") == p.count(".") and fnmatch(name, p) for p in patterns):
                hooks.append(module.register_forward_pre_hook(enter))
                hooks.append(module.register_forward_hook(partial(leave, part)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def print_kernels(model: SLatFlowModel, inputs: Inputs, limit: int = 25) -> None:
    """List the kernels that take longest in one pass."""
    with torch.profiler.profile() as profile:
        model(*inputs)
    on_gpu = (e for e in profile.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA)
    kernels = sorted(on_gpu, key=lambda e: e.self_device_time_total, reverse=True)
    launches = sum(event.count for event in kernels)
    print(f"\nKernels of the last case, {launches} launches:\n\n| ms | launches | kernel |\n|---|---|---|")
    for event in kernels[:limit]:
        print(f"| {event.self_device_time_total / 1000:.2f} | {event.count} | `{event.key[:90]}` |")


if __name__ == "__main__":
    main()
