"""Evaluating folders of scenes: pairing files, worker processes, and records that let a run resume."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile, check_regular
from scenegen.evaluation.comparison import EvaluationSettings
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.evaluation.scene import RECORD_KEYS, Record, ScenePair, evaluate_scene, fingerprint
from scenegen.export.names import SCENE_FILE

_LOG = logging.getLogger(__name__)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class EvaluationPlan:
    """What a run compares: scenes in natural order of ids, and settings that suit the files."""

    pairs: tuple[ScenePair, ...]
    settings: EvaluationSettings


def plan_evaluation(
    prediction: Path, truth: Path, settings: EvaluationSettings, limit: int | None = None
) -> EvaluationPlan:
    """Pair the scenes of two folders by id.

    Poses are compared when the predictions have any pose file at all; a single scene without one then counts
    as worst.

    Args:
        prediction, truth: folders in one of the layouts of `scenegen.evaluation.loading`.
        settings: as asked for.
        limit: evaluate only the first scenes of the truth.

    Raises:
        EvaluationError: a folder is missing or the truth is empty.
    """
    true_scenes, predicted_scenes = find_scene_files(truth), find_scene_files(prediction)
    if not true_scenes:
        raise EvaluationError(
            f"{truth}: expected scenes as <id>.glb or <id>/{SCENE_FILE}, got none; check the path"
        )
    unknown = [scene_id for scene_id in predicted_scenes if scene_id not in true_scenes]
    if unknown:
        _LOG.warning(
            "%s: %d predicted scenes are not in the truth and are left out, the first is %r",
            prediction,
            len(unknown),
            unknown[0],
        )
    pairs = [ScenePair(files, predicted_scenes.get(scene_id)) for scene_id, files in true_scenes.items()][
        :limit
    ]
    has_poses = any(files.poses for files in predicted_scenes.values())
    if settings.with_poses and not has_poses:
        _LOG.warning("%s: no pose files; poses are not evaluated", prediction)
    return EvaluationPlan(tuple(pairs), replace(settings, with_poses=settings.with_poses and has_poses))


class RecordStore:
    """Finished records in a file of JSON lines, keyed by the fingerprint of settings and scene files.

    Each record is one appended line, so that an interrupted run loses at most the scene it was writing. While
    a run has the store open no other one can, since both would do the same work.
    """

    def __init__(self, path: Path | None):
        """Read what earlier runs kept.

        Args:
            path: the file, made with the first record; None keeps records in memory alone.

        Raises:
            EvaluationError: it is no regular file, or another run has it open.
            OSError: it cannot be opened.
        """
        self._path = path
        self._records: dict[str, Record] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        if path.exists():
            try:
                check_regular(path)
            except UnreadableFile as error:
                raise EvaluationError(f"{path}: {error}; choose another --output") from error
        self._file = path.open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise EvaluationError(
                f"{path}: another run writes these records; wait for its end, or choose another --output"
            ) from error
        self._file.seek(0)
        content = self._file.read()
        self._records.update(_read_lines(path, content))
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")  # a run that was killed wrote half a line

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, key: str) -> Record | None:
        """Return the record of a fingerprint, or None."""
        return self._records.get(key)

    def add(self, key: str, record: Record) -> None:
        """Keep a record and append it to the file."""
        self._records[key] = record
        if self._file is not None:
            self._file.write((json.dumps({"fingerprint": key, "record": record}) + "\n").encode("utf-8"))


def _read_lines(path: Path, content: bytes) -> Iterator[tuple[str, Record]]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            entry = parse_json(line)
            key, record = entry["fingerprint"], entry["record"]
            if not isinstance(key, str) or not RECORD_KEYS <= record.keys():
                raise KeyError("record")
            yield key, record
        except (ValueError, LookupError, TypeError, AttributeError):
            _LOG.warning(
                "%s: line %d is no record (an interrupted write?); its scene is evaluated again", path, number
            )


def iterate_records(plan: EvaluationPlan, store: RecordStore, workers: int = 1) -> Iterator[Record]:
    """Evaluate the scenes of a plan and yield each record when it is ready.

    Scenes that the store knows are not evaluated again and come first. Figures depend neither on the number
    of workers nor on the order in which they finish.

    Args:
        plan: from `plan_evaluation`.
        store: takes every new record.
        workers: processes, of one thread each.

    Raises:
        GlbError, EvaluationError: a true scene cannot be used.
        concurrent.futures.process.BrokenProcessPool: a worker was killed, as a rule for memory.
    """
    todo: dict[str, ScenePair] = {}
    for pair in plan.pairs:
        key = fingerprint(pair, plan.settings)
        if record := store.get(key):
            yield record
        else:
            todo[key] = pair
    for key, record in _evaluate(todo, plan.settings, workers):
        store.add(key, record)
        yield record


def _evaluate(
    todo: dict[str, ScenePair], settings: EvaluationSettings, workers: int
) -> Iterator[tuple[str, Record]]:
    if not todo:
        return
    context = multiprocessing.get_context("spawn")
    with (
        _single_threaded_children(),
        ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool,
    ):
        futures = {pool.submit(evaluate_scene, pair, settings): key for key, pair in todo.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Let processes started inside use one thread each; they would otherwise fight for the cores."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
