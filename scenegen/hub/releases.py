"""Published weights: where they come from, how large they are, and which network each file holds.

``releases.json`` lists the downloads. A revision, size or digest that is null was not known when the list was
written; downloads then record what they get (see `scenegen.hub.downloads`). ``networks.json`` describes the
published networks; sizes there follow from their shapes and dtypes, so a file is a little larger.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from scenegen.checkpoints.roles import (
    ENCODER_ROLES,
    MODEL_ROLES,
    PIPELINE_FILE,
    TRAINING_ROLES,
    model_stems,
)
from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError
from trellis_modules.config import ConfigError, NamedConfig, build, load_json

DEFAULT_ENDPOINT = "https://huggingface.co"
SMALL_MODEL = "checkpoints/scenegen-small"
RELEASES_FILE = Path(__file__).with_name("releases.json")
NETWORKS_FILE = Path(__file__).with_name("networks.json")

_OTHERWISE = f"; the bundled small model, --checkpoint {SMALL_MODEL}, works without it"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubError(CheckpointError):
    """Weights that could not be found, fetched, checked or published; the message is one line."""


@dataclass(frozen=True)
class PublishedNetwork:
    """A network as it was published.

    Attributes:
        role: its key in ``pipeline.json``.
        approximate_size: bytes of its tensors.
        name, args: see `NamedConfig`.
    """

    role: str
    approximate_size: int
    name: str
    args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in (known := (*MODEL_ROLES, *ENCODER_ROLES, *TRAINING_ROLES)):
            raise ValueError(f"role: expected one of {', '.join(known)}, got {self.role!r}")

    @property
    def config(self) -> NamedConfig:
        """Class and arguments."""
        return NamedConfig(self.name, self.args)


@dataclass(frozen=True)
class ReleaseFile:
    """What is known of one file.

    Attributes:
        size: bytes; None: not recorded yet.
        sha256: hex digest; None: not recorded yet.
        approximate_size: bytes, for messages where there is no ``size``.
        network: entry of ``networks.json`` that the file holds.
        convert_to: for a pickle, the file that it is converted to.
    """

    size: int | None = None
    sha256: str | None = None
    approximate_size: int | None = None
    network: str | None = None
    convert_to: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hexadecimal digits or null, got {self.sha256!r}")
        if self.size is not None and self.size < 0:
            raise ValueError(f"size: expected a number of bytes or null, got {self.size}")


@dataclass(frozen=True)
class Release:
    """Files that are published together.

    Attributes:
        about: one line.
        folder: where they go below the folder of all checkpoints.
        repo: hub repository; either this or ``url``.
        url: folder on a web server.
        revision: commit of the repository; None takes its newest, or the one recorded at the first download.
        approximate_size: bytes of all networks that the description names.
        pipelines: where the description may be, first match counts; its networks belong to the release.
        files: name below ``folder`` -> what is known of it.
    """

    about: str
    folder: str
    repo: str | None = None
    url: str | None = None
    revision: str | None = None
    approximate_size: int | None = None
    pipelines: tuple[str, ...] = ()
    files: dict[str, ReleaseFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.repo is None) == (self.url is None):
            raise ValueError("expected either repo or url")
        if self.url is not None and self.pipelines:
            raise ValueError("pipelines: expected a repo beside it, got a url")
        for name in (self.folder, *self.files, *self.pipelines):
            if not is_inside(name):
                raise ValueError(f"expected a path inside the folder, got {name!r}")

    def address(self, name: str, endpoint: str = DEFAULT_ENDPOINT, revision: str | None = None) -> str:
        """URL of a file of the release."""
        path = quote(name)
        if self.url is not None:
            return f"{self.url.rstrip('/')}/{path}"
        return f"{endpoint.rstrip('/')}/{self.repo}/resolve/{revision or self.revision or 'main'}/{path}"


def is_inside(name: str) -> bool:
    """Whether a relative path stays below the folder it is joined to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def load_releases(path: Path = RELEASES_FILE) -> dict[str, Release]:
    """Releases by name.

    Raises:
        HubError: the file is missing or says something else.
    """
    return _load_table(path, Release)


def load_networks() -> dict[str, PublishedNetwork]:
    """Published networks by the stem of their file."""
    return _load_table(NETWORKS_FILE, PublishedNetwork)


def _load_table(path: Path, entry: type) -> dict[str, Any]:
    try:
        raw = load_json(path)
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{path}: expected an object of named entries, got {type(raw).__name__}")
        for name, value in raw.items():
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: {name}: expected an object, got {type(value).__name__}")
        return {name: build(entry, value, f"{path}: {name}") for name, value in raw.items()}
    except ConfigError as error:
        raise HubError(str(error)) from error


def size_text(size: int) -> str:
    """Bytes for people, in powers of 1000 as disks are sold."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def expected_size(release: Release, name: str, role: str | None = None) -> int | None:
    """Bytes of a file as far as known, exact or about.

    Args:
        release: where it is from.
        name: the file.
        role: key in ``pipeline.json``, which tells the size where the name does not.
    """
    known = release.files.get(name, ReleaseFile())
    if known.size is not None or known.approximate_size is not None:
        return known.size if known.size is not None else known.approximate_size
    if name.endswith(".json"):
        return None
    networks = load_networks()
    network = networks.get(known.network or PurePosixPath(name).name.removesuffix(WEIGHTS_SUFFIX))
    network = network or next((entry for entry in networks.values() if entry.role == role), None)
    return network.approximate_size if network else None


def missing_weights(where: Path, stem: str) -> HubError:
    """The error for a network that a checkpoint needs and that is nowhere on the disk.

    Args:
        where: ``pipeline.json`` that names it.
        stem: how it names it, for example ``ckpts/ss_flow``, ``checkpoints/VGGT-1B``, ``dinov2_vitl14_reg``.

    Returns:
        An error to raise: which file, where it comes from, how large it is, and what works without it.
    """
    path = where.parent / stem
    if os.path.isfile(f"{path}.json"):  # False too for names that no file can have
        expected = f"{path}{WEIGHTS_SUFFIX}: expected weights beside {path.name}.json, found none"
    else:
        expected = f"{where}: expected the checkpoint {path}.json, found none"
    found = find_published(where.parent.name, stem)
    if found is None:
        return HubError(f"{expected}; put its .json and {WEIGHTS_SUFFIX} there{_OTHERWISE}")
    name, file = found
    release = load_releases()[name]
    if not release.pipelines:  # one network, in a folder of its own beside the checkpoint's
        local = _neighbours(where) / release.folder / (release.files[file].convert_to or file)
        expected = f"{where}: expected {stem} in {local}, found no such file"
    size = expected_size(release, file, _role(where, stem))
    return HubError(f"{expected}; {_source(name, file, size)}{_OTHERWISE}")


def missing_checkpoint(path: Path) -> HubError:
    """The error for a checkpoint folder that is not there.

    Args:
        path: the folder as it was asked for.
    """
    expected = f"{path / PIPELINE_FILE}: expected a checkpoint folder with {PIPELINE_FILE}, found none"
    for name, release in load_releases().items():
        if release.pipelines and release.folder == path.name:
            source = _source(name, release.pipelines[0], release.approximate_size)
            return HubError(f"{expected}; {source}{_OTHERWISE}")
    if path.name == Path(SMALL_MODEL).name:
        return HubError(
            f"{expected}; the small model comes with the source code, as {SMALL_MODEL}, and not with an "
            "installed package: pass that folder as --checkpoint, or fetch the published model: "
            f"{download_command('scenegen')}"
        )
    return HubError(f"{expected}; check --checkpoint{_OTHERWISE}")


def find_published(folder: str, stem: str) -> tuple[str, str] | None:
    """Which release has the weights that a stem names.

    Args:
        folder: name of the checkpoint folder.
        stem: value in its ``pipeline.json``.

    Returns:
        Name of the release and of the file in it; None where no release is known to have it.
    """
    parts = PurePosixPath(stem).parts
    releases = load_releases()
    for name, release in releases.items():
        if parts and parts[-1] == release.folder and not release.pipelines:
            return name, next(file for file, known in release.files.items() if known.network)
    if len(parts) > 2:
        file = "/".join(parts[2:]) + WEIGHTS_SUFFIX
        published = [name for name, release in releases.items() if release.repo == "/".join(parts[:2])]
        if published:  # several releases may take their files from one repository
            return next((name for name in published if file in releases[name].files), published[0]), file
    for name, release in releases.items():
        if release.pipelines and release.folder == folder:
            return name, stem + WEIGHTS_SUFFIX
    return None


def download_command(name: str) -> str:
    """The command line that fetches a release."""
    return f"scenegen download --only {name}"


def _source(name: str, file: str, size: int | None) -> str:
    release = load_releases()[name]
    about = f", about {size_text(size)}" if size else ""
    return (
        f"it comes from {release.repo or 'its publisher'} ({release.address(file)}{about}): "
        f"{download_command(name)}"
    )


def _neighbours(where: Path) -> Path:
    """The folder where the releases beside a checkpoint are looked for."""
    local = any(release.folder == where.parent.name for release in load_releases().values())
    return where.parent.parent if local else Path(SMALL_MODEL).parent


def _role(where: Path, stem: str) -> str | None:
    """The role that a description gives to a stem, where it can be read."""
    try:
        stems = model_stems(load_json(where))
    except ValueError:
        return None
    return next((role for role, value in stems.items() if value == stem), None)
