"""Renderers: pictures of meshes, Gaussians and voxels on any device. Kernels are chosen in ``backends``."""

from trellis_modules.renderers.gaussian_renderer import render_gaussians
from trellis_modules.renderers.mesh_renderer import count_views_of_faces, render_mesh, visible_faces
from trellis_modules.renderers.rendering import Rendering
from trellis_modules.renderers.snapshot import render_snapshot

__all__ = [
    "Rendering",
    "count_views_of_faces",
    "render_gaussians",
    "render_mesh",
    "render_snapshot",
    "visible_faces",
]
