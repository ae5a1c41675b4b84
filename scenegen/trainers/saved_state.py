"""The state of a training run in one safetensors file: its tensors, and in the notes, as JSON, all else.

One file is replaced at once, so that a kill never leaves tensors of one step beside the numbers of another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile, shown
from safe_files.weights import open_weights
from trellis_modules.checkpoint import CheckpointError, write_state
from trellis_modules.files import atomic_write

STATE_FILE = "state.safetensors"
FORMAT = "scenegen-training-state-1"

_PICKLED_STATE = "state.pt"  # of earlier versions
_MODULES, _EMA, _OPTIMIZER = "modules.", "ema.", "optimizer."
_MAY_DIFFER = (
    "dataset.args.workers",
    "trainer.args.cuda_graphs",
    "trainer.args.finetune_ckpt",  # the weights are in the state
    "trainer.args.fp16_mode",
    "trainer.args.i_log",
    "trainer.args.i_print",
    "trainer.args.i_save",
    "trainer.args.max_steps",
)
"""Settings that a run may be continued with other values of."""


class StateError(CheckpointError):
    """A saved state that training cannot go on from; the message is one line that names the file."""


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on.

    Attributes:
        step: optimiser steps that are done.
        seconds: of training so far.
        settings: the experiment, as JSON types.
        modules: state dict of the objective.
        ema: its running average.
        optimizer: state dict of the optimiser.
    """

    step: int
    seconds: float
    settings: Mapping[str, Any]
    modules: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]


def save_state(path: Path, state: TrainingState) -> None:
    """Write a state; a kill never leaves a broken one.

    Raises:
        OSError: the disk refuses.
    """
    tensors = {_MODULES + name: value for name, value in state.modules.items()}
    tensors |= {_EMA + name: value for name, value in state.ema.items()}
    for index, values in state.optimizer["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}.{name}": value for name, value in values.items()}
    notes = {
        "step": state.step,
        "seconds": state.seconds,
        "settings": state.settings,
        "groups": state.optimizer["param_groups"],
    }
    with atomic_write(path) as temporary:
        write_state(_independent(tensors), temporary, {"format": FORMAT, "state": json.dumps(notes)})


def load_state(folder: Path, device: torch.device) -> TrainingState | None:
    """The state that an earlier run left in a folder; None where there is none.

    Raises:
        StateError: it is damaged, another kind of file, or a pickle of an earlier version.
    """
    path = folder / STATE_FILE
    if not path.exists():
        if (pickle := folder / _PICKLED_STATE).exists():
            raise StateError(
                f"{pickle}: expected {STATE_FILE}, got a pickle of an earlier version, which can run code "
                "when it is opened and is not read; remove it to start anew, or choose another --output-dir"
            )
        return None
    try:
        with open_weights(path, "pt") as file:
            notes = _notes(file.metadata() or {})
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _assembled(notes, tensors)
    except (OSError, UnreadableFile, LookupError, TypeError, ValueError) as error:
        raise StateError(
            f"{path}: expected the state of an earlier run, got another or a damaged file "
            f"({_told(error)}); remove it to start anew, or choose another --output-dir"
        ) from error


def check_settings(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse to go on from a state of other settings, as far as they decide over what is learnt.

    Raises:
        StateError: names the first setting that differs.
    """
    for name, old, new in _differences(saved, current, ""):
        if not any(name == free or name.startswith(f"{free}.") for free in _MAY_DIFFER):
            raise StateError(
                f"{path}: expected a state with {name} = {shown(new)}, as the experiment has, got "
                f"{shown(old)}; choose another --output-dir, or restore the setting"
            )


def _notes(metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise UnreadableFile(f"expected the format {FORMAT}, got {shown(metadata.get('format'))}")
    notes = parse_json(metadata["state"])
    if not isinstance(notes["step"], int) or notes["step"] < 0 or not 0 <= notes["seconds"] < math.inf:
        raise UnreadableFile(f"expected a step, got {shown(notes['step'])} after {shown(notes['seconds'])} s")
    if not isinstance(notes["settings"], dict):
        raise UnreadableFile("expected settings, got none")
    return notes


def _assembled(notes: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainingState:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, _, key = name.removeprefix(_OPTIMIZER).partition(".")
            moments.setdefault(int(index), {})[key] = value
    groups = [
        {
            key: tuple(value) if isinstance(value, list) and key != "params" else value
            for key, value in raw.items()
        }
        for raw in notes["groups"]
    ]
    return TrainingState(
        notes["step"],
        float(notes["seconds"]),
        notes["settings"],
        _part(tensors, _MODULES),
        _part(tensors, _EMA),
        {"state": moments, "param_groups": groups},
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that share no memory, as safetensors needs them."""
    seen: set[int] = set()
    stored = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        stored[name] = value
    return stored


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, old, new) of every value that two trees of JSON types do not share."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _told(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
