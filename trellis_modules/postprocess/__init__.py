"""From a decoder's mesh and appearance to a textured mesh: cleaning, texture coordinates, baking."""

from trellis_modules.postprocess.baking import bake_gaussians, bake_vertex_colours, to_textured_mesh
from trellis_modules.postprocess.cleaning import CleaningConfig, clean_mesh
from trellis_modules.postprocess.observations import Observations, observe
from trellis_modules.postprocess.optimization import TextureOptimization
from trellis_modules.postprocess.textured_mesh import TexturedMesh

__all__ = [
    "CleaningConfig",
    "Observations",
    "TextureOptimization",
    "TexturedMesh",
    "bake_gaussians",
    "bake_vertex_colours",
    "clean_mesh",
    "observe",
    "to_textured_mesh",
]
