"""The part of a saved state that is spread over processes: each writes and reads its own shards.

The files are safetensors, by ``torch.distributed.checkpoint``. Another number of processes may read them, and
a single one, or several that hold whole networks each, reads them whole.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as sharded
from torch import Tensor, nn
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)

from scenegen.trainers.checkpoints import StateError
from scenegen.trainers.distributed import World
from scenegen.trainers.learner import Learner
from scenegen.trainers.precision import whole_of


def save_shards(
    folder: Path,
    learner: Learner,
    networks: Mapping[str, nn.Module],
    moments: Mapping[str, Tensor],
    world: World,
) -> None:
    """Write weights, averages and moments that are spread over processes; all must call this together.

    Args:
        folder: emptied first.
        learner: sharded.
        networks: that are saved, by name.
        moments: of the optimiser, by "parameter.name", each of the shape of its master.
        world: of all processes.

    Raises:
        OSError: the disk of a process refuses.
    """
    if world.is_first:
        shutil.rmtree(folder, ignore_errors=True)
    world.wait()
    try:
        sharded.save(
            _tensors(learner, networks, moments),
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            process_group=world.control,
        )
    except CheckpointException as error:
        raise OSError(f"{folder}: {_first_failure(error)}") from error


def load_shards(
    folder: Path,
    learner: Learner,
    networks: Mapping[str, nn.Module],
    moments: Mapping[str, Tensor],
    world: World,
) -> None:
    """Read what `save_shards` wrote into weights, averages and moments; all must call this together.

    What the learner holds may be spread over any number of processes, or whole in each.

    Raises:
        StateError: the files are missing, damaged or of other networks.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # as no_dist says
            sharded.load(
                _tensors(learner, networks, moments),
                storage_reader=HuggingFaceStorageReader(str(folder)),
                process_group=world.control,
                no_dist=world.size == 1,
            )
    except CheckpointException as error:
        raise StateError(f"{folder}: expected the shards of this run ({_first_failure(error)})") from error


def _tensors(
    learner: Learner, networks: Mapping[str, nn.Module], moments: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Everything by name; the result shares memory with what the learner holds."""
    parameters = [parameter for group in learner.precision.groups for parameter in group.parameters]
    names = [name for group in learner.precision.groups for name in group.names]
    tensors: dict[str, Any] = {
        f"weights.{role}.{name}": value
        for role, network in networks.items()
        for name, value in network.state_dict().items()
    }
    for rate, averages in zip(learner.averages.rates, learner.averages.tensors, strict=True):
        for name, average, parameter in zip(names, averages, parameters, strict=True):
            tensors[f"ema{rate:g}.{name}"] = whole_of(average, parameter)
    for name, moment in moments.items():
        index, _, kind = name.partition(".")
        tensors[f"moments.{kind}.{names[int(index)]}"] = whole_of(moment, parameters[int(index)])
    return tensors


def _first_failure(error: CheckpointException) -> str:
    rank, (failure, _) = next(iter(error.failures.items()))
    return f"rank {rank}: {str(failure).partition(chr(10))[0] or type(failure).__name__}"
