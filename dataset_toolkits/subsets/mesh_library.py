"""Meshes of the prepared furniture, read when a layout needs them and kept."""

from __future__ import annotations

from pathlib import Path

from dataset_toolkits.subsets.sweethome3d.metadata import model_infos, read_metadata
from dataset_toolkits.subsets.sweethome3d.prepare import load_prepared, mesh_path
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.pictures.render_mesh import RenderMesh, load_glb

COMPOSED_TIERS = ("floor", "small")


class MeshLibrary:
    """The models below one data root: ``infos`` by id, their meshes on demand."""

    def __init__(self, data_root: Path) -> None:
        """Use the data root that ``dataset_toolkits.build_metadata`` wrote.

        Raises:
            MetadataError: it has no metadata.csv.
        """
        self.root = data_root
        self.infos: dict[str, ModelInfo] = model_infos(read_metadata(data_root))
        self._render_meshes: dict[str, RenderMesh] = {}

    def of_split(self, split: str) -> list[ModelInfo]:
        """Models of a split that scenes are composed of."""
        return [info for info in self.infos.values() if info.split == split and info.tier in COMPOSED_TIERS]

    def glb(self, model_id: str) -> Path:
        """Path of a model's textured GLB."""
        return self.root / mesh_path(model_id)

    def render_mesh(self, model_id: str) -> RenderMesh:
        """A model's mesh for rendering.

        Raises:
            FileNotFoundError, ValueError: its GLB is missing or empty.
        """
        if model_id not in self._render_meshes:
            self._render_meshes[model_id] = load_glb(self.glb(model_id))
        return self._render_meshes[model_id]

    def render_meshes(self, layout: SceneLayout) -> dict[str, RenderMesh]:
        """Meshes for rendering a layout, by model id; errors as for ``render_mesh``."""
        return {placed.model_id: self.render_mesh(placed.model_id) for placed in layout.objects}

    def outer_meshes(self, layout: SceneLayout) -> dict[str, FurnitureMesh]:
        """Face-coloured meshes of a layout without hidden faces, for the truth.

        Raises:
            MetadataError: a prepared mesh is missing.
        """
        meshes = {}
        for model_id in {placed.model_id for placed in layout.objects}:
            prepared = load_prepared(self.root, model_id)
            if prepared is None:
                raise MetadataError(
                    f"{model_id}: no prepared mesh below {self.root}; run build_metadata.py and download.py"
                )
            meshes[model_id] = prepared.outer_mesh()
        return meshes
