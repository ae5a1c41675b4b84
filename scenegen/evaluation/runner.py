"""Evaluating folders of scenes: pairing files, and worker processes that may be killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from scenegen.evaluation.appearance import AppearanceSources
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.evaluation.records import KILLED, RecordStore
from scenegen.evaluation.scene import Record, evaluate_scene, fingerprint, unmeasured_scene
from scenegen.evaluation.scene_files import ScenePair
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import EvaluationSettings
from scenegen.export.names import SCENE_FILE

_LOG = logging.getLogger(__name__)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class EvaluationPlan:
    """What a run compares: scenes in their order, settings that suit the files, the list of scenes, and where
    cameras, photos and weights are."""

    pairs: tuple[ScenePair, ...]
    settings: EvaluationSettings
    scenes: ListedScenes
    sources: AppearanceSources | None = None

    def part(self, rank: int, world_size: int) -> EvaluationPlan:
        """The share of one of several processes; the list stays that of all."""
        return replace(self, pairs=self.pairs[rank::world_size])


def plan_evaluation(
    prediction: Path,
    truth: Path,
    settings: EvaluationSettings,
    limit: int | None = None,
    scene_list: Path | None = None,
    sources: AppearanceSources | None = None,
) -> EvaluationPlan:
    """Pair the scenes of two folders by id.

    Poses are compared when the predictions have any pose file at all; a single scene without one then counts
    as worst.

    Args:
        prediction, truth: folders in one of the layouts of `scenegen.evaluation.loading`.
        settings: as asked for.
        limit: evaluate only the first scenes.
        scene_list: file of ids with their hash; None takes all scenes of the truth in natural order.
        sources: for appearance.

    Raises:
        EvaluationError: a folder is missing, the truth is empty or lacks a listed scene, the list is not what
            it states, or the folders have no scene in common.
    """
    true_scenes, predicted_scenes = find_scene_files(truth), find_scene_files(prediction)
    if not true_scenes:
        raise EvaluationError(
            f"{truth}: expected scenes as <id>.glb or <id>/{SCENE_FILE}, got none; check the path"
        )
    scenes = ListedScenes.load(scene_list) if scene_list else ListedScenes.of(truth.name, true_scenes)
    scenes = scenes.first(limit)
    if absent := [scene_id for scene_id in scenes.ids if scene_id not in true_scenes]:
        raise EvaluationError(
            f"{truth}: expected the scenes of {scenes.name}, {len(absent)} of {len(scenes.ids)} are missing, "
            f"the first is {absent[0]!r}; complete the truth"
        )
    unknown = [scene_id for scene_id in predicted_scenes if scene_id not in true_scenes]
    if unknown and len(unknown) == len(predicted_scenes):
        raise EvaluationError(
            f"{prediction}: expected scenes with the ids of the truth, such as {scenes.ids[0]!r}, got "
            f"none of them but {unknown[0]!r}; check that both folders are of one data set"
        )
    if unknown:
        _LOG.warning(
            "%s: %d predicted scenes are not in the truth and are left out, the first is %r",
            prediction,
            len(unknown),
            unknown[0],
        )
    pairs = tuple(ScenePair(true_scenes[scene_id], predicted_scenes.get(scene_id)) for scene_id in scenes.ids)
    has_poses = any(files.poses for files in predicted_scenes.values())
    if settings.with_poses and not has_poses:
        _LOG.warning("%s: no pose files; poses are not evaluated", prediction)
    settings = replace(settings, with_poses=settings.with_poses and has_poses)
    return EvaluationPlan(pairs, settings, scenes, sources)


def iterate_records(plan: EvaluationPlan, store: RecordStore, workers: int = 1) -> Iterator[Record]:
    """Evaluate the scenes of a plan and yield each record when it is ready.

    Scenes that the store knows are not evaluated again and come first. Figures depend neither on the number
    of workers nor on the order in which they finish. A scene whose worker is killed counts as failed.

    Args:
        plan: from `plan_evaluation`.
        store: takes every new record.
        workers: processes, of one thread each.

    Raises:
        GlbError, EvaluationError: a true scene cannot be used.
    """
    todo: dict[str, ScenePair] = {}
    for pair in plan.pairs:
        key = fingerprint(pair, plan.settings, plan.sources)
        if record := store.resume(key):
            yield record
        else:
            todo[key] = pair
    with _single_threaded_children():
        for key, record in _evaluate(todo, plan, workers):
            store.add(key, record)
            yield record


def _evaluate(todo: dict[str, ScenePair], plan: EvaluationPlan, workers: int) -> Iterator[tuple[str, Record]]:
    """Evaluate in worker processes; what a killed one may have worked on is tried once more, alone."""
    waiting = dict(todo)
    while waiting:
        for key, record in _until_killed(waiting, plan, workers):
            del waiting[key]
            yield key, record
        suspects = list(waiting)[: workers + 1]  # a pool hands out one scene more than it has workers
        for key in suspects:
            pair = waiting.pop(key)
            alone = list(_until_killed({key: pair}, plan, 1))
            yield alone[0] if alone else (key, _killed(pair, plan))


def _until_killed(
    todo: dict[str, ScenePair], plan: EvaluationPlan, workers: int
) -> Iterator[tuple[str, Record]]:
    """Evaluate scenes in their order until all are done or a worker is killed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
        futures = {}
        try:
            with suppress(BrokenProcessPool):  # killed while the others are handed out
                for key, pair in todo.items():
                    futures[pool.submit(evaluate_scene, pair, plan.settings, plan.sources)] = key
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    continue  # others of the pool may have finished before
        finally:
            pool.shutdown(cancel_futures=True)


def _killed(pair: ScenePair, plan: EvaluationPlan) -> Record:
    error = (
        f"{pair.scene_id}: its worker process was killed, as a rule for lack of memory; counted as failed, "
        "run again with fewer --workers"
    )
    _LOG.error("%s", error)
    return unmeasured_scene(pair, plan.settings, plan.sources, error) | {KILLED: True}


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
