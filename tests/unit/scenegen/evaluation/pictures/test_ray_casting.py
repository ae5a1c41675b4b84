import numpy as np
import pytest
import trimesh
from PIL import Image

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures import ray_casting
from scenegen.evaluation.pictures.cameras import SceneCamera
from scenegen.evaluation.pictures.ray_casting import cast, load_triangles
from scenegen.evaluation.registration import Similarity
from trellis_modules.gltf import GltfMesh, GltfNode, encode_glb


@pytest.fixture
def camera():
    """From +z, 3 away, 60 x 40 pixels, as wide as 2 at the origin."""
    extrinsics = np.diag([1.0, -1.0, -1.0, 1.0])
    extrinsics[2, 3] = 3
    return SceneCamera(extrinsics, (90.0, 90.0), (30.0, 20.0), 60, 40)


def square(z=0.0, half=0.5):
    """A square towards +z."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * half + (0, 0, z)
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def write(path, vertices, faces, **look):
    path.write_bytes(encode_glb([GltfNode("obj_0", GltfMesh(vertices, faces, **look), np.eye(4))]))
    return path


def drawn(triangles, camera, samples=2):
    return np.asarray(cast(triangles, camera, samples))


def test_a_square_covers_its_pixels_and_no_others(tmp_path, camera):
    vertices, faces = square()
    triangles = load_triangles(
        write(tmp_path / "a.glb", vertices, faces, colours=np.tile([255, 0, 0, 255], (4, 1)).astype(np.uint8))
    )
    picture = drawn(triangles, camera)
    seen = picture[..., 3] > 0
    expected = np.zeros((40, 60), bool)
    expected[5:35, 15:45] = True
    np.testing.assert_array_equal(seen, expected)
    colours = picture[seen]
    assert colours[:, 0].min() > 60 and colours[:, 1:3].max() == 0, "red, and lit"
    moved = drawn(triangles.moved(Similarity(translation=np.array([0.5, 0, 0]))), camera)
    np.testing.assert_array_equal(moved[..., 3] > 0, np.roll(expected, 15, axis=1))


def test_textures_are_where_their_coordinates_are(tmp_path, camera):
    texture = Image.new("RGB", (2, 2), (0, 0, 255))
    texture.putpixel((0, 1), (0, 255, 0))  # lower left
    mesh = trimesh.Trimesh(*square(), process=False)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture)
    mesh.visual = trimesh.visual.TextureVisuals(uv, material=material)
    mesh.export(tmp_path / "a.glb")
    picture = drawn(load_triangles(tmp_path / "a.glb"), camera)
    assert picture[30, 20, 1] > picture[30, 20, 2] and picture[10, 40, 2] > picture[10, 40, 1]


def test_what_stands_in_front_hides_and_throws_shadows(tmp_path, camera):
    vertices, faces = square()
    roof = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1.0]]) + (0, 0.9, 0)
    white = {"colours": np.full((8, 4), 255, np.uint8)}
    alone = load_triangles(write(tmp_path / "a.glb", vertices, faces, colours=white["colours"][:4]))
    both = np.concatenate([vertices, roof]), np.concatenate([faces, faces + 4])
    under = load_triangles(write(tmp_path / "b.glb", *both, **white))
    assert drawn(under, camera)[10, 30, 0] < drawn(alone, camera)[10, 30, 0]


def test_edges_are_softened_by_several_rays(tmp_path, camera):
    vertices, faces = square(half=0.51)
    triangles = load_triangles(write(tmp_path / "a.glb", vertices, faces))
    assert set(np.unique(drawn(triangles, camera, 1)[..., 3])) == {0, 255}
    assert len(np.unique(drawn(triangles, camera, 3)[..., 3])) > 2


@pytest.mark.parametrize("content", [b"", b"glTF", b"junk"])
def test_files_that_cannot_be_drawn_are_told_in_one_line(tmp_path, content):
    (tmp_path / "x.glb").write_bytes(content)
    with pytest.raises(EvaluationError, match="x.glb") as raised:
        load_triangles(tmp_path / "x.glb")
    assert "\n" not in str(raised.value)


def test_file_without_triangles_is_told(tmp_path):
    (tmp_path / "x.glb").write_bytes(encode_glb([]))
    with pytest.raises(EvaluationError, match="got none"):
        load_triangles(tmp_path / "x.glb")


def test_large_pictures_are_drawn_in_bands_of_the_same_pixels(tmp_path, camera, monkeypatch):
    vertices, faces = square()
    triangles = load_triangles(write(tmp_path / "a.glb", vertices, faces))
    whole = drawn(triangles, camera)
    monkeypatch.setattr(ray_casting, "_RAYS_AT_ONCE", 7 * 30 * 4)
    np.testing.assert_array_equal(drawn(triangles, camera), whole)


@pytest.mark.parametrize(
    "place", [(0.2, -0.1, 0), (5, 0, 0), (0, -9, 0), (0, 0, 3), (0, 0, 9), (1.05, 0.7, 0)]
)
def test_only_pixels_that_may_show_something_are_cast_and_none_is_missed(
    tmp_path, camera, monkeypatch, place
):
    vertices, faces = square()
    triangles = load_triangles(write(tmp_path / "a.glb", vertices, faces))
    triangles = triangles.moved(Similarity(translation=np.array(place)))
    found = drawn(triangles, camera)
    monkeypatch.setattr(ray_casting, "_seen_pixels", lambda corners, camera: (0, 40, 0, 60))
    np.testing.assert_array_equal(found, drawn(triangles, camera))
