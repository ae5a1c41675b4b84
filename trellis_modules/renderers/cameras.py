"""Pinhole cameras: OpenCV extrinsics (world to camera; x right, y down, z forward), normalised intrinsics.

Normalised intrinsics are in units of the picture's size: fx = fy = 0.5 / tan(fov / 2), cx = cy = 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trellis_modules.renderers.low_discrepancy import sphere_hammersley

#: Pixels of a picture: per edge of a square one, or (height, width).
Size = int | tuple[int, int]

_TURNTABLE_PITCH = (0.25, 0.5)  # mean and amplitude of the sine, radians
_SNAPSHOT_YAWS_DEG = (-16.0, 74.0, 164.0, 254.0)
_SNAPSHOT_PITCH_DEG = 20.0


@dataclass(frozen=True)
class Cameras:
    """V cameras and the pictures that they take, all of one size.

    Attributes:
        extrinsics: (V, 4, 4) world to camera.
        intrinsics: (V, 3, 3) normalised.
        height, width: pixels.
        near, far: depths between which things are seen.
    """

    extrinsics: Tensor
    intrinsics: Tensor
    height: int
    width: int
    near: float
    far: float

    @classmethod
    def of(
        cls,
        where: str,
        extrinsics: Tensor,
        intrinsics: Tensor,
        size: Size,
        near: float,
        far: float,
        like: Tensor,
    ) -> Cameras:
        """Cameras of a renderer's arguments, with the device and dtype of ``like``.

        Args:
            where: opens the messages.
            extrinsics: (V, 4, 4).
            intrinsics: (V, 3, 3), or (3, 3) for all.
            size: pixels per edge, or (height, width).

        Raises:
            ValueError: another shape, no pixels, or depths out of order.
        """
        count = len(extrinsics)
        shapes = tuple(extrinsics.shape), tuple(intrinsics.shape)
        if shapes[0] != (count, 4, 4) or shapes[1] not in ((3, 3), (count, 3, 3)):
            raise ValueError(
                f"{where}: expected extrinsics (V, 4, 4) and intrinsics (3, 3) or (V, 3, 3), got {shapes[0]} "
                f"and {shapes[1]}; add a leading axis for one camera"
            )
        height, width = picture_shape(size)
        if height < 1 or width < 1:
            raise ValueError(f"{where}: expected at least one pixel per edge, got size {size}")
        if not 0 < near < far:
            raise ValueError(f"{where}: expected 0 < near < far, got near {near}, far {far}")
        return cls(extrinsics.to(like), intrinsics.to(like).expand(count, 3, 3), height, width, near, far)

    def __len__(self) -> int:
        return len(self.extrinsics)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.height, self.width

    def split(self, count: int) -> list[Cameras]:
        """Runs of ``count`` cameras (at least one); one empty run if there are none."""
        parts = zip(self.extrinsics.split(max(count, 1)), self.intrinsics.split(max(count, 1)))
        return [replace(self, extrinsics=views, intrinsics=lenses) for views, lenses in parts]


def picture_shape(size: Size) -> tuple[int, int]:
    """Height and width of a picture of ``size``."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """World-to-camera matrices of cameras at ``eye`` that look at ``target``.

    Args:
        eye, target, up: (..., 3) in world units; ``up`` need not be orthogonal to the viewing direction.

    Returns:
        (..., 4, 4) extrinsics, OpenCV axes.
    """
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    extrinsics = torch.zeros(*eye.shape[:-1], 4, 4, device=eye.device, dtype=eye.dtype)
    extrinsics[..., :3, :3] = rotation
    extrinsics[..., :3, 3] = -(rotation @ eye[..., None])[..., 0]
    extrinsics[..., 3, 3] = 1
    return extrinsics


def focal_length(fov: Tensor) -> Tensor:
    """Focal length in units of the picture's width for a field of view in radians: 0.5 / tan(fov / 2)."""
    return 0.5 / torch.tan(0.5 * fov)


def centred_intrinsics(focal: Tensor) -> Tensor:
    """Normalised intrinsics (..., 3, 3) of a focal length (...), the principal point in the centre."""
    zero, one, half = torch.zeros_like(focal), torch.ones_like(focal), torch.full_like(focal, 0.5)
    rows = ((focal, zero, half), (zero, focal, half), (zero, zero, one))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def fov_intrinsics(fov: Tensor | float) -> Tensor:
    """Normalised intrinsics (..., 3, 3) of a square picture with a field of view (...) in radians."""
    return centred_intrinsics(focal_length(torch.as_tensor(fov, dtype=torch.get_default_dtype())))


def orbit_extrinsics(yaw: Tensor, pitch: Tensor, radius: Tensor | float) -> Tensor:
    """World-to-camera matrices of cameras around the origin of a z-up world, looking at it.

    Args:
        yaw, pitch: (V,) radians; the eye is at
            radius * (sin yaw * cos pitch, cos yaw * cos pitch, sin pitch). Straight up and down are allowed.
        radius: distance from the origin, one or (V,).

    Returns:
        (V, 4, 4) extrinsics, OpenCV axes.
    """
    zero = torch.zeros_like(yaw)
    backward = torch.stack([yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), pitch.sin()], dim=-1)
    # the cross product of viewing direction and up axis, which has a limit at the poles
    right = torch.stack([-yaw.cos(), yaw.sin(), zero], dim=-1)
    extrinsics = torch.zeros(*yaw.shape, 4, 4, device=yaw.device, dtype=yaw.dtype)
    extrinsics[..., :3, :3] = torch.stack([right, torch.linalg.cross(right, backward), -backward], dim=-2)
    extrinsics[..., 2, 3] = radius
    extrinsics[..., 3, 3] = 1
    return extrinsics


def multiview_cameras(
    num_views: int, radius: float = 2.0, fov_deg: float = 40.0, offset: tuple[float, float] = (0.0, 0.0)
) -> tuple[Tensor, Tensor]:
    """Cameras spread evenly over the sphere, looking at the origin.

    Args:
        num_views: at least 1.
        radius, fov_deg: distance from the origin and field of view.
        offset: shift of the low-discrepancy sequence (see ``sphere_hammersley``).

    Returns:
        extrinsics (V, 4, 4), z-up world, and normalised intrinsics (3, 3).

    Raises:
        ValueError: num_views < 1.
    """
    if num_views < 1:
        raise ValueError(f"multiview_cameras: expected num_views >= 1, got {num_views}")
    directions = [sphere_hammersley(index, num_views, offset) for index in range(num_views)]
    yaw, pitch = torch.tensor(directions).unbind(1)
    return orbit_extrinsics(yaw, pitch, radius), fov_intrinsics(math.radians(fov_deg))


def turntable_cameras(
    num_views: int = 300, radius: float = 2.0, fov_deg: float = 40.0
) -> tuple[Tensor, Tensor]:
    """Cameras of a video: one turn in yaw while the pitch swings once; shapes as ``multiview_cameras``.

    Raises:
        ValueError: num_views < 1.
    """
    if num_views < 1:
        raise ValueError(f"turntable_cameras: expected num_views >= 1, got {num_views}")
    yaw = torch.linspace(0, 2 * math.pi, num_views)
    mean, amplitude = _TURNTABLE_PITCH
    return orbit_extrinsics(yaw, mean + amplitude * yaw.sin(), radius), fov_intrinsics(math.radians(fov_deg))


def snapshot_cameras(radius: float = 10.0, fov_deg: float = 8.0) -> tuple[Tensor, Tensor]:
    """Four cameras around the object, slightly from above; shapes as ``multiview_cameras``."""
    yaw = torch.deg2rad(torch.tensor(_SNAPSHOT_YAWS_DEG))
    pitch = torch.full_like(yaw, math.radians(_SNAPSHOT_PITCH_DEG))
    return orbit_extrinsics(yaw, pitch, radius), fov_intrinsics(math.radians(fov_deg))


def eye_positions(extrinsics: Tensor) -> Tensor:
    """Positions (..., 3) of cameras (..., 4, 4) in the world."""
    return -(extrinsics[..., :3, :3].mT @ extrinsics[..., :3, 3:])[..., 0]


def to_camera(points: Tensor, extrinsics: Tensor) -> Tensor:
    """World points (..., P, 3) in the frames of cameras (..., 4, 4)."""
    return points @ extrinsics[..., :3, :3].mT + extrinsics[..., None, :3, 3]


def to_pixels(camera: Tensor, intrinsics: Tensor, size: Size) -> Tensor:
    """Camera-frame points (..., P, 3) to (x, y, depth) on pictures of ``size`` pixels.

    Args:
        camera: (..., P, 3).
        intrinsics: (..., 3, 3) normalised.
        size: pixels per edge, or (height, width).

    Returns:
        (..., P, 3): pixel x (right), pixel y (down), camera depth in world units.
    """
    height, width = picture_shape(size)
    depth = camera[..., 2:]
    # behind the camera the division is meaningless; the sign of the depth is kept for the caller to test
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    focal = torch.stack([intrinsics[..., 0, 0] * width, intrinsics[..., 1, 1] * height], dim=-1)
    centre = torch.stack([intrinsics[..., 0, 2] * width, intrinsics[..., 1, 2] * height], dim=-1)
    xy = camera[..., :2] / safe * focal[..., None, :] + centre[..., None, :]
    return torch.cat([xy, depth], dim=-1)


def covered_pixels(low: Tensor, high: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """First and last pixel (..., 2) int64, as (x, y), whose centres lie between places on a picture.

    Args:
        low, high: (..., 2) in pixels, as (x, y).
        size: pixels per edge, or (height, width).

    Returns:
        both inside the picture; the last lies before the first on an axis where no centre is covered.
    """
    height, width = picture_shape(size)
    low, high = torch.ceil(low - 0.5), torch.floor(high - 0.5)
    first = [low[..., 0].clamp(0, width), low[..., 1].clamp(0, height)]
    last = [high[..., 0].clamp(-1, width - 1), high[..., 1].clamp(-1, height - 1)]
    return torch.stack(first, dim=-1).long(), torch.stack(last, dim=-1).long()


def camera_rays(intrinsics: Tensor, size: Size) -> Tensor:
    """Rays through the pixel centres, in the camera frame.

    Args:
        intrinsics: (..., 3, 3) normalised.
        size: pixels per edge, or (height, width).

    Returns:
        (..., height, width, 3), of camera depth 1; row 0 is the top.
    """
    shape = picture_shape(size)
    rows, columns = (
        (torch.arange(count, device=intrinsics.device, dtype=intrinsics.dtype) + 0.5) / count
        for count in shape
    )
    x = (columns - intrinsics[..., 0, 2, None]) / intrinsics[..., 0, 0, None]
    y = (rows - intrinsics[..., 1, 2, None]) / intrinsics[..., 1, 1, None]
    shape = (*intrinsics.shape[:-2], *shape)
    x, y = x[..., None, :].expand(shape), y[..., :, None].expand(shape)
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def project(points: Tensor, extrinsics: Tensor, focal: Tensor, size: int) -> Tensor:
    """World points to (x, y, depth) on square pictures of ``size`` pixels.

    Args:
        points: (..., P, 3) world.
        extrinsics: (..., 4, 4) world to camera, OpenCV axes.
        focal: (...) focal length in units of the picture's width; the principal point is the centre.
        size: pixels per edge.

    Returns:
        (..., P, 3): pixel x (right), pixel y (down), camera depth in world units.
    """
    rotation, offset = extrinsics[..., None, :3, :3], extrinsics[..., None, :3, 3]
    x, y, z = points.split(1, dim=-1)
    # written out: with a camera for each of a million triangles, as many small products are slow on a GPU
    camera = x * rotation[..., 0] + y * rotation[..., 1] + z * rotation[..., 2] + offset
    return to_pixels(camera, centred_intrinsics(focal), size)
