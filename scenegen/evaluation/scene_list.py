"""Which scenes are evaluated: ids in a file, with their hash or one a line, or all scenes of the truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safe_files.json_reader import read_json
from safe_files.limits import MAX_JSON_BYTES
from safe_files.regular import UnreadableFile, read_bytes
from scenegen.evaluation.loading import EvaluationError, fault_of

FORM = '{"sha256": ..., "scenes": [ids, or objects with scene_id]}'


@dataclass(frozen=True)
class ListedScenes:
    """The scenes that count.

    Attributes:
        name: of the file, or of the folder of the truth where there is none.
        sha256: of the list in full, also where only its first scenes are evaluated.
        ids: of the scenes that are evaluated, in their order.
        total: number of scenes of the list in full.
    """

    name: str
    sha256: str
    ids: tuple[str, ...]
    total: int

    @classmethod
    def of(cls, name: str, ids: Iterable[str]) -> ListedScenes:
        """A list of ids that no file states."""
        ids = tuple(ids)
        return cls(name, canonical_sha256(list(ids)), ids, len(ids))

    @classmethod
    def load(cls, path: Path) -> ListedScenes:
        """Read a list.

        A JSON file states the hash of its scenes, which is checked. A file whose name ends otherwise has one
        id a line.

        Raises:
            EvaluationError: the file cannot be read, has another form, is empty, names a scene twice, or its
                scenes do not have the hash that it states.
        """
        try:
            if path.suffix.lower() != ".json":
                return cls._of_lines(path, read_bytes(path, MAX_JSON_BYTES))
            raw = read_json(path)
        except (OSError, UnreadableFile) as error:
            raise EvaluationError(
                f"{path}: expected a list of scenes, as JSON or one id a line, got {fault_of(error)}; check "
                "the path"
            ) from error
        scenes = raw.get("scenes") if isinstance(raw, dict) else None
        if not isinstance(scenes, list) or not scenes or "sha256" not in raw:
            raise EvaluationError(
                f"{path}: expected a list of scenes {FORM}, got another form; write it again, or "
                "ids into a text file, one a line"
            )
        ids = tuple(_scene_id(entry) for entry in scenes)
        if None in ids or len(set(ids)) < len(ids):
            raise EvaluationError(f"{path}: expected every scene once by its id, in the form {FORM}")
        found = canonical_sha256(scenes)
        if found != raw["sha256"]:
            raise EvaluationError(
                f"{path}: expected scenes with sha256 {raw['sha256']}, got {found}; the list was changed, "
                "restore it or write its new hash into it"
            )
        return cls(path.name, found, ids, len(ids))

    @classmethod
    def _of_lines(cls, path: Path, content: bytes) -> ListedScenes:
        try:
            ids = [line.strip() for line in content.decode("utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UnreadableFile("bytes that are no text") from error
        if not ids or len(set(ids)) < len(ids):
            raise EvaluationError(f"{path}: expected every scene once, one id a line; write it again")
        return cls.of(path.name, ids)

    def first(self, limit: int | None) -> ListedScenes:
        """The list with only its first scenes evaluated."""
        return ListedScenes(self.name, self.sha256, self.ids[:limit], self.total)

    def __str__(self) -> str:
        part = "" if len(self.ids) == self.total else f"first {len(self.ids)} of "
        return f"{self.name} ({part}{self.total} scenes, sha256 {self.sha256[:16]})"


def canonical_sha256(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value: sorted keys, no spaces, shortest floats."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _scene_id(entry: Any) -> str | None:
    found = entry.get("scene_id") if isinstance(entry, dict) else entry
    return found if isinstance(found, str) and found else None
