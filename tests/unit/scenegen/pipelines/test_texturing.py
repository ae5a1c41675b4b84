"""Settings of textures, and the mesh without one."""

import numpy as np
import pytest
import torch

from scenegen.pipelines.texturing import TextureSettings, texture_mesh, vertex_coloured_mesh
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult

VERTICES = torch.tensor([[0.0, 0, 0], [0.4, 0, 0], [0, 0.3, 0], [0, 0, 0.2]])
FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def _tetrahedron(colour: tuple[float, float, float] | None) -> MeshExtractResult:
    attributes = None if colour is None else torch.tensor([[*colour, 0.5, 0.5, 0.5]]).repeat(4, 1)
    return MeshExtractResult(VERTICES, FACES, attributes, 64)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"source": "sky"}, "source must be one of .*'gaussian', 'mesh', 'radiance_field'.*got 'sky'"),
        ({"surface": "open"}, "surface must be one of .*'solid', 'released'.*got 'open'"),
        ({"mode": "best"}, "mode must be one of"),
        ({"simplify": 1.0}, r"simplify must be in \[0, 1\), got 1.0"),
        ({"size": 9000}, r"size must be in \[64, 8192\], got 9000"),
    ],
)
def test_settings_out_of_range_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        TextureSettings(**settings)


def test_texture_takes_the_colours_of_the_mesh_and_turns_it_upright():
    settings = TextureSettings(source="mesh", size=64, simplify=0.0, fill_holes=False)
    mesh = texture_mesh(_tetrahedron((1.0, 0.0, 0.5)), None, settings, torch.device("cpu"))
    np.testing.assert_allclose(mesh.bounds, [[0, 0, -0.3], [0.4, 0.2, 0]], atol=1e-6)
    assert mesh.visual.kind == "texture"
    assert np.abs(mesh.visual.to_color().vertex_colors[:, :3] - np.array([255.0, 0, 128])).max() <= 1


@pytest.mark.parametrize(("surface", "parts"), [("solid", 1), ("released", 2)])
def test_solids_have_no_crumbs(surface, parts):
    whole = _tetrahedron((1.0, 0.0, 0.5))
    crumb = VERTICES * 0.02 + torch.tensor([-0.3, 0, 0])
    both = MeshExtractResult(
        torch.cat([VERTICES, crumb]), torch.cat([FACES, FACES + 4]), whole.vertex_attrs.repeat(2, 1), 64
    )
    settings = TextureSettings(source="mesh", size=64, simplify=0.0, fill_holes=False, surface=surface)
    assert len(texture_mesh(both, None, settings, torch.device("cpu")).faces) == 4 * parts


def test_mesh_without_colours_has_no_texture():
    with pytest.raises(ValueError, match="expected a mesh with colours"):
        texture_mesh(_tetrahedron(None), None, TextureSettings(source="mesh"), torch.device("cpu"))


def test_decoded_mesh_keeps_its_vertices():
    mesh = vertex_coloured_mesh(_tetrahedron((1.0, 0.0, 0.5)))
    assert len(mesh.vertices) == 4 and (mesh.visual.vertex_colors[:, :3] == [255, 0, 128]).all()
    np.testing.assert_allclose(mesh.bounds, [[0, 0, -0.3], [0.4, 0.2, 0]], atol=1e-6)
    assert (vertex_coloured_mesh(_tetrahedron(None)).visual.vertex_colors[:, :3] == 128).all()
