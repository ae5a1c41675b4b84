"""Evaluating folders of scenes: pairing files, and comparing pairs on an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scenegen.batch.engines.tasks import Task, TaskFunction, TaskRecord, TaskResult, Work
from scenegen.evaluation.appearance import AppearanceSources
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.evaluation.records import KILLED, RecordStore
from scenegen.evaluation.scene import Record, evaluate_scene, fingerprint, unmeasured_scene
from scenegen.evaluation.scene_files import ScenePair
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import EvaluationSettings
from scenegen.export.names import SCENE_FILE

_LOG = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class EvaluationWork:
    """Comparing pairs of scenes; settings of a task are a `ScenePair`, its result is a record.

    Attributes:
        settings, sources: of the plan.
        device: evaluation runs on the CPU.
    """

    settings: EvaluationSettings
    sources: AppearanceSources | None = None
    device: str = "cpu"

    def open(self) -> TaskFunction:
        """Nothing is loaded: what needs networks loads them when it first meets a scene."""
        return lambda task: self.compare(task.settings)

    def compare(self, pair: ScenePair) -> TaskResult:
        """The record of a pair.

        Raises:
            GlbError, EvaluationError: the true scene cannot be used.
        """
        record = evaluate_scene(pair, self.settings, self.sources)
        return TaskResult(record, record["error"])


def iterate_records(
    plan: EvaluationPlan, store: RecordStore, run: Callable[[Iterable[Task], Work], Iterable[TaskRecord]]
) -> Iterator[Record]:
    """Evaluate the scenes of a plan and yield each record when it is ready.

    Scenes that the store knows are not evaluated again and come first. Figures depend neither on the engine
    nor on the order in which scenes are finished. A scene whose workers are killed counts as failed.

    Args:
        plan: from `plan_evaluation`.
        store: takes every new record.
        run: of an engine.

    Raises:
        GlbError, EvaluationError: a true scene cannot be used.
    """
    todo: dict[str, tuple[str, ScenePair]] = {}
    for pair in plan.pairs:
        key = fingerprint(pair, plan.settings, plan.sources)
        if known := store.resume(key):
            yield known
        else:
            todo[pair.scene_id] = key, pair
    tasks = [Task(scene_id, pair) for scene_id, (_, pair) in todo.items()]
    for made in run(tasks, EvaluationWork(plan.settings, plan.sources)):
        key, pair = todo[made.id]
        record = _killed(pair, plan) if made.value is None else made.value
        store.add(key, record)
        yield record


def _killed(pair: ScenePair, plan: EvaluationPlan) -> Record:
    error = (
        f"{pair.scene_id}: its worker process was killed, as a rule for lack of memory; counted as failed, "
        "run again with fewer --workers"
    )
    _LOG.error("%s", error)
    return unmeasured_scene(pair, plan.settings, plan.sources, error) | {KILLED: True}
