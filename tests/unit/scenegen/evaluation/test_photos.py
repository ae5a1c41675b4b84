"""Scenes of photos without truth against their masks: figures, faults, resuming."""

import json

import numpy as np
import pytest
from PIL import Image

from scenegen.evaluation import photos as measuring
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.photos import (
    build_photo_report,
    iterate_photo_records,
    measure_photo,
    pair_photos,
)
from scenegen.evaluation.records import RecordStore
from tests.photo_scenes import SIZE, write_photo, write_prediction


@pytest.fixture
def folders(tmp_path):
    for scene_id in ("a", "b"):
        write_photo(tmp_path / "photos", scene_id)
        write_prediction(tmp_path / "made", scene_id)
    return tmp_path


def measured(folders) -> list[dict]:
    return [measure_photo(pair) for pair in pair_photos(folders / "made", folders / "photos")[1]]


def test_true_shapes_in_their_places_cover_their_masks(folders):
    for record in measured(folders):
        assert record["status"] == "evaluated" and not record["warnings"]
        assert record["modal_overlap"] > 0.99
        assert [entry["id"] for entry in record["objects"]] == [0, 1]
        assert 0 <= record["mask_overlap"] < record["modal_overlap"]  # boxes have few points


def test_a_missing_object_covers_nothing(folders):
    write_photo(folders / "photos", "c")
    write_prediction(folders / "made", "c", skip=(1,))
    record = measured(folders)[2]
    assert record["objects"][1]["modal_overlap"] == 0 and record["objects"][0]["modal_overlap"] > 0.2
    assert "missing [1]" in record["warnings"][0]


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        (lambda folder: (folder / "scene.glb").write_bytes(b"glTF"), "failed", "expected a GLB file"),
        (lambda folder: (folder / "poses.json").unlink(), "failed", "expected a record"),
        (lambda folder: (folder / "poses.json").write_text("{"), "failed", "expected a record of the scene"),
        (lambda folder: (folder / "poses.json").write_text("{}"), "failed", "expected the photo's camera"),
        (lambda folder: (folder / "scene.glb").unlink(), "missing", "no prediction"),
    ],
)
def test_faults_of_a_prediction_count_as_nothing_covered(folders, spoil, status, message):
    spoil(folders / "made" / "b")
    record = measured(folders)[1]
    assert record["status"] == status and message in record["error"] and "\n" not in record["error"]
    assert record["modal_overlap"] == record["mask_overlap"] == 0


def test_scenes_without_a_camera_or_names_cover_nothing(folders):
    for scene_id, options in (("c", {"camera": False}), ("d", {"names": "thing{}"})):
        write_photo(folders / "photos", scene_id)
        write_prediction(folders / "made", scene_id, **options)
    without_camera, without_names = measured(folders)[2:]
    assert without_camera["modal_overlap"] == 0 and "no camera" in without_camera["warnings"][-1]
    assert without_names["status"] == "failed" and "obj_<n>" in without_names["error"]


def test_a_camera_of_another_photo_is_refused(folders):
    path = folders / "made" / "a" / "poses.json"
    record = json.loads(path.read_text())
    record["camera"]["intrinsics"][0][2] = 0.7
    path.write_text(json.dumps(record))
    assert "principal point" in measured(folders)[0]["error"]


def test_a_photo_that_cannot_be_read_does_not_count(folders):
    (folders / "photos" / "a" / "0_mask.png").write_bytes(b"no picture")
    scenes, pairs = pair_photos(folders / "made", folders / "photos")
    records = [measure_photo(pair) for pair in pairs]
    assert records[0]["status"] == "unreadable" and "0_mask.png" in records[0]["error"]
    report = build_photo_report(records, scenes, {})
    assert report["summary"]["modal_overlap"]["mean"] > 0.99
    assert report["coverage"]["unreadable"] == 1 and report["failures"][0]["id"] == "a"


def test_report_averages_objects_then_scenes(folders):
    write_photo(folders / "photos", "c")
    scenes, pairs = pair_photos(folders / "made", folders / "photos")
    report = build_photo_report([measure_photo(pair) for pair in pairs], scenes, {})
    assert report["summary"]["modal_overlap"]["mean"] == pytest.approx(2 / 3, abs=0.01)
    assert report["coverage"] == {
        "scenes": 3, "evaluated": 2, "missing": 1, "failed": 0, "unreadable": 0, "objects": 6,
    }  # fmt: skip


def test_a_second_run_measures_only_what_changed(folders, tmp_path, monkeypatch):
    counted = []
    real = measuring.measure_photo
    monkeypatch.setattr(measuring, "measure_photo", lambda pair: counted.append(pair.scene_id) or real(pair))
    for expected in (["a", "b"], [], ["b"]):
        counted.clear()
        if expected == ["b"]:
            path = folders / "made" / "b" / "poses.json"
            path.write_text(path.read_text() + "\n")
        _, pairs = pair_photos(folders / "made", folders / "photos")
        with RecordStore(tmp_path / "r.records.jsonl") as store:
            assert len(list(iterate_photo_records(pairs, store))) == 2
        assert counted == expected


def test_masks_that_were_found_lie_beside_the_prediction(folders):
    folder = folders / "photos" / "a"
    labels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for index in range(2):
        mask = folder / f"{index}_mask.png"
        labels[np.asarray(Image.open(mask)) > 0] = index + 1
        mask.unlink()
    Image.fromarray(labels).save(folders / "made" / "a" / "labels.png")
    assert measured(folders)[0]["modal_overlap"] > 0.99


@pytest.mark.parametrize(
    ("prediction", "photos", "message"),
    [
        ("made", "nothing", "expected a folder"),
        ("nothing", "photos", "no such folder"),
        ("other", "photos", "got none"),
    ],
)
def test_folders_that_do_not_fit_are_refused(folders, prediction, photos, message):
    write_prediction(folders / "other", "z")
    with pytest.raises(EvaluationError, match=message):
        pair_photos(folders / prediction, folders / photos)
