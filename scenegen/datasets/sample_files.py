"""The files that samples are made of, read and checked: pictures, latents and features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safe_files.arrays import read_archive
from safe_files.pictures import read_picture as read_any_picture
from safe_files.regular import UnreadableFile
from scenegen.conditioning.image_preparation import images_to_tensor, prepare_training_asset
from scenegen.datasets.arrays import read_arrays
from scenegen.inputs.cutouts import alpha_of

LATENT_KEY = "mean"
_OLD_FEATURE_KEY = "arr_0"  # files that were written without a name for their array
_PHOTOS_REMEDY = "run build_metadata_scene.py again"


class SampleError(ValueError):
    """A file of a sample is missing, damaged, or holds something else."""


def read_latent(path: Path) -> Tensor:
    """A structure latent (C, r, r, r) float32.

    Raises:
        SampleError: it is missing, damaged, of another shape, or not finite.
    """
    latent = _array(path, (LATENT_KEY,), "run encode_ss_latent.py again")
    if latent.ndim != 4 or not latent.size or not _is_finite(latent, np.float32):
        raise SampleError(
            f"{path}: expected finite latents (C, r, r, r), got {latent.shape}; encode it again"
        )
    return torch.from_numpy(latent.astype(np.float32))


def read_feature(path: Path) -> Tensor:
    """The geometry feature of a photo (1, P, 2C) float16.

    Raises:
        SampleError: it is missing, damaged, of another shape, or not finite.
    """
    feature = _array(path, (_OLD_FEATURE_KEY, ""), _PHOTOS_REMEDY)
    if feature.ndim != 3 or len(feature) != 1 or not feature.size or not _is_finite(feature, np.float16):
        raise SampleError(f"{path}: expected a finite feature (1, P, 2C), got {feature.shape}; make it again")
    return torch.from_numpy(feature.astype(np.float16))


def read_sparse(path: Path, values: str, places: str) -> tuple[Tensor, Tensor]:
    """Values at voxels.

    Args:
        path: npz file.
        values: name of its array (T, C).
        places: name of its array (T, 3), voxels.

    Returns:
        (T, C) float32 and (T, 3) int32.

    Raises:
        SampleError: the file is missing or damaged, or holds something else.
    """
    try:
        stored = read_arrays(path, {places: 3, values: None})
    except ValueError as error:
        raise SampleError(str(error)) from error
    feats, coords = stored[values], stored[places]
    return torch.from_numpy(feats.astype(np.float32)), torch.from_numpy(coords.astype(np.int32))


def read_picture(path: Path, remedy: str = _PHOTOS_REMEDY) -> Image.Image:
    """A picture, read to its end.

    Raises:
        SampleError: it is missing, damaged, too large, or no picture; says the ``remedy``.
    """
    try:
        return read_any_picture(path)
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such file; {remedy}") from error
    except (OSError, UnreadableFile) as error:
        raise SampleError(f"{path}: damaged ({error}); {remedy}") from error


def read_photo(path: Path, size: int) -> Tensor:
    """A whole photo, stretched to a square: (3, size, size) in [0, 1]; errors as `read_picture`."""
    return images_to_tensor([read_picture(path)], size)[0]


def prepare_cutout(cutout: Image.Image, size: int, path: Path) -> Tensor:
    """The cut-out from ``path`` as training sees it: (3, size, size) in [0, 1] on black.

    Raises:
        SampleError: it is fully transparent.
    """
    try:
        return prepare_training_asset(cutout, size)
    except ValueError as error:
        raise SampleError(f"{path}: {error}") from error


def read_mask(cutout_path: Path, cutout: Image.Image, size: int) -> Tensor:
    """The mask of an object in the whole photo (size, size) in [0, 1], its aspect not kept.

    Without a ``<n>_mask.png`` beside the cut-out its alpha stands in, as published training means it.

    Raises:
        SampleError: the mask is damaged.
    """
    path = mask_path(cutout_path)
    mask = read_picture(path).convert("L") if os.path.lexists(path) else Image.fromarray(alpha_of(cutout))
    resized = mask.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255)


def mask_path(cutout_path: Path) -> Path:
    """Where the mask of a cut-out lies."""
    return cutout_path.with_name(f"{cutout_path.stem}_mask.png")


def _is_finite(array: np.ndarray, kind: type[np.floating]) -> bool:
    """Whether all numbers are, also once they are stored with fewer bits."""
    return bool(np.abs(array).max() <= np.finfo(kind).max)


def _array(path: Path, keys: Sequence[str], remedy: str) -> np.ndarray:
    """The array of an npz under the first key that it has; the key "" stands for any."""

    def choose(names: list[str]) -> list[str]:
        known = [key for key in keys if key in names] or ([names[0]] if "" in keys and names else [])
        if not known:
            raise UnreadableFile(f"expected the array {keys[0]!r}, got {names}")
        return known[:1]

    try:
        (array,) = read_archive(path, choose).values()
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such file; {remedy}") from error
    except (OSError, UnreadableFile) as error:
        raise SampleError(f"{path}: damaged ({error}); {remedy}") from error
    return array
