"""Features of pictures at voxels: each voxel gets the mean of what lies at its place in every picture."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dataset_toolkits.asset_views import View, picture_name, write_transforms
from dataset_toolkits.image_features import load_picture, voxel_image_features
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.voxel_files import read_voxels, write_voxels

SIZE, PATCH = 56, 14
VIEWS = [View(0.4, 0.3, 2.0, math.radians(40)), View(2.5, -0.6, 2.4, math.radians(35))]
VOXELS = np.array([[3, 40, 20], [32, 32, 32], [60, 5, 50], [0, 0, 63]])


class MeanColours(nn.Module):
    """Stands for an image encoder: the tokens of patches are their mean colours, after three others."""

    embed_dim, num_register_tokens = 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        patches = nn.functional.avg_pool2d(images, PATCH).flatten(2).mT
        return {"x_prenorm": torch.cat((torch.full((len(images), 3, 3), torch.nan), patches), dim=1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(len(VIEWS)):
        pixels = rng.integers(0, 256, (80, 80, 4), dtype=np.uint8)
        Image.fromarray(pixels, "RGBA").save(tmp_path / picture_name(number))
    write_transforms(tmp_path / "transforms.json", VIEWS, 1.0, np.zeros(3))
    return tmp_path


def expected(folder: Path) -> np.ndarray:
    """The same by hand: each centre through each camera, and between the four nearest patches."""
    total = np.zeros((len(VOXELS), 3))
    for number, view in enumerate(VIEWS):
        picture = load_picture(folder / picture_name(number), SIZE).double().numpy()
        patches = picture.reshape(3, 4, PATCH, 4, PATCH).mean(axis=(2, 4))
        place = read_transforms(folder).extrinsics[number].numpy()
        for row, voxel in enumerate(VOXELS):
            x, y, z = place[:3, :3] @ ((voxel + 0.5) / 64 - 0.5) + place[:3, 3]
            focal = 0.5 / math.tan(view.fov / 2)
            column, line = 4 * (focal * x / z + 0.5) - 0.5, 4 * (focal * y / z + 0.5) - 0.5
            left, top = math.floor(column), math.floor(line)
            for j, i in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                weight = (1 - abs(column - i)) * (1 - abs(line - j))
                if 0 <= i < 4 and 0 <= j < 4:  # nothing lies outside
                    total[row] += weight * patches[:, j, i]
    return total / len(VIEWS)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_voxels_get_the_mean_of_what_lies_at_their_places(folder: Path, batch_size: int) -> None:
    with ThreadPoolExecutor(2) as readers:
        found = voxel_image_features(
            MeanColours(), read_transforms(folder), VOXELS, 64, batch_size, readers, SIZE
        )
    np.testing.assert_allclose(found.numpy(), expected(folder), atol=1e-5)


def test_voxels_come_back_from_their_file(tmp_path: Path) -> None:
    write_voxels(tmp_path / "v.ply", VOXELS)
    np.testing.assert_array_equal(read_voxels(tmp_path / "v.ply"), VOXELS)


def test_files_of_other_points_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.ply"
    with pytest.raises(ValueError, match="v.ply: expected voxels, found no such file; run voxelize"):
        read_voxels(path)
    write_voxels(path, VOXELS + 0.3)
    with pytest.raises(ValueError, match="expected the centres of voxels in a grid of 64"):
        read_voxels(path)
    write_voxels(path, VOXELS[:0])
    with pytest.raises(ValueError, match="got 0 points"):
        read_voxels(path)
    write_voxels(path, VOXELS + 10)
    with pytest.raises(ValueError, match="in a grid of 64"):
        read_voxels(path)
    write_voxels(path, VOXELS)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="truncated"):
        read_voxels(path)
