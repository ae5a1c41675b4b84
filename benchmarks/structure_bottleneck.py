"""What bounds the shapes of the small model: short trainings on single objects that differ in one thing each.

    python -m benchmarks.structure_bottleneck train --packs data/packs/train.safetensors \\
        data/packs/procedural.safetensors --validation-pack data/packs/validation.safetensors \\
        --image-features checkpoints/image_features.safetensors --output outputs/bottleneck
    python -m benchmarks.structure_bottleneck measure outputs/object_flow/ckpts --output outputs/bottleneck \\
        --train-pack data/packs/train.safetensors --validation-pack data/packs/validation.safetensors
    python -m benchmarks.structure_bottleneck table outputs/bottleneck --readme benchmarks/training/README.md

All variants of a run see the same pictures: they are drawn once and stay on the device. Each trains a flow of
single objects and its image encoder from their initial weights for ``--steps`` steps times the variant's own
factor, at a constant rate, and its averaged weights are measured: structures are sampled as the small model's
are, from pictures of unchanged furniture, of the train split in new pictures and of the validation split,
decoded, and compared with the true ones at their places. Nothing is aligned.

A variant that is done is skipped when the command runs again, so that a run that broke off can go on.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.structure_bottleneck_data import Bank, EvaluationSet, evaluation_sets, fill_bank
from benchmarks.structure_bottleneck_table import table, write_table
from benchmarks.structure_bottleneck_variants import (
    VARIANTS,
    Run,
    autoencoder_figures,
    shipped_figures,
    trained_figures,
)
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.models.registry import load_checkpoint

logger = logging.getLogger("bottleneck")

CHECKPOINT = Path("checkpoints/scenegen-small")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", description="Train and measure variants.")
    train.add_argument("--packs", type=Path, nargs="+", required=True, help="mesh packs of the train split")
    train.add_argument("--train-pack", type=Path, help="of furniture that is measured; default: the first")
    train.add_argument("--shipped", action="store_true", help="measure the whole checkpoint, too")
    train.add_argument("--image-features", type=Path, help="weights of ImageNet, see convert_checkpoint.py")
    train.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    train.add_argument("--steps", type=positive_int, default=1200, help="of the base (%(default)s)")
    train.add_argument("--unit-share", type=float, help="of the time for the base, if it is slow")
    train.add_argument("--steps-file", type=Path, help="runs side by side agree on the number of steps here")
    train.add_argument("--batch", type=positive_int, default=128, help="pictures a step (%(default)s)")
    train.add_argument("--pictures", type=positive_int, default=163840, help="that are drawn (%(default)s)")
    train.add_argument("--shapes", type=positive_int, default=32768, help="of these (%(default)s)")
    train.add_argument("--draw-seconds", type=float, default=50.0, help="longest time for drawing")
    train.add_argument("--seconds", type=float, default=float("inf"), help="longest time for everything")
    train.add_argument("--workers", type=whole_number, default=12, help="processes that compose pictures")
    train.add_argument("--at-once", type=positive_int, default=256, help="pictures drawn at once")
    measure = commands.add_parser("measure", description="Measure what object_flow has trained, likewise.")
    measure.add_argument("networks", type=Path, help="folder of flow and image_encoder: ckpts of a run")
    measure.add_argument("--train-pack", type=Path, required=True, help="of furniture that is measured")
    measure.add_argument("--text", default="object_flow", help="what the table calls it (%(default)s)")
    measure.add_argument("--log", type=Path, help="log.jsonl of the run, for its steps and seconds")
    for command in (train, measure):
        command.add_argument("--validation-pack", type=Path, required=True)
        command.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="its autoencoder is used")
        command.add_argument("--measured", type=positive_int, default=240, help="pictures of each split")
        command.add_argument("--output", type=Path, required=True, help="folder of records")
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    shown = commands.add_parser("table", description="Write what was measured as Markdown.")
    shown.add_argument("output", type=Path, nargs="+", help="folders of runs")
    shown.add_argument("--readme", type=Path, help="file with markers between which the table goes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.command == "table":
        text = table(options.output)
        if options.readme is not None:
            write_table(text, options.readme)
        print(text)
        return 0
    {"train": train, "measure": measure}[options.command](options)
    return 0


def measure(options: argparse.Namespace) -> None:
    """Measure trained networks on the pictures that variants are measured on."""
    options.output.mkdir(parents=True, exist_ok=True)
    decoder = load_checkpoint(options.checkpoint / "ckpts/ss_dec", device=options.device).eval()
    networks = {name: load_checkpoint(options.networks / name) for name in ("flow", "image_encoder")}
    figures = trained_figures(networks, evaluation_sets(options), decoder)
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    trained = {}
    if options.log is not None:
        last = json.loads(options.log.read_text().splitlines()[-1])
        trained = {"steps": last["step"], "seconds": last["seconds"]}
    mark = {**trained, **figures}
    record(options.output, "object_flow", {"text": options.text, "parameters": parameters, "marks": [mark]})


def train(options: argparse.Namespace) -> None:
    """Draw the pictures, then train and measure variant after variant."""
    start = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    decoder = load_checkpoint(options.checkpoint / "ckpts/ss_dec", device=options.device).eval()
    sets = evaluation_sets(options)
    record(options.output, "autoencoder", autoencoder_figures(sets, decoder))
    if options.shipped:
        record(options.output, "shipped", shipped_figures(sets, decoder, options.checkpoint))
    wanted = [name for name in options.variants if not (options.output / f"{name}.json").exists()]
    if not wanted:
        return
    bank = fill_bank(options)
    logger.info("%d pictures drawn, %.0f s after the start", len(bank), time.monotonic() - start)
    record(options.output, "drawing", {"pictures": len(bank), "seconds": bank.seconds})
    steps = number_of_steps(bank, decoder, options, options.seconds - (time.monotonic() - start))
    for name in wanted:
        left = options.seconds - (time.monotonic() - start)
        if left < 10:
            logger.info("%s: no time left", name)
            break
        train_variant(name, bank, sets, decoder, options, steps, left)
        gc.collect()
        if options.device != "cpu":
            torch.cuda.empty_cache()


def number_of_steps(bank: Bank, decoder: torch.nn.Module, options: argparse.Namespace, left_s: float) -> int:
    """Steps of the base: as many as asked for, or fewer where a share of the time is not enough for them."""
    steps = options.steps
    if options.unit_share is not None:
        step_s = Run(VARIANTS["base"], bank, {}, decoder, options.batch, None).step_seconds()
        steps = max(1, min(steps, int(options.unit_share * left_s / step_s)))
        logger.info("a step of the base takes %.1f ms: %d steps", 1000 * step_s, steps)
    if options.steps_file is not None:
        try:
            with options.steps_file.open("x") as file:
                file.write(f"{steps}\n")
        except FileExistsError:
            while not (text := options.steps_file.read_text()).endswith("\n"):
                time.sleep(0.1)
            steps = int(text)
    return steps


def train_variant(
    name: str,
    bank: Bank,
    sets: dict[str, EvaluationSet],
    decoder: torch.nn.Module,
    options: argparse.Namespace,
    steps: int,
    left_s: float,
) -> None:
    """Train one variant and write what was measured of it."""
    torch.manual_seed(0)
    run = Run(VARIANTS[name], bank, sets, decoder, options.batch, options.image_features)
    record(options.output, name, run.train(steps, left_s))


def record(folder: Path, name: str, result: dict[str, object]) -> None:
    """Write a result and tell it."""
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    logger.info("%s: %s", name, json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
