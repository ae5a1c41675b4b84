"""Load the complete model from files, strictly: a released folder, or STEM.json with STEM.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe_files.json_reader import read_json
from safe_files.networks import check_sizes
from safe_files.regular import UnreadableFile
from safe_files.weights import read_weights, without_weights
from vggt.models.vggt import VGGT

#: File names in a folder of the released layout, without suffix.
_FOLDER_CONFIG, _FOLDER_WEIGHTS = "config", "model"


class VggtCheckpointError(RuntimeError):
    """Checkpoint files that are missing, damaged, or do not fit the model they describe."""


def load_vggt(path: Path | str, device: torch.device | str = "cpu") -> VGGT:
    """Build the model that a checkpoint describes and load its weights, as float32 in eval mode.

    Args:
        path: a folder with ``config.json`` and ``model.safetensors``, or the stem of such a pair.  The JSON
            holds the arguments of ``VGGT``, bare or as ``{"name": "VGGT", "args": {...}}``.
        device: where the model goes.

    Raises:
        VggtCheckpointError: a file is missing or damaged, the JSON names an unknown argument, or a tensor is
            missing, unexpected or misshapen.
    """
    config_path, weights_path = _checkpoint_files(Path(path))
    arguments = _read_arguments(config_path)
    try:
        check_sizes(arguments)
        with without_weights():
            model = VGGT(**arguments)
    except (TypeError, ValueError) as error:
        raise VggtCheckpointError(f"{config_path}: {error}") from error
    state = _read_weights(weights_path)
    _check_state(model.state_dict(), state, weights_path)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return model.to(device).eval()


def _checkpoint_files(path: Path) -> tuple[Path, Path]:
    if path.is_dir():
        files = path / f"{_FOLDER_CONFIG}.json", path / f"{_FOLDER_WEIGHTS}.safetensors"
    else:  # with_suffix would cut a stem that holds a dot
        files = path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.safetensors")
    if missing := [str(file) for file in files if not file.is_file()]:
        raise VggtCheckpointError(
            f"{path}: no such checkpoint, expected {' and '.join(missing)}; the released weights are "
            "config.json and model.safetensors (5 GB) of facebook/VGGT-1B on the Hugging Face Hub: fetch "
            "them with scripts/download_checkpoints.py --only vggt, or copy both into one folder and name "
            "it with --checkpoint"
        )
    return files


def _read_arguments(path: Path) -> Mapping[str, Any]:
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise VggtCheckpointError(f"{path}: not a readable JSON file ({error})") from error
    if isinstance(raw, dict) and raw.keys() == {"name", "args"}:
        if raw["name"] != VGGT.__name__:
            raise VggtCheckpointError(
                f"{path}: expected a checkpoint of {VGGT.__name__}, got {raw['name']!r}"
            )
        raw = raw["args"]
    if not isinstance(raw, dict):
        raise VggtCheckpointError(f"{path}: expected an object of arguments, got {type(raw).__name__}")
    return raw


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return read_weights(path)
    except (UnreadableFile, OSError) as error:
        raise VggtCheckpointError(
            f"{path}: not a readable weight file ({error}); it is truncated or damaged, download it again"
        ) from error


def _check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    for problem, names in (
        ("lacks", expected.keys() - state.keys()),
        ("has unexpected", state.keys() - expected.keys()),
    ):
        if names:
            raise VggtCheckpointError(
                f"{path}: {problem} tensor {min(names)!r} ({len(names)} in all); the file does not belong to "
                "the configuration beside it"
            )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise VggtCheckpointError(
                f"{path}: tensor {name!r} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(expected[name].shape)}; check the sizes in the configuration beside it"
            )
