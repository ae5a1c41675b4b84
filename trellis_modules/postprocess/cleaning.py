"""From a decoder's mesh to one worth texturing: simplified, and solid or, as released, seen from outside."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import fast_simplification
import numpy as np

from trellis_modules.postprocess.face_count import simplify_to
from trellis_modules.postprocess.hidden_faces import remove_hidden_faces
from trellis_modules.postprocess.hole_filling import fill_holes
from trellis_modules.postprocess.solid import solid_of_faces, tidy_solid
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas, weld

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

_MAX_HOLE_EDGES = 250  # before simplification; fewer faces have shorter borders
_MIN_AREA = 1e-8  # less is rounding, and has no texture coordinates
_MAX_COORDINATE = 0.75  # what the cameras that test visibility see
# Views and pixels along their edge; the published numbers are 1000 and 1024.
_VIEWS = {"cpu": (64, 160), "cuda": (200, 512)}


@dataclass(frozen=True)
class CleaningConfig:
    """What to do with a mesh before it is textured.

    Attributes:
        simplify: share of the faces to remove, in [0, 1); 0 keeps them all.
        fill_holes: remove faces that cannot be seen from outside, and close small holes: the released way.
        fill_holes_max_size: area of the largest hole that removing hidden faces may leave (to be closed).
        num_faces: simplify the clean mesh to so many faces; None leaves it at what ``simplify`` gave.
        solid: in place of the released way, make a closed surface manifold and drop its crumbs, see
            `tidy_solid`.
        watertight: with ``solid``, draw a surface anew that is not closed even then, see `remesh_solid`.
    """

    simplify: float = 0.95
    fill_holes: bool = True
    fill_holes_max_size: float = 0.04
    num_faces: int | None = None
    solid: bool = False
    watertight: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.simplify < 1:
            raise ValueError(
                f"CleaningConfig: expected simplify, the share of faces to remove, in [0, 1), "
                f"got {self.simplify}"
            )
        if not self.fill_holes_max_size >= 0:
            raise ValueError(
                f"CleaningConfig: expected fill_holes_max_size >= 0, got {self.fill_holes_max_size}"
            )

    @property
    def max_hole_edges(self) -> int:
        """Edges of the longest hole to close."""
        return int(_MAX_HOLE_EDGES * math.sqrt(1 - self.simplify))


def check_mesh(where: str, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Refuse what is no mesh in the object frame.

    Raises:
        ValueError: shapes are not (V, 3) and (F, 3), a coordinate is not finite or far outside of the object
            cube, or a face names a vertex that does not exist; ``where`` opens the message.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            f"{where}: expected vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}"
        )
    if not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"{where}: expected vertex indices as integers, got {faces.dtype}")
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise ValueError(
            f"{where}: {bad} of {len(vertices)} vertices are not finite; check the decoder's weights"
        )
    if len(vertices) and np.abs(vertices).max() > _MAX_COORDINATE:
        raise ValueError(
            f"{where}: expected an object in the cube [-0.5, 0.5]^3, got a coordinate of "
            f"{np.abs(vertices).max():.3g}; scale the mesh first"
        )
    if len(faces) and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(
            f"{where}: expected vertex indices in [0, {len(vertices)}), got [{faces.min()}, {faces.max()}]"
        )


def clean_mesh(
    vertices: np.ndarray, faces: np.ndarray, config: CleaningConfig, device: torch.device | str
) -> tuple[np.ndarray, np.ndarray]:
    """Weld and simplify; then make a solid, or drop hidden faces and close small holes.

    A step that would leave nothing is skipped with a warning.

    Args:
        vertices: (V, 3) float32, object frame.
        faces: (F, 3) int.
        config: what to do.
        device: where visibility is rendered.

    Returns:
        Vertices (W, 3) float32 and faces (G, 3) int64; both empty for a mesh without area.
    """
    vertices, faces, _ = weld(vertices.astype(np.float32), faces.astype(np.int64))
    if triangle_areas(vertices, faces).sum() < _MIN_AREA:
        return vertices[:0], faces[:0]
    if config.solid:
        return _unless_empty("making a solid", (vertices, faces), _solid(vertices, faces, config))
    if config.simplify > 0:
        fewer = _simplify(vertices, faces, config)
        vertices, faces = _unless_empty("simplification", (vertices, faces), fewer)
    if config.fill_holes:
        visibility = _visibility(vertices, faces, device)
        visible = remove_hidden_faces(vertices, faces, visibility, config.fill_holes_max_size)
        vertices, faces = _unless_empty("removal of hidden faces", (vertices, faces), visible)
        vertices, faces = fill_holes(vertices, faces, config.max_hole_edges)
    if config.num_faces is not None:
        fewer = simplify_to(vertices, faces.astype(np.int32), config.num_faces, _weld)
        vertices, faces = _unless_empty("simplification", (vertices, faces), fewer)
    return vertices, faces


def _solid(vertices: np.ndarray, faces: np.ndarray, config: CleaningConfig) -> tuple[np.ndarray, np.ndarray]:
    if config.num_faces is not None:
        count, solid = config.num_faces, solid_of_faces(vertices, faces, config.num_faces)
    else:
        count = round((1 - config.simplify) * len(faces))
        solid = tidy_solid(vertices, faces, count)
    if not config.watertight:
        return solid
    from trellis_modules.postprocess.remesh import remesh_solid  # needs PyTorch, which takes long to import

    return remesh_solid(*solid, num_faces=count)


def _simplify(
    vertices: np.ndarray, faces: np.ndarray, config: CleaningConfig
) -> tuple[np.ndarray, np.ndarray]:
    fewer = fast_simplification.simplify(vertices, faces.astype(np.int32), target_reduction=config.simplify)
    return _weld(*fewer)


def _weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join what simplification left, whose types are its own."""
    vertices, faces, _ = weld(vertices.astype(np.float32), faces.astype(np.int64))
    return vertices, faces


def _visibility(vertices: np.ndarray, faces: np.ndarray, device: torch.device | str) -> np.ndarray:
    """(F,) share of evenly spread views in which each face is seen."""
    import torch  # takes long to import; meshes that become solids do not need it

    from trellis_modules.postprocess.visibility import face_visibility

    device = torch.device(device)
    mesh = torch.from_numpy(vertices).to(device), torch.from_numpy(faces).to(device)
    return face_visibility(*mesh, *_VIEWS.get(device.type, _VIEWS["cpu"])).cpu().numpy()


def _unless_empty(
    step: str, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    if len(after[1]):
        return after
    logger.warning("clean_mesh: %s would leave nothing of %d faces; skipped", step, len(before[1]))
    return before
