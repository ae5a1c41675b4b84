"""Finished records on disk: resuming a run, sharing it between processes and hosts, and joining the parts."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile, check_regular
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.scene import RECORD_KEYS, Record
from scenegen.evaluation.scene_list import canonical_sha256

_LOG = logging.getLogger(__name__)

_INFINITE = "inf"

SUFFIX = ".records.jsonl"
KILLED = "killed"
"""Key of records of scenes whose worker was killed: reported, and tried again by the next run."""


@dataclass(frozen=True)
class RunHeader:
    """What all parts of a run share.

    Attributes:
        settings: of the run, JSON-ready.
        scenes: name, sha256, total and ids of the scenes that the whole run evaluates.
        inputs: what is compared, by name; of the host that writes, and not compared.
    """

    settings: dict[str, Any]
    scenes: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of settings and scenes: equal for the parts of one run on any host."""
        return canonical_sha256([self.settings, self.scenes])


def records_path(output: Path, rank: int | None = None) -> Path:
    """Where the records of a report lie; those of one rank of several have its number."""
    part = "" if rank is None else f".rank{rank}"
    return output.with_suffix(part + SUFFIX)


class RecordStore:
    """Finished records in a file of JSON lines, keyed by the fingerprint of settings and scene files.

    Each record is one appended line, so that an interrupted run loses at most the scene it was writing. While
    a run has the store open no other one can, since both would do the same work.
    """

    def __init__(self, path: Path | None, header: RunHeader | None = None):
        """Read what earlier runs kept.

        Args:
            path: the file, made where it is missing; None keeps records in memory alone.
            header: written first, for `merge_records`.

        Raises:
            EvaluationError: it is no regular file, or another run has it open.
            OSError: it cannot be opened.
        """
        self._header = header
        self._records: dict[str, Record] = {}
        self._runs: dict[str, str | None] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        if path.exists():
            _check(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        self._hold(path)
        self._file.seek(0)
        content = self._file.read()
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")  # a run that was killed wrote half a line
        for entry in _entries(path, content, RECORD_KEYS if header else frozenset()):
            if "record" in entry and not entry["record"].get(KILLED):
                self._records[entry["fingerprint"]] = entry["record"]
                self._runs[entry["fingerprint"]] = entry.get("run")
        if header:
            shared = {"settings": header.settings, "scenes": header.scenes, "inputs": header.inputs}
            self._append({"run": header.key, "header": shared})

    def _hold(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise EvaluationError(
                f"{path}: another run writes these records; wait for its end, or choose another --output"
            ) from error

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, key: str) -> Record | None:
        """Return the record of a fingerprint, or None."""
        return self._records.get(key)

    def resume(self, key: str) -> Record | None:
        """Like `get`; a record that another run left is entered into this one too."""
        record = self._records.get(key)
        if record is not None and self._header and self._runs.get(key) != self._header.key:
            self.add(key, record)
        return record

    def add(self, key: str, record: Record) -> None:
        """Keep a record and append it to the file."""
        self._records[key] = record
        entry = {"fingerprint": key, "record": record}
        self._append(entry | {"run": self._header.key} if self._header else entry)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write((dump_json(entry) + "\n").encode("utf-8"))


def dump_json(value: Any, indent: int | None = None) -> str:
    """JSON that any reader takes: the infinite ratio of equal pictures is the text "inf"."""
    return json.dumps(_without_infinity(value), indent=indent, allow_nan=False)


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(item) for item in value]
    return _INFINITE if value == float("inf") else value


def with_infinity(value: Any) -> Any:
    """What `dump_json` was given, from what a reader of JSON returns."""
    if isinstance(value, dict):
        return {name: with_infinity(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_infinity(item) for item in value]
    return float("inf") if value == _INFINITE else value


def merge_records(output: Path) -> tuple[RunHeader, list[Record]]:
    """Join the records that the ranks of one run left beside a report.

    Args:
        output: the report that is to be written, ``<name>.json``; its parts are ``<name>.records.jsonl`` and
            ``<name>.rank<k>.records.jsonl``.

    Returns:
        What the parts share, and one record for each scene of the run in the order of its list.

    Raises:
        EvaluationError: there are no parts, they are of different runs, or scenes are missing.
    """
    paths = sorted([*output.parent.glob(f"{output.stem}.rank*{SUFFIX}"), *_existing(records_path(output))])
    if not paths:
        raise EvaluationError(
            f"{output}: expected parts {output.stem}.rank<k>{SUFFIX} beside it, found none; run evaluate.py "
            "with --rank and --world-size first"
        )
    entries = {}
    for path in paths:
        _check(path)
        entries[path] = list(_entries(path, path.read_bytes(), RECORD_KEYS))
    headers = {path: _last_header(path, found) for path, found in entries.items()}
    header = headers[paths[-1]]
    for path, found in headers.items():
        if found.key != header.key:
            raise EvaluationError(
                f"{path}: expected the settings and scenes of {paths[-1].name}, got others; delete the parts "
                "of the older run or evaluate again"
            )
    records: dict[str, Record] = {}
    for found in entries.values():
        for entry in found:
            if entry.get("run") == header.key and "record" in entry:
                records[entry["record"]["id"]] = entry["record"]
    if missing := [scene_id for scene_id in header.scenes["ids"] if scene_id not in records]:
        raise EvaluationError(
            f"{output}: expected records of {len(header.scenes['ids'])} scenes, {len(missing)} are missing, "
            f"the first is {missing[0]!r}; run the ranks that were not finished again"
        )
    return header, [records[scene_id] for scene_id in header.scenes["ids"]]


def _existing(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


def _check(path: Path) -> None:
    try:
        check_regular(path)
    except UnreadableFile as error:
        raise EvaluationError(f"{path}: {error}; choose another --output") from error


def _last_header(path: Path, entries: list[dict[str, Any]]) -> RunHeader:
    header = None
    for entry in entries:
        header = entry.get("header", header)
    try:
        return RunHeader(**header)
    except TypeError as error:
        raise EvaluationError(
            f"{path}: expected records with the settings of their run, got none; evaluate again"
        ) from error


def _entries(path: Path, content: bytes, keys: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The headers and records in a file; a line that is none, or lacks a key, is told and left out."""
    for number, line in enumerate(content.splitlines(), 1):
        try:
            entry = with_infinity(parse_json(line)) if line else {}
            if line and "header" not in entry:
                if not isinstance(entry["fingerprint"], str) or not keys <= entry["record"].keys():
                    raise KeyError("record")
        except (ValueError, LookupError, TypeError, AttributeError):
            _LOG.warning(
                "%s: line %d is no record (an interrupted write?); its scene is evaluated again", path, number
            )
            continue
        yield entry
