"""Train one network, as an experiment file describes it.

    scenegen train --config configs/small/structure_vae.json --output-dir outputs/structure_vae \\
        --packs data/packs/train.safetensors

Exit status: 0 trained, to the end or to the time limit; 1 the experiment cannot be built; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from scenegen.cli.parser import CommandParser
from scenegen.cli.reports import tell_device
from scenegen.cli.types import default_device, device, non_negative, whole_number
from scenegen.datasets.source import SourceOptions
from scenegen.synthesis.sources.registry import SOURCES
from scenegen.trainers.experiment import build_experiment, load_experiment
from scenegen.trainers.stages import require_network
from scenegen.trainers.trainer import Trainer
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, lookup
from trellis_modules.files import InUse, atomic_write_text, locked

logger = logging.getLogger(__name__)

DEFAULT_WORKERS = 2
SIGNALS = {"Ctrl-C": 130, "SIGTERM": 143}
"""Exit status, as shells give it, of a run that a signal stopped, by what `Trainer.stopped_by` says."""


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument("--config", type=Path, required=True, help="experiment JSON, see configs/small")
    parser.add_argument("--output-dir", type=Path, required=True, help="state, log and checkpoints go here")
    parser.add_argument(
        "--packs",
        type=Path,
        nargs="+",
        default=(),
        help="mesh packs of the train split, for every source but picture_set",
    )
    parser.add_argument(
        "--latent-encoder",
        type=Path,
        help="checkpoint stem of the encoder that makes the latents of scene_latents and latent_pictures",
    )
    parser.add_argument("--device", type=device, default=default_device())
    parser.add_argument(
        "--workers",
        type=whole_number,
        help=f"processes that compose scenes ahead, for sources of packs; default: {DEFAULT_WORKERS}",
    )
    parser.add_argument(
        "--time-limit", type=non_negative, default=math.inf, help="seconds; the state is saved at the end"
    )
    parser.add_argument(
        "--anneal", action="store_true", help="spread the learning-rate schedule over --time-limit"
    )
    options = parser.parse_args(arguments)
    if options.anneal and not math.isfinite(options.time_limit):
        parser.error("--anneal needs --time-limit, the seconds over which the learning rate decays")
    return options


def make_trainer(options: argparse.Namespace) -> tuple[Trainer, Collection[str]]:
    """Build what the experiment names.

    Returns:
        The trainer and the names of the networks that are exported at the end.

    Raises:
        ValueError, CheckpointError: the experiment cannot be built.
    """
    experiment = load_experiment(options.config)
    torch.manual_seed(experiment.loop.seed)
    dataset = experiment.dataset.name
    if options.workers is not None and not lookup(SOURCES, dataset, "dataset").takes_packs:
        raise ConfigError(f"dataset {dataset}: expected no --workers, nothing is composed for it")
    workers = DEFAULT_WORKERS if options.workers is None else options.workers
    if options.latent_encoder is not None:
        require_network(options.latent_encoder, "--latent-encoder")
    files = SourceOptions(options.device, tuple(options.packs), options.latent_encoder, workers)
    objective, source = build_experiment(experiment, files)
    trainer = Trainer(
        objective,
        source,
        experiment.loop,
        options.output_dir,
        options.device,
        settings=experiment.resolved(),
    )
    return trainer, experiment.models


def save_resolved(trainer: Trainer, folder: Path) -> None:
    """Write the experiment with every default filled in."""
    atomic_write_text(folder / "config.json", json.dumps(trainer.settings, indent=2) + "\n")


def export(trainer: Trainer, models: Collection[str]) -> None:
    """Write the averaged weights as half-precision checkpoints beside the state."""
    networks = trainer.averaged_networks()
    trainer.objective.finish(trainer.source, trainer.step)
    for name, network in networks.items():
        if name in models:  # what was only needed for training is not exported
            save_checkpoint(network, trainer.output_dir / "ckpts" / name)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train until the configured step or the time limit, then export; returns the exit status."""
    options = parse_arguments(arguments, prog)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        with locked(options.output_dir, wait=False):
            return train(options)
    except InUse as error:
        logger.error("--output-dir %s", error)
    except OSError as error:  # faults of the other files are told by errors of their own
        logger.error(
            "--output-dir %s: expected a folder to write to, the disk refuses (%s); check the path, the free "
            "space and the permissions, and run the command again: it goes on from the last state",
            options.output_dir,
            error,
        )
    return 1


def train(options: argparse.Namespace) -> int:
    """Build, go on from the state of an earlier run, train, export; returns the exit status.

    Raises:
        OSError: the disk refuses.
    """
    try:
        trainer, models = make_trainer(options)
        trainer.resume()
    except (
        ValueError,
        CheckpointError,
    ) as error:  # of configurations, packs, splits
        logger.error("%s", str(error).partition("\n")[0])
        return 1
    save_resolved(trainer, options.output_dir)
    tell_device(options.device, trainer.precision)
    if trainer.precision == "float32" and trainer.config.fp16_mode == "bfloat16":
        logger.info("bfloat16 of the configuration takes several times as long on a CPU: float32 is used")
    finished = trainer.run(options.time_limit, options.anneal)
    if trainer.stopped_by in SIGNALS:  # whoever sent it waits
        logger.info(
            "%s: saved at step %d in %s; run the command again to go on",
            trainer.stopped_by,
            trainer.step,
            options.output_dir,
        )
        return SIGNALS[trainer.stopped_by]
    if trainer.step == 0:
        logger.warning("no step was finished: the networks that are written are as they were drawn")
    export(trainer, models)
    logger.info(
        "%s at step %d after %.0f s of training; networks in %s",
        "finished" if finished else "stopped",
        trainer.step,
        trainer.seconds,
        options.output_dir / "ckpts",
    )
    return 0
