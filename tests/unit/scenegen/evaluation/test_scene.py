import json

import numpy as np
import pytest
import trimesh

from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.evaluation.scene import evaluate_scene, fingerprint, scene_seed
from scenegen.evaluation.scene_files import ScenePair
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings, PaperSettings
from trellis_modules.gltf import encode_glb

SETTINGS = EvaluationSettings(num_points=1500)


@pytest.fixture
def evaluate(tmp_path):
    def run(settings=SETTINGS, scene_id="a"):
        truth = find_scene_files(tmp_path / "truth")[scene_id]
        folder = tmp_path / "prediction"
        prediction = find_scene_files(folder).get(scene_id) if folder.exists() else None
        return evaluate_scene(ScenePair(truth, prediction), settings)

    return run


def corrected(record):
    return record["protocols"][CORRECTED]


def by_id(record, figures="metrics"):
    return {entry["id"]: entry[figures] for entry in corrected(record)["objects"]}


def test_perfect_prediction(tmp_path, write_scene, evaluate):
    for folder in ("truth", "prediction"):
        write_scene(tmp_path / folder, "a", 3, yaws=(0, 40, 200))
    record = evaluate()
    assert record["status"] == "evaluated" and not record["warnings"]
    assert not corrected(record)["penalties"]
    for name in ("scene_fscore", "scene_fscore_unaligned", "scene_fscore_similarity"):
        assert corrected(record)["metrics"][name] == pytest.approx(1, abs=1e-6)
    for index, figures in by_id(record).items():
        assert figures["iou_bbox_unaligned"] == pytest.approx(1, abs=1e-6)
        assert figures["object_fscore_iso"] > 0.9  # 1500 points leave gaps about as wide as the threshold
        assert ("rotation_error_deg" in figures) == (index != 0), "the query has no error of its own"
        assert figures.get("rotation_error_deg", 0) == pytest.approx(0, abs=1e-5)


def test_rigid_offset_is_recovered_and_reported_unaligned(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 3)
    quarter = trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0))
    write_scene(tmp_path / "prediction", "a", 3, moved=quarter)
    record = evaluate()
    assert corrected(record)["metrics"]["scene_fscore_unaligned"] < 0.5
    assert corrected(record)["metrics"]["scene_fscore"] == pytest.approx(1, abs=1e-3)
    assert min(figures["iou_bbox"] for figures in by_id(record).values()) > 0.9
    np.testing.assert_allclose(corrected(record)["alignment"]["rotation"], quarter[:3, :3].T, atol=0.03)


def test_one_filterreg_run_can_be_chosen(tmp_path, write_scene, evaluate):
    for folder in ("truth", "prediction"):
        write_scene(tmp_path / folder, "a", 2)
    record = evaluate(EvaluationSettings(1500, alignment=AlignmentSettings("filterreg")))
    assert corrected(record)["alignment"]["method"] == "filterreg"


def test_missing_scene_counts_as_worst(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 2)
    (tmp_path / "prediction").mkdir()
    record = evaluate()
    assert record["status"] == "missing" and not corrected(record)["metrics"] and record["n_prediction"] == 0
    assert corrected(record)["penalties"]["scene_fscore"] == 0
    assert 1.96**2 <= corrected(record)["penalties"]["scene_cd_1"] <= 3 * 1.96**2
    worst = by_id(record, "penalties")
    assert worst[1]["rotation_error_deg"] == 180 and "rotation_error_deg" not in worst[0]
    assert worst[0]["iou_bbox"] == worst[0]["object_fscore"] == 0
    assert worst[0]["object_cd"] == pytest.approx(2 * 3 * 1.9**2)


def test_corrupted_prediction_fails_in_one_line(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 2)
    path = write_scene(tmp_path / "prediction", "a", 2)
    path.write_bytes(path.read_bytes()[:-100])
    record = evaluate()
    assert record["status"] == "failed" and corrected(record)["penalties"]["scene_fscore"] == 0
    assert str(path) in record["error"] and "\n" not in record["error"]


def test_corrupted_truth_raises(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 2).write_bytes(b"nothing")
    with pytest.raises(GlbError, match="a.glb"):
        evaluate()


def test_truth_with_poses_of_other_objects_raises(tmp_path, write_scene, evaluate):
    path = write_scene(tmp_path / "truth", "a", 2).with_suffix(".json")
    content = json.loads(path.read_text())
    content["objects"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match="poses of the objects"):
        evaluate()


def test_missing_object_counts_as_worst_and_the_others_as_measured(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 3)
    write_scene(tmp_path / "prediction", "a", 3, skip=(1,))
    record = evaluate()
    assert [entry["matched"] for entry in corrected(record)["objects"]] == [True, False, True]
    assert not by_id(record)[1] and by_id(record, "penalties")[1]["rotation_error_deg"] == 180
    assert by_id(record)[2]["iou_bbox_unaligned"] > 0.99, "obj_2 is compared with obj_2"
    assert any("missing [1]" in line for line in record["warnings"])


def test_objects_without_names_are_paired_by_order_with_a_warning(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 2, names=("obj_3", "obj_8"), poses=False)
    write_scene(tmp_path / "prediction", "a", 3, names=("sofa", "table", "lamp"), poses=False)
    record = evaluate()
    assert [entry["id"] for entry in corrected(record)["objects"]] == [3, 8]
    assert all(entry["matched"] for entry in corrected(record)["objects"]) and record["n_prediction"] == 3
    assert any("paired by their order" in line for line in record["warnings"])


def test_twelve_objects_are_paired_by_number(tmp_path, write_scene, evaluate):
    for folder in ("truth", "prediction"):
        write_scene(tmp_path / folder, "a", 12, yaws=tuple(range(0, 360, 30)))
    record = evaluate(EvaluationSettings(100, alignment=AlignmentSettings("none")))
    assert [entry["id"] for entry in corrected(record)["objects"]] == list(range(12))
    assert min(figures["iou_bbox"] for figures in by_id(record).values()) > 0.99


def test_rotation_error_and_symmetry_come_from_the_pose_files(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 3, symmetry=(1, 2, 1))
    write_scene(tmp_path / "prediction", "a", 3, yaws=(0, 170, 20))
    figures = by_id(evaluate())
    assert figures[1]["rotation_error_deg"] == pytest.approx(170)
    assert figures[1]["rotation_error_symmetric_deg"] == pytest.approx(10)
    assert figures[2]["rotation_error_symmetric_deg"] == pytest.approx(20)


@pytest.mark.parametrize("fault", ["absent", "damaged", "no query"])
def test_unusable_predicted_poses_count_as_worst(tmp_path, write_scene, evaluate, fault):
    write_scene(tmp_path / "truth", "a", 2)
    path = write_scene(tmp_path / "prediction", "a", 2).with_suffix(".json")
    content = json.loads(path.read_text())
    if fault == "absent":
        path.unlink()
    elif fault == "damaged":
        path.write_text("{")
    else:
        path.write_text(json.dumps({"query": 1, "objects": content["objects"][1:]}))
    record = evaluate()
    assert by_id(record, "penalties")[1]["rotation_error_deg"] == 180
    assert corrected(record)["metrics"]["scene_fscore"] > 0.99, "geometry is still measured"


def test_figures_repeat_exactly_and_depend_on_the_scene_alone(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 2)
    write_scene(tmp_path / "prediction", "a", 2, yaws=(0, 30))
    first = evaluate()
    np.random.seed(5)
    second = evaluate()
    for name in ("metrics", "objects"):
        assert corrected(first)[name] == corrected(second)[name]
    assert scene_seed("a") == 0xCA978112CA1BBDCA, "the first 8 bytes of SHA-256 of 'a'"


def test_fingerprint_follows_settings_and_contents(tmp_path, write_scene):
    write_scene(tmp_path, "a", 1)
    pair = ScenePair(find_scene_files(tmp_path)["a"], find_scene_files(tmp_path)["a"])
    first = fingerprint(pair, SETTINGS)
    assert first == fingerprint(pair, SETTINGS)
    assert first != fingerprint(pair, EvaluationSettings(1501))
    write_scene(tmp_path, "a", 2)
    assert first != fingerprint(pair, SETTINGS)


@pytest.mark.parametrize(
    "arguments, message", [({"num_points": 0}, "num_points"), ({"fscore_threshold": 0.0}, "fscore")]
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EvaluationSettings(**arguments)


def test_identical_scenes_have_distance_0_and_overlap_1_by_both_protocols(tmp_path, write_scene, evaluate):
    for folder in ("truth", "prediction"):
        write_scene(tmp_path / folder, "a", 3)
    record = evaluate()
    figures, objects = corrected(record)["metrics"], by_id(record)
    assert figures["scene_cd"] == 0 and figures["scene_fscore"] == pytest.approx(1)
    for entry in objects.values():
        for name in ("iou_bbox", "iou_box_upright", "iou_bbox_hungarian", "object_fscore"):
            assert entry[name] == pytest.approx(1, abs=1e-6)
        assert entry["object_cd"] == entry["add_s"] == entry["floor_gap"] == 0
    still = PaperSettings(AlignmentSettings("none"), AlignmentSettings("none"))
    paper = evaluate(EvaluationSettings(500, protocols=(PAPER,), paper=still))["protocols"][PAPER]
    assert paper["metrics"]["scene_cd"] == 0 and paper["left_out"] is None


@pytest.mark.parametrize(
    ("axis", "angle_deg"), [((0, 1, 0), 33), ((0.1, 1, 0.05), 33), ((1, 0, 0), 25), ((1, 12, -3), 160)]
)
def test_rigid_motion_changes_no_aligned_corrected_figure(tmp_path, write_scene, evaluate, axis, angle_deg):
    write_scene(tmp_path / "truth", "a", 3, yaws=(0, 40, 110))
    still = {"yaws": (0, 55, 100)}
    write_scene(tmp_path / "prediction", "a", 3, **still)
    before = evaluate()
    motion = trimesh.transformations.rotation_matrix(np.deg2rad(angle_deg), axis)
    motion[:3, 3] = (0.7, -0.2, 1.5)
    write_scene(tmp_path / "prediction", "a", 3, moved=motion, **still)
    after = evaluate()
    aligned = [name for name in corrected(before)["metrics"] if not name.endswith("_unaligned")]
    for name in aligned:
        if name != "collision_volume":  # of the prediction as it stands
            assert corrected(after)["metrics"][name] == pytest.approx(
                corrected(before)["metrics"][name], abs=1e-3
            ), name
    for index, figures in by_id(before).items():
        for name in ("iou_bbox", "iou_box_upright", "add_s", "iou_bbox_hungarian"):
            assert by_id(after)[index][name] == pytest.approx(figures[name], abs=1e-3), name


# Better when greater; the ratio of sizes and its logarithm have no worst value and stay out.
GREATER = ("fscore", "iou", "agreement")
UNBOUNDED = ("scale_ratio", "log_scale_error")


def means(record):
    """Mean of each corrected figure over the scene's objects, worst values included.

    Distances from the prediction to the truth are part of `scene_cd` and say nothing of what is missing.
    """
    part, by_name = corrected(record), {}
    for entry in (part, *part["objects"]):
        for name, value in (entry["metrics"] | entry["penalties"]).items():
            by_name.setdefault(name, []).append(value)
    return {
        name: np.mean(values)
        for name, values in by_name.items()
        if name not in UNBOUNDED and "scene_cd_1" not in name
    }


@pytest.mark.parametrize("fault", ["missing scene", "empty scene", "missing object", "other object"])
def test_what_is_wrong_worsens_every_corrected_mean(tmp_path, write_scene, evaluate, fault):
    write_scene(tmp_path / "truth", "a", 3)
    path = write_scene(tmp_path / "prediction", "a", 3, yaws=(0, 5, 5))
    right = means(evaluate())
    if fault == "missing scene":
        path.unlink()
    elif fault == "empty scene":
        path.write_bytes(encode_glb([]))
    elif fault == "missing object":
        write_scene(tmp_path / "prediction", "a", 3, yaws=(0, 5, 5), skip=(1,))
    else:  # the second object is exchanged for a needle in the first one
        scene = trimesh.load_scene(path)
        needle = trimesh.creation.box((0.05, 1.6, 0.05))
        transform = np.array(scene.graph["obj_1"][0])
        transform[:3, :3] *= 1.0
        transform[:3, 3] = (0.1, 0.3, 0.1)
        kept = trimesh.Scene()
        for node in ("obj_0", "obj_2"):
            placed, name = scene.graph[node]
            kept.add_geometry(scene.geometry[name], node_name=node, geom_name=node, transform=placed)
        kept.add_geometry(needle, node_name="obj_1", geom_name="obj_1", transform=transform)
        kept.export(path)
        content = json.loads(path.with_suffix(".json").read_text())
        content["objects"][1] |= {"translation": [0.1, 0.3, 0.1], "rotation_wxyz": [0, 0, 1, 0], "scale": 0.2}
        path.with_suffix(".json").write_text(json.dumps(content))
    wrong = means(evaluate())
    assert wrong.keys() == right.keys()
    for name, value in right.items():
        is_greater = any(part in name for part in GREATER)
        assert (wrong[name] < value) if is_greater else (wrong[name] > value), name


def test_exchanged_names_worsen_every_figure_of_objects_but_the_diagnosis(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 3)
    write_scene(tmp_path / "prediction", "a", 3)
    right = by_id(evaluate())
    write_scene(tmp_path / "prediction", "a", 3, names=("obj_0", "obj_2", "obj_1"), poses=True)
    wrong = by_id(evaluate())
    for name in ("iou_bbox", "iou_box_upright"):
        assert wrong[1][name] < right[1][name]
    assert wrong[1]["add_s"] > right[1]["add_s"]
    assert wrong[1]["iou_bbox_hungarian"] == pytest.approx(1, abs=1e-6)


def test_what_the_paper_leaves_out_counts_as_worst_beside_it(tmp_path, write_scene, evaluate):
    write_scene(tmp_path / "truth", "a", 3)
    write_scene(tmp_path / "prediction", "a", 3, skip=(1,))
    record = evaluate()
    assert "expected 3 mesh nodes" in record["protocols"][PAPER]["left_out"]
    assert not record["protocols"][PAPER]["objects"]
    assert by_id(record, "penalties")[1]["iou_bbox"] == 0
