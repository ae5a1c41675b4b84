"""The look-alike of 3D-FUTURE: its form, that its poses and masks agree, and what is refused."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from dataset_toolkits import build_lookalike
from dataset_toolkits.lookalike.scenes import polygons_of
from scenegen.datasets.annotations import kept_objects, read_annotations
from scenegen.datasets.metadata import read_assets
from scenegen.datasets.model_boxes import ModelBoxes
from scenegen.inputs.coco_masks import decode_segmentation
from scenegen.synthesis.furniture.split import load_split


def annotation_file(root: Path, name: str) -> Path:
    return root / "raw" / "3D-FUTURE-scene" / "GT" / f"{name}_set.json"


def projected_box(vertices: np.ndarray, item, photo) -> np.ndarray:
    """First and last column and row that placed vertices are seen in."""
    turn = Rotation.from_euler("xyz", item.rotation_deg, degrees=True)
    x, y, z = (turn.apply(vertices) + item.translation).T
    focal = 0.5 * photo.width / np.tan(photo.fov() / 2)
    columns, rows = photo.width / 2 + focal * x / -z, photo.height / 2 - focal * y / -z
    assert (z < 0).all(), "behind the camera"
    return np.array([columns.min(), columns.max(), rows.min(), rows.max()])


def test_poses_put_the_models_where_their_masks_are(lookalike):
    root = lookalike()
    boxes = ModelBoxes(root)
    whole = 0
    for name in ("train", "test"):
        for photo in read_annotations(annotation_file(root, name)):
            objects = kept_objects(photo, boxes.box).objects
            assert objects
            for item in objects:
                vertices = trimesh.load(boxes.path(item.model_id), force="mesh", process=False).vertices
                low_x, high_x, low_y, high_y = projected_box(vertices, item, photo)
                rows, columns = np.nonzero(item.mask)
                assert low_x - 1 <= columns.min() and columns.max() <= high_x + 1  # may be hidden in part
                assert low_y - 1 <= rows.min() and rows.max() <= high_y + 1
                seen = np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1])
                whole += np.abs(seen - [low_x, high_x, low_y, high_y]).max() < 1.5
    assert whole >= 3, "most objects of these photos stand free"


def test_models_have_their_origin_at_the_floor_and_the_hash_of_their_picture(lookalike):
    root = lookalike()
    for asset in read_assets(root / "metadata.csv"):
        folder = (root / asset.local_path).parent
        assert hashlib.sha256((folder / "image.jpg").read_bytes()).hexdigest() == asset.sha256
        low, high = trimesh.load(folder / "raw_model.obj", force="mesh", process=False).bounds
        np.testing.assert_allclose([low[1], (low + high)[0], (low + high)[2]], 0, atol=2e-6)
        with Image.open(folder / "texture.png") as texture:
            assert texture.size == (16, 16)


def test_all_three_forms_of_masks_are_there(lookalike):
    content = json.loads(annotation_file(lookalike(), "train").read_text())
    forms = {
        "polygons" if isinstance(a["segmentation"], list) else type(a["segmentation"]["counts"]).__name__
        for a in content["annotations"]
        if a["model_id"]
    }
    assert forms == {"polygons", "str", "list"}
    assert any(a["model_id"] is None for a in content["annotations"])


def test_the_zip_has_an_entry_for_every_folder(lookalike):
    with zipfile.ZipFile(lookalike() / "raw" / "3D-FUTURE-model.zip") as archive:
        folders = [name for name in archive.namelist() if name.endswith("/") and name.count("/") == 2]
    assert len(folders) == 3


def test_the_seed_fixes_every_byte(tmp_path):
    command = ["--assets", "2", "--scenes", "2", "--size", "48", "--max_objects", "2", "--faults"]
    contents = []
    for name in ("a", "b"):
        assert build_lookalike.main(["--output_dir", str(tmp_path / name), *command]) == 0
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert build_lookalike.main(["--output_dir", str(tmp_path / "c"), *command, "--seed", "5"]) == 0
    zips = [(tmp_path / name / "raw" / "3D-FUTURE-model.zip").read_bytes() for name in "ac"]
    assert zips[0] != zips[1]


def test_faults_are_listed_and_leave_the_good_as_it_is(lookalike):
    good, bad = lookalike(), lookalike(faults=True)
    listed = json.loads((bad / "faults.json").read_text())
    assert {fault["kind"] for fault in listed} >= {
        "wrong hash", "no folder", "no OBJ", "no size", "texture cut off", "photo missing", "photo cut off",
        "name is a number", "name twice", "two fields of view", "mask beside the photo", "empty mask",
        "undecodable run lengths", "pose is no number", "unknown model",
    }  # fmt: skip
    for photo in read_annotations(annotation_file(good, "train")):
        same = next(p for p in read_annotations(annotation_file(bad, "train"), lambda fault: None)
                    if p.file_name == photo.file_name)  # fmt: skip
        first, second = (
            kept_objects(p, ModelBoxes(root).box).objects for p, root in ((photo, good), (same, bad))
        )
        assert [item.model_id for item in first] == [item.model_id for item in second]
        for one, other in zip(first, second):
            np.testing.assert_array_equal(one.mask, other.mask)


def test_packs_give_each_set_the_furniture_of_its_split(tmp_path, furniture_of_split):
    for split in ("train", "test"):
        furniture_of_split(split, 2).save(tmp_path / f"{split}.safetensors")
    packs = [str(tmp_path / f"{split}.safetensors") for split in ("train", "test")]
    root = tmp_path / "root"
    command = ["--output_dir", str(root), "--assets", "4", "--scenes", "2", "--size", "48"]
    command += ["--max_objects", "2"]
    assert build_lookalike.main([*command, "--source", *packs]) == 1  # 3 train models of 2
    command[3] = "3"
    assert build_lookalike.main([*command, "--source", *packs]) == 0
    entries = load_split()
    for name in ("train", "test"):
        layouts = json.loads((root / f"raw/3D-FUTURE-scene/layouts_{name}.json").read_text())
        used = {item["model_id"] for scene in layouts["scenes"] for item in scene["objects"]}
        assert used and {entries[model].split for model in used} == {name}


def test_a_missing_pack_is_one_line(tmp_path, caplog):
    assert build_lookalike.main(["--output_dir", str(tmp_path), "--source", str(tmp_path / "no.pack")]) == 1
    assert "no.pack: expected a readable mesh pack" in caplog.text


@pytest.mark.parametrize("hole", [False, True])
def test_polygons_draw_the_mask_that_they_were_made_of(hole):
    mask = np.zeros((40, 50), bool)
    mask[5:30, 8:40] = True
    mask[5:12, 30:40] = False
    mask[35:, 45:] = True
    drawn = decode_segmentation(polygons_of(mask), *mask.shape)
    np.testing.assert_array_equal(drawn, mask)
    if hole:
        mask[10:20, 12:20] = False
        assert (decode_segmentation(polygons_of(mask), *mask.shape) != mask).any()


@pytest.mark.parametrize("flag", ["--assets", "--scenes"])
def test_fewer_than_one_of_each_set_are_refused(tmp_path, capsys, flag):
    with pytest.raises(SystemExit):
        build_lookalike.main(["--output_dir", str(tmp_path / "root"), flag, "1"])
    assert f"{flag}: expected at least 2, one for each of train and test" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()
