"""What the saved state of a run consists of, and how it goes back into what learns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safe_files.regular import shown
from scenegen.trainers.checkpoints import NetworkFile, SavedState, StateError, StateStore
from scenegen.trainers.distributed import World
from scenegen.trainers.learner import Learner
from scenegen.trainers.logs import Means
from scenegen.trainers.precision import local_of, part_of
from scenegen.trainers.sharded_state import load_shards, save_shards
from trellis_modules.checkpoint import check_state

_MAY_DIFFER = (
    "dataset.args.workers",
    "trainer.args.batch_split",  # processes and passes may share a step out in another way
    "trainer.args.compile",
    "trainer.args.cuda_graphs",
    "trainer.args.elastic",
    "trainer.args.finetune_ckpt",  # the weights are in the state
    "trainer.args.fp16_mode",
    "trainer.args.i_ddpcheck",
    "trainer.args.i_log",
    "trainer.args.i_print",
    "trainer.args.i_sample",
    "trainer.args.i_save",
    "trainer.args.init_global_params",
    "trainer.args.keep_last",
    "trainer.args.log_param_stats",
    "trainer.args.max_steps",
    "trainer.args.parallel",
    "trainer.args.peft_ckpt_path",
    "trainer.args.prefetch_data",
    "trainer.args.validate_every",
)
"""Settings that a run may be continued with other values of."""

_OTHER = "choose another --output_dir, or restore the setting"


@dataclass
class TrainingProgress:
    """How far a run is.

    Attributes:
        step: optimiser steps that are done, of this and earlier calls.
        seconds: that they took.
        means: of what was not logged yet.
    """

    step: int
    seconds: float
    means: Means


def save(
    store: StateStore, learner: Learner, progress: TrainingProgress, settings: Mapping[str, Any], world: World
) -> None:
    """Write the state of a run; all processes must call it together.

    Raises:
        OSError: the disk refuses; the states before this one are as they were.
    """
    generators = world.gather(_generators(learner.device))
    tensors = {
        f"generators.{rank}.{name}": value
        for rank, part in enumerate(generators)
        for name, value in part.items()
    }
    tensors |= {f"means.{name}": value for name, value in progress.means.state_dict().items()}
    tensors |= {f"clipper.{name}": value for name, value in learner.clipper.state_dict().items()}
    if learner.elastic is not None:
        state = learner.elastic.controller.state_dict()
        tensors |= {f"elastic.{name}": value for name, value in state.items()}
    tensors |= {f"objective.{name}": value for name, value in learner.objective.kept.items()}
    state = learner.optimizer.state_dict()
    moments, numbers = _parted(state["state"])
    networks: dict[str, NetworkFile] = {}
    if learner.is_sharded:
        spread = {name: value for name, value in moments.items() if value.ndim}
        save_shards(store.shards(progress.step), learner, saved_networks(learner, settings), spread, world)
        moments = {name: value for name, value in moments.items() if name not in spread}
    else:
        spread, networks = {}, _network_files(learner, settings)
    tensors |= {f"optimizer.{name}": value for name, value in moments.items()}
    notes = {
        "seconds": progress.seconds,
        "settings": settings,
        "processes": world.size,
        "precision": learner.precision.state_dict(),
        "optimizer": {"groups": state["param_groups"], "numbers": numbers, "spread": sorted(spread)},
    }
    error = None
    if world.is_first:
        try:
            store.write(progress.step, networks, tensors, notes)
        except OSError as refused:
            error = refused
    if (told := world.from_first(str(error) if error else None)) is not None:
        raise error or OSError(told)


def restore(
    saved: SavedState, learner: Learner, settings: Mapping[str, Any], world: World
) -> TrainingProgress:
    """Put a saved state back; nothing is changed before all of it was found to fit.

    The state may be of whole networks or spread over any number of processes, and so may the learner.

    Raises:
        StateError: it is of other settings or of other networks.
    """
    check_settings(saved.path, saved.notes["settings"], settings)
    try:
        own = learner.objective.kept
        buffers = _part(saved.tensors, "objective.")
        if own.keys() != buffers.keys():
            raise ValueError(f"expected {sorted(own)} of the objective, got {sorted(buffers)}")
        optimizer = _optimizer_state(saved, learner)
        spread = list(saved.notes["optimizer"]["spread"])
        if saved.shards is None:
            _check_networks(saved, learner, settings)
        if saved.notes["precision"].keys() == learner.precision.state_dict().keys():
            learner.precision.load_state_dict(saved.notes["precision"])
        learner.clipper.load_state_dict(_part(saved.tensors, "clipper."))
        if learner.elastic is not None and (state := _part(saved.tensors, "elastic.")):
            learner.elastic.controller.load_state_dict(state)
        progress = TrainingProgress(saved.step, float(saved.notes["seconds"]), Means())
        progress.means.load_state_dict(_on(learner.device, _part(saved.tensors, "means.")))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            f"{saved.path}: expected a state of this experiment, got another ({error}); {_OTHER}"
        ) from error
    with torch.no_grad():
        for name, buffer in own.items():
            buffer.copy_(buffers[name])
    if saved.shards is not None:
        moments = {
            name: optimizer["state"][int(name.partition(".")[0])][name.partition(".")[2]] for name in spread
        }
        load_shards(saved.shards, learner, saved_networks(learner, settings), moments, world)
    else:
        _load_networks(saved, learner, settings)
    learner.optimizer.load_state_dict(optimizer)
    _set_generators(learner.device, _part(saved.tensors, f"generators.{world.rank}."))
    return progress


def slots_of(saved: SavedState) -> int:
    """Batches of every step of the run that saved a state, on which the order of samples depends."""
    arguments = saved.notes["settings"].get("trainer", {}).get("args", {})
    return int(saved.notes["processes"]) * int(arguments.get("batch_split", 1))


def saved_networks(learner: Learner, settings: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Networks that a state holds: those that are trained, and those that the experiment names.

    Frozen ones that only the loss needs are made again in the same way when a run goes on.
    """
    named = settings.get("models", {})
    return {
        name: child
        for name, child in learner.objective.named_children()
        if name in named or any(parameter.requires_grad for parameter in child.parameters())
    }


def check_settings(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse to go on from a state of other settings, as far as they decide over what is learnt.

    Raises:
        StateError: names the first setting that differs.
    """
    for name, old, new in _differences(saved, current, ""):
        if not any(name == free or name.startswith(f"{free}.") for free in _MAY_DIFFER):
            raise StateError(
                f"{path}: expected a state with {name} = {shown(new)}, as the experiment has, got "
                f"{shown(old)}; {_OTHER}"
            )


# ---- networks and their averages


def average_name(network: str, rate: float) -> str:
    """Name of the file of a network's average, without the step."""
    return f"{network}_ema{rate:g}"


def _network_files(learner: Learner, settings: Mapping[str, Any]) -> dict[str, NetworkFile]:
    """The files of all networks: as they are trained, from the masters, and averaged."""
    averages = zip(learner.averages.rates, learner.averages.tensors, strict=True)
    files = {}
    for rate, tensors in ((None, learner.precision.flat_masters), *averages):
        trained = learner.named(tensors)
        for role, network in saved_networks(learner, settings).items():
            state = {
                name: trained.get(f"{role}.{name}", value) for name, value in network.state_dict().items()
            }
            name = role if rate is None else average_name(role, rate)
            files[name] = NetworkFile(state, getattr(network, "named_config", None))
    return files


def _check_networks(saved: SavedState, learner: Learner, settings: Mapping[str, Any]) -> None:
    for role, network in saved_networks(learner, settings).items():
        for name in (role, *(average_name(role, rate) for rate in learner.averages.rates)):
            if name not in saved.networks:
                raise ValueError(f"the network {name} is missing")
            check_state(network, saved.networks[name], f"{saved.path}: {name}")


@torch.no_grad()
def _load_networks(saved: SavedState, learner: Learner, settings: Mapping[str, Any]) -> None:
    """Put whole networks back, of which each process takes its part where they are spread."""
    for role, network in saved_networks(learner, settings).items():
        for name, value in network.state_dict().items():
            local_of(value).copy_(part_of(saved.networks[role][name], value))
    shapes = whole_parameters(learner)
    for name, master in learner.named(learner.precision.flat_masters).items():
        role, _, inner = name.partition(".")
        master.copy_(part_of(saved.networks[role][inner], shapes[name]))
    learner.precision.publish()
    for rate, tensors in zip(learner.averages.rates, learner.averages.tensors, strict=True):
        for name, average in learner.named(tensors).items():
            role, _, inner = name.partition(".")
            average.copy_(part_of(saved.networks[average_name(role, rate)][inner], shapes[name]))


def whole_parameters(learner: Learner) -> dict[str, Tensor]:
    """The parameters that are trained, by name; those that are spread say of what they are parts."""
    return {
        name: parameter
        for group in learner.precision.groups
        for name, parameter in zip(group.names, group.parameters, strict=True)
    }


# ---- the optimiser


def _parted(state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimiser as tensors and as numbers, both by "parameter.name"."""
    flat = {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
    tensors = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in flat.items() if name not in tensors}


def _optimizer_state(saved: SavedState, learner: Learner) -> dict[str, Any]:
    """The saved state of the optimiser in its own form, checked against the masters."""
    notes = saved.notes["optimizer"]
    own, masters = learner.optimizer.state_dict()["param_groups"], learner.precision.flat_masters
    wholes = list(whole_parameters(learner).values()) if learner.is_sharded else masters
    groups = [
        {
            key: tuple(value) if isinstance(value, list) and key != "params" else value
            for key, value in raw.items()
        }
        for raw in notes["groups"]
    ]
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        raise ValueError(f"expected an optimiser of {len(masters)} tensors, got another")
    state: dict[int, dict[str, Any]] = {}
    spread = {name: torch.zeros_like(masters[int(name.partition(".")[0])]) for name in notes["spread"]}
    for name, value in {**notes["numbers"], **_part(saved.tensors, "optimizer."), **spread}.items():
        index, _, key = name.partition(".")
        if isinstance(value, Tensor) and value.ndim and f"{index}.{key}" not in spread:
            value = part_of(value, wholes[int(index)])
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": groups}


# ---- generators of random numbers


def _generators(device: torch.device) -> dict[str, Tensor]:
    """The state of every global generator; what is random in a step has one of its own."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()
    version, numbers, next_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([place, has_gauss, gauss], dtype=torch.float64),
        "python": torch.tensor(numbers, dtype=torch.int64),
        "python_rest": torch.tensor(
            [version, float("nan") if next_gauss is None else next_gauss], dtype=torch.float64
        ),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_generators(device: torch.device, state: Mapping[str, Tensor]) -> None:
    """Go on from saved generators; a process that the saved run had not keeps its own."""
    if not state:
        return
    torch.set_rng_state(state["torch"])
    place, has_gauss, gauss = state["numpy_rest"].tolist()
    np.random.set_state(
        ("MT19937", state["numpy"].numpy().astype(np.uint32), int(place), int(has_gauss), gauss)
    )
    version, next_gauss = state["python_rest"].tolist()
    random.setstate(
        (int(version), tuple(state["python"].tolist()), None if next_gauss != next_gauss else next_gauss)
    )
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Set the global generators back at the end of a ``with`` block."""
    before = _generators(device)
    try:
        yield
    finally:
        _set_generators(device, before)


# ---- trees and names


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, old, new) of every value that two trees of JSON types do not share."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new
