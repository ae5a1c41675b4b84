"""Shards: files of many samples, which the loaders of training read by place and without unpacking.

A shard is one safetensors file. Its tensors hold the samples, and its header one JSON text that says what
they are, of which set, and of which furniture, so that a reader can refuse what it must not learn from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from scenegen.datasets.furniture_ids import TRAIN
from scenegen.synthesis.furniture.split import check_split
from trellis_modules.checkpoint import write_state
from trellis_modules.files import atomic_write

SCENES, LATENTS = "scenes", "latents"
KINDS = (SCENES, LATENTS)
_HEADER = "scenegen-shard-1"

logger = logging.getLogger(__name__)


class ShardError(ValueError):
    """A shard is missing, damaged, of another kind, or must not be learnt from."""


@dataclass(frozen=True)
class ShardSample:
    """One sample of a shard: a scene, or an asset alone.

    Attributes:
        id: scene or asset.
        is_scene: several objects in one photo, or an asset in one of its renders.
        sha256: key of each asset.
        furniture: id of each asset's furniture, "" where the data set has none.
        aesthetic_score: of each asset, None where it is not known.
        cond_rendered: whether each asset has views of its own.
        has_center: whether the centres of all boxes are known, for centred poses.
    """

    id: str
    is_scene: bool
    sha256: tuple[str, ...]
    furniture: tuple[str, ...]
    aesthetic_score: tuple[float | None, ...]
    cond_rendered: tuple[bool, ...]
    has_center: bool = True


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        kind: `SCENES` or `LATENTS`.
        set: name of the set of photos; assets alone belong to the set train.
        latent_model: model whose latents it holds.
        samples: by place.
        failed: what could not be packed: reasons by row or scene.
    """

    kind: str
    set: str
    latent_model: str
    samples: tuple[ShardSample, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


def write_shard(path: Path, header: ShardHeader, tensors: Mapping[str, Tensor]) -> None:
    """Write a shard that appears whole; the same content gives the same bytes.

    Raises:
        SplitError: a sample has furniture of another split than the set.
        OSError: the disk refuses.
    """
    check_split(_furniture(header), header.set)
    contiguous = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(asdict(header), ensure_ascii=False)
    with atomic_write(path) as temporary:
        write_state(contiguous, temporary, {_HEADER: text})  # one key: several come in any order


def read_header(path: Path, for_training: bool = False) -> ShardHeader:
    """Read what a shard says of itself, and check that its furniture is that of its set.

    Args:
        path: the shard.
        for_training: refuse every set but train.

    Raises:
        ShardError: it is missing, damaged or no shard, or of a test set where something is to be learnt.
        SplitError: it has furniture of another split than its set.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[_HEADER]
        raw = json.loads(text)
        samples = tuple(ShardSample(**_tuples(sample)) for sample in raw.pop("samples"))
        header = ShardHeader(**raw, samples=samples)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ShardError(
            f"{path}: expected a shard of pack_scenes.py, got {type(error).__name__}: {error}; pack it again"
        ) from error
    if for_training and header.set != TRAIN:
        raise ShardError(
            f"{path}: expected scenes of the train set, got the {header.set} set; nothing may learn from them"
        )
    check_split(_furniture(header), header.set)
    return header


class ShardFiles:
    """Shards of one kind, opened when they are first read from; may be sent to other processes."""

    def __init__(self, paths: Sequence[Path], kind: str, for_training: bool) -> None:
        """Read the headers.

        Args:
            paths: at least one shard.
            kind: one of `KINDS`.
            for_training: refuse test sets.

        Raises:
            ShardError: as `read_header`; or one is of another kind, or has latents of another model.
            SplitError: a shard has furniture of another split than its set.
        """
        if not paths:
            raise ShardError("shards: expected at least one file, got none; name those of pack_scenes.py")
        self.paths = [Path(path) for path in paths]
        self.headers = [read_header(path, for_training) for path in self.paths]
        for path, header in zip(self.paths, self.headers):
            if header.kind != kind:
                raise ShardError(f"{path}: expected a shard of {kind}, got one of {header.kind}")
            if header.latent_model != self.headers[0].latent_model:
                raise ShardError(
                    f"{path}: expected latents of {self.headers[0].latent_model} as in {self.paths[0]}, got "
                    f"{header.latent_model}"
                )
        self._warn_of_same_ids()
        self._open: dict[int, Any] = {}

    def tensor(self, shard: int, name: str) -> Tensor:
        """A tensor of a shard, whole.

        Raises:
            ShardError: it is not there or the file is damaged.
        """
        return self._read(shard, lambda file: file.get_tensor(name))

    def row(self, shard: int, name: str, place: int) -> Tensor:
        """One row of a tensor of a shard; errors as `tensor`."""
        return self._read(shard, lambda file: file.get_slice(name)[place : place + 1][0])

    def _read(self, shard: int, read: Any) -> Tensor:
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(self.paths[shard], framework="pt")
            return read(self._open[shard])
        except (OSError, SafetensorError) as error:
            raise ShardError(f"{self.paths[shard]}: damaged ({error}); pack it again") from error

    def _warn_of_same_ids(self) -> None:
        """Say which shards hold scenes of the same name: they are different scenes, of different roots."""
        owner: dict[str, Path] = {}
        for path, header in zip(self.paths, self.headers):
            for sample in header.samples:
                first = owner.setdefault(sample.id, path)
                if first != path:
                    logger.warning("%s: %s is in %s too; both are kept", path, sample.id, first)
                    break

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # an open file cannot be sent


def shard_paths(folder: Path, kind: str, set_name: str) -> list[Path]:
    """The shards of a kind and set in a folder, by number."""
    return sorted(folder.glob(shard_pattern(kind, set_name)))


def shard_pattern(kind: str, set_name: str) -> str:
    """What the file names of the shards of a kind and set have in common, for `fnmatch.fnmatch`."""
    return f"{kind}_{set_name}-*.safetensors"


def shard_name(kind: str, set_name: str, number: int) -> str:
    """File name of a shard."""
    return f"{kind}_{set_name}-{number:05d}.safetensors"


def _furniture(header: ShardHeader) -> Iterable[str]:
    return sorted({name for sample in header.samples for name in sample.furniture if name})


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    known = {known.name for known in fields(ShardSample)}
    if raw.keys() - known:
        raise ValueError(f"unknown key {sorted(raw.keys() - known)[0]!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
