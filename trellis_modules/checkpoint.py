"""Model checkpoints: ``STEM.json`` (class name and arguments) beside ``STEM.safetensors`` (state dict).

Local files only.  Weights are read from safetensors and from nothing else: a pickle can run code when it is
opened, so ``.pt`` and its like are refused with the command that converts them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from safe_files.regular import UnreadableFile
from safe_files.weights import read_weights, without_weights
from trellis_modules.config import ConfigError, NamedConfig, load_json
from trellis_modules.files import atomic_write
from trellis_modules.models.registry import MODELS, ModelBuilder, build_model
from trellis_modules.models.torso import TorsoModule

WEIGHTS_SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


class CheckpointError(RuntimeError):
    """Checkpoint files that are missing, damaged, or do not fit the model they describe."""


def load_checkpoint(
    stem: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    models: Mapping[str, ModelBuilder] = MODELS,
) -> nn.Module:
    """Build the model a checkpoint describes and load its weights, strictly, in eval mode.

    Args:
        stem: path without suffix; ``STEM.json`` and ``STEM.safetensors`` are read.
        device: where the model goes.
        dtype: what the model computes in, default float32, whatever is on disk; with another dtype a model
            with a torso keeps its input and output layers in float32.
        models: registry of class names.

    Raises:
        CheckpointError: a file is missing or damaged, the JSON names an unknown class or argument, or a
            tensor is missing, unexpected or misshapen.
    """
    stem = Path(stem)
    config_path = _with_suffix(stem, ".json")
    weights_path = find_weights(stem)
    state = read_state(weights_path)
    try:
        with without_weights():
            model = build_model(load_json(config_path), str(config_path), models)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    return materialize(model, state, str(weights_path), device, dtype)


def materialize(
    model: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Give a model that was built on the meta device its weights, strictly, in eval mode.

    Every tensor goes to the device once and in the dtype it is used in: no initial weights are drawn, and at
    no time does the device hold more than the model.

    Args:
        model: built under `without_weights`; all its tensors are in its state dict.
        state: its state dict, in any floating point dtypes.
        where: named in errors, for example the file.
        device: where the model goes.
        dtype: see `load_checkpoint`.

    Raises:
        CheckpointError: see `load_state`.
    """
    set_compute_dtype(model, dtype or torch.float32)
    expected = model.state_dict()
    check_state(model, state, where)
    placed = {name: tensor.to(device, expected[name].dtype, copy=True) for name, tensor in state.items()}
    model.load_state_dict(placed, assign=True)
    return model.eval()


def save_checkpoint(
    model: nn.Module,
    stem: Path | str,
    dtype: torch.dtype = torch.float16,
    *,
    named_config: NamedConfig | None = None,
) -> None:
    """Write ``STEM.json`` and ``STEM.safetensors``, each under a temporary name first.

    Args:
        model: its state dict is stored, floating point tensors in ``dtype``.
        stem: path without suffix; missing folders are made.
        dtype: dtype on disk.
        named_config: class name and arguments; default: what ``build_model`` built the model from.

    Raises:
        CheckpointError: no configuration is known, or a finite weight is out of range for ``dtype``.
    """
    stem = Path(stem)
    named = named_config or getattr(model, "named_config", None)
    if named is None:
        raise CheckpointError(
            f"{stem}: a {type(model).__name__} that build_model did not build does not know its "
            "configuration; pass named_config"
        )
    state = {
        name: for_disk(tensor, dtype, f"{stem}: tensor {name!r}")
        for name, tensor in model.state_dict().items()
    }
    description = json.dumps({"name": named.name, "args": named.args}, indent=2) + "\n"
    weights_path, config_path = _with_suffix(stem, WEIGHTS_SUFFIX), _with_suffix(stem, ".json")
    with atomic_write(config_path) as config, atomic_write(weights_path) as weights:
        write_state(state, weights)
        config.write_text(description, encoding="utf-8")


def write_state(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors, readable for those who may read new files of this user.

    Args:
        state: contiguous tensors that share no memory.
        path: replaced where it exists.
        metadata: notes in the file.

    Raises:
        OSError: the disk refuses.
    """
    path.touch()
    permissions = path.stat().st_mode
    try:
        save_file(dict(state), path, None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise OSError(f"{path}: {_first_line(error)}") from error
    if metadata is not None and len(metadata) > 1:
        _sort_notes(path)
    path.chmod(permissions)  # safetensors replaces the file by one that only its owner may read


def _sort_notes(path: Path) -> None:
    """Put the notes of a file that was just written in order, so that the same content has the same bytes.

    safetensors writes several of them in any order. The header keeps its length.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        sorted_header = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if len(sorted_header) <= length:
            file.seek(8)
            file.write(sorted_header.ljust(length))


def find_weights(stem: Path) -> Path:
    """``STEM.safetensors``.

    Raises:
        CheckpointError: it does not exist, or only a pickle does.
    """
    path = _with_suffix(stem, WEIGHTS_SUFFIX)
    if path.is_file():
        return path
    for suffix in PICKLE_SUFFIXES:
        refuse_pickle(_with_suffix(stem, suffix))
    raise CheckpointError(
        f"{stem}: expected weights in {path.name}, found none in {stem.parent}; check the path or download "
        "the checkpoint"
    )


def refuse_pickle(path: Path) -> None:
    """Raise when a path is a pickle file that exists.

    Raises:
        CheckpointError: says how to convert it.
    """
    if path.suffix in PICKLE_SUFFIXES and path.is_file():
        raise CheckpointError(
            f"{path}: expected {WEIGHTS_SUFFIX}, got a pickle, which can run code when it is opened; convert "
            f"it with: python scripts/convert_checkpoint.py {path}"
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, on the CPU.

    Raises:
        CheckpointError: the file is a pickle, missing, or damaged.
    """
    refuse_pickle(path)
    try:
        return read_weights(path)
    except (UnreadableFile, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable weight file ({_first_line(error)}); it is truncated or damaged, "
            "copy or download it again"
        ) from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a state dict into a model, keeping the model's dtypes.

    Raises:
        CheckpointError: see `check_state`.
    """
    check_state(model, state, where)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Check that a state dict is the model's, tensor by tensor.

    Raises:
        CheckpointError: a tensor is missing, unexpected, misshapen or of another kind; names the first.
    """
    expected = model.state_dict()
    if missing := [name for name in expected if name not in state]:
        raise CheckpointError(
            f"{where}: tensor {missing[0]!r} of shape {tuple(expected[missing[0]].shape)} is missing "
            f"({len(missing)} in all); the file does not belong to the configuration beside it"
        )
    if unexpected := [name for name in state if name not in expected]:
        raise CheckpointError(
            f"{where}: unexpected tensor {unexpected[0]!r} ({len(unexpected)} in all) for "
            f"{type(model).__name__}; the file does not belong to the configuration beside it"
        )
    for name, tensor in state.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"{where}: tensor {name!r} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(wanted.shape)}; check the sizes in the configuration beside it"
            )
        if tensor.is_floating_point() != wanted.is_floating_point():
            raise CheckpointError(
                f"{where}: tensor {name!r} has dtype {tensor.dtype}, expected {wanted.dtype} or "
                "another of its kind; export the weights again"
            )


def set_compute_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Run a model in a dtype: only its torso when it has one, else all of it."""
    if isinstance(model, TorsoModule):
        model.convert_torso(dtype)
    else:
        model.to(dtype)


def for_disk(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """A tensor as it is stored: contiguous, on the CPU, in a dtype unless it holds whole numbers.

    Raises:
        CheckpointError: a finite value is out of range for ``dtype``.
    """
    if not tensor.is_floating_point():
        return tensor.detach().cpu().contiguous()
    stored = tensor.detach().to("cpu", dtype).contiguous()
    if torch.isinf(stored).any() and not torch.isinf(tensor).any():
        raise CheckpointError(
            f"{where}: largest magnitude {tensor.abs().max().item():.3g} is out of range for {dtype}; "
            "save with dtype=torch.float32"
        )
    return stored


def _with_suffix(stem: Path, suffix: str) -> Path:
    # Path.with_suffix would cut a stem that holds a dot.
    return stem.with_name(stem.name + suffix)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
