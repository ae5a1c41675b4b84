import shutil

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.cameras import SceneCamera, camera_of_render_config
from scenegen.evaluation.pictures.renderers import blender_camera, blender_matrix, find_renderer
from scenegen.evaluation.registration import Similarity

needs_blender = pytest.mark.skipif(shutil.which("blender") is None, reason="needs the program blender")


def camera(centre=(32.0, 24.0), focal=(60.0, 60.0)):
    """Looks at the origin from above and aside."""
    turn = Rotation.from_euler("yx", (35, 160), degrees=True).as_matrix()
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[:3, 3] = turn, (0, 0, 4)
    return SceneCamera(extrinsics, focal, centre, 64, 48)


def test_cameras_come_back_from_blenders_numbers():
    entry = blender_camera(camera(), "x")
    assert entry["camera_shift"] == (0, 0)
    back = camera_of_render_config(entry, "x")
    np.testing.assert_allclose(back.extrinsics, camera().extrinsics, atol=1e-9)
    np.testing.assert_allclose(back.focal, camera().focal, rtol=1e-9)
    assert (back.centre, back.width, back.height) == ((32, 24), 64, 48)


def test_pixels_that_are_not_square_are_refused():
    with pytest.raises(EvaluationError, match="square pixels.*--renderer embree"):
        blender_camera(camera(focal=(60.0, 61.0)), "x")


def test_a_map_of_files_is_the_same_map_in_blenders_world():
    turn = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    transform = Similarity(turn, np.array([0.1, 0.2, 0.3]), 1.5)
    points = np.random.default_rng(0).normal(size=(5, 3))
    x, y, z = points.T
    in_blender = np.stack([x, -z, y, np.ones(5)])
    x, y, z = transform.apply(points).T
    np.testing.assert_allclose((blender_matrix(transform) @ in_blender)[:3], np.stack([x, -z, y]), atol=1e-12)


def test_missing_blender_is_told(tmp_path):
    with pytest.raises(EvaluationError, match="expected the program .*nowhere.*--blender"):
        find_renderer("blender", str(tmp_path / "nowhere"))


@needs_blender
@pytest.mark.slow
def test_both_renderers_draw_a_moved_scene_in_one_place(tmp_path):
    box = trimesh.creation.box((1.0, 0.6, 0.4))
    box.visual.vertex_colors = (200, 40, 40, 255)
    path = tmp_path / "scene.glb"
    trimesh.Scene({"obj_0": box}).export(path)
    transform = Similarity(
        Rotation.from_euler("y", 40, degrees=True).as_matrix(), np.array([0.3, 0.1, -0.2]), 1.2
    )
    seen = []
    for name, samples in (("embree", 2), ("blender", 4)):
        picture = find_renderer(name).draw(path, transform, camera((36.0, 21.0), (120.0, 120.0)), samples)
        seen.append(np.asarray(picture)[..., 3] > 127)
    assert 0.05 < seen[0].mean() < 0.9
    assert (seen[0] & seen[1]).sum() / (seen[0] | seen[1]).sum() > 0.97


@needs_blender
@pytest.mark.slow
def test_what_blender_cannot_read_is_one_line(tmp_path):
    path = tmp_path / "scene.glb"
    path.write_bytes(b"no scene")
    with pytest.raises(EvaluationError, match="expected a picture by Blender") as raised:
        find_renderer("blender").draw(path, Similarity(), camera(), 1)
    assert "\n" not in str(raised.value)
