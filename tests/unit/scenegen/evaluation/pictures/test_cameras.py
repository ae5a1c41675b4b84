import json
import math

import numpy as np
import pytest

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.cameras import camera_of_render_config, camera_of_truth

ENTRY = {
    "camera_pos": [0, -4, 0],
    "camera_rotation": [90, 0, 0],
    "fov": math.pi / 2,
    "width": 200,
    "height": 100,
}


def pixel(camera, point):
    x, y, z = camera.extrinsics[:3, :3] @ np.asarray(point, float) + camera.extrinsics[:3, 3]
    return (
        camera.focal[0] * x / z + camera.centre[0],
        camera.focal[1] * y / z + camera.centre[1],
        z,
    )


def test_camera_of_the_true_pictures_looks_as_blender_does():
    """At y = -4 of Blender's world and turned by 90 degrees it looks along +y, which is -z of the GLB."""
    camera = camera_of_render_config(ENTRY, "x")
    assert pixel(camera, (0, 0, 0)) == pytest.approx((100, 50, 4))
    right, down, _ = pixel(camera, (1, 1, 0))  # to the right and up
    assert (right, down) == pytest.approx((100 + 100 / 4, 50 - 100 / 4)), "90 degrees across 200 pixels"
    assert pixel(camera, (0, 0, 2))[2] == pytest.approx(2), "+z of the GLB is towards this camera"


def test_upright_pictures_have_the_angle_along_their_height():
    camera = camera_of_render_config(ENTRY | {"width": 100, "height": 200}, "x")
    assert camera.focal == pytest.approx((100, 100)) and (camera.width, camera.height) == (100, 200)


def test_missing_numbers_have_the_published_defaults():
    entry = {name: ENTRY[name] for name in ("camera_pos", "camera_rotation")}
    camera = camera_of_render_config(entry, "x")
    assert (camera.width, camera.height) == (1200, 1200)
    assert camera.focal[0] == pytest.approx(600 / math.tan(math.radians(30)))


@pytest.mark.parametrize(
    "change",
    [
        {"camera_pos": [0, 1]},
        {"camera_rotation": None},
        {"width": 0},
        {"fov": "wide"},
        {"camera_pos": [math.nan] * 3},
    ],
)
def test_cameras_that_cannot_be_used_are_told_in_one_line(change):
    with pytest.raises(EvaluationError, match="render_cfg.json: s1") as raised:
        camera_of_render_config(ENTRY | change, "render_cfg.json: s1")
    assert "\n" not in str(raised.value)


def test_camera_of_the_truth_sees_the_scene_file_where_the_photo_shows_it(tmp_path):
    extrinsics = np.eye(4)
    extrinsics[:3, 3] = (0.1, -0.2, 3.0)
    raw = {
        "camera": {
            "extrinsics": extrinsics.tolist(),
            "intrinsics": [[1.5, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]],
            "image_size": 64,
        },
        "glb": {"scale": 0.7, "centre": [0.3, 0.1, -0.4]},
    }
    path = tmp_path / "s1.json"
    path.write_text(json.dumps(raw))
    camera = camera_of_truth(path, (80, 60))
    query = np.array([0.4, -0.3, 0.5])
    x, y, z = query + extrinsics[:3, 3]
    found = pixel(camera, 0.7 * (query - [0.3, 0.1, -0.4]))
    assert found[:2] == pytest.approx((80 * (1.5 * x / z + 0.5), 60 * (2.0 * y / z + 0.5)))
    assert camera_of_truth(path, None).width == 64
    for broken in ({}, {"camera": raw["camera"]}, {**raw, "glb": {"scale": 1}}):
        path.write_text(json.dumps(broken))
        with pytest.raises(EvaluationError, match="s1.json: expected the photo's camera"):
            camera_of_truth(path, None)
