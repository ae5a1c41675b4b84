"""From decoded meshes to textured ones: where the colours come from, and how they are baked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import trimesh

from scenegen.checkpoints.schema import TextureSource
from scenegen.geometry import zup_to_yup
from trellis_modules.postprocess import (
    CleaningConfig,
    PreparedSurface,
    bake_gaussians,
    bake_vertex_colours,
    observe,
    to_textured_mesh,
)
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.representations.mesh.welding import weld_tensors
from trellis_modules.representations.moving import to_device
from trellis_modules.representations.strivec import Strivec

TextureMode = Literal["direct", "views", "opt"]
"""Colours read at the surface, averaged over views, or fitted to the views by optimisation."""

TEXTURE_MODES: Mapping[TextureSource, tuple[TextureMode, ...]] = {
    "gaussian": ("direct", "views", "opt"),
    "mesh": ("direct",),
    "radiance_field": ("views", "opt"),
}
"""How the colours of each source can be taken; the first is the default."""

SolidMode = Literal["solid", "released"]
"""Objects as solids, or as released: post-processed double skins with openings."""

MIN_TEXTURE_SIZE, MAX_TEXTURE_SIZE = 64, 8192

TEXTURE_PIECES = 3
"""Pieces of the work on one object: it is cleaned, unwrapped and coloured."""

# Views of the appearance and pixels along their edge; the published number is 100 of 1024.
_VIEWS = {"cpu": (24, 512), "cuda": (100, 1024)}

# Faces before hidden ones are removed, of those that are wanted: decoded shells have two sides, and more.
_BEFORE_CLEANING = 4


@dataclass(frozen=True)
class TextureSettings:
    """How decoded meshes become textured ones.

    Attributes:
        source: "gaussian" takes the colours of the Gaussians, "mesh" those of the decoded mesh and
            "radiance_field" those of views of the field; None takes the checkpoint's choice.
        mode: one of `TEXTURE_MODES` of the source; None takes the first.
        size: texels along the edge of the texture.
        simplify: share of the faces that simplification removes, in [0, 1).
        fill_holes: where surfaces are as released, remove hidden faces and close small holes.
        surface: see `SolidMode`.
    """

    source: TextureSource | None = None
    mode: TextureMode | None = None
    size: int = 1024
    simplify: float = 0.95
    fill_holes: bool = True
    surface: SolidMode = "solid"

    def __post_init__(self) -> None:
        if self.source not in (None, *get_args(TextureSource)):
            raise ValueError(
                f"TextureSettings: source must be one of {get_args(TextureSource)}, got {self.source!r}"
            )
        if self.mode not in (None, *get_args(TextureMode)):
            raise ValueError(
                f"TextureSettings: mode must be one of {get_args(TextureMode)}, got {self.mode!r}"
            )
        if self.surface not in get_args(SolidMode):
            raise ValueError(
                f"TextureSettings: surface must be one of {get_args(SolidMode)}, got {self.surface!r}"
            )
        if not 0 <= self.simplify < 1:
            raise ValueError(f"TextureSettings: simplify must be in [0, 1), got {self.simplify}")
        if not MIN_TEXTURE_SIZE <= self.size <= MAX_TEXTURE_SIZE:
            raise ValueError(
                f"TextureSettings: size must be in [{MIN_TEXTURE_SIZE}, {MAX_TEXTURE_SIZE}], got {self.size}"
            )


def texture_mesh(
    mesh: MeshExtractResult,
    appearance: Gaussian | Strivec | None,
    settings: TextureSettings,
    device: torch.device,
    *,
    num_faces: int | None = None,
    watertight: bool = False,
    on_piece: Callable[[int], object] | None = None,
    surface: PreparedSurface | None = None,
) -> trimesh.Trimesh | None:
    """Clean, simplify, unwrap and texture one object.

    Args:
        mesh: not empty, with colours when there is no ``appearance``.
        appearance: source of the texture; None takes the colours of the mesh.
        settings: see `TextureSettings`; its ``source`` is the caller's business, and its ``mode`` fits it.
        device: where the work is done.
        num_faces: triangles of the result, in place of ``settings.simplify``; fewer where the clean mesh has
            not so many.
        watertight: draw a surface anew that is not closed; only for ``settings.surface`` "solid".
        on_piece: called with the number of finished pieces before the last of `TEXTURE_PIECES`; what it
            raises ends the work.
        surface: the mesh, cleaned and unwrapped as `preparation_of` says, where that was done before.

    Returns:
        A mesh in the object y-up frame with UVs, normals and a PBR material; None when it has no area.

    Raises:
        ValueError: numbers are not finite or far outside of the object cube, or the mesh has no colours.
    """
    common: dict[str, Any] = {
        "cleaning": _cleaning(mesh, settings, num_faces, watertight),
        "texture_size": settings.size,
        "device": device,
        "on_piece": on_piece,
        "surface": surface,
    }
    if appearance is None:
        if mesh.vertex_attrs is None:
            raise ValueError("texture_mesh: expected a mesh with colours, its decoder gives none")
        textured = bake_vertex_colours(mesh.vertices, mesh.faces, mesh.vertex_attrs[:, :3], **common)
    elif isinstance(appearance, Gaussian) and settings.mode in (None, "direct"):
        textured = bake_gaussians(mesh.vertices, mesh.faces, appearance, **common)
    else:
        mode = "opt" if settings.mode == "opt" else "fast"
        views, size = _VIEWS["cuda" if device.type == "cuda" else "cpu"]
        observations = observe(to_device(appearance, device), views, size)
        textured = to_textured_mesh(mesh.vertices, mesh.faces, observations, mode=mode, **common)
    return None if textured.is_empty else textured.to_trimesh()


def preparation_of(
    mesh: MeshExtractResult,
    settings: TextureSettings,
    num_faces: int | None,
    watertight: bool,
    device: torch.device | None = None,
) -> tuple[Any, ...]:
    """The arguments with which `prepare_surface` does what `texture_mesh` would, without a device.

    A mesh is welded on ``device``, where that is a GPU: welding it again changes nothing and takes less time.
    """
    cleaning = _cleaning(mesh, settings, num_faces, watertight)
    vertices, faces = mesh.vertices, mesh.faces
    if device is not None and device.type == "cuda" and bool(vertices.isfinite().all()):
        vertices, faces = weld_tensors(vertices.to(device), faces.to(device))
    return "texture_mesh", vertices.cpu().numpy(), faces.cpu().numpy(), cleaning, settings.size


def _cleaning(
    mesh: MeshExtractResult, settings: TextureSettings, num_faces: int | None, watertight: bool
) -> CleaningConfig:
    simplify = settings.simplify
    if num_faces is not None:
        simplify = max(0.0, 1 - _BEFORE_CLEANING * num_faces / len(mesh.faces))
    return CleaningConfig(
        simplify,
        settings.fill_holes,
        num_faces=num_faces,
        solid=settings.surface == "solid",
        watertight=watertight,
    )


def vertex_coloured_mesh(mesh: MeshExtractResult) -> trimesh.Trimesh:
    """A decoded mesh as it is, in the object y-up frame, with the colours of its vertices, or grey."""
    colours = torch.full_like(mesh.vertices, 0.5) if mesh.vertex_attrs is None else mesh.vertex_attrs[:, :3]
    return trimesh.Trimesh(
        zup_to_yup(mesh.vertices).numpy(),
        mesh.faces.numpy(),
        vertex_colors=(colours.clamp(0, 1) * 255).round().byte().numpy(),
        process=False,
    )
