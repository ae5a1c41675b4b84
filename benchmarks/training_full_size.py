"""Training of the scene flow at its released size with random weights: time, memory, waiting for data.

    python -m benchmarks.training_full_size --output outputs/full_size [--objects 7] [--steps 8]
    python -m benchmarks.training_full_size --output outputs/full_size --curve-steps 200 --curve-objects 3

The published configuration trains on a made data root whose photos, cut-outs, latents and geometry features
have the released sizes, read by worker processes as in a real run; the frozen image encoder and the structure
decoder have random weights, too. Each row of the table is the configuration with one precision, with or
without recomputed blocks and compiled blocks. With ``--curve-steps`` the losses of both precisions over as
many steps are put beside each other. Every row is printed when it is done.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.released_size import random_network, say
from scenegen.cli.parser import CommandParser
from scenegen.datasets.source import SourceOptions
from scenegen.hub.releases import load_networks
from scenegen.trainers.data import DATA, build_source, with_batches
from scenegen.trainers.experiment import build_objective, load_experiment
from scenegen.trainers.launch import Place
from scenegen.trainers.trainer import Trainer
from tests.lookalike_root import lookalike_root
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import NamedConfig

CONFIG = Path("configs/generation/ss_scenegen_flow_img_train.json")
FROZEN = {"image_cond_model": "dinov2_vitl14_reg", "pretrained_ss_dec": "ss_dec_conv3d_16l8_fp16"}
IMAGE_SIZE, GEOMETRY = 518, (1374, 2048)
PRECISIONS = ("bfloat16", "inflat_all")
VARIANTS: Mapping[str, Mapping[str, bool]] = {
    "plain": {"compile": False, "use_checkpoint": False},
    "checkpoint": {"compile": False, "use_checkpoint": True},
    "compile": {"compile": True, "use_checkpoint": False},
    "compile_checkpoint": {"compile": True, "use_checkpoint": True},
}
SMALL = {  # of --small
    "denoiser": {"model_channels": 64, "cond_channels": 64, "num_blocks": 2, "num_heads": 2},
    "dinov2_vitl14_reg": {"embed_dim": 64, "depth": 1, "num_heads": 2},
    "ss_dec_conv3d_16l8_fp16": {"channels": [32, 32, 32]},
}
SMALL_IMAGE, SMALL_GEOMETRY = 28, (9, 128)
GROUP = 20  # steps of a row of the loss curves
_ALONE = Place()


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(f"{name}, torch {torch.__version__}, {options.workers} processes read")
    frozen = write_frozen(options.output / "frozen", device, options.small)
    if options.steps:
        say(f"\n| {options.objects} objects | seconds a step | peak GiB | waiting for data |")
        say("|---|---:|---:|---:|")
        for variant, precision in itertools.product(options.variants, options.precisions):
            label, changes = f"{precision}_{variant}", {"fp16_mode": precision, **VARIANTS[variant]}
            records = train(options, f"speed_{label}", options.objects, options.steps, frozen | changes)
            speed = warm_means(records)
            say(
                f"| {label} | {speed['seconds_per_step']:.3f} | {records[-1]['memory_gib']:.1f} "
                f"| {speed['data_wait']:.1%} |"
            )
    if options.curve_steps:
        curves = {}
        for precision in PRECISIONS:
            changes = frozen | {"fp16_mode": precision}
            curves[precision] = train(
                options, f"curve_{precision}", options.curve_objects, options.curve_steps, changes
            )
        tell_curves(curves, options.curve_objects)
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of data, weights and logs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=8, help="processes that read (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="of the scenes that are timed (%(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="of each timed run; 0 for none (%(default)s)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="timed runs (all)"
    )  # fmt: skip
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="of the timed runs (all)"
    )
    parser.add_argument("--curve-steps", type=int, default=0, help="of the loss curves; 0 for none")
    parser.add_argument("--curve-objects", type=int, default=3, help="of their scenes (%(default)s)")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the benchmark itself")
    return parser.parse_args(arguments)


def warm_means(records: list[dict[str, float]]) -> dict[str, float]:
    """Mean "seconds_per_step" and "data_wait" of the second half of a log; the first makes all ready."""
    warm = records[len(records) // 2 :]
    return {key: sum(record[key] for record in warm) / len(warm) for key in ("seconds_per_step", "data_wait")}


def write_frozen(folder: Path, device: torch.device, small: bool) -> dict[str, str]:
    """Random weights of the networks that the loss uses; returns where they are, by setting."""
    published = load_networks()
    for name in FROZEN.values():
        if not (folder / f"{name}.safetensors").is_file():
            config = published[name].config
            if small:
                config = NamedConfig(config.name, config.args | SMALL[name])
            save_checkpoint(random_network(config, device), folder / name, torch.float16)
    return {setting: str(folder / name) for setting, name in FROZEN.items()}


def write_root(options: argparse.Namespace, objects: int) -> Path:
    """The data root of four photos of so many objects each."""
    root = options.output / f"root_{objects}"
    if not (root / "metadata_scene.csv").is_file():
        side, geometry = (SMALL_IMAGE, SMALL_GEOMETRY) if options.small else (IMAGE_SIZE, GEOMETRY)
        lookalike_root(
            root, assets=objects, scenes=(objects,) * 4, image_size=side, views=1, geometry=geometry
        )
    return root


def train(
    options: argparse.Namespace,
    label: str,
    objects: int,
    steps: int,
    changes: Mapping[str, Any],
    place: Place = _ALONE,
) -> list[dict[str, float]]:
    """Train the published configuration with changes; the records of its log, for the first process.

    Args:
        options: of the command line: ``output``, ``device``, ``workers`` and ``small``.
        label: of the run and its folder.
        objects: of each photo.
        steps: of the run.
        changes: of arguments of the trainer, and ``use_checkpoint`` of the flow.
        place: of this process among those that train together, which have met.
    """
    root = write_root(options, objects)
    experiment = load_experiment(write_config(options, label, steps, changes, place))
    torch.manual_seed(experiment.loop.seed)
    device, kind = place.device(torch.device(options.device)), DATA[experiment.dataset.name]
    files = SourceOptions(device, workers=options.workers, data_dirs=(root,))
    source = build_source(experiment.dataset, with_batches(files, kind, experiment.loop, place.size))
    with device:  # initial weights are drawn there
        objective = build_objective(experiment)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    folder = options.output / label
    trainer = Trainer(objective, source, experiment.loop, folder, device, settings=experiment.resolved())
    trainer.learner.train_mode()
    trainer.save = lambda: None  # 11 GB that nobody reads
    trainer.run()
    del trainer, objective, source
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if place.rank:
        return []  # the first process writes the log
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def write_config(
    options: argparse.Namespace, label: str, steps: int, changes: Mapping[str, Any], place: Place
) -> Path:
    """The published configuration with changes, in a file of each process."""
    content = json.loads(CONFIG.read_text())
    changes = dict(changes)
    content["models"]["denoiser"]["args"]["use_checkpoint"] = changes.pop("use_checkpoint", False)
    if options.small:
        content["models"]["denoiser"]["args"] |= SMALL["denoiser"]
        content["dataset"]["args"]["image_size"] = SMALL_IMAGE
    content["dataset"]["args"]["pretrained_ss_dec"] = changes["pretrained_ss_dec"]
    every = max(1, min(GROUP, steps // 8))
    content["trainer"]["args"] |= {
        "max_steps": steps, "finetune_ckpt": None, "i_print": every, "i_log": every, "i_sample": 10**9,
        "i_save": 10**9, **changes,
    }  # fmt: skip
    path = options.output / f"{label}.rank{place.rank}.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def tell_curves(curves: Mapping[str, list[dict[str, float]]], objects: int) -> None:
    """Print the mean losses of groups of steps."""
    say(f"\n| steps, {objects} objects | {' | '.join(f'{name}: loss, mse' for name in curves)} |")
    say("|---|" + "---:|" * len(curves))
    records = [{record["step"]: record for record in curve} for curve in curves.values()]
    for step in sorted(records[0]):
        cells = [f"{curve[step]['loss']:.4f}, {curve[step]['mse']:.4f}" for curve in records if step in curve]
        say(f"| to {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
