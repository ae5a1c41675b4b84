"""Figures of gravity in the records of scenes, where it is known what falls."""

import numpy as np
import pytest
import trimesh

from scenegen.evaluation.loading import EvaluationScene, ObjectMesh
from scenegen.evaluation.scene_physics import add_physics, true_physics

pytest.importorskip("manifold3d")
pytest.importorskip("mujoco")


def _object(index, extents, bottom, x):
    mesh = trimesh.creation.box(extents).subdivide()
    mesh.apply_translation((x, bottom - mesh.bounds[0][1], 0.0))
    return ObjectMesh(index, np.asarray(mesh.vertices), np.asarray(mesh.faces))


def _scene(*objects):
    return EvaluationScene({item.index: item for item in objects}, named=True)


def _record(*indices):
    return {
        "metrics": {},
        "penalties": {},
        "objects": [{"id": i, "metrics": {}, "penalties": {}} for i in indices],
    }


CUPBOARD = _object(1, (0.6, 1.0, 0.4), 0.0, 0.0)
BOX = _object(2, (0.4, 0.3, 0.4), 0.0, 1.0)
LAMP = _object(3, (0.2, 0.2, 0.2), 0.9, -0.8)  # hangs


@pytest.fixture(scope="module")
def truth():
    return _scene(CUPBOARD, BOX, LAMP)


def test_the_truth_as_prediction_stays_and_what_hangs_is_left_out_by_name(truth):
    record = _record(1, 2, 3)
    warnings = add_physics(record, true_physics(truth), truth)
    assert warnings == ["obj_3 does not stay in the truth; physics leaves it out"]
    assert record["metrics"] == {"physics_stable_truth": 0.0, "physics_stable": 1.0}
    for entry in record["objects"][:2]:
        figures = entry["metrics"]
        assert (
            figures["physics_stays"] == figures["physics_stands_alone"] == figures["physics_supported"] == 1
        )
        assert figures["physics_drift_m"] < 0.01 and figures["physics_loose_pieces"] == 0
    assert record["objects"][2] == {"id": 3, "metrics": {}, "penalties": {}}


def test_what_is_not_in_balance_is_left_out_and_counts_against_no_truth():
    leaning = trimesh.util.concatenate(
        [
            trimesh.creation.box(
                (0.1, 0.4, 0.1), trimesh.transformations.translation_matrix((1.0, 0.2, 0.0))
            ),
            trimesh.creation.box(
                (0.6, 0.2, 0.3), trimesh.transformations.translation_matrix((1.2, 0.45, 0.0))
            ),
        ]
    )
    guitar = ObjectMesh(4, np.asarray(leaning.vertices), np.asarray(leaning.faces))
    truth, record = _scene(CUPBOARD, guitar), _record(1, 4)
    found = true_physics(truth)
    assert found.warnings == ["obj_4 is not in balance in the truth; physics leaves it out"]
    assert found.stable and list(found.kept) == [1]
    add_physics(record, found, truth)
    assert record["metrics"] == {"physics_stable_truth": 1.0, "physics_stable": 1.0}


def test_what_hovers_in_the_prediction_is_unsupported_though_it_stands_alone(truth):
    record = _record(1, 2, 3)
    add_physics(record, true_physics(truth), _scene(CUPBOARD, _object(2, (0.4, 0.3, 0.4), 0.3, 1.0)))
    figures = record["objects"][1]["metrics"]
    assert record["metrics"]["physics_stable"] == 0
    assert (figures["physics_stays"], figures["physics_supported"], figures["physics_stands_alone"]) == (
        0,
        0,
        1,
    )


def test_missing_objects_and_scenes_count_as_worst(truth):
    record = _record(1, 2, 3)
    add_physics(record, true_physics(truth), _scene(CUPBOARD))
    assert record["metrics"]["physics_stable"] == 0
    assert record["objects"][1]["penalties"]["physics_stays"] == 0
    empty = _record(1, 2, 3)
    add_physics(empty, true_physics(truth), None)
    assert empty["penalties"] == {"physics_stable": 0.0}
    assert empty["objects"][0]["penalties"]["physics_supported"] == 0 and not empty["objects"][2]["penalties"]


def test_an_object_that_encloses_nothing_is_named_and_counts_as_worst(truth):
    flat = ObjectMesh(2, np.zeros((3, 3)), np.array([[0, 1, 2]]))
    record = _record(1, 2, 3)
    warnings = add_physics(record, true_physics(truth), _scene(CUPBOARD, flat))
    assert any(line.startswith("obj_2: expected a mesh that encloses a volume") for line in warnings)
    assert record["objects"][1]["penalties"]["physics_stays"] == 0
