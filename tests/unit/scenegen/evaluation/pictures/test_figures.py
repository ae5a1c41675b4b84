import numpy as np
import pytest
from scipy.linalg import sqrtm

from scenegen.evaluation.pictures.figures import frechet_distance, kernel_distance, psnr, ssim


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((40, 50, 3))


def test_psnr_is_that_of_the_mean_squared_error(picture):
    assert psnr(picture, picture) == float("inf")
    assert psnr(picture + 0.1, picture) == pytest.approx(20)


def test_ssim_of_equal_pictures_is_1(picture):
    assert ssim(picture, picture) == pytest.approx(1)


@pytest.mark.parametrize(("x", "y"), [(0.2, 0.7), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_flat_pictures_is_the_luminance_term(x, y):
    flat = np.ones((20, 30, 3))
    expected = (2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4)
    assert ssim(x * flat, y * flat) == pytest.approx(expected)


def test_ssim_of_a_negated_pattern_is_the_structure_term():
    # Rows of +-a around 1/2, as fast as pixels go: every window has mean 1/2 and one variance v, up to a
    # share that the Gaussian window leaves; negated, the covariance is -v.
    pattern = np.where(np.arange(64) % 2, 0.2, -0.2)[:, None, None] * np.ones((64, 64, 3))
    found = ssim(0.5 - pattern, 0.5 + pattern)
    v = 0.04
    assert found == pytest.approx((9e-4 - 2 * v) / (9e-4 + 2 * v), abs=1e-3)


def test_ssim_with_less_contrast_is_the_contrast_term():
    pattern = np.where(np.arange(64) % 2, 0.2, -0.2)[:, None, None] * np.ones((64, 64, 3))
    a, b = 0.04, 0.04 / 4
    expected = (2 * np.sqrt(a * b) + 9e-4) / (a + b + 9e-4)
    assert ssim(0.5 + pattern / 2, 0.5 + pattern) == pytest.approx(expected, abs=1e-3)


def test_ssim_needs_a_window():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(np.ones((10, 40, 3)), np.ones((10, 40, 3)))


def test_frechet_distance_is_that_of_the_textbook():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), 0.5 + rng.normal(size=(50, 8))
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(cx + cy - 2 * sqrtm(cx @ cy).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_few_pictures_with_many_features():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(10, 500))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(x + 1, x) == pytest.approx(500, rel=1e-6)


def test_kernel_distance_is_unbiased_and_grows():
    rng = np.random.default_rng(3)
    same = [kernel_distance(*rng.normal(size=(2, 40, 16))) for _ in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert kernel_distance(rng.normal(size=(40, 16)) + 1, rng.normal(size=(40, 16))) > max(same)


def test_one_picture_has_no_distribution():
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match="at least two pictures"):
            distance(np.ones((1, 4)), np.ones((3, 4)))
