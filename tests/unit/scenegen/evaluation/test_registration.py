import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from scenegen.evaluation.clouds import CloudPair
from scenegen.evaluation.kernel_means import KernelMeans
from scenegen.evaluation.registration import Similarity, filterreg, rigid_cpd


def dense_filterreg(source, target, iterations=3000, tolerance=1e-7):
    """FilterReg over all pairs of points, from the paper's equations, sharing no code with ours."""
    sigma2 = cdist(source, target, "sqeuclidean").mean() / 3
    rotation, shift = np.eye(3), np.zeros(3)
    for _ in range(iterations):
        moved = source @ rotation.T + shift
        kernel = np.exp(-cdist(moved, target, "sqeuclidean") / (2 * sigma2))
        goal = kernel @ target / kernel.sum(axis=1, keepdims=True)
        found, _ = Rotation.align_vectors(goal - goal.mean(axis=0), source - source.mean(axis=0))
        rotation = found.as_matrix()
        shift = goal.mean(axis=0) - rotation @ source.mean(axis=0)
        if np.sqrt(np.square(source @ rotation.T + shift - moved).sum(axis=1).mean()) < tolerance:
            break
    return rotation, shift


def room(seed):
    """Two clouds of some boxes in a row, of different points, the first one moved."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform((-0.9, -0.6, -0.7), (0.5, 0.0, 0.4), (rng.integers(3, 6), 3))
    sides = rng.uniform(0.15, 0.6, corners.shape)
    clouds = []
    for _ in range(2):
        faces = []
        for corner, side in zip(corners, sides):
            points = rng.random((150, 3))
            points[np.arange(150), rng.integers(0, 3, 150)] = rng.integers(0, 2, 150)
            faces.append(corner + side * points)
        clouds.append(np.concatenate(faces))
    turn = Rotation.from_rotvec(rng.normal(size=3) * 0.15).as_matrix()
    return clouds[0] @ turn.T + rng.normal(size=3) * 0.1, clouds[1]


@pytest.mark.parametrize("seed", range(20))
def test_filterreg_ends_where_all_pairs_of_points_end(seed):
    prediction, truth = room(seed)
    rotation, shift = dense_filterreg(prediction, truth)
    found = filterreg(prediction, truth)
    angle = np.rad2deg(Rotation.from_matrix(rotation.T @ found.rotation).magnitude())
    assert angle < 0.1
    pair = CloudPair(prediction, truth)
    dense = pair.match(Similarity(rotation, shift)).chamfer
    assert pair.match(found).chamfer == pytest.approx(dense, rel=0.01)


@pytest.mark.parametrize("step", [0.01, 0.3])
def test_means_under_a_moving_kernel_are_those_of_all_pairs(step):
    rng = np.random.default_rng(5)
    targets, weights = rng.uniform(-1, 1, (400, 3)), rng.uniform(1, 9, 400)
    points, sigma2 = rng.uniform(-1, 1, (50, 3)), 0.5
    means = KernelMeans(targets, weights, sigma2, reach=6)
    for _ in range(5):
        kernel = weights * np.exp(-cdist(points, targets, "sqeuclidean") / (2 * sigma2))
        expected = kernel @ targets / kernel.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(means.at(points), expected, atol=2e-6)
        points = points + step * rng.uniform(-1, 1, points.shape)


def test_means_of_far_targets_stay_finite():
    targets = np.array([[100.0, 0, 0], [101.0, 0, 0]])
    means = KernelMeans(targets, np.ones(2), sigma2=1.0, reach=102)
    np.testing.assert_allclose(means.at(np.zeros((1, 3))), targets[:1], atol=1e-3)


def test_coherent_point_drift_finds_rotation_place_and_size():
    rng = np.random.default_rng(3)
    _, truth = room(3)
    true = Similarity(Rotation.from_euler("xyz", (5, 20, -4), degrees=True).as_matrix(), [0.1, 0, -0.2], 1.2)
    found = rigid_cpd(true.inverse().apply(truth[rng.permutation(len(truth))]), truth)
    assert found.scale == pytest.approx(1.2, abs=1e-3)
    np.testing.assert_allclose(found.rotation, true.rotation, atol=1e-3)
    np.testing.assert_allclose(found.translation, true.translation, atol=2e-3)


def test_coherent_point_drift_of_equal_clouds_changes_nothing():
    _, truth = room(1)
    found = rigid_cpd(truth, truth)
    np.testing.assert_allclose(found.apply(truth), truth, atol=1e-3)
    single = np.ones((3, 3))
    np.testing.assert_array_equal(rigid_cpd(single, single).rotation, np.eye(3))


def test_similarities_chain_and_invert():
    first = Similarity(Rotation.from_euler("y", 40, degrees=True).as_matrix(), np.array([1.0, 2, 3]), 0.5)
    second = Similarity(Rotation.from_euler("x", 10, degrees=True).as_matrix(), np.array([-1.0, 0, 1]), 3.0)
    points = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(second.after(first).apply(points), second.apply(first.apply(points)))
    np.testing.assert_allclose(first.inverse().apply(first.apply(points)), points, atol=1e-12)
