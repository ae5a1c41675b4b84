"""Finished records on disk: resuming a run, sharing it between processes and hosts, and joining the parts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.scene import Record
from scenegen.evaluation.scene_list import canonical_sha256

if os.name == "posix":
    import fcntl

_LOG = logging.getLogger(__name__)

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

    Each record is one appended line, so that an interrupted run loses at most the scene it was writing.
    """

    def __init__(self, path: Path | None, header: RunHeader | None = None):
        """Read the records of earlier runs.

        Args:
            path: of the file; None keeps records in memory alone.
            header: written first, for `merge_records`.
        """
        self._path, self._header = path, header
        self._records: dict[str, Record] = {}
        self._runs: dict[str, str | None] = {}
        for entry in _lines(path) if path and path.exists() else ():
            if "record" in entry and not entry["record"].get(KILLED):
                self._records[entry["fingerprint"]] = entry["record"]
                self._runs[entry["fingerprint"]] = entry.get("run")
        if path and header:
            content = {"settings": header.settings, "scenes": header.scenes, "inputs": header.inputs}
            self._append({"run": header.key, "header": content})

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
        if self._path:
            entry = {"fingerprint": key, "record": record}
            if self._header:
                entry["run"] = self._header.key
            self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        with self._path.open("a+", encoding="utf-8") as file:
            file.seek(0, os.SEEK_END)
            torn = file.tell() > 0 and not _ends_a_line(self._path)
            file.write(("\n" if torn else "") + json.dumps(entry) + "\n")


def _ends_a_line(path: Path) -> bool:
    """Whether a file that is not empty ends with a line break: a kill may leave half a line."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@contextmanager
def sole_writer(path: Path | None) -> Iterator[None]:
    """Hold the records file of a run, so that a second run on the same output is refused.

    The hold ends with the process, however it ends. Systems without POSIX locks do without.

    Raises:
        EvaluationError: another run holds it.
    """
    if path is None or os.name != "posix":
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvaluationError(
                f"{path}: expected to be the only run that writes here, another one does; wait for its end, "
                "or choose another --output or --rank"
            ) from error
        yield


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
    headers = {path: _last_header(path) for path in paths}
    header = headers[paths[-1]]
    for path, found in headers.items():
        if found.key != header.key:
            raise EvaluationError(
                f"{path}: expected the settings and scenes of {paths[-1].name}, got others; delete the parts "
                "of the older run or evaluate again"
            )
    records: dict[str, Record] = {}
    for path in paths:
        for entry in _lines(path):
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


def _last_header(path: Path) -> RunHeader:
    header = None
    for entry in _lines(path):
        header = entry.get("header", header)
    try:
        return RunHeader(**header)
    except TypeError as error:
        raise EvaluationError(
            f"{path}: expected records with the settings of their run, got none; evaluate again"
        ) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a file of records; a line that is none is told and left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not ("header" in entry or (entry["fingerprint"] and entry["record"]["id"])):
                raise ValueError("neither header nor record")
        except (ValueError, KeyError, TypeError):
            if line:
                text = "%s: line %d is no record (an interrupted write?); its scene is evaluated again"
                _LOG.warning(text, path, number)
            continue
        yield entry
