"""Which scenes of a batch are finished: made from what it would make them from, as their records say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.batch.options import BatchOptions
from scenegen.batch.origin import ORIGIN_KEY, Origin, as_settings, origin_of
from scenegen.export.data_root import record_file, scene_file
from scenegen.export.kept_files import read_record
from scenegen.export.scene_files import is_complete
from scenegen.inputs.layout import InputScene

_VIDEO = "mp4"
_SHOWN = 4  # files in one line


def is_pending(scene: InputScene, options: BatchOptions) -> bool:
    """Whether a scene has to be made, or made again because what it is made from has changed.

    A finished scene whose record does not say what it was made from, as those of earlier versions, stays. One
    whose input cannot be read any more is pending: making it reports why, and what is there stays.
    """
    record = None if options.overwrite else _finished_record(scene, options)
    if record is None:
        return True
    if ORIGIN_KEY not in record:
        return False
    origin = origin_in_batch(scene, options)
    return origin is None or bool(origin.changes_from(record))


def replacement_line(scene: InputScene, origin: Origin, options: BatchOptions) -> str | None:
    """One line about a finished scene that is made again: what has changed and which files are replaced.

    Returns:
        None where there is no finished scene, or it is made again because the caller said so.
    """
    record = None if options.overwrite else _finished_record(scene, options)
    if record is None or not (changes := origin.changes_from(record)):
        return None
    names = sorted(str(name) for name in record.get("files", ()))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{scene.scene_id}: was made from {' and '.join(changes)}; it is made again, in place of "
        f"{', '.join(names[:_SHOWN])}{more} in {options.output}"
    )


def origin_in_batch(scene: InputScene, options: BatchOptions) -> Origin | None:
    """What a batch makes a scene from; None where the input cannot be read."""
    if scene.fault is not None:
        return None
    try:
        found = options.output / scene.scene_id
        return origin_of(
            scene, found, _settings(options), {"auto_masks": options.auto_masks, **options.segmenter}
        )
    except (OSError, UnreadableFile):
        return None


def _finished_record(scene: InputScene, options: BatchOptions) -> Mapping[str, Any] | None:
    """The record of a scene that an earlier run finished: None where none did, empty where it is lost."""
    if not options.is_root:
        folder = options.output / scene.scene_id
        return read_record(folder) if is_complete(folder, options.formats) else None
    if not scene_file(options.output, scene.scene_id).is_file():
        return None
    try:
        record = read_json(record_file(options.output, scene.scene_id))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _settings(options: BatchOptions) -> dict[str, Any]:
    """What a batch is told that decides over a scene; not whether one is made, nor what else is written."""
    export = as_settings(
        options.export, without=("device", *(() if _VIDEO in options.formats else ("turntable",)))
    )
    return {
        **as_settings(options.settings, without=("representations",)),
        **as_settings(options.reading, without=("max_objects", "strict")),
        **export,
        "refine": options.refine,
        **({"settle": True} if options.settle else {}),  # records of earlier versions do not have it
        "room": options.room,
        "frame": options.frame,
        **options.model,
    }
