"""Sets of scenes on disk, rendered from their layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.pictures.scene_renderer import ScenePicture
from scenegen.synthesis.pictures.scene_writer import ScenePaths, write_masked_scene


class TruthMeshes(Protocol):
    """Where the truth of scenes comes from."""

    @property
    def infos(self) -> Mapping[str, ModelInfo]:
        """Records by model id."""

    def outer_meshes(self, layout: SceneLayout) -> Mapping[str, FurnitureMesh]:
        """The meshes of a layout, by model id, without faces that nobody can see."""


def write_scene_set(
    layouts: Iterable[SceneLayout],
    render: Callable[[SceneLayout], ScenePicture],
    meshes: TruthMeshes,
    root: Path,
    set_name: str,
    with_depth: bool = False,
) -> int:
    """Render and write the scenes that are not there yet.

    Args:
        layouts: objects sorted by visible area.
        render: makes the picture of a layout.
        meshes: for the truth.
        root, set_name: see `ScenePaths`.
        with_depth: whether depth is written too.

    Returns:
        How many scenes were written.
    """
    written = 0
    for layout in layouts:
        paths = ScenePaths.of(root, set_name, layout.scene_id)
        if paths.complete(with_depth):
            continue
        outer_meshes = meshes.outer_meshes(layout)
        write_masked_scene(layout, render(layout), outer_meshes, meshes.infos, paths, with_depth)
        written += 1
    return written
