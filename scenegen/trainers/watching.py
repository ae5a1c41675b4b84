"""Which watchers look at a run: validation, and snapshots of what the networks make."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scenegen.datasets.normalization import Normalization, restored_latents
from scenegen.datasets.source import SourceOptions
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.sources.object_batches import ObjectLatentSource
from scenegen.trainers.data import DATA, build_source
from scenegen.trainers.experiment import Experiment
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.frozen_networks import frozen_decoder_of_run, frozen_network
from scenegen.trainers.snapshots import Snapshots
from scenegen.trainers.structure_figures import StructureFigures
from scenegen.trainers.trainer import Trainer
from scenegen.trainers.validation import Validation
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError, build, lookup
from trellis_modules.models import SLatGaussianDecoder
from trellis_modules.sparse import SparseTensor

logger = logging.getLogger(__name__)


def add_watchers(trainer: Trainer, experiment: Experiment, options: SourceOptions) -> None:
    """Have a run validated and shown, as its experiment asks for.

    Args:
        trainer: ready to train.
        experiment: with ``validate_every`` and ``i_sample``.
        options: of the source that is learnt from.

    Raises:
        ConfigError: nothing is held out for validation.
    """
    loop, dataset, world = experiment.loop, experiment.dataset, trainer.world
    kind = lookup(DATA, dataset.name, "dataset")
    held_out = None
    if loop.validate_every and kind.takes_packs and not options.validation_packs:
        logger.info("trainer.validate_every: nothing is measured without --validation-packs")
    elif loop.validate_every:
        if not kind.takes_data and not kind.takes_packs:
            raise ConfigError(
                f"trainer.validate_every: expected 0, {dataset.name} has no part that is held out, "
                f"got {loop.validate_every}"
            )
        # What is composed starts over for every measurement, for which workers are not worth their start.
        workers = 0 if kind.takes_packs else options.workers
        held_out = build_source(dataset, replace(options, validation=True, slots=world.size, workers=workers))
        trainer.watch(Validation(trainer.objective, held_out, loop.validate_every, world))
        if isinstance(held_out, ObjectLatentSource) and options.structure_decoder is not None:
            trainer.watch(_structure_figures(trainer, held_out, options.structure_decoder))
    if type(trainer.objective).samples is not Objective.samples:
        if kind.takes_data:
            part = replace(options, validation=held_out is not None, slots=1)
            shown = build_source(dataset, part)
        else:  # its batches can be asked for in any order, and whatever a step consists of
            shown = held_out or trainer.source
        settings = build(kind.config, dataset.args, f"dataset {dataset.name}")
        decoder = snapshot_decoder(settings, options.structure_decoder)
        trainer.watch(Snapshots(trainer.objective, shown, decoder, trainer.output_dir, loop.i_sample, world))


def _structure_figures(trainer: Trainer, held_out: ObjectLatentSource, stem: Path) -> StructureFigures:
    """Looks at the structures of held-out objects, one batch of them."""
    decoder = load_checkpoint(stem, device=trainer.device).eval()
    batch, true = held_out.with_structures(0)
    every, autocast = trainer.config.validate_every, trainer.learner.precision.autocast
    return StructureFigures(trainer.objective, batch, true, decoder, every, autocast)


def snapshot_decoder(settings: Any, structure_decoder: Path | None = None) -> nn.Module | None:
    """The decoder that shows what latents are; None where there is none.

    Args:
        settings: of the data set: ``pretrained_ss_dec`` of structure latents, ``pretrained_slat_dec`` of
            structured ones, or a training run's folder and state in their place.
        structure_decoder: checkpoint stem of a decoder of structure latents that the run was given.
    """
    if structure_decoder is not None and not hasattr(settings, "pretrained_slat_dec"):
        return load_checkpoint(structure_decoder).eval().requires_grad_(False)
    for kind in ("ss_dec", "slat_dec"):
        folder, reference = (
            getattr(settings, f"{kind}_path", None),
            getattr(settings, f"pretrained_{kind}", None),
        )
        if folder is None and reference is None:
            continue
        try:
            if folder is not None:
                decoder = frozen_decoder_of_run(Path(folder), getattr(settings, f"{kind}_ckpt") or "")
            else:
                decoder = frozen_network(reference)
            if kind == "slat_dec" and not isinstance(decoder, SLatGaussianDecoder):
                raise CheckpointError(f"expected an SLatGaussianDecoder, got {type(decoder).__name__}")
        except CheckpointError as error:
            logger.warning("dataset.pretrained_%s: snapshots do not show what latents are: %s", kind, error)
            return None
        return _DecoderOfNormalised(decoder, getattr(settings, "normalization", None))
    return None


class _DecoderOfNormalised(nn.Module):
    """A decoder of latents that a data set brought to mean 0 and deviation 1."""

    def __init__(self, decoder: nn.Module, normalization: Normalization | None) -> None:
        super().__init__()
        self.decoder, self.normalization = decoder, normalization

    def forward(self, latents: Tensor | SparseTensor) -> Any:
        restored = partial(restored_latents, normalization=self.normalization, dim=1)
        return self.decoder(
            latents.apply(restored) if isinstance(latents, SparseTensor) else restored(latents)
        )
