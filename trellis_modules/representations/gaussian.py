"""3D Gaussians: hidden parameters, what they mean, and the PLY file of Gaussian-splatting viewers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trellis_modules.quaternions import matrix_to_quaternion, quaternion_multiply, quaternion_to_matrix
from trellis_modules.representations.ply import read_ply_vertices, write_ply_vertices

Matrix3 = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

# The rotation that the released pipeline applies to files by default.
Z_UP_TO_PLY: Matrix3 = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))

_PLY_COLUMNS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
_XYZ, _COLOUR, _OPACITY = slice(0, 3), slice(6, 9), slice(9, 10)
_SCALE, _ROTATION = slice(10, 13), slice(13, 17)
_HIDDEN = ("hidden_xyz", "features_dc", "hidden_scaling", "hidden_rotation", "hidden_opacity")
_MIN_SCALE = 1e-9  # a Gaussian no wider than the 3D filter has no width of its own; its logarithm must exist


def _softplus_inverse(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


# name -> (activation, inverse)
_SCALING_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "exp": (torch.exp, torch.log),
    "softplus": (torch.nn.functional.softplus, _softplus_inverse),
}


@dataclass(frozen=True)
class GaussianConfig:
    """What hidden parameters mean.

    Attributes:
        aabb: minimum and size of the box in which hidden positions are [0, 1].
        minimum_kernel_size: standard deviation of the 3D filter, added to every Gaussian (in squares).
        scaling_bias, opacity_bias: scale and opacity where the hidden value is 0.
        scaling_activation: "exp" or "softplus".
    """

    aabb: tuple[float, float, float, float, float, float] = (-0.5, -0.5, -0.5, 1.0, 1.0, 1.0)
    minimum_kernel_size: float = 0.0
    scaling_bias: float = 0.01
    opacity_bias: float = 0.1
    scaling_activation: str = "exp"

    def __post_init__(self) -> None:
        if self.scaling_activation not in _SCALING_ACTIVATIONS:
            raise ValueError(
                f"GaussianConfig: scaling_activation must be one of {sorted(_SCALING_ACTIVATIONS)}, "
                f"got {self.scaling_activation!r}"
            )
        if not (self.scaling_bias > 0 and 0 < self.opacity_bias < 1 and self.minimum_kernel_size >= 0):
            raise ValueError(
                "GaussianConfig: expected scaling_bias > 0, opacity_bias in (0, 1) and "
                "minimum_kernel_size >= 0, "
                f"got {self.scaling_bias}, {self.opacity_bias}, {self.minimum_kernel_size}"
            )


@dataclass(frozen=True)
class Gaussian:
    """N Gaussians of one object, z up. Hidden parameters carry gradients; properties give their meaning.

    Attributes:
        config: how to read the hidden parameters.
        hidden_xyz: (N, 3), position in the box, [0, 1].
        features_dc: (N, 1, 3), spherical-harmonic coefficients of degree 0.
        hidden_scaling: (N, 3), before bias and activation.
        hidden_rotation: (N, 4), quaternion wxyz minus (1, 0, 0, 0).
        hidden_opacity: (N, 1), before bias and sigmoid.

    Source: Kerbl et al., "3D Gaussian Splatting", 2023; TRELLIS, arXiv:2412.01506.
    """

    config: GaussianConfig
    hidden_xyz: Tensor
    features_dc: Tensor
    hidden_scaling: Tensor
    hidden_rotation: Tensor
    hidden_opacity: Tensor

    def __post_init__(self) -> None:
        count = len(self.hidden_xyz)
        expected = {
            "hidden_xyz": (count, 3),
            "features_dc": (count, 1, 3),
            "hidden_scaling": (count, 3),
            "hidden_rotation": (count, 4),
            "hidden_opacity": (count, 1),
        }
        for name, shape in expected.items():
            if (got := tuple(getattr(self, name).shape)) != shape:
                raise ValueError(f"Gaussian: expected {name} {shape}, got {got}")
        if len(dtypes := {getattr(self, name).dtype for name in expected}) > 1:
            raise ValueError(f"Gaussian: expected one dtype, got {sorted(map(str, dtypes))}")

    @classmethod
    def from_values(
        cls,
        config: GaussianConfig,
        *,
        xyz: Tensor,
        features_dc: Tensor,
        scaling: Tensor,
        rotation: Tensor,
        opacity: Tensor,
    ) -> Gaussian:
        """The Gaussians whose properties have these values.

        Args:
            xyz, features_dc, scaling, rotation: as the properties; the quaternion may have any length.
            opacity: (N, 1) in (0, 1).

        A scale below the 3D filter's cannot be represented and becomes the filter's.
        """
        origin, size = _box(config, xyz)
        inverse = _SCALING_ACTIVATIONS[config.scaling_activation][1]
        own_scale = (scaling.square() - config.minimum_kernel_size**2).clamp_min(_MIN_SCALE**2).sqrt()
        return cls(
            config,
            (xyz - origin) / size,
            features_dc,
            inverse(own_scale) - _scaling_shift(config, scaling),
            rotation - _identity_rotation(rotation),
            torch.logit(opacity) - _opacity_shift(config, opacity),
        )

    def __len__(self) -> int:
        return len(self.hidden_xyz)

    @property
    def xyz(self) -> Tensor:
        """(N, 3) centres in the object frame."""
        origin, size = _box(self.config, self.hidden_xyz)
        return self.hidden_xyz * size + origin

    @property
    def scaling(self) -> Tensor:
        """(N, 3) standard deviations along the own axes, the 3D filter included."""
        activation = _SCALING_ACTIVATIONS[self.config.scaling_activation][0]
        own_scale = activation(self.hidden_scaling + _scaling_shift(self.config, self.hidden_scaling))
        return (own_scale.square() + self.config.minimum_kernel_size**2).sqrt()

    @property
    def rotation(self) -> Tensor:
        """(N, 4) unit quaternions, wxyz, from own axes to the object frame."""
        return torch.nn.functional.normalize(self._raw_rotation, dim=-1)

    @property
    def opacity(self) -> Tensor:
        """(N, 1) in (0, 1)."""
        return torch.sigmoid(self._opacity_logit)

    @property
    def features(self) -> Tensor:
        """(N, 1, 3) spherical-harmonic coefficients."""
        return self.features_dc

    def covariance(self) -> Tensor:
        """(N, 6) upper triangle (xx, xy, xz, yy, yz, zz) of the covariances in the object frame."""
        factor = quaternion_to_matrix(self._raw_rotation) * self.scaling[:, None, :]
        full = factor @ factor.mT
        row, column = torch.triu_indices(3, 3, device=full.device)
        return full[:, row, column]

    def to(self, *args: Any, **kwargs: Any) -> Gaussian:
        """Copy to a device or dtype, arguments as of ``Tensor.to``."""
        return Gaussian(self.config, *(getattr(self, name).to(*args, **kwargs) for name in _HIDDEN))

    def finite(self) -> Gaussian:
        """Those of the Gaussians all of whose properties are finite; no copy where that holds for all."""
        with torch.no_grad():
            properties = (self.xyz, self.features[:, 0], self.scaling, self.rotation, self.opacity)
            kept = torch.cat(properties, dim=1).isfinite().all(dim=1)
        return self if bool(kept.all()) else self.subset(kept)

    def subset(self, kept: Tensor) -> Gaussian:
        """Those of the Gaussians for which ``kept`` (N,) bool holds."""
        return Gaussian(self.config, *(getattr(self, name)[kept] for name in _HIDDEN))

    def save_ply(
        self, path: Path, transform: Matrix3 | None = Z_UP_TO_PLY, *, comments: Sequence[str] = ()
    ) -> None:
        """Write the file format of Gaussian-splatting viewers.

        Args:
            path: file to write.
            transform: rotation from the object frame to the file's; None = no change, and the quaternions
                keep their length.
            comments: lines of the file's header.

        Raises:
            ValueError: a value is not finite, or ``transform`` is no rotation.
        """
        table = self._ply_table(transform).detach().cpu().numpy()
        if not np.isfinite(table).all():
            bad = int((~np.isfinite(table)).any(axis=1).sum())
            raise ValueError(f"{path}: {bad} of {len(self)} Gaussians are not finite; check their source")
        write_ply_vertices(path, dict(zip(_PLY_COLUMNS, table.T)), comments)

    @classmethod
    def load_ply(
        cls,
        path: Path,
        config: GaussianConfig | None = None,
        transform: Matrix3 | None = Z_UP_TO_PLY,
        device: torch.device | str = "cpu",
    ) -> Gaussian:
        """Read a file that :meth:`save_ply` wrote with the same ``transform``.

        Args:
            path: file to read; higher spherical harmonics are refused, as a turn would have to turn them too.
            config: how to store the hidden parameters; it does not change what the properties give.
            transform: rotation from the object frame to the file's.
            device: where the tensors go; they are float32.

        Raises:
            ValueError: not such a file, a column is missing, or ``transform`` is no rotation.
        """
        vertices = read_ply_vertices(path)
        names = vertices.dtype.names or ()
        if missing := [name for name in _PLY_COLUMNS if name not in names and name not in ("nx", "ny", "nz")]:
            raise ValueError(f"{path}: no Gaussian-splatting file; it lacks the columns {missing}")
        if any(name.startswith("f_rest_") for name in names):
            raise ValueError(f"{path}: expected spherical harmonics of degree 0 only, got f_rest_* columns")
        zeros = np.zeros(len(vertices), dtype=np.float32)
        columns = [vertices[name] if name in names else zeros for name in _PLY_COLUMNS]
        table = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)).to(device)
        return cls._from_ply_table(table, config or GaussianConfig(), transform)

    @property
    def _raw_rotation(self) -> Tensor:
        """(N, 4) quaternions of any length."""
        return self.hidden_rotation + _identity_rotation(self.hidden_rotation)

    @property
    def _opacity_logit(self) -> Tensor:
        return self.hidden_opacity + _opacity_shift(self.config, self.hidden_opacity)

    def _ply_table(self, transform: Matrix3 | None) -> Tensor:
        """(N, 17) float32, the columns of the file."""
        xyz, rotation = self.xyz, self._raw_rotation
        if transform is not None:
            matrix = _checked_rotation(transform, xyz)
            xyz = xyz @ matrix.mT
            rotation = quaternion_multiply(matrix_to_quaternion(matrix), self.rotation)
        normals = torch.zeros_like(xyz)
        columns = [xyz, normals, self.features_dc[:, 0], self._opacity_logit, self.scaling.log(), rotation]
        return torch.cat(columns, dim=1).float()

    @classmethod
    def _from_ply_table(cls, table: Tensor, config: GaussianConfig, transform: Matrix3 | None) -> Gaussian:
        xyz, rotation = table[:, _XYZ], table[:, _ROTATION]
        if transform is not None:
            matrix = _checked_rotation(transform, table)
            xyz = xyz @ matrix
            rotation = quaternion_multiply(matrix_to_quaternion(matrix.mT), rotation)
        logit = table[:, _OPACITY]
        gaussian = cls.from_values(
            config,
            xyz=xyz,
            features_dc=table[:, None, _COLOUR],
            scaling=table[:, _SCALE].exp(),
            rotation=rotation,
            opacity=logit.sigmoid(),
        )
        # the sigmoid of an opaque Gaussian saturates; the file's logit does not
        return replace(gaussian, hidden_opacity=logit - _opacity_shift(config, logit))


def _box(config: GaussianConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and size (3,) of the box."""
    aabb = like.new_tensor(config.aabb)
    return aabb[:3], aabb[3:]


def _scaling_shift(config: GaussianConfig, like: Tensor) -> Tensor:
    """Hidden value () of the bias scale; computed in float64, as its rounding would move every scale."""
    inverse = _SCALING_ACTIVATIONS[config.scaling_activation][1]
    return inverse(torch.tensor(config.scaling_bias, dtype=torch.float64)).to(like)


def _opacity_shift(config: GaussianConfig, like: Tensor) -> Tensor:
    """Hidden value () of the bias opacity."""
    return torch.logit(torch.tensor(config.opacity_bias, dtype=torch.float64)).to(like)


def _identity_rotation(like: Tensor) -> Tensor:
    return like.new_tensor([1.0, 0.0, 0.0, 0.0])


def _checked_rotation(transform: Matrix3, like: Tensor) -> Tensor:
    """The matrix (3, 3) on the device of ``like``.

    Raises:
        ValueError: it is no rotation, which quaternions and scales could not follow.
    """
    matrix = torch.tensor(transform, dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    if not torch.allclose(matrix @ matrix.mT, identity, atol=1e-6) or torch.linalg.det(matrix) < 0:
        raise ValueError(f"Gaussian PLY: transform must be a rotation matrix, got {transform}")
    return matrix.to(like)
