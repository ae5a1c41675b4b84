"""Sets for decoders of structured latents: features or latents at voxels, and a picture to compare with.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2; the names of the sets are those of its released training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scenegen.datasets.asset_pictures import MESH_NAME, read_transforms
from scenegen.datasets.asset_samples import RENDERS, AssetSamples, AssetSetConfig, stacked
from scenegen.datasets.batch import SparseViewBatch
from scenegen.datasets.model_boxes import ModelFileError, load_model, surfaces
from scenegen.datasets.roots import Asset, has_status
from scenegen.datasets.sample_files import SampleError, read_picture, read_sparse
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.structured_latent_sets import MAX_NUM_VOXELS, SparseSample, has_few_voxels, joined
from scenegen.datasets.voxel_files import RESOLUTION
from trellis_modules.config import check_range

_REMEDY = "render the asset again"


@dataclass(frozen=True, kw_only=True)
class ViewSetConfig(AssetSetConfig):
    """Settings that these sets have.

    Attributes:
        image_size: pixels per side of the pictures.
        max_num_voxels: assets with more are left out.
    """

    image_size: int
    max_num_voxels: int = MAX_NUM_VOXELS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("image_size", self.image_size, 1)
        check_range("max_num_voxels", self.max_num_voxels, 1)


@dataclass(frozen=True, kw_only=True)
class SparseFeat2RenderConfig(ViewSetConfig):
    """Settings of picture features.

    Attributes:
        model: folder in ``features/``.
        resolution: voxels per side; below that of the files, which it divides, voxels are joined and their
            features averaged.
    """

    model: str = "dinov2_vitl14_reg"
    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution < 1 or RESOLUTION % self.resolution:
            raise ValueError(f"resolution: expected a divisor of {RESOLUTION}, got {self.resolution}")


@dataclass(frozen=True, kw_only=True)
class SLat2RenderConfig(ViewSetConfig):
    """Settings of structured latents; ``latent_model``: folder in ``latents/``."""

    latent_model: str


@dataclass(frozen=True)
class AssetView:
    """A picture of an asset and its camera."""

    image: Tensor  # (3, S, S) premultiplied by alpha
    alpha: Tensor  # (S, S)
    extrinsics: Tensor  # (4, 4) world to camera, OpenCV
    intrinsics: Tensor  # (3, 3) normalised


@dataclass(frozen=True)
class ViewSample:
    """An asset: what the decoder sees, what it is compared with, and the true mesh where it is asked for."""

    sparse: SparseSample
    view: AssetView
    mesh: tuple[Tensor, Tensor] | None = None


class AssetViews(AssetSamples[ViewSample, SparseViewBatch]):
    """Values at voxels with a random picture from ``renders/``."""

    config: ViewSetConfig

    def __init__(
        self,
        config: ViewSetConfig,
        options: SourceOptions,
        folder: Path,
        arrays: tuple[str, str],
        resolution: int = RESOLUTION,
        with_mesh: bool = False,
    ) -> None:
        """Read the tables of the data roots.

        Args:
            config: settings.
            options: of the run.
            folder: of the files below a root, ``features/<model>`` or ``latents/<model>``.
            arrays: names of values and voxels in a file.
            resolution: see `SparseFeat2RenderConfig`.
            with_mesh: samples have the true mesh.
        """
        column = f"{folder.parts[0].removesuffix('s')}_{folder.name}"
        super().__init__(config, options, [has_status(column), has_few_voxels(config.max_num_voxels)])
        self.folder, self.arrays, self.with_mesh = folder, arrays, with_mesh
        self._voxels_joined = RESOLUTION // resolution
        self.loads = [asset.row.num_voxels for asset in self.assets]

    def read(self, number: int, rng: np.random.Generator) -> ViewSample:
        """See `StoredSamples`."""
        asset = self.assets[number]
        feats, coords = read_sparse(asset.root / self.folder / f"{asset.row.sha256}.npz", *self.arrays)
        if self._voxels_joined > 1:
            coords, feats = coarsened(coords, feats, self._voxels_joined)
        mesh = _read_mesh(asset.root / RENDERS / asset.row.sha256 / MESH_NAME) if self.with_mesh else None
        return ViewSample(SparseSample(coords, feats), read_view(asset, self.config.image_size, rng), mesh)

    def collate(self, samples: Sequence[ViewSample]) -> SparseViewBatch:
        """See `StoredSamples`."""
        coords, feats = joined([sample.sparse for sample in samples])
        views = {
            name: stacked(name, [getattr(sample.view, name) for sample in samples])
            for name in ("image", "alpha", "extrinsics", "intrinsics")
        }
        meshes = [sample.mesh for sample in samples if sample.mesh is not None]
        vertices, faces = zip(*meshes) if meshes else ((), ())
        return SparseViewBatch(coords, feats, **views, vertices=vertices, faces=faces)


def sparse_feat_2_render(config: SparseFeat2RenderConfig, options: SourceOptions) -> AssetViews:
    """Picture features with pictures."""
    folder = Path("features") / config.model
    return AssetViews(config, options, folder, ("patchtokens", "indices"), config.resolution)


def slat_2_render(config: SLat2RenderConfig, options: SourceOptions) -> AssetViews:
    """Structured latents with pictures."""
    return AssetViews(config, options, Path("latents") / config.latent_model, ("feats", "coords"))


def slat_2_render_geo(config: SLat2RenderConfig, options: SourceOptions) -> AssetViews:
    """Structured latents with pictures and the true mesh."""
    folder = Path("latents") / config.latent_model
    return AssetViews(config, options, folder, ("feats", "coords"), with_mesh=True)


def coarsened(coords: Tensor, feats: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Voxels (T, 3) of a grid with ``factor`` times fewer a side, and the means of their values (T, C)."""
    coarse, owner = (coords // factor).unique(dim=0, return_inverse=True)
    total = feats.new_zeros(len(coarse), feats.shape[1]).index_add_(0, owner, feats)
    return coarse, total / torch.bincount(owner)[:, None]


def read_view(asset: Asset, size: int, rng: np.random.Generator) -> AssetView:
    """A random picture of ``renders/`` and its camera.

    Raises:
        SampleError: cameras or picture are missing or damaged.
    """
    folder = asset.root / RENDERS / asset.row.sha256
    try:
        pictures = read_transforms(folder)
    except ValueError as error:
        raise SampleError(str(error)) from error
    if not pictures.files:
        raise SampleError(f"{folder}: expected at least one picture; {_REMEDY}")
    number = int(rng.integers(len(pictures.files)))
    rgba = read_picture(pictures.files[number], _REMEDY).convert("RGBA")
    resized = np.asarray(rgba.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    pixels = torch.from_numpy(resized).permute(2, 0, 1)
    return AssetView(
        image=pixels[:3] * pixels[3:],
        alpha=pixels[3],
        extrinsics=pictures.extrinsics[number].float(),
        intrinsics=pictures.intrinsics[number].float(),
    )


def _read_mesh(path: Path) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) float32 and faces (F, 3) int64."""
    try:
        parts = surfaces(load_model(path, with_materials=False))
    except ModelFileError as error:
        raise SampleError(str(error)) from error
    if len(parts) != 1 or not np.isfinite(parts[0].vertices).all():
        raise SampleError(f"{path}: expected one mesh with triangles; {_REMEDY}")
    mesh = parts[0]
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int64)
