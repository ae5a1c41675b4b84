"""What a batch is told: where results go, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenegen.export.options import ExportOptions
from scenegen.export.registry import DEFAULT_FORMATS
from scenegen.inputs.read_options import ReadOptions
from scenegen.pipelines.settings import RunSettings


@dataclass(frozen=True)
class BatchOptions:
    """Where results go and how they are made.

    Attributes:
        output: each scene gets the folder ``<output>/<scene_id>``.
        formats: some of `ALL_FORMATS`.
        settings: how each scene is made; the seed is the same for all, so that a scene does not depend on its
            batch.
        overwrite: make finished scenes again.
        export: how files are written.
        refine: afterwards, complete what stands, and push objects out of each other and onto the floor.
        settle: with ``refine``, let the objects come to rest under gravity last.
        room: add the floor and the walls that the photo shows.
        auto_masks: find the objects of photos that have neither masks nor boxes.
        frame: "query" or "first": the object in whose frame the files stand, the query or the one with the
            lowest number.
        is_root: write ``<output>/<scene_id>.glb`` and ``.json``, as true scenes lie, and no folder.
        reading: what counts as an object of a photo.
        model: what else decides over a scene, above all the checkpoint, as JSON types; a scene of another one
            is made again.
        segmenter: likewise, of what finds masks.
    """

    output: Path
    formats: Sequence[str] = DEFAULT_FORMATS
    settings: RunSettings = RunSettings()
    overwrite: bool = False
    export: ExportOptions = ExportOptions()
    refine: bool = False
    settle: bool = False
    room: bool = False
    auto_masks: bool = False
    frame: str = "query"
    is_root: bool = False
    reading: ReadOptions = ReadOptions()
    model: Mapping[str, Any] = field(default_factory=dict)
    segmenter: Mapping[str, Any] = field(default_factory=dict)
