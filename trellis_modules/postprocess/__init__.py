"""From a decoder's mesh and appearance to a textured mesh: cleaning, texture coordinates, baking."""

from trellis_modules.postprocess.baking import bake_gaussians, bake_vertex_colours, to_textured_mesh
from trellis_modules.postprocess.cleaning import CleaningConfig, clean_mesh
from trellis_modules.postprocess.observations import Observations, observe
from trellis_modules.postprocess.optimization import TextureOptimization
from trellis_modules.postprocess.remesh import remesh_solid
from trellis_modules.postprocess.solid import SolidReport, report_solid, solid_of_faces, tidy_solid
from trellis_modules.postprocess.textured_mesh import TexturedMesh

__all__ = [
    "CleaningConfig",
    "Observations",
    "SolidReport",
    "TextureOptimization",
    "TexturedMesh",
    "bake_gaussians",
    "bake_vertex_colours",
    "clean_mesh",
    "observe",
    "remesh_solid",
    "report_solid",
    "solid_of_faces",
    "tidy_solid",
    "to_textured_mesh",
]
