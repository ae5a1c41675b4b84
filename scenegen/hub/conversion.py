"""Pickled weights to safetensors: a restricted unpickler, one flat state dict, the names of our networks."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe_files.limits import MAX_JSON_NAME, MAX_SHARING
from safe_files.regular import UnreadableFile, check_regular, shown
from safe_files.weights import open_weights, without_weights
from scenegen.hub.array_pickles import read_arrays
from scenegen.hub.releases import HubError, load_networks
from scenegen.hub.wheel_members import wheel_member
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import (
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    CheckpointError,
    check_state,
    for_disk,
    write_state,
)
from trellis_modules.config import ConfigError, NamedConfig, load_json
from trellis_modules.files import atomic_write, atomic_write_text

STATE_KEYS = ("model", "state_dict", "model_state_dict", "module", "teacher")
"""Keys under which published checkpoints keep their state dict."""

_WRAPPERS = ("module.", "_orig_mod.", "backbone.")  # of data-parallel, compiled and self-distilled networks
_CHUNKED_BLOCK = re.compile(r"^(.*\bblocks)\.\d+\.(\d+\.)")  # DINOv2 in training: blocks.<chunk>.<block>.
_WHEEL = ".whl"
_REMEDY = "export the weights as a plain state dict"
_NOTES = "__metadata__"  # safetensors keeps its notes under this name
_DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote.

    Attributes:
        weights: the safetensors file.
        config: the description beside it; None where no network was named.
        tensors, parameters: numbers of them.
        left_out: top-level entries of the pickle that hold no weights of the network.
    """

    weights: Path
    config: Path | None
    tensors: int
    parameters: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of a network that others published in another form.

    Attributes:
        network: builds it, or the part of it that they are for.
        rename: published names and shapes to those of the network.
        is_arrays: whether they are published as a pickle of nested arrays, not of PyTorch.
        member: end of the pickle's path where the source is an archive: a wheel, or of arrays a .tar.gz.
        notice: whose weights they are and under which licence, written beside them.
    """

    network: Callable[[], torch.nn.Module]
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    is_arrays: bool = False
    member: str | None = None
    notice: str | None = None


def convert(
    source: Path,
    target: Path | None = None,
    *,
    like: NamedConfig | None = None,
    dtype: torch.dtype | None = None,
    key: str | None = None,
    published: PublishedWeights | None = None,
) -> Conversion:
    """Write the tensors of a pickle as safetensors, and read them back to compare.

    Args:
        source: pickle of a state dict, or of a checkpoint that holds one.
        target: safetensors file; default: beside the source. Its folder is made.
        like: the network that the weights must fit, name by name; its description is written beside.
        dtype: of floating point tensors on the disk; None keeps theirs.
        key: where in the pickle the state dict is; None finds it.
        published: the network that the weights must fit, whose names and shapes they have not.

    Raises:
        HubError: the pickle is refused or holds no state dict, the weights do not fit, or the disk refuses.
    """
    target = target or source.with_suffix(WEIGHTS_SUFFIX)
    if published is not None and published.is_arrays:
        state, left_out = read_arrays(source, published.member), ()
    elif published is not None and source.suffix == _WHEEL:
        with wheel_member(source, published.member or "") as pickled:
            state, left_out = find_state(read_pickle(pickled), str(source), key)
    else:
        state, left_out = find_state(read_pickle(source), str(source), key)
        state = canonical_names(state)
    if published is not None:
        state = _renamed(published, state, str(source))
    try:
        if like is not None:
            check_state(_on_meta(like), state, str(source))
        if published is not None:
            check_state(published.network(), state, str(source))
        check_claims(state, source.stat().st_size, str(source))
        stored = independent_tensors(state, dtype, str(source))
    except (CheckpointError, ConfigError) as error:
        raise HubError(str(error)) from error
    write_checked(stored, target)
    config = None
    if like is not None:
        config = target.with_suffix(".json")
        write_description({"name": like.name, "args": like.args}, config)
    if published is not None and published.notice is not None:
        with _disk_faults(target):
            atomic_write_text(target.with_suffix(".NOTICE.txt"), published.notice)
    parameters = sum(tensor.numel() for tensor in stored.values())
    return Conversion(target, config, len(stored), parameters, left_out)


def _renamed(published: PublishedWeights, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    try:
        return published.rename(state)
    except KeyError as error:
        raise HubError(f"{where}: expected a tensor {error}, found none; it holds another network") from error


def write_checked(stored: Mapping[str, Tensor], target: Path) -> None:
    """Write weights and compare them with what is on the disk.

    Args:
        stored: see `independent_tensors`.
        target: safetensors file; its folder is made.

    Raises:
        HubError: the disk refuses.
    """
    with _disk_faults(target), atomic_write(target) as temporary:
        write_state(stored, temporary)
        _compare(stored, temporary)


def write_description(description: Mapping[str, Any], target: Path) -> None:
    """Write what a network is as JSON.

    Raises:
        HubError: the disk refuses.
    """
    with _disk_faults(target):
        atomic_write_text(target, json.dumps(description, indent=2) + "\n")


@contextmanager
def _disk_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HubError(
            f"{path}: cannot be written ({error}); check the path, the free space and the permissions"
        ) from error


def read_pickle(path: Path) -> Any:
    """Open a pickle with an unpickler that knows tensors and plain containers, and runs nothing.

    Raises:
        HubError: there is no such file, it is damaged, or it holds something else.
    """
    if path.suffix == WEIGHTS_SUFFIX:
        raise HubError(f"{path}: expected a pickle, got safetensors, which need no conversion")
    try:
        check_regular(path)
    except UnreadableFile as error:
        raise HubError(f"{path}: {error}; check the path") from error
    except OSError as error:
        raise HubError(
            f"{path}: expected a pickle ({', '.join(PICKLE_SUFFIXES)}), found no such file; check the path"
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if refused := _REFUSED_GLOBAL.search(str(error)):
            raise HubError(
                f"{path}: expected tensors only, got {refused[1]}, which opening the file would run; "
                "refused, nothing was run. Get safetensors, or a plain state dict, from the publisher"
            ) from error
        raise HubError(_damaged(path, error)) from error
    except (
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        OverflowError,
        NotImplementedError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:  # what PyTorch's unpickler raises for content that contradicts itself
        raise HubError(_damaged(path, error)) from error


def find_state(content: Any, where: str, key: str | None = None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict in the content of a pickle.

    Args:
        content: a state dict; or a dictionary that has one under `key`, or under one of `STATE_KEYS`.
        where: named in errors.
        key: None finds it.

    Returns:
        Name -> tensor, and the top-level entries that were left out.

    Raises:
        HubError: there is none, more than one, or something else among its tensors.
    """
    if not isinstance(content, Mapping):
        raise HubError(f"{where}: expected a dictionary of tensors, got {type(content).__name__}")
    if key is not None and key not in content:
        raise HubError(f"{where}: --key: expected one of {_names(content)}, got {key!r}")
    found = [name for name in STATE_KEYS if isinstance(content.get(name), Mapping)] if key is None else [key]
    if len(found) > 1:
        raise HubError(f"{where}: expected one state dict, found {', '.join(found)}; choose one with --key")
    state = content[found[0]] if found else content
    left_out = tuple(str(name) for name in content if found and name != found[0])
    if not isinstance(state, Mapping) or not state:
        raise HubError(f"{where}: expected a dictionary of tensors, got an empty one or none; check --key")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise HubError(
                f"{where}: expected a tensor for each name, got {type(value).__name__} for {shown(name)}; "
                f"name the entry that holds the weights with --key: {_names(content)}"
            )
    return dict(state), left_out


def canonical_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as the networks have them: without wrappers, and without the chunks of DINOv2 in training."""
    names = {name: name for name in state}
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in names.values()):
            names = {old: name.removeprefix(wrapper) for old, name in names.items()}
    plain = {old: _CHUNKED_BLOCK.sub(r"\1.\2", name) for old, name in names.items()}
    if len(set(plain.values())) < len(names):  # inner numbers that repeat are not those of blocks
        plain = names
    return {plain[name]: tensor for name, tensor in state.items()}


def independent_tensors(
    state: Mapping[str, Tensor], dtype: torch.dtype | None, where: str
) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors needs them, in a dtype.

    Raises:
        CheckpointError: a finite weight is out of range for ``dtype``.
    """
    seen: set[int] = set()
    stored = {}
    for name, tensor in state.items():
        tensor = for_disk(tensor.resolve_neg(), dtype or tensor.dtype, f"{where}: tensor {name!r}")
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        stored[name] = tensor
    return stored


def check_claims(state: Mapping[str, Tensor], size: int, where: str) -> None:
    """Check that tensors are plain numbers, and that the file holds as many as they claim.

    Args:
        state: as unpickled; nothing is copied.
        size: bytes of the file.
        where: named in errors.

    Raises:
        HubError: a tensor is of a kind that networks do not have, or claims more numbers than are stored.
    """
    claimed = 0
    for name, tensor in state.items():
        if problem := _tensor_problem(name, tensor):
            raise HubError(f"{where}: tensor {shown(name)}: {problem}; {_REMEDY}")
        claimed += tensor.nbytes
    if claimed > MAX_SHARING * size:
        raise HubError(
            f"{where}: expected tensors of at most {MAX_SHARING} times the {size} bytes of the file, they "
            f"claim {claimed}; {_REMEDY}"
        )


def _tensor_problem(name: str, tensor: Tensor) -> str | None:
    """Why a tensor is not stored, if it is not."""
    if name == _NOTES or not name.isprintable() or not 0 < len(name) <= MAX_JSON_NAME:
        return f"expected a name of 1 to {MAX_JSON_NAME} characters other than {_NOTES}"
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_quantized:
        return "expected a dense tensor, got another layout"
    if tensor.device.type != "cpu":
        return f"expected numbers, got a tensor on the device {tensor.device.type}, which holds none"
    if tensor.dtype not in _DTYPES:
        return f"expected real numbers, got {tensor.dtype}"
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        return f"claims {tensor.nbytes} bytes, of which {tensor.untyped_storage().nbytes()} are stored"
    return None


def find_network(name: str) -> NamedConfig:
    """The network that a name or a file describes.

    Args:
        name: a role of ``pipeline.json``, a published stem, or a path to a ``.json`` with name and args.

    Raises:
        HubError: it is none of these.
    """
    networks = load_networks()
    if name in networks:
        return networks[name].config
    for network in networks.values():
        if network.role == name:
            return network.config
    path = Path(name)
    if path.suffix == ".json" and path.exists():
        try:
            return NamedConfig.parse(load_json(path), name)
        except ConfigError as error:
            raise HubError(str(error)) from error
    roles = dict.fromkeys(network.role for network in networks.values())
    raise HubError(
        f"--like: expected a .json that exists, a role ({', '.join(roles)}) or a published name "
        f"({', '.join(networks)}), got {name!r}"
    )


def _compare(written: Mapping[str, Tensor], path: Path) -> None:
    """Read a file back, one tensor at a time."""
    with open_weights(path, "pt") as file:
        for name, tensor in written.items():
            read = file.get_tensor(name)
            if read.dtype != tensor.dtype or not torch.equal(_bytes(read), _bytes(tensor)):
                raise HubError(f"{path}: tensor {name!r} reads back differently; check the disk")


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _on_meta(config: NamedConfig) -> torch.nn.Module:
    with without_weights():
        return build_model(config, "--like")


def _damaged(path: Path, error: Exception) -> str:
    first = re.split(r"\. |\n", str(error))[0] or type(error).__name__
    return f"{path}: not a readable pickle ({first}); it is truncated or damaged, copy or download it again"


def _names(content: Mapping[Any, Any]) -> str:
    names = [str(name) for name in content]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
