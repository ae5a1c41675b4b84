"""Small packs of simple shapes and of procedural furniture."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import trimesh

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo

PackMaker = Callable[[Sequence[trimesh.Trimesh]], MeshPack]


@pytest.fixture(scope="session")
def furniture() -> MeshPack:
    """Eight procedural models."""
    return generate_pack(8, seed=1, remove_hidden=False)


@pytest.fixture(scope="session")
def make_pack() -> PackMaker:
    """Function (meshes in the object frame) -> pack; model k has the colour (k, 2 k, 3 k) and symmetry 1."""

    def make(meshes: Sequence[trimesh.Trimesh]) -> MeshPack:
        models = []
        for number, mesh in enumerate(meshes):
            colours = np.tile(np.uint8([number, 2 * number, 3 * number]), (len(mesh.faces), 1))
            info = ModelInfo(f"shape/{number}", "Shape", "Table", "floor", "train", tuple(mesh.extents))
            models.append((FurnitureMesh(mesh.vertices, mesh.faces, colours), info))
        return MeshPack.from_meshes(models)

    return make
