"""The table of scenes with its pictures and features: form, resumption, faults, split."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_toolkits import build_metadata_scene
from scenegen.datasets.annotations import kept_objects, read_annotations
from scenegen.datasets.metadata import read_assets, read_scenes, write_assets
from scenegen.datasets.model_boxes import ModelBoxes
from scenegen.datasets.tables import read_lines
from vggt.checkpoint import load_vggt
from vggt.images import preprocess_images

COLUMNS = (
    "scene_id,model_id,translation,rotation,scale,vggt_feature,masked_image_path,scene_image_path,sha256,"
    "file_identifier,aesthetic_score,captions,rendered,voxelized,num_voxels,cond_rendered,local_path,"
    "ss_latent_ss_enc_conv3d_16l8_fp16"
)


@pytest.fixture
def run(geometry_encoder):
    def call(root: Path, *flags: str) -> int:
        command = ["3D-FUTURE", "--output_dir", str(root), "--vggt_ckpt", str(geometry_encoder), *flags]
        return build_metadata_scene.main([*command, "--device", "cpu"])

    return call


def contents(root: Path) -> dict[str, bytes]:
    """Every file but those that say when something happened."""
    files = [path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def annotated(root: Path, name: str = "train"):
    return read_annotations(root / "raw" / "3D-FUTURE-scene" / "GT" / f"{name}_set.json", lambda fault: None)


@pytest.mark.parametrize(("name", "suffix"), [("train", ""), ("test", "_test")])
def test_rows_pictures_and_features_of_a_set(finished, geometry_encoder, name, suffix):
    root = finished
    table = root / f"metadata_scene{suffix}.csv"
    assert table.read_text().startswith(COLUMNS + ",instance_id,kind,center,")
    rows = read_scenes(table)
    boxes = ModelBoxes(root)
    for photo in annotated(root, name):
        own = [row for row in rows if row.scene_id == photo.file_name]
        kept = kept_objects(photo, boxes.box).objects
        assert [(row.instance_id, row.model_id) for row in own] == [(k.instance_id, k.model_id) for k in kept]
        for row, item in zip(own, kept):
            assert row.masked_image_path == f"masked_images{suffix}/{photo.file_name}/{item.instance_id}.png"
            assert row.scale == boxes.box(item.model_id).longest_side
            assert row.center == boxes.box(item.model_id).center
            assert (row.translation, row.rotation) == (item.translation, item.rotation_deg)
            with Image.open(root / row.masked_image_path) as crop:
                assert crop.mode == "RGBA" and crop.size == (518, 518)
                pixels = np.asarray(crop)
            assert not pixels[..., :3][pixels[..., 3] == 0].any(), "no colour outside the mask"
            mask_path = (root / row.masked_image_path).with_name(f"{item.instance_id}_mask.png")
            with Image.open(mask_path) as mask:
                expected = np.repeat(item.mask[..., None] * np.uint8(255), 3, axis=2)
                np.testing.assert_array_equal(np.asarray(mask), expected)
        with Image.open(root / "raw/3D-FUTURE-scene" / name / "image" / f"{photo.file_name}.jpg") as picture:
            pixels = preprocess_images([picture.convert("RGB")], "crop", 28)
        with np.load(root / own[0].vggt_feature) as arrays:
            feature = arrays["vggt_feature"]
        with torch.no_grad():
            tokens = load_vggt(geometry_encoder).aggregator(pixels[None])[0][-1]
        assert feature.shape == (1, 1 + 4 + 4, 64) and feature.dtype == np.float16
        np.testing.assert_allclose(feature, tokens[0].numpy(), atol=2e-3)
        assert (root / own[0].scene_image_path).is_file()
    statistics = (root / f"statistics_scene{suffix}.txt").read_text()
    assert f"Number of scenes: {len(annotated(root, name))}" in statistics
    assert f"masked images: {len(rows)}" in statistics


def test_other_statistics_stay_as_they_are(lookalike, run):
    root = lookalike()
    (root / "statistics.txt").write_text("of assets")
    (root / "statistics_scene.txt").write_text("of train scenes")
    assert run(root, "--set", "test") == 0
    assert (root / "statistics.txt").read_text() == "of assets"
    assert (root / "statistics_scene.txt").read_text() == "of train scenes"
    assert run(root, "--set", "test", "--statistic_only") == 0


def test_masks_are_written_on_request_and_added_later(lookalike, run):
    root = lookalike()
    assert run(root) == 0
    assert not list(root.glob("masked_images/*/*_mask.png"))
    assert run(root, "--save_mask") == 0
    assert len(list(root.glob("masked_images/*/*_mask.png"))) == len(read_scenes(root / "metadata_scene.csv"))


def test_a_second_run_makes_nothing_again(finished, run, monkeypatch):
    root = finished
    before = contents(root)
    monkeypatch.setattr("dataset_toolkits.photos.photo_maker.write_object_images", None)
    monkeypatch.setattr("dataset_toolkits.photos.geometry_features.GeometryFeatures.write", None)
    assert run(root, "--save_mask") == 0
    assert contents(root) == before


def _cut(path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2])


def _without_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _without_zeros(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *(line.replace("000000", "", 1) for line in lines[1:])]))


@pytest.mark.parametrize("damage", [_cut, _without_last_line, _without_zeros, Path.unlink])
def test_a_damaged_table_is_made_whole_again(finished, run, damage):
    root = finished
    before = contents(root)
    damage(root / "metadata_scene.csv")
    assert run(root, "--save_mask") == 0
    assert contents(root) == before


@pytest.mark.parametrize(
    "name", ["masked_images/{0}/0.png", "masked_images/{0}/0_mask.png", "vggt_features/{0}.npz"]
)
@pytest.mark.parametrize("damage", [Path.unlink, _cut])
def test_lost_files_are_made_again(finished, run, name, damage):
    root = finished
    before = contents(root)
    damage(root / name.format("0000000"))
    if damage is _cut:  # as after a kill: the table does not have the photo yet
        (root / "metadata_scene.csv").unlink()
    assert run(root, "--save_mask") == 0
    assert contents(root) == before


def test_a_damaged_table_of_assets_changes_nothing(finished, run, caplog):
    before = contents(finished)
    table = finished / "metadata.csv"
    _cut(table)
    assert run(finished, "--save_mask") == 1
    assert f"{table}: line " in caplog.records[-1].message and "cut off" in caplog.records[-1].message
    table.write_bytes(before["metadata.csv"])
    assert contents(finished) == before


def test_two_processes_and_a_last_run_do_what_one_does(finished, lookalike, run):
    two = lookalike()
    for rank in ("0", "1"):
        assert run(two, "--save_mask", "--rank", rank, "--world_size", "2") == 0
        assert not (two / "metadata_scene.csv").exists()
    for name in ("train", "test"):
        assert run(two, "--save_mask", "--set", name) == 0
    assert contents(finished) == contents(two)


def test_columns_of_assets_are_brought_up_to_date(lookalike, run):
    root = lookalike()
    assets = read_assets(root / "metadata.csv")
    write_assets([replace(asset, cond_rendered=False) for asset in assets], root / "metadata.csv")
    assert run(root) == 0
    assert not any(row.cond_rendered for row in read_scenes(root / "metadata_scene.csv"))
    write_assets(assets, root / "metadata.csv")
    assert run(root) == 0
    assert all(row.cond_rendered for row in read_scenes(root / "metadata_scene.csv"))


def test_faults_are_named_and_counted_and_the_good_is_as_without_them(finished, lookalike, run):
    good, bad = finished, lookalike(faults=True)
    assert run(bad, "--save_mask", "--max_failures", "3") == 1
    assert len(list(read_lines(bad / "failed_metadata_scene_0.csv", []))) < 8, "stopped at the first photo"
    assert run(bad, "--save_mask") == 1
    lines = read_lines(bad / "failed_metadata_scene_0.csv", ["item", "error"])
    failed = {cells["item"]: cells["error"] for _, cells in lines}
    listed = [f for f in json.loads((bad / "faults.json").read_text()) if "train_set" in f["file"]]
    for fault in listed:
        if fault["kind"] == "two fields of view":
            continue  # of the camera, which the table does not need: build_scene.py names it
        text = " ".join(f"{item}: {error}" for item, error in failed.items())
        assert fault["item"] in text, fault
    rows = {row.key: row for row in read_scenes(bad / "metadata_scene.csv")}
    for row in read_scenes(good / "metadata_scene.csv"):
        assert rows[row.key] == row
    for path in good.glob("masked_images/*/*"):
        assert path.read_bytes() == (bad / path.relative_to(good)).read_bytes()


def test_assets_alone_have_rows_with_one_of_their_views(lookalike, run):
    root = lookalike()
    assets = read_assets(root / "metadata.csv")
    for asset in assets[:-1]:
        folder = root / "renders_cond" / asset.sha256
        folder.mkdir(parents=True)
        for view in range(3):
            Image.new("RGBA", (30, 30), (200, 90, view, 255)).save(folder / f"{view:03d}.png")
    assert run(root, "--use_render_cond") == 1, "one asset has no views"
    alone = [row for row in read_scenes(root / "metadata_scene.csv") if row.kind == "asset"]
    assert [row.scene_id for row in alone] == [asset.sha256 for asset in assets[:-1]]
    for row in alone:
        assert row.masked_image_path == row.scene_image_path and (root / row.masked_image_path).is_file()
        assert (root / row.vggt_feature).is_file() and row.translation is None
    assert ",False,False,False," in (root / "metadata_scene.csv").read_text()
    (failed,) = [cells for _, cells in read_lines(root / "failed_metadata_scene_0.csv", [])]
    assert failed["item"] == assets[-1].sha256 and "run render_cond.py again" in failed["error"]
    before = contents(root)
    assert run(root, "--use_render_cond") == 1
    assert contents(root) == before


def test_assets_of_the_test_split_have_no_rows_of_their_own(lookalike, run, furniture_of_split):
    root = lookalike()
    *others, last = read_assets(root / "metadata.csv")  # the model of the test photos
    test_id = furniture_of_split("test", 1).infos[0].id
    foreign = replace(last, extra=last.extra | {"id": test_id, "split": "test"})
    write_assets([*others, foreign], root / "metadata.csv")
    for asset in (*others, foreign):
        folder = root / "renders_cond" / asset.sha256
        folder.mkdir(parents=True)
        Image.new("RGBA", (30, 30), "red").save(folder / "000.png")
    assert run(root, "--use_render_cond") == 0
    alone = [row for row in read_scenes(root / "metadata_scene.csv") if row.kind == "asset"]
    assert [row.sha256 for row in alone] == [asset.sha256 for asset in others]


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("metadata.csv", "run build_metadata.py first"),
        ("raw/3D-FUTURE-scene/GT/train_set.json", "place the annotations"),
        ("raw/3D-FUTURE-scene/train/image", "place the photos"),
        ("raw/3D-FUTURE-model", "run download.py first"),
    ],
)
def test_a_missing_step_is_one_line(lookalike, run, caplog, missing, remedy):
    root = lookalike()
    path = root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(root) == 1
    assert remedy in caplog.records[-1].message and "\n" not in caplog.records[-1].message


def test_a_missing_encoder_is_one_line(lookalike, run, caplog, tmp_path):
    assert run(lookalike(), "--vggt_ckpt", str(tmp_path / "nothing")) == 1
    assert "no such checkpoint" in caplog.records[-1].message


def test_other_data_sets_and_wrong_flags_are_refused(capsys):
    ours = "3D-FUTURE"
    for command in (["ABO"], [ours, "--set", "test", "--use_render_cond"], [ours, "--rank", "1"]):
        with pytest.raises(SystemExit):
            build_metadata_scene.main([*command, "--output_dir", "nowhere"])
    assert "3D-FUTURE" in capsys.readouterr().err


def test_a_photo_of_another_size_is_named(lookalike, run):
    root = lookalike()
    path = root / "raw/3D-FUTURE-scene/train/image/0000000.jpg"
    with Image.open(path) as picture:
        picture.resize((50, 60)).save(path)
    assert run(root) == 1
    assert "expected 96 x 96 pixels" in (root / "failed_metadata_scene_0.csv").read_text()
    assert {row.scene_id for row in read_scenes(root / "metadata_scene.csv")} == {"0000001"}


def test_test_furniture_in_train_photos_is_refused(lookalike, run, caplog, furniture_of_split):
    root = lookalike()
    test_id = furniture_of_split("test", 1).infos[0].id
    text = (root / "metadata.csv").read_text()
    first = read_assets(root / "metadata.csv")[0].extra["id"]
    (root / "metadata.csv").write_text(text.replace(first, test_id))
    assert run(root) == 1
    assert f"{test_id} belongs to the test split, not to train" in caplog.records[-1].message


def test_a_full_disk_is_one_line_and_a_second_run_goes_on(finished, lookalike, run, caplog, monkeypatch):
    root = lookalike()

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dataset_toolkits.photos.geometry_features.np.savez_compressed", refuse)
        assert run(root) == 1
    assert "No space left on device" in caplog.records[-1].message
    for name in ("train", "test"):
        assert run(root, "--save_mask", "--set", name) == 0
    assert contents(root) == contents(finished)
