"""Who looks at the networks while they are trained: validation and snapshots, as an experiment asks for."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scenegen.datasets.normalization import Normalization, restored_latents
from scenegen.datasets.source import SourceOptions
from scenegen.trainers.data import DATA, build_source
from scenegen.trainers.experiment import Experiment
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.frozen_networks import frozen_decoder_of_run, frozen_network
from scenegen.trainers.snapshots import Snapshots
from scenegen.trainers.trainer import Trainer
from scenegen.trainers.validation import Validation
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError, build

logger = logging.getLogger(__name__)


def watch(trainer: Trainer, experiment: Experiment, options: SourceOptions) -> None:
    """Have a trainer measure and draw what it makes, as often as its configuration says.

    With ``validate_every`` above 0 the validation part of the data is measured, and shown in snapshots too.
    Only objectives that sample something have snapshots.

    Args:
        trainer: ready to run.
        experiment: that it runs.
        options: of its source.

    Raises:
        ConfigError: nothing of the data is held out for validation.
        CheckpointError: the decoder that a run saved is missing or damaged.
    """
    loop, held_out = experiment.loop, None
    if loop.validate_every:
        if not DATA[experiment.dataset.name].takes_data:
            raise ConfigError(
                f"trainer.validate_every: expected 0 for the dataset {experiment.dataset.name}, of which "
                "nothing is held out"
            )
        held_out = build_source(experiment.dataset, replace(options, slots=1, validation=True))
        trainer.watch(Validation(trainer.objective, held_out, loop.validate_every, trainer.world))
    if type(trainer.objective).samples is not Objective.samples:
        decode = structure_decoder(experiment)
        shown = trainer.source if held_out is None else held_out
        trainer.watch(
            Snapshots(trainer.objective, shown, decode, trainer.output_dir, loop.i_sample, trainer.world)
        )


def structure_decoder(experiment: Experiment) -> nn.Module | None:
    """Turns structure latents of the data set into occupancy logits, as its arguments name the decoder.

    A published decoder that is not there leaves snapshots without voxels, which is told.

    Raises:
        CheckpointError: the decoder of a training run is missing, or one is damaged.
    """
    config: Any = build(DATA[experiment.dataset.name].config, experiment.dataset.args, "dataset")
    if getattr(config, "ss_dec_path", None):
        decoder = frozen_decoder_of_run(Path(config.ss_dec_path), config.ss_dec_ckpt or "")
    elif reference := getattr(config, "pretrained_ss_dec", None):
        try:
            decoder = frozen_network(reference)
        except CheckpointError as error:
            logger.warning("snapshots show no voxels: %s", error)
            return None
    else:
        return None
    return _LatentDecoder(decoder, config.normalization)


class _LatentDecoder(nn.Module):
    """A decoder of latents that were brought to mean 0 and deviation 1."""

    def __init__(self, decoder: nn.Module, normalization: Normalization | None) -> None:
        super().__init__()
        self.decoder, self.normalization = decoder, normalization

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(restored_latents(latents, self.normalization, dim=1))
