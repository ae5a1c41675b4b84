"""Renderers: pictures of meshes, Gaussians and octrees on any device. Kernels are chosen in ``backends``."""

from trellis_modules.renderers.four_views import gaussian_preview
from trellis_modules.renderers.gaussian_renderer import render_gaussians
from trellis_modules.renderers.mesh_renderer import count_views_of_faces, render_mesh, visible_faces
from trellis_modules.renderers.octree_renderer import render_octree
from trellis_modules.renderers.pictures import snapshots, turntable, write_video
from trellis_modules.renderers.rendering import Rendering
from trellis_modules.renderers.snapshot import render_snapshot
from trellis_modules.renderers.structure_preview import scene_preview, structure_preview

__all__ = [
    "Rendering",
    "count_views_of_faces",
    "gaussian_preview",
    "render_gaussians",
    "render_mesh",
    "render_octree",
    "render_snapshot",
    "scene_preview",
    "snapshots",
    "structure_preview",
    "turntable",
    "visible_faces",
    "write_video",
]
