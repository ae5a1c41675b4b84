"""From a decoder's mesh and appearance to a textured mesh: cleaning, texture coordinates, baking.

A name is imported when it is first used: processes that clean and unwrap meshes do not wait for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CleaningConfig": "cleaning",
    "Observations": "observations",
    "PreparedSurface": "preparation",
    "SolidReport": "solid",
    "TextureOptimization": "optimization",
    "TexturedMesh": "textured_mesh",
    "bake_gaussians": "baking",
    "bake_vertex_colours": "baking",
    "clean_mesh": "cleaning",
    "observe": "observations",
    "prepare_surface": "preparation",
    "remesh_solid": "remesh",
    "report_solid": "solid",
    "solid_of_faces": "solid",
    "tidy_solid": "solid",
    "to_textured_mesh": "baking",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
