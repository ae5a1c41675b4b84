"""Train one network of the small model: ``python train.py --config configs/small/structure_vae.json ...``."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Collection
from pathlib import Path

import torch

from scenegen.synthesis.sources.picture_set import PictureSet, PictureSetSource
from scenegen.synthesis.sources.registry import build_source
from scenegen.synthesis.sources.source import BatchSource
from scenegen.trainers.experiment import ExperimentConfig, build_objective, load_experiment
from scenegen.trainers.trainer import Trainer
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import to_json

_WORKERS = 2


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="experiment JSON, see configs/small")
    parser.add_argument("--output_dir", type=Path, required=True, help="state, log and checkpoints go here")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--packs", type=Path, nargs="+", help="mesh packs of the train split")
    data.add_argument(
        "--pictures",
        type=Path,
        nargs="+",
        help="for structured_latent_flow, sets of dataset_toolkits.build_picture_set in place of packs",
    )
    parser.add_argument(
        "--latent_encoder",
        "--structure_encoder",  # its name before there were structured latents
        type=Path,
        help="checkpoint stem of the encoder that makes the latents of scene_flow, structured_latent_flow",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--workers", type=int, help=f"processes that compose scenes ahead; default {_WORKERS}"
    )
    parser.add_argument(
        "--time_limit", type=float, default=math.inf, help="seconds; the state is saved at the end"
    )
    parser.add_argument(
        "--anneal", action="store_true", help="spread the learning-rate schedule over --time_limit"
    )
    arguments = parser.parse_args()
    if arguments.pictures and (arguments.workers is not None or arguments.latent_encoder is not None):
        parser.error("--workers, --latent_encoder: make batches of --packs; leave them out with --pictures")
    if arguments.anneal and not math.isfinite(arguments.time_limit):
        parser.error("--anneal needs --time_limit, the seconds over which the learning rate decays")
    return arguments


def make_source(arguments: argparse.Namespace, config: ExperimentConfig, device: torch.device) -> BatchSource:
    """The batches of the packs or of the picture sets."""
    if arguments.pictures is None:
        return build_source(
            config.objective.name,
            config.source,
            arguments.packs,
            _WORKERS if arguments.workers is None else arguments.workers,
            arguments.latent_encoder,
            device,
        )
    if config.objective.name != "structured_latent_flow":
        raise ValueError(
            f"--pictures: expected the objective structured_latent_flow, got {config.objective.name}; "
            "give --packs"
        )
    pictures = PictureSet.concatenate([PictureSet.load(path) for path in arguments.pictures])
    return PictureSetSource(pictures, config.source["objects_per_step"], config.source.get("seed", 0), device)


def export(trainer: Trainer, models: Collection[str]) -> None:
    """Write the averaged weights as half-precision checkpoints beside the state."""
    modules = trainer.ema_modules()
    trainer.objective.finish(trainer.source, trainer.step)
    for name, module in modules.items():
        if name in models:  # what was only needed for training is not exported
            save_checkpoint(module, trainer.output_dir / "ckpts" / name)


def main() -> None:
    """Train until the configured step or the time limit, then export."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch.device(arguments.device)
    config = load_experiment(arguments.config)
    torch.manual_seed(config.trainer.seed)
    objective = build_objective(config)
    source = make_source(arguments, config, device)
    trainer = Trainer(objective, source, config.trainer, arguments.output_dir, device)
    (arguments.output_dir / "config.json").write_text(
        json.dumps(to_json(config), indent=2) + "\n", encoding="utf-8"
    )
    trainer.resume()
    finished = trainer.run(arguments.time_limit, arguments.anneal)
    export(trainer, config.models)
    logging.info(
        "%s at step %d after %.0f s of training",
        "finished" if finished else "stopped",
        trainer.step,
        trainer.seconds,
    )


if __name__ == "__main__":
    main()
