"""Time of the samplers and of whole scenes at the released sizes: the plain path and the fast one.

    python -m benchmarks.speed [--assets 1 4] [--parts structure latents scene] [--repeats 3]
        [--output speed.json] [--plot speed.svg] [--seconds 240]

Random weights in half precision, 25 steps with guidance in the first half of the time (44 passes), objects of
12,800 voxels. "plain" launches every kernel of every pass, norms with PyTorch's operations, and textures one
object after the other; "fast" is what a run does by default. A row has the first run of its kind apart from
the median and the spread of the further ones, and how far its result is from the plain one.

The floor is the time that the matrix products and the attention of the passes would take at the rate of a
large matrix product, which is measured first. Rows are printed as they are made; --seconds leaves out what no
longer fits. Times of the small model on a CPU: `inference_cpu.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

# Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.curves import draw_curves
from benchmarks.released_size import (
    SAMPLER,
    SLAT_MEAN,
    SLAT_STD,
    complete_glb,
    peak_gib,
    prepare,
    random_network,
    run_scene,
    shells,
)
from scenegen.checkpoints.schema import SlatNormalization
from scenegen.cli.parser import CommandParser
from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.hub.releases import load_networks
from scenegen.pipelines.appearance import latent_noise, sample_structured_latents
from scenegen.pipelines.memory import repeatable_kernels
from scenegen.pipelines.sampling import occupied_coords, sample_structure
from scenegen.pipelines.surface_queue import WORKERS_VARIABLE
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.attention.backends import BACKEND_VARIABLE as ATTENTION_VARIABLE
from trellis_modules.attention.backends import REGISTRY as ATTENTION
from trellis_modules.norms.backends import BACKEND_VARIABLE as NORMS_VARIABLE
from trellis_modules.norms.backends import REGISTRY as NORMS
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.flow_euler import sampling_times
from trellis_modules.samplers.recording import RECORDING_VARIABLE

#: Environment of each path; the fast one is what is chosen where nothing is set.
PATHS = {
    "plain": {
        NORMS_VARIABLE: "torch",
        RECORDING_VARIABLE: "off",
        ATTENTION_VARIABLE: "varlen" if torch.cuda.is_available() else "auto",
        WORKERS_VARIABLE: "0",
    },
    "fast": {},
}
STRUCTURE, LATENTS = "ss_scenegen_flow", "slat_flow_img_dit_L_64l8p2_fp16"
OBJECT_TOKENS, SCENE_TOKENS, CHANNELS = 1374, 6870, 1024  # of the released conditions
VOXELS = 12_800
PARAMS = SamplingParams(**SAMPLER["params"] | {"cfg_interval": tuple(SAMPLER["params"]["cfg_interval"])})
OUT_STD = 0.05  # of output layers: velocities as large as those of trained weights
MATRIX_EDGE = 8192
GIB = 2**30


@dataclass
class Row:
    """One measurement.

    Attributes:
        what: part, number of assets.
        path: key of `PATHS`.
        cold: seconds of the first run.
        warm: seconds of the further ones.
        floor: seconds that its arithmetic takes at the rate of a large product; 0 where it was not counted.
        difference: norm of (result - plain result) / norm of the plain result.
        peak: GiB.
        stages: seconds by stage, medians of the warm runs.
    """

    what: str
    assets: int
    path: str
    cold: float
    warm: list[float] = field(default_factory=list)
    floor: float = 0.0
    difference: float = 0.0
    peak: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of the warm runs, or the cold one where there is no other."""
        return statistics.median(self.warm) if self.warm else self.cold

    def line(self) -> str:
        """As a line of the table."""
        spread = f"{min(self.warm):.3f} to {max(self.warm):.3f}" if self.warm else ""
        floor = f"{self.floor:.2f}" if self.floor else ""
        share = f"{self.floor / self.median:.0%}" if self.floor else ""
        difference = f"{self.difference:.1e}" if self.difference else ""
        return (
            f"| {self.what} | {self.assets} | {self.path} | {self.cold:.2f} | {self.median:.3f} | {spread} | "
            f"{floor} | {share} | {difference} | {self.peak:.2f} |"
        )


HEADER = (
    "| part | assets | path | first, s | median, s | spread | floor, s | share of the floor | difference | "
    "peak GiB |\n|---|---:|---|---:|---:|---|---:|---:|---:|---:|"
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    options = parse_arguments(arguments)
    device = torch.device(options.device)
    report = Report(options, time.perf_counter() + options.seconds, device)
    print(f"{report.machine}\n\n{HEADER}", flush=True)
    if "structure" in options.parts:
        measure_flow(report, STRUCTURE, structure_run)
    if "latents" in options.parts:
        measure_flow(report, LATENTS, latents_run)
    if "scene" in options.parts:
        measure_scenes(report)
    if options.output:
        report.write(options.output)
    if options.plot:
        report.draw(options.plot)
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--assets", type=int, nargs="+", default=[1, 4])
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("structure", "latents", "scene"),
        default=["structure", "latents", "scene"],
    )
    parser.add_argument("--paths", nargs="+", choices=tuple(PATHS), default=list(PATHS))
    parser.add_argument("--scene-paths", nargs="+", choices=tuple(PATHS), help="of scenes; default: --paths")
    parser.add_argument("--repeats", type=int, default=3, help="warm runs of each row")
    parser.add_argument("--steps", type=int, default=PARAMS.steps)
    parser.add_argument("--blocks", type=int, help="transformer blocks; default: the released number")
    parser.add_argument("--seconds", type=float, default=600, help="leave out what no longer fits")
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    parser.add_argument("--plot", type=Path, help="draw the medians over the number of assets")
    return parser.parse_args(arguments)


class Report:
    """The rows so far, and what they were measured on."""

    def __init__(self, options: argparse.Namespace, deadline: float, device: torch.device) -> None:
        self.options, self.deadline, self.device = options, deadline, device
        self.rows: list[Row] = []
        self.rate = matrix_rate(device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
        self.machine = (
            f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {os.cpu_count()} cores; "
            f"matrix products {self.rate / 1e12:.1f} TFLOP/s"
        )

    def fits(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return time.perf_counter() + seconds < self.deadline

    def add(self, row: Row) -> None:
        """Keep and print a row."""
        self.rows.append(row)
        print(row.line(), flush=True)

    def write(self, path: Path) -> None:
        """All rows as JSON."""
        rows = [asdict(row) | {"median": row.median} for row in self.rows]
        path.write_text(
            json.dumps({"machine": self.machine, "steps": self.options.steps, "rows": rows}, indent=1)
        )

    def draw(self, path: Path) -> None:
        """Medians over the number of assets, both axes logarithmic, as SVG."""
        path.write_text(draw_curves(self.rows, self.machine.split(";")[0]), encoding="utf-8")


@contextmanager
def path_of(name: str) -> Iterator[None]:
    """The environment of a path for the length of a ``with`` block."""
    before = {key: os.environ.get(key) for values in PATHS.values() for key in values}
    for key in before:
        os.environ.pop(key, None)
    os.environ.update(PATHS[name])
    for registry in (NORMS, ATTENTION):
        registry.clear()
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        for registry in (NORMS, ATTENTION):
            registry.clear()


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Seconds and result of a run, the GPU's work included."""
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    return time.perf_counter() - start, result


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a large matrix product on random numbers; median of some."""
    on_gpu = device.type == "cuda"
    edge, dtype = (MATRIX_EDGE, torch.float16) if on_gpu else (512, torch.float32)
    a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    seconds = [timed(lambda: a @ b, device)[0] for _ in range(12)][4:]
    return 2 * edge**3 / statistics.median(seconds)


# --- the samplers ----------------------------------------------------------------------------------------


def measure_flow(report: Report, name: str, prepare_run: Callable[..., tuple[Callable, Callable]]) -> None:
    """Rows of one sampler for every number of assets and path."""
    options, device = report.options, report.device
    config = load_networks()[name].config
    if options.blocks is not None:
        config = type(config)(config.name, config.args | {"num_blocks": options.blocks})
    with torch.no_grad():
        model = random_network(config, device, OUT_STD).requires_grad_(False)
        model.convert_torso(torch.float16 if device.type == "cuda" else torch.float32)
    params = SamplingParams(options.steps, PARAMS.rescale_t, PARAMS.cfg_strength, PARAMS.cfg_interval)
    expected = 1.0
    for assets in options.assets:
        run, values = prepare_run(model, assets, params, device)
        floor, plain = floor_seconds(prepare_run, model, assets, params, report), None
        for path in options.paths:
            if not report.fits(expected):
                print(f"| {run.__name__} | {assets} | {path} | left out: no time |", flush=True)
                continue
            with path_of(path), repeatable_kernels(device), torch.no_grad():
                row = measured(report, run, Row(run.__name__, assets, path, 0.0, floor=floor), values, plain)
                plain = values(run.result) if path == "plain" else plain
                expected = (1 + options.repeats) * row.median * 2.5
            report.add(row)


def measured(report: Report, run: Callable, row: Row, values: Callable, plain: Tensor | None) -> Row:
    """Fill a row: a cold run and warm ones."""
    device = report.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    row.cold, run.result = timed(run, device)
    for _ in range(report.options.repeats):
        if report.fits(row.cold):
            seconds, run.result = timed(run, device)
            row.warm.append(seconds)
    if device.type == "cuda":
        row.peak = torch.cuda.max_memory_allocated(device) / GIB
    if plain is not None:
        result = values(run.result)
        row.difference = float((result - plain).norm() / plain.norm())
    return row


def floor_seconds(prepare_run, model, assets: int, params: SamplingParams, report: Report) -> float:
    """What the matrix products and the attention of all passes take at the measured rate."""
    operations = []
    for steps, strength in ((1, 0.0), (2, 0.0), (1, params.cfg_strength)):
        few = SamplingParams(steps, params.rescale_t, strength, params.cfg_interval)
        run, _ = prepare_run(model, assets, few, report.device)
        with path_of("plain"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        operations.append(counter.get_total_flops())
    one, two, guided_one = operations
    low, high = params.cfg_interval
    guided = sum(low <= t <= high for t in sampling_times(params.steps, params.rescale_t)[:-1])
    total = one + (params.steps - 1) * (two - one) + guided * (guided_one - one)
    return total / report.rate


def structure_run(
    model, assets: int, params: SamplingParams, device: torch.device
) -> tuple[Callable, Callable]:
    """What samples the structures of ``assets``, and what reads the latents of its result."""
    generator = torch.Generator(device).manual_seed(0)
    tokens = torch.randn(assets, SCENE_TOKENS, CHANNELS, generator=generator, device=device)
    tokens = tokens.to(model.torso_dtype)
    cond = SceneCond(tokens, torch.zeros_like(tokens), OBJECT_TOKENS)
    size = (assets, model.config.in_channels, *[model.config.resolution] * 3)
    noise = torch.randn(size, generator=generator, device=device)

    def structure():
        return sample_structure(model, FlowEulerSampler(), cond, noise, params)

    return structure, lambda sample: sample.latents.float()


def latents_run(
    model, assets: int, params: SamplingParams, device: torch.device
) -> tuple[Callable, Callable]:
    """What samples the structured latents of ``assets`` shells, and what reads its result."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(assets, OBJECT_TOKENS, CHANNELS, generator=generator).to(device, model.torso_dtype)
    cond = SceneCond(tokens, torch.zeros_like(tokens), OBJECT_TOKENS)
    coords = occupied_coords(shells(assets, VOXELS)[:, None])
    noise = latent_noise(coords, assets, model.config.in_channels, generator, device)
    normalization = SlatNormalization(SLAT_MEAN, SLAT_STD)

    def latents():
        return sample_structured_latents(
            model, FlowEulerSampler(), cond, noise, params, normalization, max_voxels=64_000, record=True
        )

    return latents, lambda sample: sample.feats.float()


# --- whole scenes ----------------------------------------------------------------------------------------


def measure_scenes(report: Report) -> None:
    """Photo to GLB for every number of assets and path."""
    options = report.options
    settings = argparse.Namespace(device=options.device, dtype="float16", folder=None, radiance_field=False)
    with tempfile.TemporaryDirectory() as scratch:
        seconds, pipeline = timed(lambda: prepare(Path(scratch), settings)(False), report.device)
        print(f"opened in {seconds:.1f} s, random weights included", flush=True)
        for assets in options.assets:
            for path in options.scene_paths or options.paths:
                if report.fits(12 * assets**0.5):
                    with path_of(path):
                        report.add(scene_row(report, pipeline, assets, path, Path(scratch) / "scene"))


def scene_row(report: Report, pipeline, assets: int, path: str, folder: Path) -> Row:
    """A scene with textures, written and read again."""
    row, stages = Row("photo to GLB", assets, path, 0.0), []
    for attempt in range(1 + report.options.repeats):
        if attempt and not report.fits(row.median):
            break
        start = time.perf_counter()
        result = run_scene(pipeline, assets, VOXELS, report.options.steps, TextureSettings())
        made = time.perf_counter()
        complete_glb(result, folder)
        seconds = time.perf_counter() - start
        if attempt:
            row.warm.append(seconds)
        else:
            row.cold = seconds
        stages.append(result.timings | {"files": time.perf_counter() - made})
        row.peak = max(row.peak, peak_gib(result))
    kept = stages[1:] or stages
    row.stages = {name: float(np.median([entry[name] for entry in kept])) for name in kept[0]}
    print("  " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in row.stages.items()), flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
