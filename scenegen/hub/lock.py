"""What the first download of a release gave, so that every later one must give the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from scenegen.hub.releases import HubError, ReleaseFile, load_releases
from trellis_modules.config import ConfigError, build, load_json, to_json
from trellis_modules.files import atomic_write_text

LOCK_FILE = "downloads.lock.json"


@dataclass(frozen=True)
class LockEntry:
    """The commit that a release was taken from, and its files so far."""

    revision: str | None = None
    files: dict[str, ReleaseFile] = field(default_factory=dict)

    def known(self, name: str, listed: ReleaseFile) -> ReleaseFile:
        """What a manifest says of a file, completed by what was recorded."""
        recorded = self.files.get(name, ReleaseFile())
        size = recorded.size if listed.size is None else listed.size
        return replace(listed, size=size, sha256=listed.sha256 or recorded.sha256)

    def with_file(self, name: str, path: Path, sha256: str) -> LockEntry:
        """The entry with one more file."""
        recorded = ReleaseFile(size=path.stat().st_size, sha256=sha256)
        return replace(self, files={**self.files, name: recorded})


def load_lock(output: Path) -> dict[str, LockEntry]:
    """What earlier downloads to a folder recorded; empty where there was none.

    Raises:
        HubError: the file is damaged.
    """
    path = output / LOCK_FILE
    if not path.exists():
        return {}
    try:
        raw = load_json(path)
        if not isinstance(raw, Mapping) or not all(isinstance(value, Mapping) for value in raw.values()):
            raise ConfigError(f"{path}: expected an object of releases")
        return {name: build(LockEntry, value, f"{path}: {name}") for name, value in raw.items()}
    except ConfigError as error:
        raise HubError(f"{error}; correct the file or delete it") from error


def write_lock(output: Path, lock: Mapping[str, LockEntry]) -> None:
    """Write the record beside the checkpoints."""
    _write_json(output / LOCK_FILE, {name: _without_nulls(to_json(entry)) for name, entry in lock.items()})


def update_manifest(path: Path, lock: Mapping[str, LockEntry]) -> None:
    """Write what was recorded into a manifest of releases, for those who download after us.

    Raises:
        HubError: the manifest cannot be read.
    """
    releases = load_releases(path)
    for name, entry in lock.items():
        if name in releases:
            listed = releases[name].files
            merged = {
                file: replace(listed.get(file, ReleaseFile()), size=recorded.size, sha256=recorded.sha256)
                for file, recorded in entry.files.items()
            }
            releases[name] = replace(releases[name], revision=entry.revision, files={**listed, **merged})
    _write_json(path, {name: _without_nulls(to_json(release)) for name, release in releases.items()})


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item not in (None, [], ())}
    return value


def _write_json(path: Path, value: object) -> None:
    atomic_write_text(path, json.dumps(value, indent=2) + "\n")
