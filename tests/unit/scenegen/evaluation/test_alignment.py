import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scenegen.evaluation.alignment import (
    AlignmentSettings,
    align,
    align_object,
    refine_scale,
)
from scenegen.evaluation.clouds import CloudPair, symmetric_icp
from scenegen.evaluation.registration import Similarity, filterreg, fit_similarity
from scenegen.geometry import SCENE_EXTENT


@pytest.fixture
def cloud():
    """Surface-like points without symmetry, about as large as a normalised scene."""
    rng = np.random.default_rng(0)
    floor = rng.uniform((-1, -0.5, -0.6), (1, -0.4, 0.6), (1500, 3))
    tower = rng.uniform((0.5, -0.5, 0.2), (0.9, 0.7, 0.5), (900, 3))
    block = rng.uniform((-0.9, -0.5, -0.5), (-0.3, 0.0, -0.2), (600, 3))
    return np.concatenate([floor, tower, block])


def offset(angles_deg, translation):
    return Similarity(Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix(), np.array(translation))


def angle_deg(rotation, other):
    return np.rad2deg(Rotation.from_matrix(rotation.T @ other).magnitude())


@pytest.mark.parametrize("with_scale", [False, True])
def test_paired_points_give_the_exact_transform(cloud, with_scale):
    true = Similarity(
        offset((20, -50, 10), ()).rotation, np.array([0.3, -0.1, 2.0]), 1.7 if with_scale else 1.0
    )
    found = fit_similarity(cloud, true.apply(cloud), with_scale=with_scale)
    np.testing.assert_allclose(found.apply(cloud), true.apply(cloud), atol=1e-9)
    np.testing.assert_allclose(true.apply_inverse(true.apply(cloud)), cloud, atol=1e-9)


def test_fit_never_mirrors(cloud):
    mirrored = cloud * (-1, 1, 1)
    assert np.linalg.det(fit_similarity(cloud, mirrored).rotation) == pytest.approx(1)


def test_weights_of_zero_leave_points_out(cloud):
    target = cloud + 1.0
    target[::2] += np.random.default_rng(1).normal(size=target[::2].shape)
    weights = np.ones(len(cloud))
    weights[::2] = 0
    np.testing.assert_allclose(fit_similarity(cloud, target, weights).apply(cloud), cloud + 1.0, atol=1e-9)


def test_filterreg_recovers_a_rigid_offset(cloud):
    moved = offset((5, 25, -8), (0.2, 0.1, -0.3))
    found = filterreg(moved.apply(cloud), cloud)
    # The kernel is about as wide as the scene, which leaves a bias of some degrees, the same from every
    # start.
    assert angle_deg(found.rotation @ moved.rotation, np.eye(3)) < 3
    assert np.abs(found.apply(moved.apply(cloud)) - cloud).max() < 0.06
    np.testing.assert_allclose(found.rotation @ moved.rotation, filterreg(cloud, cloud).rotation, atol=5e-3)
    assert found.scale == 1


def test_filterreg_of_coinciding_single_points_does_nothing():
    point = np.ones((5, 3))
    np.testing.assert_array_equal(filterreg(point, point).rotation, np.eye(3))


def test_icp_recovers_a_small_offset_exactly(cloud):
    moved = offset((2, 4, -3), (0.02, 0.01, -0.03))
    found = symmetric_icp(CloudPair(moved.apply(cloud), cloud), tolerance=1e-8)
    np.testing.assert_allclose(found.apply(moved.apply(cloud)), cloud, atol=1e-5)


def test_every_icp_iteration_lowers_the_chamfer_distance(cloud):
    pair = CloudPair(offset((5, 15, 5), (0.1, 0, 0)).apply(cloud), cloud[::2])
    values = [pair.match(symmetric_icp(pair, max_iterations=count)).chamfer for count in range(8)]
    assert np.all(np.diff(values) < 0)


@pytest.mark.parametrize("yaw_deg", [10, 95, 185, 260])
def test_best_recovers_offsets_that_one_start_cannot(cloud, yaw_deg):
    moved = offset((3, yaw_deg, -2), (0.1, 0.05, -0.15))
    pair = CloudPair(moved.apply(cloud), cloud)
    result = align(pair, AlignmentSettings("best"), np.random.default_rng(0))
    assert angle_deg(result.transform.rotation @ moved.rotation, np.eye(3)) < 1
    assert result.aligned.chamfer < 1e-3 < result.unaligned.chamfer


@pytest.fixture
def boxes():
    """Meshes of some boxes that look much the same after half a turn: two alignments are nearly as near."""
    parts = [
        ((1.6, 0.1, 1.0), (0, -0.45, 0)),
        ((0.3, 1.0, 0.3), (0.6, 0.1, 0.3)),
        ((0.3, 0.9, 0.3), (-0.6, 0.05, -0.3)),
    ]
    meshes = [trimesh.creation.box(sides) for sides, _ in parts]
    for mesh, (_, place) in zip(meshes, parts):
        mesh.apply_translation(place)
    return trimesh.util.concatenate(meshes)


@pytest.mark.parametrize("angles_deg", [(0, 33, 0), (0, 200, 0), (4, 75, -3), (30, 0, 0), (15, -120, -20)])
def test_best_does_not_depend_on_how_the_prediction_stands(boxes, angles_deg):
    rng = np.random.default_rng(2)
    truth = trimesh.sample.sample_surface(boxes, 3000, seed=1)[0]
    mesh = boxes.copy()
    mesh.vertices = mesh.vertices * (1.0, 0.8, 1.15) + rng.normal(scale=0.02, size=mesh.vertices.shape)
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    mesh.apply_scale(SCENE_EXTENT / mesh.extents.max())
    prediction = trimesh.sample.sample_surface(mesh, 1500, seed=2)[0]
    motion = offset(angles_deg, (0.4, -0.1, 0.9))
    ends = []
    for move in (Similarity(), motion):
        pair = CloudPair(move.apply(prediction), truth)
        surface = (move.apply(mesh.vertices), mesh.faces)
        found = align(pair, AlignmentSettings("best"), np.random.default_rng(0), surface=surface)
        ends.append((found.transform.apply(pair.prediction), found.aligned.chamfer))
    assert ends[0][1] == pytest.approx(ends[1][1], abs=1e-6)
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-5)


def test_best_keeps_a_perfect_prediction(cloud):
    result = align(CloudPair(cloud, cloud), AlignmentSettings("best"), np.random.default_rng(0))
    assert result.method == "unaligned" and result.aligned.chamfer == 0


def test_best_object_alignment_is_never_worse_than_none(cloud):
    pair = CloudPair(cloud * (1, 0.4, 1), cloud)
    result = align_object(pair, AlignmentSettings("best"), np.random.default_rng(0))
    assert result.aligned.chamfer <= result.unaligned.chamfer


def test_mode_none_changes_nothing(cloud):
    result = align(CloudPair(cloud + 0.5, cloud), AlignmentSettings("none"), np.random.default_rng(0))
    np.testing.assert_array_equal(result.transform.apply(cloud), cloud)
    assert result.aligned is result.unaligned


def test_scale_refinement_recovers_a_wrong_size(cloud):
    settings = AlignmentSettings("best", tolerance=1e-7)
    pair = CloudPair(cloud * 0.9, cloud)
    found = refine_scale(pair, Similarity(), settings, np.random.default_rng(0))
    assert found.scale == pytest.approx(1 / 0.9, rel=0.02)


def test_matches_agree_with_brute_force(cloud):
    prediction, truth, transform = cloud[:60], cloud[60:150], offset((10, 20, 30), (0.1, 0.2, 0.3))
    matches = CloudPair(prediction, truth).match(transform)
    distances = np.linalg.norm(transform.apply(prediction)[:, None] - truth[None], axis=-1)
    np.testing.assert_allclose(matches.prediction_to_truth, distances.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(matches.truth_to_prediction, distances.min(axis=0), atol=1e-12)


@pytest.mark.parametrize("bad", [np.empty((0, 3)), np.zeros((4, 2)), np.full((4, 3), np.inf)])
def test_clouds_without_finite_points_are_refused(bad):
    with pytest.raises(ValueError, match="truth must be finite points"):
        CloudPair(np.zeros((1, 3)), bad)


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'nearest'"):
        AlignmentSettings("nearest")
