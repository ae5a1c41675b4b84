"""The part of texturing that needs no colours: a mesh cleaned and unwrapped.

It needs neither PyTorch nor a GPU where meshes become solids, so that processes of their own do it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trellis_modules.postprocess.cleaning import CleaningConfig, check_mesh, clean_mesh
from trellis_modules.postprocess.unwrap import Unwrapped, unwrap

logger = logging.getLogger(__name__)

OnPiece = Callable[[int], object]
"""Called with the number of finished pieces of the work on one mesh."""

MAX_TEXTURE_SIZE = 8192


@dataclass(frozen=True)
class PreparedSurface:
    """A clean mesh and its texture coordinates.

    Attributes:
        vertices: (V, 3) float32, object z-up frame.
        faces: (F, 3) int64.
        charts: the same mesh, cut along seams.
    """

    vertices: np.ndarray
    faces: np.ndarray
    charts: Unwrapped


def prepare_surface(
    where: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    cleaning: CleaningConfig,
    texture_size: int,
    device: Any = "cpu",
    on_piece: OnPiece | None = None,
) -> PreparedSurface | None:
    """Clean and unwrap a mesh; None when it has no face.

    Args:
        where: named in errors and warnings.
        vertices: (V, 3) float, object z-up frame.
        faces: (F, 3) integer.
        cleaning: what is done to the mesh.
        texture_size: texels per edge.
        device: where visibility is rendered, which only meshes need that are no solids.
        on_piece: called with 1 when the mesh is clean and with 2 when it is unwrapped.

    Raises:
        ValueError: a shape or number is out of range, or a coordinate is not finite.
    """
    if not 1 <= texture_size <= MAX_TEXTURE_SIZE:
        raise ValueError(f"{where}: expected texture_size in [1, {MAX_TEXTURE_SIZE}], got {texture_size}")
    check_mesh(where, vertices, faces)
    clean, corners = clean_mesh(vertices, faces, cleaning, device)
    if not len(corners):
        logger.warning("%s: the mesh has no face; nothing to texture", where)
        return None
    report = on_piece or (lambda pieces: None)
    report(1)
    charts = unwrap(clean, corners, texture_size)
    report(2)
    return PreparedSurface(clean, corners, charts)
