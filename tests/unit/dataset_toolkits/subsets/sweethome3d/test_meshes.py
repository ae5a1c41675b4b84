"""From an OBJ and its catalogue entry to true size, object frame and face colours, and to a GLB."""

import io

import numpy as np
import pytest
import trimesh

from dataset_toolkits.subsets.sweethome3d.catalogue import read_catalogue
from dataset_toolkits.subsets.sweethome3d.meshes import MeshError, face_coloured, load_parts, place_parts
from dataset_toolkits.subsets.sweethome3d.prepare import textured_glb
from dataset_toolkits.subsets.sweethome3d.source import unpack_models


@pytest.fixture
def bed(library, tmp_path):
    """Placed parts (the textured one first) and box sides of the synthetic bed."""
    paths = unpack_models([library], tmp_path)
    parts, size = place_parts(load_parts(tmp_path / paths["Scopia/bed1"]), read_catalogue(library)[0])
    return sorted(parts, key=lambda part: part.texture is None), size


def test_the_catalogue_gives_orientation_and_size(bed):
    parts, size = bed
    np.testing.assert_allclose(size, (2.0, 1.0, 0.5))
    vertices = np.concatenate([part.vertices for part in parts])
    np.testing.assert_allclose(vertices.max(axis=0), (0.5, 0.25, 0.125), atol=1e-12)
    np.testing.assert_allclose(vertices.min(axis=0), (-0.5, -0.25, -0.125), atol=1e-12)
    # The wall at z = 0 of the OBJ lies at the low end of x after the rotation, where z of the OBJ went.
    wall = parts[0].vertices[np.unique(parts[0].faces)]
    np.testing.assert_allclose(wall[:, 0], -0.5, atol=1e-12)


def test_face_colours_are_material_times_texture(bed):
    mesh = face_coloured(bed[0])
    assert len(mesh.vertices) == 6  # corners shared by both materials are one vertex
    np.testing.assert_array_equal(mesh.face_colours[2:], [[51, 102, 204]] * 2)
    lower_right, upper_left = mesh.face_colours[:2].astype(int)  # black Kd beside a texture is ignored
    assert lower_right[1] > 0.6 * 100 and lower_right[0] < 0.4 * 200
    assert upper_left[0] > 0.6 * 200 and upper_left[1] < 0.4 * 100


def test_glb_has_linear_colours_textures_and_the_object_frame(bed):
    scene = trimesh.load_scene(io.BytesIO(textured_glb(bed[0], "bed")), file_type="glb", process=False)
    np.testing.assert_allclose(scene.bounds, [[-0.5, -0.25, -0.125], [0.5, 0.25, 0.125]], atol=1e-6)
    textured, plain = (scene.geometry[f"part_{number}"].visual.material for number in range(2))
    assert np.asarray(textured.baseColorTexture.convert("RGB")).max(axis=(0, 1)).tolist() == [200, 100, 0]
    linear = ((np.array([51, 102, 204]) / 255 + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(np.asarray(plain.baseColorFactor)[:3] / 255, linear, atol=0.5 / 255)
    assert plain.doubleSided


def test_an_obj_without_triangles_is_named(tmp_path):
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    with pytest.raises(MeshError, match="empty.obj"):
        load_parts(tmp_path / "empty.obj")
