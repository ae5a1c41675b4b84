"""The appearance of one scene, entered into the records of its protocols."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenegen.evaluation.appearance import AppearanceSettings, AppearanceSources, ScenePictures
from scenegen.evaluation.loading import EvaluationError, SceneFiles
from scenegen.evaluation.pictures.object_colours import VIEW_SIZE, compare_views, draw, objects_of
from scenegen.evaluation.registration import IDENTITY, Similarity
from scenegen.evaluation.settings import CORRECTED

FEATURES = "features"
"""Key of what a record keeps for FID and KID."""

COLOURS = "colours"
"""Key of what the entry of an object keeps for the figures of its colours."""


def add_appearance(
    protocols: dict[str, dict[str, Any]],
    truth: SceneFiles,
    prediction: Path | None,
    moves: Mapping[str, Similarity],
    settings: AppearanceSettings,
    sources: AppearanceSources,
) -> list[str]:
    """Measure the appearance of a scene by each of its protocols.

    By the corrected protocol what was not predicted, or cannot be drawn, counts as an empty picture.

    Args:
        protocols: records of the scene by protocol, to which figures and features are added.
        truth: files of the true scene.
        prediction: scene file; None where there is none that can be used.
        moves: takes the scene file to that of the truth, by protocol.
        settings: of the run.
        sources: where cameras, photos and weights are.

    Returns:
        What could not be measured, one line each.
    """
    warnings = []
    try:
        pictures = ScenePictures(truth, settings, sources)
    except EvaluationError as error:
        return [str(error)]
    for protocol, record in protocols.items():
        if record["left_out"] is not None:
            continue
        kind, shown = ("metrics", prediction) if prediction else ("penalties", None)
        try:
            found = pictures.compare(shown, moves[protocol])
        except EvaluationError as error:
            warnings.append(str(error))
            if protocol != CORRECTED:
                continue
            kind, found = "penalties", pictures.compare(None, IDENTITY)
        record[kind] |= found.figures
        record[FEATURES] = found.features
    if CORRECTED in protocols:
        warnings += _add_colours(protocols[CORRECTED], truth.scene, prediction)
    return warnings


def _add_colours(record: dict[str, Any], truth: Path, prediction: Path | None) -> list[str]:
    """Compare the colours of objects whose nodes are named."""
    try:
        true, predicted = objects_of(truth), objects_of(prediction) if prediction else {}
    except EvaluationError as error:
        return [str(error)]
    for entry in record["objects"]:
        node = f"obj_{entry['id']}"
        if node in true:
            views = draw(predicted[node], VIEW_SIZE) if node in predicted else None
            entry[COLOURS] = compare_views(views, draw(true[node], VIEW_SIZE))
    return []
