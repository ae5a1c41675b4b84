"""What is published, told from the list of releases and the record of earlier downloads: nobody is asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scenegen.hub.lock import LockEntry
from scenegen.hub.releases import DEFAULT_ENDPOINT, Release, ReleaseFile, expected_size


@dataclass(frozen=True)
class ListedFile:
    """One file of a release, or all networks that its description names.

    Attributes:
        release: name of the release.
        target: where it goes.
        url: where it comes from.
        size: bytes; None where nobody knows.
        is_exact: whether the size is recorded, and not only about right.
        is_there: whether it is on the disk.
        with_networks: whether it stands for the description and the networks that it names.
    """

    release: str
    target: Path
    url: str
    size: int | None
    is_exact: bool
    is_there: bool
    with_networks: bool = False


def list_files(
    releases: Mapping[str, Release],
    lock: Mapping[str, LockEntry],
    output: Path,
    endpoint: str = DEFAULT_ENDPOINT,
) -> Iterator[ListedFile]:
    """Files of releases as far as they are known without asking.

    Args:
        releases: by name.
        lock: what earlier downloads recorded.
        output: folder of all checkpoints.
        endpoint: the hub.
    """
    for name, release in releases.items():
        recorded = lock.get(name, LockEntry())
        revision = release.revision or recorded.revision
        files = dict.fromkeys([*release.files, *recorded.files])
        if release.pipelines and not files:
            target = output / release.folder / release.pipelines[0]
            url = release.address(release.pipelines[0], endpoint, revision)
            yield ListedFile(name, target, url, release.approximate_size, False, target.is_file(), True)
        for file in files:
            known = recorded.known(file, release.files.get(file, ReleaseFile()))
            target = output / release.folder / file
            size = known.size if known.size is not None else expected_size(release, file)
            url = release.address(file, endpoint, revision)
            there = target.is_file() or bool(
                known.convert_to and target.with_name(known.convert_to).is_file()
            )
            yield ListedFile(name, target, url, size, known.size is not None, there)


def free_space(folder: Path) -> int:
    """Bytes free where a folder is, or will be."""
    path = folder.absolute()
    return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free
