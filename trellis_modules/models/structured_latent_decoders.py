"""Decoders of structured latents: to Gaussians, to a radiance field, to a mesh.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from trellis_modules.config import build
from trellis_modules.devices import computed
from trellis_modules.models.sparse_blocks import GROUP_NORM_GROUPS, SparseSubdivideBlock3d
from trellis_modules.models.structured_latent_trunk import StructuredLatentConfig, StructuredLatentTrunk
from trellis_modules.models.torso import full_precision
from trellis_modules.renderers.low_discrepancy import hammersley_set
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.representations.mesh.sparse_features_to_mesh import (
    SurfaceKind,
    num_channels,
    sparse_features_to_mesh,
)
from trellis_modules.representations.octree import OctreeNodes
from trellis_modules.representations.strivec import Strivec
from trellis_modules.sparse import SparseLinear, SparseTensor

Representation = TypeVar("Representation")

#: Shape of each quantity that a voxel carries, in the order of the output channels.
Layout = Mapping[str, tuple[int, ...]]


def _num_channels(layout: Layout) -> int:
    return sum(math.prod(shape) for shape in layout.values())


def _split(feats: Tensor, layout: Layout) -> dict[str, Tensor]:
    """(T, channels) output of a decoder -> each quantity, (T, *shape)."""
    parts = feats.split([math.prod(shape) for shape in layout.values()], dim=1)
    return {name: part.unflatten(1, shape) for (name, shape), part in zip(layout.items(), parts)}


class StructuredLatentDecoder(StructuredLatentTrunk, Generic[Representation]):
    """Structured latents to one representation for each batch element."""

    @abstractmethod
    def represent(self, coords: Tensor, feats: Tensor) -> Representation:
        """The representation of one object.

        Args:
            coords: (T, 3) int32 voxels of the output grid; T may be 0.
            feats: (T, channels) float32 output of ``features``.
        """

    def features(self, x: SparseTensor) -> SparseTensor:
        """Output layer at the voxels of the output grid, float32.

        Args:
            x: (B, latent_channels) structured latents.

        Raises:
            ValueError: the channels do not fit.
        """
        return self.project(self.transform(x))

    def forward(self, x: SparseTensor, **options: Any) -> list[Representation]:
        """Decode structured latents.

        Args:
            x: (B, latent_channels), coordinates in [0, resolution).
            options: of ``represent``, where it takes any.

        Returns:
            B representations in the object frame, z up.

        Raises:
            ValueError: channels or coordinates do not fit; in eval mode, features are not finite.
        """
        x.check_resolution(self.config.resolution, type(self).__name__)
        h = self.features(x)
        if not self.training:
            self._check_finite(h.feats)
        return [self.represent(h.coords[rows, 1:], h.feats[rows], **options) for rows in h.layout]

    def _check_finite(self, feats: Tensor) -> None:
        """Before anything is rendered or written from them."""
        finite = feats.isfinite()
        if not finite.all():
            finite = finite.all(dim=1)
            raise ValueError(
                f"{type(self).__name__}: features of {int((~finite).sum())} of {len(feats)} voxels are not "
                "finite; check the latents and the weights, or decode in float32 if the dtype overflows"
            )


@dataclass(frozen=True, kw_only=True)
class GaussianLayout:
    """How the Gaussians of a voxel are read; see ``from_released`` for the released key names."""

    lr: dict[str, float]  # factor of each quantity, which gives it its own learning rate
    perturb_offset: bool  # whether the Gaussians of a voxel start at different places
    voxel_size: float  # edge of the cube in which the Gaussians of a voxel may lie, in voxels
    num_gaussians: int  # of a voxel
    filter_kernel_size_2d: float = 0.1  # of the renderer, in pixels
    filter_kernel_size_3d: float = 0.0
    scaling_bias: float
    opacity_bias: float
    scaling_activation: str

    _RELEASED_NAMES: ClassVar[dict[str, str]] = {
        "2d_filter_kernel_size": "filter_kernel_size_2d",
        "3d_filter_kernel_size": "filter_kernel_size_3d",
    }

    def __post_init__(self) -> None:
        if missing := sorted(self.shapes.keys() - self.lr.keys()):
            raise ValueError(f"lr must give a factor for each of {sorted(self.shapes)}, lacks {missing}")
        if self.num_gaussians < 1 or self.voxel_size <= 0:
            raise ValueError(
                f"num_gaussians and voxel_size must be positive, got {self.num_gaussians}, {self.voxel_size}"
            )

    @classmethod
    def from_released(cls, raw: Mapping[str, Any]) -> GaussianLayout:
        """Read the ``representation_config`` of a configuration file.

        Raises:
            ConfigError: a key is unknown, missing or of the wrong type.
        """
        names = cls._RELEASED_NAMES
        return build(cls, {names.get(key, key): value for key, value in raw.items()}, "representation_config")

    @property
    def shapes(self) -> Layout:
        """Shape of each quantity, by its released name."""
        count = self.num_gaussians
        return {
            "_xyz": (count, 3),
            "_features_dc": (count, 1, 3),
            "_scaling": (count, 3),
            "_rotation": (count, 4),
            "_opacity": (count, 1),
        }

    @property
    def gaussian_config(self) -> GaussianConfig:
        """What the hidden parameters of the Gaussians mean."""
        return GaussianConfig(
            minimum_kernel_size=self.filter_kernel_size_3d,
            scaling_bias=self.scaling_bias,
            opacity_bias=self.opacity_bias,
            scaling_activation=self.scaling_activation,
        )


@dataclass(frozen=True, kw_only=True)
class SLatGaussianDecoderConfig(StructuredLatentConfig):
    """Sizes of an ``SLatGaussianDecoder``."""

    representation_config: dict[str, Any]  # see GaussianLayout


class SLatGaussianDecoder(StructuredLatentDecoder[Gaussian]):
    """Structured latents to a fixed number of Gaussians around every voxel."""

    def __init__(self, config: SLatGaussianDecoderConfig) -> None:
        layout = GaussianLayout.from_released(config.representation_config)
        super().__init__(config, config.latent_channels, _num_channels(layout.shapes))
        self.layout = layout
        self.register_buffer("offset_perturbation", computed(self._perturbation))

    def _perturbation(self) -> Tensor:
        """(num_gaussians, 3), what the tanh of ``represent`` turns into evenly spread places."""
        places = torch.as_tensor(hammersley_set(3, self.layout.num_gaussians), dtype=torch.float32)
        return torch.atanh((places * 2 - 1) / self.layout.voxel_size)

    def represent(self, coords: Tensor, feats: Tensor) -> Gaussian:
        """T * num_gaussians Gaussians, voxel by voxel; see the base class."""
        layout, resolution = self.layout, self.config.resolution
        parts = {name: part * layout.lr[name] for name, part in _split(feats, layout.shapes).items()}
        offset = parts["_xyz"]
        if layout.perturb_offset:
            offset = offset + self.offset_perturbation
        centre = (coords.to(feats.dtype) + 0.5) / resolution
        parts["_xyz"] = centre[:, None] + offset.tanh() * (0.5 * layout.voxel_size / resolution)
        return Gaussian(layout.gaussian_config, *(part.flatten(0, 1) for part in parts.values()))


@dataclass(frozen=True)
class StrivecLayout:
    """Size of the local tensors of a voxel."""

    rank: int  # components
    dim: int  # samples along an axis

    @property
    def shapes(self) -> Layout:
        """Shape of each quantity."""
        return {
            "trivec": (self.rank, 3, self.dim),
            "density": (self.rank,),
            "features_dc": (self.rank, 1, 3),
        }


@dataclass(frozen=True, kw_only=True)
class SLatRadianceFieldDecoderConfig(StructuredLatentConfig):
    """Sizes of an ``SLatRadianceFieldDecoder``."""

    representation_config: StrivecLayout


class SLatRadianceFieldDecoder(StructuredLatentDecoder[Strivec]):
    """Structured latents to a radiance field of local tensors, one for each voxel."""

    def __init__(self, config: SLatRadianceFieldDecoderConfig) -> None:
        layout = config.representation_config
        super().__init__(config, config.latent_channels, _num_channels(layout.shapes))
        self.layout = layout

    def represent(self, coords: Tensor, feats: Tensor) -> Strivec:
        """One leaf a voxel; see the base class."""
        parts = _split(feats, self.layout.shapes)
        nodes = OctreeNodes.from_coords(coords, self.config.resolution, feats.dtype)
        return Strivec(nodes, parts["trivec"] + 1, parts["density"], parts["features_dc"])


@dataclass(frozen=True)
class MeshLayout:
    """What the cubes of a mesh carry besides their geometry."""

    use_color: bool = False


@dataclass(frozen=True, kw_only=True)
class SLatMeshDecoderConfig(StructuredLatentConfig):
    """Sizes of an ``SLatMeshDecoder``."""

    representation_config: MeshLayout = field(default_factory=MeshLayout)
    upsample_channels: tuple[int, ...] | None = None  # after each halving of the voxels; None: as released

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [width for width in self.upsample_widths if width % GROUP_NORM_GROUPS]:
            raise ValueError(
                f"widths of the mesh decoder must be multiples of {GROUP_NORM_GROUPS}, the groups of its "
                f"norms, got {wrong[0]}; change model_channels or upsample_channels"
            )

    @property
    def upsample_widths(self) -> tuple[int, ...]:
        """Channels before the first and after each halving; as released a quarter, then an eighth."""
        width = self.model_channels
        after = (width // 4, width // 8) if self.upsample_channels is None else self.upsample_channels
        return (width, *after)


class SLatMeshDecoder(StructuredLatentDecoder[MeshExtractResult]):
    """Structured latents to a mesh, over cubes that are fractions of a voxel (a quarter as released)."""

    config: SLatMeshDecoderConfig

    def __init__(self, config: SLatMeshDecoderConfig) -> None:
        use_color = config.representation_config.use_color
        super().__init__(config, config.latent_channels, num_channels(use_color))
        self.use_color = use_color

    def _build_output(self, out_channels: int) -> None:
        widths = self.config.upsample_widths
        self.upsample = nn.ModuleList(
            SparseSubdivideBlock3d(coarse, fine) for coarse, fine in pairwise(widths)
        )
        self.out_layer = SparseLinear(widths[-1], out_channels)

    @property
    def mesh_resolution(self) -> int:
        """Cubes along the edge of the object's cube."""
        return self.config.resolution * 2 ** len(self.upsample)

    def torso(self) -> Iterator[nn.Module]:
        """Everything between the input and output layers."""
        yield from (self.blocks, self.upsample)

    def features(self, x: SparseTensor) -> SparseTensor:
        """Features of the cubes, without layer norm before the output layer; see the base class."""
        h = self.transform(x)
        for block in self.upsample:
            h = block(h)
        with full_precision(h.device):
            return self.out_layer(h.to(torch.float32))

    def represent(
        self, coords: Tensor, feats: Tensor, surface: SurfaceKind = "released"
    ) -> MeshExtractResult:
        """The surface inside the cubes; in training mode with the terms that a loss needs.

        Args:
            coords, feats: see the base class.
            surface: what becomes of the border of the grid and of closed shells.
        """
        return sparse_features_to_mesh(
            coords,
            feats,
            self.mesh_resolution,
            use_color=self.use_color,
            training=self.training,
            surface=surface,
        )
