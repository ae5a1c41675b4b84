"""Train one network of the small model: ``python train.py --config configs/small/structure_vae.json ...``.

Exit status: 0 trained, to the end or to the time limit; 1 the experiment cannot be built; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Collection
from pathlib import Path

import torch

from scenegen.synthesis.sources.registry import SourceOptions
from scenegen.trainers.experiment import build_experiment, load_experiment
from scenegen.trainers.trainer import Trainer
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, to_json


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="experiment JSON, see configs/small")
    parser.add_argument("--output_dir", type=Path, required=True, help="state, log and checkpoints go here")
    parser.add_argument(
        "--packs",
        type=Path,
        nargs="+",
        default=(),
        help="mesh packs of the train split, for every source but picture_set",
    )
    parser.add_argument(
        "--latent_encoder",
        type=Path,
        help="checkpoint stem of the encoder that makes the latents of scene_latents and latent_pictures",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes that compose scenes ahead")
    parser.add_argument(
        "--time_limit", type=float, default=math.inf, help="seconds; the state is saved at the end"
    )
    parser.add_argument(
        "--anneal", action="store_true", help="spread the learning-rate schedule over --time_limit"
    )
    arguments = parser.parse_args()
    if arguments.anneal and not math.isfinite(arguments.time_limit):
        parser.error("--anneal needs --time_limit, the seconds over which the learning rate decays")
    return arguments


def make_trainer(arguments: argparse.Namespace) -> tuple[Trainer, Collection[str]]:
    """Build what the experiment names; save its resolved configuration in the output folder.

    Returns:
        The trainer and the names of the networks that are exported at the end.

    Raises:
        ConfigError, CheckpointError: the experiment cannot be built.
    """
    config = load_experiment(arguments.config)
    torch.manual_seed(config.trainer.seed)
    device = torch.device(arguments.device)
    options = SourceOptions(device, tuple(arguments.packs), arguments.latent_encoder, arguments.workers)
    objective, source = build_experiment(config, options)
    trainer = Trainer(objective, source, config.trainer, arguments.output_dir, device)
    resolved = json.dumps(to_json(config), indent=2) + "\n"
    (arguments.output_dir / "config.json").write_text(resolved, encoding="utf-8")
    return trainer, config.models


def export(trainer: Trainer, models: Collection[str]) -> None:
    """Write the averaged weights as half-precision checkpoints beside the state."""
    networks = trainer.averaged_networks()
    trainer.objective.finish(trainer.source, trainer.step)
    for name, network in networks.items():
        if name in models:  # what was only needed for training is not exported
            save_checkpoint(network, trainer.output_dir / "ckpts" / name)


def main() -> None:
    """Train until the configured step or the time limit, then export."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        trainer, models = make_trainer(arguments)
    except (ConfigError, CheckpointError) as error:
        sys.exit(f"train.py: {error}")
    trainer.resume()
    finished = trainer.run(arguments.time_limit, arguments.anneal)
    export(trainer, models)
    logging.info(
        "%s at step %d after %.0f s of training",
        "finished" if finished else "stopped",
        trainer.step,
        trainer.seconds,
    )


if __name__ == "__main__":
    main()
