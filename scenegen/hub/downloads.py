"""Fetch published weights: what is needed, whether it fits on the disk, and whether it is what it should be.

Digests come from ``releases.json`` where it has them. Where it has none, the first download is trusted: its
revision, size and digest are recorded (`scenegen.hub.lock`), and every later download must give the same.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from safe_files.limits import MAX_DESCRIPTION_BYTES, MAX_DOWNLOAD_BYTES
from safe_files.regular import shown
from scenegen.checkpoints.roles import PIPELINE_FILE, model_stems
from scenegen.hub.body import SPARE_BYTES, Progress
from scenegen.hub.digest import file_sha256
from scenegen.hub.lock import LOCK_FILE, LockEntry, write_lock
from scenegen.hub.releases import (
    DEFAULT_ENDPOINT,
    HubError,
    Release,
    ReleaseFile,
    expected_size,
    is_inside,
    size_text,
)
from scenegen.hub.transfer import Announcement, NotPublished, announce, fetch, part_path
from trellis_modules.checkpoint import WEIGHTS_SUFFIX
from trellis_modules.config import ConfigError, load_json


@dataclass(frozen=True)
class Source:
    """Where downloads come from and go to.

    Attributes:
        output: folder of all checkpoints.
        endpoint: hub, or a mirror of it.
        token: access token for the hub; not sent to other servers.
    """

    output: Path
    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
        except ValueError as error:
            raise HubError(f"--endpoint: {error}, got {shown(self.endpoint)}") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise HubError(f"--endpoint: expected a URL such as {DEFAULT_ENDPOINT}, got {self.endpoint!r}")

    def token_for(self, release: Release) -> str | None:
        """The token, for the hub's own files only."""
        return self.token if release.repo is not None else None


@dataclass(frozen=True)
class Download:
    """One file to have.

    Attributes:
        release, name: which one; ``name`` is the path in the release's folder.
        url: where it is.
        target: where it goes.
        known: what must be true of it.
        announced: what the server says of it.
        expected: bytes, exact or about; None where nobody knows.
        is_complete: it is on the disk already, and is what it should be.
    """

    release: str
    name: str
    url: str
    target: Path
    known: ReleaseFile
    announced: Announcement
    expected: int | None
    is_complete: bool = False

    @property
    def size(self) -> int | None:
        """Bytes, where the manifest, the lock or the server says."""
        return self.announced.size if self.known.size is None else self.known.size

    @property
    def converted(self) -> Path | None:
        """Where a pickle's tensors go."""
        return self.target.with_name(self.known.convert_to) if self.known.convert_to else None

    @property
    def needed(self) -> int:
        """Bytes that the disk must still take, as far as known."""
        expected, needed = self.expected or 0, 0
        if not self.is_complete:
            part = part_path(self.target, self.announced)
            needed += expected - (part.stat().st_size if part.is_file() else 0)
        if self.converted and not self.converted.is_file():
            needed += expected
        return max(needed, 0)


def choose(releases: Mapping[str, Release], names: Sequence[str]) -> dict[str, Release]:
    """The named releases; all when there is no name.

    Raises:
        HubError: a name is unknown.
    """
    if unknown := [name for name in names if name not in releases]:
        raise HubError(f"--only: unknown release {unknown[0]!r}; known: {', '.join(releases)}")
    return {name: releases[name] for name in names} if names else dict(releases)


def plan_release(
    name: str, release: Release, locked: LockEntry, source: Source
) -> tuple[list[Download], LockEntry]:
    """Ask the server for every file of a release.

    Returns:
        The files, and the lock's entry with the revision that they are from.

    Raises:
        HubError: the server cannot be reached, refuses, lacks a file, or has another size than recorded.
    """
    release = replace(release, revision=release.revision or locked.revision)
    prefix, names = "", list(release.files)
    if release.pipelines:
        release, description = _find_description(release, source)
        prefix = description.removesuffix(PIPELINE_FILE)
        names = [PIPELINE_FILE, *_network_files(release, description, source), *names]
    downloads = []
    for file in dict.fromkeys(names):
        download = _plan_file(name, release, prefix, file, locked, source)
        release = replace(release, revision=release.revision or download.announced.commit)
        downloads.append(download)
    return downloads, replace(locked, revision=release.revision)


def _plan_file(
    name: str, release: Release, prefix: str, file: str, locked: LockEntry, source: Source
) -> Download:
    url = release.address(prefix + file, source.endpoint)
    announced = announce(url, source.token_for(release))
    known = locked.known(file, release.files.get(file, ReleaseFile()))
    if announced.size is not None and announced.size > _highest(file):
        raise HubError(
            f"{url}: expected at most {size_text(_highest(file))}, the server announces "
            f"{size_text(announced.size)}; check the endpoint and the revision"
        )
    if None not in (known.size, announced.size) and known.size != announced.size:
        raise HubError(
            f"{url}: expected {known.size} bytes as recorded, the server has {announced.size}; its "
            f"source was changed. To take the new one, delete {name!r} from {source.output / LOCK_FILE}"
        )
    expected = announced.size if known.size is None else known.size
    if expected is None:
        expected = expected_size(release, file)
    target = source.output / release.folder / file
    download = Download(name, file, url, target, known, announced, expected)
    return replace(download, is_complete=_is_complete(download))


def _find_description(release: Release, source: Source) -> tuple[Release, str]:
    """The release at the commit that has a ``pipeline.json``, and where that is."""
    for candidate in release.pipelines:
        try:
            announced = announce(release.address(candidate, source.endpoint), source.token_for(release))
        except NotPublished:
            continue
        return replace(release, revision=release.revision or announced.commit), candidate
    raise NotPublished(
        f"{release.address(release.pipelines[0], source.endpoint)}: expected a published description, the "
        f"repository has none of {', '.join(release.pipelines)}; check the revision"
    )


def _network_files(release: Release, description: str, source: Source) -> list[str]:
    """Files of the networks that a published description names inside its own repository."""
    url = release.address(description, source.endpoint)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PIPELINE_FILE
        fetch(url, path, Announcement(), token=source.token_for(release), max_bytes=MAX_DESCRIPTION_BYTES)
        stems = own_stems(path, url)
    return [stem + suffix for stem in stems for suffix in (".json", WEIGHTS_SUFFIX)]


def own_stems(description: Path, where: str) -> list[str]:
    """Stems in ``args.models`` of a ``pipeline.json``, without those that name other repositories.

    Args:
        description: the file.
        where: named in errors.

    Raises:
        HubError: it is not a description, or a stem leaves its folder.
    """
    try:
        stems = model_stems(load_json(description))
        if leaving := [stem for stem in stems.values() if not is_inside(stem)]:
            raise ValueError(f"expected stems inside the repository, got {leaving[0]!r}")
    except ConfigError as error:
        raise HubError(
            f"{where}: expected JSON, got other text; check the endpoint and the revision"
        ) from error
    except ValueError as error:
        raise HubError(f"{where}: {error}; check the endpoint and the revision") from error
    return [stem for stem in dict.fromkeys(stems.values()) if len(PurePosixPath(stem).parts) <= 2]


def _is_complete(download: Download) -> bool:
    """Whether the target is there and right; what cannot be told wrong counts as right."""
    if not download.target.is_file():
        return False
    sizes = {download.known.size, download.announced.size} - {None}
    if sizes and download.target.stat().st_size not in sizes:
        return False
    expected = download.known.sha256 or download.announced.sha256
    return expected is None or file_sha256(download.target) == expected


def check_space(downloads: Iterable[Download], output: Path) -> tuple[int, int]:
    """Compare what is still to come with the free space.

    Returns:
        Bytes still to come, with about-sizes where no exact one is known, and bytes free.

    Raises:
        HubError: it does not fit.
    """
    needed = sum(download.needed for download in downloads)
    free = shutil.disk_usage(_existing(output)).free
    if needed and needed + SPARE_BYTES > free:
        raise HubError(
            f"{output}: expected {size_text(needed + SPARE_BYTES)} of free space, the disk has "
            f"{size_text(free)}; free some, choose another --output, or fewer files with --only"
        )
    return needed, free


def get(
    download: Download,
    lock: dict[str, LockEntry],
    token: str | None,
    output: Path,
    on_progress: Progress,
    convert: Callable[[Download], None] | None,
) -> None:
    """Have one file: fetch it unless it is complete, record it, convert it.

    Args:
        download: from `plan_release`.
        lock: changed, and written to ``output``.
        token: for its server.
        output: folder of all checkpoints.
        on_progress: see `Progress`.
        convert: called for a pickle that was not converted yet; None leaves it.

    Raises:
        HubError: the file could not be had.
    """
    entry = lock.get(download.release, LockEntry())
    if not download.is_complete:
        digest = fetch(
            download.url,
            download.target,
            download.announced,
            sha256=download.known.sha256,
            token=token,
            max_bytes=_highest(download.name),
            on_progress=on_progress,
        )
    elif download.name not in entry.files:
        digest = file_sha256(download.target)
    else:
        digest = entry.files[download.name].sha256
    lock[download.release] = entry.with_file(download.name, download.target, digest)
    write_lock(output, lock)
    if convert and download.converted and not download.converted.is_file():
        convert(download)


def _highest(name: str) -> int:
    """Bytes that a file may have where its server does not tell."""
    return MAX_DESCRIPTION_BYTES if name.endswith(".json") else MAX_DOWNLOAD_BYTES


def _existing(path: Path) -> Path:
    """The path or its nearest parent that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
