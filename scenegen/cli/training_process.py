"""One process of a training run: it builds the experiment, goes on from a saved state, trains and exports."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from scenegen.cli.reports import tell_device
from scenegen.cli.train_options import DEFAULT_DATA_DIR, LATEST, NONE
from scenegen.cli.training_output import StoredOutput
from scenegen.cli.training_trial import tell_profile, tell_trial
from scenegen.cli.types import default_device
from scenegen.datasets.roots import root_folders
from scenegen.datasets.source import BatchSource, SourceOptions
from scenegen.stores.urls import StoreError
from scenegen.trainers.checkpoints import CHECKPOINTS, StateStore
from scenegen.trainers.data import DATA, with_batches
from scenegen.trainers.distributed import RankLost, RanksDiffer, World, processes
from scenegen.trainers.experiment import Experiment, build_experiment, load_experiment
from scenegen.trainers.launch import AGAIN, FAILED, Place
from scenegen.trainers.objective import Objective
from scenegen.trainers.stages import require_network
from scenegen.trainers.trainer import Trainer
from scenegen.trainers.trial import model_summary
from scenegen.trainers.watching import add_watchers
from scenegen.trainers.without_effect import without_effect
from trellis_modules.checkpoint import CheckpointError, save_checkpoint
from trellis_modules.config import ConfigError, lookup
from trellis_modules.files import atomic_write_text

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PASSED_ON = "Caught "  # begins what PyTorch makes of an error of a worker

SIGNALS = {"Ctrl-C": 130, "SIGTERM": 143}
"""Exit status, as shells give it, of a run that a signal stopped, by what `Trainer.stopped_by` says."""

_PRECISION_DTYPES = {"inflat_all": "float16", "amp": "float16"}
_MOST_WORKERS = 16
_COMPOSING_WORKERS = 2


class NotBuilt(Exception):
    """The run cannot begin; one line has told why."""


def set_up_logging(place: Place) -> None:
    """Lines on stderr; of processes other than the first, faults alone."""
    is_first = place.rank == 0
    name = "" if is_first else f"rank {place.rank}: "
    logging.basicConfig(
        level=logging.INFO if is_first else logging.WARNING, format=f"%(asctime)s {name}%(message)s"
    )


def tell_disk(folder: Path, error: OSError) -> None:
    """One line for a disk that refuses the output."""
    logger.error(
        "--output-dir %s: expected a folder to write to, the disk refuses (%s); check the path, the free "
        "space and the permissions, and run the command again: it goes on from the last state",
        folder,
        error,
    )


def device_of(options: argparse.Namespace, place: Place) -> torch.device:
    """The device of a process."""
    wanted = torch.device(default_device()) if options.device is None else options.device
    return wanted if place.size == 1 else place.device(wanted)


def run_process(place: Place, options: argparse.Namespace, catches: bool) -> int:
    """One process of a run, from building to export.

    Args:
        place: of the process in the run.
        options: of the command line.
        catches: tell errors of training and return `AGAIN`, rather than raise them.

    Returns:
        The exit status.
    """
    set_up_logging(place)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = device_of(options, place)
    try:
        with processes(place.rank, place.size, device, place.address, place.port):
            return train(options, device)
    except NotBuilt:
        return FAILED
    except (RankLost, RanksDiffer) as error:
        logger.error("%s", error)
        return AGAIN
    except torch.OutOfMemoryError as error:
        logger.error(
            "out of memory on %s (%s); choose a smaller batch, use_checkpoint, or another device",
            device,
            one_line(error),
        )
        return AGAIN
    except ValueError as error:  # of samples that cannot be read
        logger.error("%s", one_line(error))
        return FAILED
    except OSError as error:
        tell_disk(options.output_dir, error)
        return FAILED
    except StoreError as error:
        logger.error("%s", error)
        return FAILED
    except RuntimeError:
        if not catches:
            raise
        logger.exception("an error while training")
        return AGAIN


def train(options: argparse.Namespace, device: torch.device) -> int:
    """Build, go on from a saved state, train, export; returns the exit status.

    Raises:
        NotBuilt: the experiment cannot be built, or not gone on with.
        OSError: the disk refuses.
    """
    world = World.current()
    experiment = _agreed(world, lambda: read_experiment(options))
    files = _agreed(world, lambda: source_options(options, experiment, device, world))
    resumes = not options.tryrun and not options.profile and has_state(options)
    parts = _agreed(world, lambda: build_experiment(experiment, files, from_checkpoints=not resumes))
    trainer = _agreed(world, lambda: make_trainer(options, experiment, files, parts, device))
    output = _agreed(world, lambda: stored_output(options, experiment, world))
    if options.tryrun:
        return tell_trial(trainer, experiment)
    if options.profile:
        return tell_profile(trainer)
    _agreed(world, lambda: resume(trainer, options))
    if world.is_first:
        write_descriptions(trainer, experiment, options)
        _tell_settings(trainer, experiment)
        if output is not None:
            output.deliver()  # tells before the first step that a store may not be written to
    if output is not None:
        trainer.on_saved = output.after_state
    status = _run(trainer, experiment, options)
    if output is not None and world.is_first:
        output.deliver()
    return status


def stored_output(options: argparse.Namespace, experiment: Experiment, world: World) -> StoredOutput | None:
    """What delivers the output folder to a store; None for one on the disk.

    Raises:
        ConfigError: see `StoredOutput.check`.
    """
    if options.output_url is None:
        return None
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size)) if options.torchrun else options.processes
    output = StoredOutput(options)
    output.check(world, experiment.loop, math.ceil(world.size / here))
    return output


def _tell_settings(trainer: Trainer, experiment: Experiment) -> None:
    """Say where it is trained, in what precision, and which settings change nothing."""
    tell_device(trainer.device, _PRECISION_DTYPES.get(trainer.precision, trainer.precision))
    for line in without_effect(experiment):
        logger.warning("%s", line)
    if trainer.precision == "float32" and trainer.config.fp16_mode == "bfloat16":
        logger.info("bfloat16 of the configuration takes several times as long on a CPU: float32 is used")


def _run(trainer: Trainer, experiment: Experiment, options: argparse.Namespace) -> int:
    """Train and export; returns the exit status."""
    finished = trainer.run(options.time_limit, options.anneal)
    if trainer.stopped_by in SIGNALS:  # whoever sent it waits
        logger.info(
            "%s: saved at step %d in %s; run the command again to go on",
            trainer.stopped_by,
            trainer.step,
            options.output_url or options.output_dir,
        )
        return SIGNALS[trainer.stopped_by]
    if trainer.step == 0:
        logger.warning("no step was finished: the networks that are written are as they were drawn")
    export(trainer, experiment)
    logger.info(
        "%s at step %d after %.0f s of training; networks in %s",
        "finished" if finished else "stopped",
        trainer.step,
        trainer.seconds,
        (options.output_url or options.output_dir) / CHECKPOINTS,
    )
    return 0


def _agreed(world: World, build: Callable[[], T]) -> T:
    """What a function returns, if it succeeds in all processes; one line tells faults that they share.

    Raises:
        NotBuilt: it failed in one of them.
    """
    made, told = None, None
    try:
        made = build()
    except (ValueError, CheckpointError) as error:  # of configurations, files of data, splits
        told = one_line(error)
    faults = world.gather(told)
    if told is not None and (world.is_first or told != faults[0]):
        logger.error("%s", told)
    if any(fault is not None for fault in faults):
        raise NotBuilt
    return made


def one_line(error: BaseException) -> str:
    """What an error says, in one line, also where a process that reads data passed it on."""
    lines = str(error).splitlines() or [type(error).__name__]
    if lines[0].startswith(_PASSED_ON):  # then comes the trace, whose last line is "Kind: what it says"
        return next(line for line in reversed(lines) if line.strip()).partition(": ")[2]
    return lines[0]


def read_experiment(options: argparse.Namespace) -> Experiment:
    """The experiment, with the seed and the start of the command line; global generators are seeded with it.

    Raises:
        ConfigError: the file is wrong.
    """
    experiment = load_experiment(options.config)
    if options.start_from is not None:
        starts = {role: str(options.start_from / role) for role in experiment.models}
        experiment = replace(experiment, loop=replace(experiment.loop, finetune_ckpt=starts))
    if options.seed is not None:
        dataset = experiment.dataset
        kind = lookup(DATA, dataset.name, "dataset")
        if "seed" in getattr(kind.config, "__dataclass_fields__", ()):
            dataset = replace(dataset, args={**dataset.args, "seed": options.seed})
        experiment = replace(experiment, loop=replace(experiment.loop, seed=options.seed), dataset=dataset)
    seed = experiment.loop.seed
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))
    random.seed(seed)
    return experiment


def source_options(
    options: argparse.Namespace, experiment: Experiment, device: torch.device, world: World
) -> SourceOptions:
    """Files, processes and sizes of the batches.

    Raises:
        ConfigError: options do not belong to the data set, or batches cannot be shared out.
        CheckpointError: the encoder of latents is missing.
    """
    kind = lookup(DATA, experiment.dataset.name, "dataset")
    if options.workers is not None and not (kind.takes_packs or kind.takes_data):
        raise ConfigError(
            f"dataset {experiment.dataset.name}: expected no --workers, nothing is made ahead for it"
        )
    if options.validation_packs and not kind.takes_packs:
        raise ConfigError(
            f"dataset {experiment.dataset.name}: expected no --validation-packs, it takes no packs"
        )
    for flag in ("latent_encoder", "structure_decoder"):
        if (stem := getattr(options, flag)) is not None:
            require_network(stem, f"--{flag.replace('_', '-')}")
    folders = options.data_dir or ((Path(DEFAULT_DATA_DIR),) if kind.takes_data else ())
    workers = _workers(options, kind.takes_data)
    files = SourceOptions(
        device,
        tuple(options.packs),
        options.latent_encoder,
        workers,
        folders,
        validation_packs=tuple(options.validation_packs),
        structure_decoder=options.structure_decoder,
    )
    if kind.takes_data:
        root_folders(files)  # tells what is missing before networks are built, which takes a minute
    return with_batches(files, kind, experiment.loop, world.size)


def _workers(options: argparse.Namespace, reads_files: bool) -> int:
    """As given, else two that compose scenes, or as many that read as there are processors for each."""
    if options.workers is not None:
        return options.workers
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if options.torchrun else options.processes
    return min(_MOST_WORKERS, math.ceil((os.cpu_count() or 1) / here)) if reads_files else _COMPOSING_WORKERS


def has_state(options: argparse.Namespace) -> bool:
    """Whether the run goes on from a saved state, so that nothing else has to be loaded."""
    if options.ckpt in (LATEST, NONE):
        folder = options.load_dir or options.output_dir
        return options.ckpt == LATEST and bool(StateStore(folder / CHECKPOINTS).steps())
    return True


def make_trainer(
    options: argparse.Namespace,
    experiment: Experiment,
    files: SourceOptions,
    parts: tuple[Objective, BatchSource],
    device: torch.device,
) -> Trainer:
    """The trainer of what `build_experiment` built, and those who watch it.

    Raises:
        ConfigError: settings of the loop are wrong.
    """
    objective, source = parts
    trainer = Trainer(
        objective, source, experiment.loop, options.output_dir, device, settings=experiment.resolved()
    )
    add_watchers(trainer, experiment, files)
    return trainer


def resume(trainer: Trainer, options: argparse.Namespace) -> None:
    """Go on from the saved state that the command line names, if there is one.

    Raises:
        StateError: it is missing or does not fit.
    """
    if options.ckpt != NONE:
        trainer.resume(options.load_dir, None if options.ckpt == LATEST else options.ckpt)


def write_descriptions(trainer: Trainer, experiment: Experiment, options: argparse.Namespace) -> None:
    """Write the command, the experiment with every default, and what each network consists of."""
    folder = options.output_dir
    atomic_write_text(folder / "command.txt", options.command + "\n")
    atomic_write_text(folder / "config.json", json.dumps(trainer.settings, indent=4) + "\n")
    for role in experiment.models:
        summary = model_summary(trainer.objective.networks[role])
        atomic_write_text(folder / f"{role}_model_summary.txt", summary)


def export(trainer: Trainer, experiment: Experiment) -> None:
    """Write the averaged weights as half-precision checkpoints beside the states."""
    networks = trainer.averaged_networks()
    if not trainer.world.is_first:
        return
    trainer.objective.finish(trainer.source, trainer.step)
    for role in experiment.models:  # what was only needed for training is not exported
        save_checkpoint(networks[role], trainer.output_dir / CHECKPOINTS / role)
