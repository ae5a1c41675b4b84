import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.mean_shape_baseline import (
    ELEVATION_DEG,
    FOV_DEG,
    RESOLUTION,
    main,
    mean_training_shape,
    place_by_box,
    shape_from_mean,
)
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo

INFO = ModelInfo("procedural/table/1", "Table", "Table", "floor", "train", (1.0, 0.5, 0.8))


def box_mesh(sides):
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
    faces = np.array(
        [
            [0, 1, 3],
            [0, 3, 2],
            [4, 6, 7],
            [4, 7, 5],
            [0, 4, 5],
            [0, 5, 1],
            [2, 3, 7],
            [2, 7, 6],
            [0, 2, 6],
            [0, 6, 4],
            [1, 5, 7],
            [1, 7, 3],
        ],
        np.int32,
    )
    return FurnitureMesh(corners * np.array(sides, np.float32), faces, np.full((12, 3), 90, np.uint8))


@pytest.fixture
def pack():
    return MeshPack.from_meshes(
        [
            (box_mesh((1.0, 0.5, 0.8)), INFO),
            (box_mesh((0.1, 1.0, 0.1)), replace(INFO, id="lamp", tier="small")),
        ]
    )


def test_mean_of_one_model_is_that_model(pack):
    shape = mean_training_shape(pack)
    assert shape.num_models == 1, "small models are left out"
    np.testing.assert_allclose(shape.sides, (1.0, 0.5, 0.8), atol=0.03)
    np.testing.assert_allclose(shape.mesh.bounds, [-shape.sides / 2, shape.sides / 2], atol=1e-6)
    assert shape.mesh.volume > 0, "faces are wound outwards"
    # z-up grid: the height 0.5 lies along the last axis, the depth 0.8 along the second.
    extent = [
        np.ptp(np.flatnonzero((shape.logits > 0).any(dim=axes).numpy())) / RESOLUTION
        for axes in ((1, 2), (0, 2), (0, 1))
    ]
    np.testing.assert_allclose(extent, (1.0, 0.8, 0.5), atol=0.04)


def test_the_mean_number_of_voxels_is_kept():
    rng = np.random.default_rng(0)
    mean = np.zeros((RESOLUTION,) * 3)
    mean[20:40, 20:40, 20:40] = rng.random((20, 20, 20))
    shape = shape_from_mean(mean, 5)
    assert int((shape.logits > 0).sum()) == round(mean.sum())


def test_models_of_another_split_are_refused(pack):
    other = MeshPack.from_meshes([(pack.mesh(0), replace(INFO, split="test"))])
    with pytest.raises(ValueError, match="of the test split"):
        mean_training_shape(other)


def project(point, size):
    """Pixel (column, row) of a world point seen by the camera of the baseline."""
    elevation = np.deg2rad(ELEVATION_DEG)
    forward = np.array([0, -np.sin(elevation), -np.cos(elevation)])
    down = np.array([0, -np.cos(elevation), np.sin(elevation)])
    ray = np.asarray(point) - (0, 1, 0)
    focal = size / 2 / np.tan(np.deg2rad(FOV_DEG) / 2)
    return size / 2 + focal * np.array([ray[0], ray @ down]) / (ray @ forward)


@pytest.mark.parametrize(
    "columns, rows", [((100, 150), (200, 260)), ((10, 60), (120, 200)), ((180, 250), (60, 140))]
)
def test_the_front_of_the_base_is_seen_at_the_lower_edge(columns, rows):
    mask = np.zeros((256, 256), bool)
    mask[slice(*rows), slice(*columns)] = True
    sides = np.array([1.0, 0.5, 0.8])
    centre, size = place_by_box(mask, sides)
    assert centre[1] == pytest.approx(size * sides[1] / 2), "it stands on the floor"
    base = centre + size * np.array([0, -sides[1], sides[2]]) / 2
    np.testing.assert_allclose(project(base, 256), (np.mean(columns), min(rows[1], 256)), atol=1e-6)


def test_objects_above_the_horizon_get_a_finite_place():
    mask = np.zeros((256, 256), bool)
    mask[2:10, 100:120] = True
    centre, size = place_by_box(mask, np.ones(3))
    assert np.isfinite(centre).all() and 0 < size < 100


def test_folder_of_predictions(tmp_path, pack):
    MeshPack.from_meshes([(pack.mesh(0), INFO)]).save(tmp_path / "train.safetensors")
    folder = tmp_path / "images" / "room"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save(folder / "scene.jpg")
    for index, box in enumerate([(4, 30, 20, 50), (30, 30, 60, 60)]):
        mask = Image.new("L", (64, 64))
        mask.paste(255, box)
        mask.save(folder / f"{index}_mask.png")
        cutout = Image.new("RGBA", (64, 64))
        cutout.putalpha(mask)
        cutout.save(folder / f"{index}.png")
    arguments = ["--input", str(tmp_path / "images"), "--pack", str(tmp_path / "train.safetensors")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    poses = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    assert poses["query"] == 1, "the query is the largest mask"
    assert poses["objects"][1]["translation"] == [0, 0, 0] and poses["objects"][1]["scale"] == 1
    assert poses["objects"][0]["rotation_wxyz"] == [1, 0, 0, 0] and poses["objects"][0]["translation"][0] < 0
    assert (tmp_path / "out" / "room" / "scene.glb").stat().st_size > 0
    assert (
        main(["--input", str(tmp_path / "images"), "--pack", "absent", "--output", str(tmp_path / "out")])
        == 2
    )
