"""From a mesh and its appearance to a textured mesh, on any device."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trellis_modules.postprocess.cleaning import CleaningConfig
from trellis_modules.postprocess.fusion import fuse_observations
from trellis_modules.postprocess.inpainting import fill_outside_charts, spread_over_surface
from trellis_modules.postprocess.observations import Observations
from trellis_modules.postprocess.optimization import TextureOptimization, optimize_texture
from trellis_modules.postprocess.preparation import OnPiece, PreparedSurface, prepare_surface
from trellis_modules.postprocess.surface_colours import gaussian_colours_at, vertex_colours_at
from trellis_modules.postprocess.texels import SurfaceTexels, surface_texels
from trellis_modules.postprocess.textured_mesh import TexturedMesh
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.mesh.normals import vertex_normals

logger = logging.getLogger(__name__)

DEFAULT_CLEANING = CleaningConfig()
MODES = ("fast", "opt")
_UNKNOWN_GREY = 0.5


@dataclass(frozen=True)
class _Canvas:
    """A clean mesh with texture coordinates, ready to be coloured: z up, on the device of the baking."""

    vertices: Tensor  # (V, 3) float32
    faces: Tensor  # (F, 3) int64
    uvs: Tensor  # (V, 2) float32
    normals: Tensor  # (V, 3) float32, of the surface before it was cut along seams
    texels: SurfaceTexels


def to_textured_mesh(
    vertices: Tensor | np.ndarray,
    faces: Tensor | np.ndarray,
    observations: Observations,
    *,
    cleaning: CleaningConfig = DEFAULT_CLEANING,
    texture_size: int = 1024,
    mode: str = "fast",
    optimization: TextureOptimization | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    on_piece: OnPiece | None = None,
    surface: PreparedSurface | None = None,
) -> TexturedMesh:
    """Clean a mesh, unwrap it and bake the colours that pictures of the object show.

    Args:
        vertices: (V, 3) float, object z-up frame.
        faces: (F, 3) integer, counter-clockwise seen from outside.
        observations: pictures of the appearance, see ``observe``.
        cleaning: what is done to the mesh first.
        texture_size: texels per edge.
        mode: "fast", the weighted mean of the views; "opt" refines it until its pictures match the views,
            which is sharper and takes longer (two to three times as long on a CPU).
        optimization: settings of "opt".
        generator: of "opt", on the CPU; None is a fixed one.
        device: where to work; None is that of the vertices.
        on_piece: called with 1 when the mesh is clean and with 2 when it is unwrapped; what it raises ends
            the work.
        surface: the mesh as `prepare_surface` leaves it with the same settings, where that was done before.

    Returns:
        TexturedMesh, y up. It is empty if the mesh has no face, and grey if the pictures do not show it.

    Raises:
        ValueError: a shape, number or name is out of range, or a coordinate is not finite.

    Source: TRELLIS, arXiv:2412.01506, app. (GLB export).
    """
    if mode not in MODES:
        raise ValueError(f"to_textured_mesh: expected mode in {MODES}, got {mode!r}")
    canvas = _canvas("to_textured_mesh", vertices, faces, cleaning, texture_size, device, on_piece, surface)
    if canvas is None:
        return TexturedMesh.empty(_plain_texture(texture_size))
    observations = observations.to(canvas.vertices.device)
    colour, weight = fuse_observations(canvas.texels, canvas.vertices, canvas.faces, observations)
    texture = _fill(canvas.texels, colour, weight > 0)
    if mode == "opt":
        mesh = canvas.vertices, canvas.faces, canvas.uvs
        texture = optimize_texture(
            texture, canvas.texels.covered(), mesh, observations,
            optimization or TextureOptimization(), generator,
        )  # fmt: skip
    return _finish(canvas, texture)


def bake_gaussians(
    vertices: Tensor | np.ndarray,
    faces: Tensor | np.ndarray,
    gaussian: Gaussian,
    *,
    cleaning: CleaningConfig = DEFAULT_CLEANING,
    texture_size: int = 1024,
    device: torch.device | str | None = None,
    on_piece: OnPiece | None = None,
    surface: PreparedSurface | None = None,
) -> TexturedMesh:
    """Bake the colours of Gaussians that lie on the surface, without pictures: fast without a GPU.

    The other arguments, the result and the errors are those of :func:`to_textured_mesh`.
    """
    canvas = _canvas("bake_gaussians", vertices, faces, cleaning, texture_size, device, on_piece, surface)
    if canvas is None:
        return TexturedMesh.empty(_plain_texture(texture_size))
    _check_finite(
        "bake_gaussians", "Gaussians",
        gaussian.xyz, gaussian.features_dc, gaussian.opacity, gaussian.scaling, gaussian.rotation,
    )  # fmt: skip
    colour, alpha = gaussian_colours_at(canvas.texels, gaussian.to(canvas.vertices))
    return _finish(canvas, _fill(canvas.texels, colour, alpha > 0))


def bake_vertex_colours(
    vertices: Tensor | np.ndarray,
    faces: Tensor | np.ndarray,
    vertex_colours: Tensor | np.ndarray,
    *,
    cleaning: CleaningConfig = DEFAULT_CLEANING,
    texture_size: int = 1024,
    device: torch.device | str | None = None,
    on_piece: OnPiece | None = None,
    surface: PreparedSurface | None = None,
) -> TexturedMesh:
    """Keep the colours (V, 3) in [0, 1] of a fine mesh in the texture of a simplified one.

    The other arguments, the result and the errors are those of :func:`to_textured_mesh`.
    """
    if tuple(vertex_colours.shape) != (len(vertices), 3):
        raise ValueError(
            f"bake_vertex_colours: expected vertex_colours ({len(vertices)}, 3), "
            f"got {tuple(vertex_colours.shape)}"
        )
    canvas = _canvas(
        "bake_vertex_colours", vertices, faces, cleaning, texture_size, device, on_piece, surface
    )
    if canvas is None:
        return TexturedMesh.empty(_plain_texture(texture_size))
    points, corners, colours = (
        torch.as_tensor(values).detach().to(canvas.vertices.device)
        for values in (vertices, faces, vertex_colours)
    )
    points, colours = points.float(), colours.float()
    _check_finite("bake_vertex_colours", "vertex colours", colours)
    colour = vertex_colours_at(canvas.texels, points, vertex_normals(points, corners.long()), colours)
    return _finish(canvas, _fill(canvas.texels, colour, torch.ones_like(colour[:, 0], dtype=torch.bool)))


def _canvas(
    where: str,
    vertices: Tensor | np.ndarray,
    faces: Tensor | np.ndarray,
    cleaning: CleaningConfig,
    texture_size: int,
    device: torch.device | str | None,
    on_piece: OnPiece | None,
    surface: PreparedSurface | None = None,
) -> _Canvas | None:
    """A mesh, cleaned and unwrapped unless it comes as ``surface``; None when it has no face."""
    if device is None:
        device = vertices.device if isinstance(vertices, Tensor) else "cpu"
    device = torch.device(device)
    if surface is None:
        raw = tuple(torch.as_tensor(values).detach().cpu().numpy() for values in (vertices, faces))
        surface = prepare_surface(where, *raw, cleaning, texture_size, device, on_piece)
        if surface is None:
            return None
    points = torch.from_numpy(surface.vertices).to(device)
    smooth = vertex_normals(points, torch.from_numpy(surface.faces).to(device))
    charts = surface.charts
    vertex, seamed, uvs = (
        torch.from_numpy(values).to(device) for values in (charts.vertex, charts.faces, charts.uvs)
    )
    texels = surface_texels(points[vertex][seamed], uvs[seamed], texture_size)
    return _Canvas(points[vertex], seamed, uvs, smooth[vertex], texels)


def _check_finite(where: str, what: str, *values: Tensor) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise ValueError(f"{where}: expected finite {what}, got nan or inf; check the decoder's weights")


def _fill(texels: SurfaceTexels, colour: Tensor, known: Tensor) -> Tensor:
    """Texture (S, S, 3) in [0, 1] from colours (T, 3) of texels, where known (T,) bool."""
    if bool(known.any()):
        colour = spread_over_surface(colour, known, texels.position)
    else:
        logger.warning("texture baking: nothing shows the surface; the texture is grey")
        colour = torch.full_like(colour, _UNKNOWN_GREY)
    return fill_outside_charts(texels.picture(colour), texels.covered()).clamp(0, 1)


def _finish(canvas: _Canvas, texture: Tensor) -> TexturedMesh:
    """Turn to y up and leave torch."""
    return TexturedMesh(
        _y_up(canvas.vertices),
        canvas.faces.int().cpu().numpy(),
        canvas.uvs.cpu().numpy(),
        _y_up(canvas.normals),
        (texture * 255).round().to(torch.uint8).cpu().numpy(),
    )


def _y_up(zup: Tensor) -> np.ndarray:
    """Rows (x, y, z) of the z-up frame as (x, z, -y) of the y-up frame."""
    x, y, z = zup.cpu().unbind(1)
    return torch.stack([x, z, -y], dim=1).numpy()


def _plain_texture(size: int) -> np.ndarray:
    return np.full((size, size, 3), round(_UNKNOWN_GREY * 255), dtype=np.uint8)
