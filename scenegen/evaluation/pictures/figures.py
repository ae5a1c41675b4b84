"""How alike two pictures, or two sets of pictures, are: PSNR, SSIM, FID and KID."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_STABILISERS = (0.01**2, 0.03**2)
_KERNEL_DEGREE = 3


def psnr(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pictures (H, W, 3) in [0, 1]; infinite where they are equal."""
    error = float(np.mean(np.square(prediction - truth)))
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of pictures (H, W, 3) in [0, 1]: mean over pixels and channels, at most 1.

    Gaussian window of 11 x 11 pixels with sigma 1.5; windows that reach over the edge do not count.

    Raises:
        ValueError: the pictures are smaller than the window.

    Source: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP
    2004, eq. 13, with K1 = 0.01, K2 = 0.03 and a range of 1.
    """
    return WindowStatistics(prediction).similarity(WindowStatistics(truth))


class WindowStatistics:
    """Mean and variance of a picture in every window of `ssim`, found once however often it is compared."""

    def __init__(self, picture: np.ndarray):
        """Take a picture (H, W, 3) in [0, 1].

        Raises:
            ValueError: it is smaller than a window.
        """
        if min(picture.shape[:2]) < SSIM_WINDOW:
            raise ValueError(f"ssim: expected at least {SSIM_WINDOW} pixels an edge, got {picture.shape}")
        self._picture = picture.astype(np.float64)
        self._mean = _blurred(self._picture)
        self._variance = _blurred(self._picture**2) - self._mean**2

    def similarity(self, other: WindowStatistics) -> float:
        """SSIM of this picture and another of its size."""
        product = self._mean * other._mean
        covariance = _blurred(self._picture * other._picture) - product
        first, second = _STABILISERS
        similarity = ((2 * product + first) * (2 * covariance + second)) / (
            (self._mean**2 + other._mean**2 + first) * (self._variance + other._variance + second)
        )
        return float(similarity.mean())


def _blurred(picture: np.ndarray) -> np.ndarray:
    """Gaussian means (H - 10, W - 10, C) of the windows of a picture (H, W, C)."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-np.square(offsets) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    half = SSIM_WINDOW // 2
    blurred = correlate1d(correlate1d(picture, weights, axis=0), weights, axis=1)
    return blurred[half:-half, half:-half]


def frechet_distance(prediction: np.ndarray, truth: np.ndarray) -> float:
    """FID: Frechet distance between Gaussians fitted to features (N, D) and (M, D); biased for few pictures.

    Raises:
        ValueError: there are fewer than two pictures on a side.

    Source: M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, eq. 6.
    """
    _check_sets(prediction, truth)
    x, y = prediction.astype(np.float64), truth.astype(np.float64)
    shift = float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum())
    x, y = (each - each.mean(axis=0) for each in (x, y))
    # tr sqrt(Sx Sy) from the small matrix of all inner products: the pictures are fewer than the features.
    inner = x @ y.T / np.sqrt((len(x) - 1) * (len(y) - 1))
    root = float(np.linalg.svd(inner, compute_uv=False).sum())
    spread = float(np.square(x).sum() / (len(x) - 1) + np.square(y).sum() / (len(y) - 1))
    return max(shift + spread - 2 * root, 0.0)


def kernel_distance(prediction: np.ndarray, truth: np.ndarray) -> float:
    """KID: squared maximum mean discrepancy of features (N, D) and (M, D), unbiased, over all pictures.

    Raises:
        ValueError: there are fewer than two pictures on a side.

    Source: M. Binkowski et al., Demystifying MMD GANs, ICLR 2018, sec. 4, with its cubic kernel.
    """
    _check_sets(prediction, truth)
    x, y = prediction.astype(np.float64), truth.astype(np.float64)
    own = sum(
        float(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1))
        for kernel in (_kernel(x, x), _kernel(y, y))
    )
    return own - 2 * float(_kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** _KERNEL_DEGREE


def _check_sets(prediction: np.ndarray, truth: np.ndarray) -> None:
    if min(len(prediction), len(truth)) < 2:
        raise ValueError(
            f"expected at least two pictures on each side, got {len(prediction)} and {len(truth)}"
        )
