"""The networks of a checkpoint folder: where their files are, and how long each stays in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safe_files.weights import without_weights
from scenegen.checkpoints.fitting import Described, check_fit
from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    FEW_STEPS_FLOW_ROLE,
    FLOW_ROLE,
    FLOW_ROLES,
    GEOMETRY_ENCODER_ROLE,
    PIPELINE_FILE,
)
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.hub import fetch_reference, file_sha256, missing_weights
from scenegen.hub.digest import sampled_sha256
from scenegen.hub.releases import SMALL_MODEL, download_command, find_published, load_releases
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import (
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    CheckpointError,
    check_state,
    materialize,
    read_state,
    refuse_pickle,
)
from trellis_modules.config import ConfigError, NamedConfig, load_json
from trellis_modules.memory import release_memory
from vggt.layers.vision_transformer import RELEASED_SIZES
from vggt.models.vggt import VGGT

_FOLDER_WEIGHTS, _FOLDER_CONFIG = "model.safetensors", "config.json"
_VGGT_KEYS = ("img_size", "patch_size", "embed_dim")


class Networks:
    """Networks by role: all kept in memory, or each loaded for its stage and freed after it."""

    def __init__(self, loaders: Mapping[str, Callable[[], nn.Module]], keep: bool = True) -> None:
        """Take the functions that load the networks.

        Args:
            loaders: role -> function that makes the network, in eval mode on its device.
            keep: load a network once and keep it; otherwise it is loaded for every use and freed after it.
        """
        self._loaders = dict(loaders)
        self._keep = keep
        self._kept: dict[str, nn.Module] = {}

    @classmethod
    def of(cls, networks: Mapping[str, nn.Module]) -> Networks:
        """Networks that are in memory already."""
        return cls({role: lambda network=network: network for role, network in networks.items()})

    @property
    def roles(self) -> frozenset[str]:
        """What there is."""
        return frozenset(self._loaders)

    @property
    def keeps(self) -> bool:
        """Whether networks stay in memory."""
        return self._keep

    def load(self, roles: Iterable[str]) -> None:
        """Load networks before their first use, so that faults show early; only where they are kept.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit.
        """
        for role in roles if self._keep else ():
            self._get(role)

    @contextmanager
    def use(self, role: str) -> Iterator[nn.Module]:
        """The network of a role, for the length of a ``with`` block.

        Where networks are not kept its weights are gone after the block, even while a variable holds it.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit.
        """
        network = self._get(role)
        try:
            yield network
        finally:
            if not self._keep:
                network.to("meta")
                release_memory()

    def free(self, roles: Iterable[str]) -> None:
        """Keep networks no longer; the next use of one loads it again."""
        for role in roles:
            self._kept.pop(role, None)

    def _get(self, role: str) -> nn.Module:
        if not self._keep:
            return self._loaders[role]()
        if role not in self._kept:
            self._kept[role] = self._loaders[role]()
        return self._kept[role]


@dataclass(frozen=True)
class NetworkFiles:
    """Where one network is and what it is.

    Attributes:
        config: class and arguments.
        weights: its state dict.
        described_by: the file or the name that gave ``config``, for messages.
    """

    config: NamedConfig
    weights: Path
    described_by: str


@dataclass(frozen=True)
class CheckpointFolder:
    """Loads the networks that ``pipeline.json`` names.

    A stem is looked for inside the folder, then as a path of its own, then beside the folder without its
    first part: ``checkpoints/VGGT-1B`` and ``owner/VGGT-1B`` are both found as ``<folder>/../VGGT-1B``.
    There, a network is a pair ``STEM.json``, ``STEM.safetensors``, or a folder ``STEM`` with
    ``model.safetensors``; the published image encoders and VGGT need no description.

    Attributes:
        path: the folder.
        config: its description.
        device: where networks go.
        dtype: what their large layers compute in.
        from_hub: the folder was fetched, so networks of other repositories may be fetched too. Networks of a
            local folder are looked for on the disk alone.
    """

    path: Path
    config: PipelineConfig
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    from_hub: bool = False
    _verified: set[Path] = field(default_factory=set)

    def networks(self, keep: bool = True, optional: Collection[str] = ()) -> Networks:
        """The networks of the checkpoint, none of them loaded yet.

        Args:
            keep: see `Networks`.
            optional: roles whose files may be missing; they are left out then.

        Raises:
            CheckpointError: files are missing, or networks do not belong to their roles or to each other.
        """
        loaders, described = {}, {}
        for role, stem in self.config.stems.items():
            try:
                files = self.find(stem)
            except CheckpointError:
                if role not in optional:
                    raise
                continue
            loaders[role] = self._loader(role, stem)
            described[role] = Described(files.described_by, files.config)
        check_fit(self.config, described, str(self.path / PIPELINE_FILE))
        return Networks(loaders, keep)

    def networks_digest(self, few_steps: bool = False) -> str:
        """What tells the networks of this folder from others: a digest of samples of their weights.

        Args:
            few_steps: of the flows of structures only the one counts that makes scenes with this setting.
        """
        used = FEW_STEPS_FLOW_ROLE if few_steps else FLOW_ROLE
        found = {}
        for role, stem in sorted(self.config.stems.items()):
            if role in FLOW_ROLES and role != used:
                continue
            try:
                found[role] = self.find(stem).weights
            except CheckpointError:  # of a role that may be missing
                continue
        return sampled_sha256(found)

    def _loader(self, role: str, stem: str) -> Callable[[], nn.Module]:
        load = self.load_geometry_encoder if role == GEOMETRY_ENCODER_ROLE else self.load
        return lambda: load(stem)

    def load(self, stem: str) -> nn.Module:
        """One network.

        Raises:
            CheckpointError: a file is missing, damaged, differs from its recorded sha256 or does not fit.
        """
        network, files = self._build(stem)
        return materialize(network, self.read(files), str(files.weights), self.device, self.dtype)

    def load_geometry_encoder(self, stem: str) -> nn.Module:
        """The part of a geometry encoder that makes tokens; the heads of a complete VGGT are only checked.

        Raises:
            CheckpointError: as `load`.
        """
        network, files = self._build(stem)
        state, where = self.read(files), str(files.weights)
        if isinstance(network, VGGT):
            check_state(network, state, where)
            network, prefix = network.aggregator, "aggregator."
            network.named_config = files.config  # saving writes it as a VGGT without heads
            state = {
                name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
            }
        return materialize(network, state, where, self.device, self.dtype)

    def load_structure_encoder(self) -> nn.Module:
        """The encoder that belongs to the structure decoder, which is published beside it for training.

        Raises:
            CheckpointError: there is none, or see `load`.
        """
        decoder = self.config.models[DECODER_ROLE]
        stem = Path(decoder)
        encoder = stem.with_name(stem.name.replace("dec", "enc", 1))
        try:
            return self.load(encoder.as_posix())
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.path / encoder}: a mesh of one's own needs the structure encoder beside {decoder} "
                f"({error})"
            ) from error

    def read(self, files: NetworkFiles) -> dict[str, Tensor]:
        """The state dict of a network, on the CPU.

        Raises:
            CheckpointError: the file is damaged.
        """
        return read_state(files.weights)

    def _build(self, stem: str) -> tuple[nn.Module, NetworkFiles]:
        """The network on the meta device, and its checked files."""
        files = self.find(stem)
        self._verify(stem, files.weights)
        try:
            with without_weights():
                return build_model(files.config, files.described_by), files
        except ConfigError as error:
            raise CheckpointError(str(error)) from error

    def find(self, stem: str) -> NetworkFiles:
        """The files of a network.

        Raises:
            CheckpointError: there are none, they are pickles, or the description is damaged.
        """
        parts = Path(stem).parts
        beside = self.path.resolve().parent.joinpath(*(parts[1:] or parts))
        for candidate in (self.path / stem, Path(stem), beside):
            if (files := _pair(candidate) or _published(candidate)) is not None:
                return files
        fetched = fetch_reference(stem) if self.from_hub else None
        if fetched is not None and (files := _pair(fetched) or _published(fetched)) is not None:
            return files
        raise missing_weights(self.path / PIPELINE_FILE, stem)

    def _verify(self, stem: str, weights: Path) -> None:
        """Compare a file with its recorded digest, once."""
        expected = self.config.sha256.get(stem + weights.suffix)
        if expected is None or weights in self._verified:
            return
        if (actual := file_sha256(weights)) != expected:
            raise CheckpointError(
                f"{weights}: expected sha256 {expected[:12]}... as in {PIPELINE_FILE}, got {actual[:12]}...; "
                "the file is damaged or was replaced, copy it again"
            )
        self._verified.add(weights)


def load_network(
    reference: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> nn.Module:
    """One network by itself, in eval mode, wherever it is.

    Args:
        reference: stem of ``STEM.json`` and ``STEM.safetensors``; a folder with ``model.safetensors``; the
            name of a published image encoder; or ``owner/name/ckpts/stem`` of a repository, which is fetched
            unless ``scenegen download`` did.
        device, dtype: see `CheckpointFolder`.

    Raises:
        CheckpointError: there is no such network, it cannot be fetched, or it is damaged.
    """
    files = find_network(str(reference))
    try:
        with without_weights():
            network = build_model(files.config, files.described_by)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    return materialize(network, read_state(files.weights), str(files.weights), device, dtype)


def find_network(reference: str) -> NetworkFiles:
    """The files of one network by itself; see `load_network`.

    Raises:
        CheckpointError: there is no such network, or it cannot be fetched.
    """
    downloads = Path(SMALL_MODEL).parent
    name, file = find_published("", reference) or ("", "")
    folder = load_releases()[name].folder if name else reference
    places = [Path(reference), downloads / folder]
    places += [downloads / folder / file.removesuffix(WEIGHTS_SUFFIX)] if file else []
    for place in places:
        if (files := _pair(place) or _published(place)) is not None:
            return files
    fetched = fetch_reference(reference)
    if fetched is not None and (files := _pair(fetched) or _published(fetched)) is not None:
        return files
    hint = f"; fetch it with: {download_command(name)}" if name else ""
    raise CheckpointError(
        f"{reference}: expected a network as {reference}.json and {reference}{WEIGHTS_SUFFIX}, or a "
        f"published one, found none{hint}"
    )


def _pair(stem: Path) -> NetworkFiles | None:
    """``STEM.json`` and ``STEM.safetensors``."""
    description, weights = (stem.with_name(stem.name + suffix) for suffix in (".json", WEIGHTS_SUFFIX))
    if not os.path.isfile(description):  # False too for names that no file can have
        return None
    if not os.path.isfile(weights):
        for suffix in PICKLE_SUFFIXES:
            refuse_pickle(stem.with_name(stem.name + suffix))
        return None
    return NetworkFiles(_named_config(description), weights, str(description))


def _published(stem: Path) -> NetworkFiles | None:
    """A network in its publisher's layout: a folder, or one file, whose name or ``config.json`` tells all."""
    single = stem.with_name(stem.name + ".safetensors")
    weights = single if os.path.isfile(single) else stem / _FOLDER_WEIGHTS
    if not os.path.isfile(weights):
        return None
    if stem.name in RELEASED_SIZES:
        return NetworkFiles(_vision_transformer(stem.name), weights, stem.name)
    description = stem / _FOLDER_CONFIG
    if not description.is_file():
        return None
    raw = _read_json(description)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{description}: expected an object, got {type(raw).__name__}; copy it again")
    if "name" in raw:
        return NetworkFiles(_named_config(description), weights, str(description))
    args = {key: raw[key] for key in _VGGT_KEYS if key in raw}
    return NetworkFiles(NamedConfig("VGGT", args), weights, str(description))


def _vision_transformer(name: str) -> NamedConfig:
    embed_dim, depth, num_heads = RELEASED_SIZES[name]
    return NamedConfig("VisionTransformer", {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads})


def _named_config(path: Path) -> NamedConfig:
    try:
        return NamedConfig.parse(_read_json(path), str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _read_json(path: Path) -> Any:
    try:
        return load_json(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
