"""What the model says of a set of images: cameras, depth maps and the points they see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vggt.geometry import depth_to_world_points
from vggt.models.vggt import VGGT
from vggt.pose_encoding import encoding_to_extrinsics, encoding_to_intrinsics


@dataclass(frozen=True)
class Reconstruction:
    """Predictions for S images of H x W pixels, float32 on the CPU; None where the model has no such head.

    The world frame is the camera frame of the first image: OpenCV axes (x right, y down, z forward), in the
    unit that the model chose for the scene.

    Attributes:
        extrinsics: (S, 3, 4), world to camera.
        intrinsics: (S, 3, 3), in pixels of the network input; infinite where the field of view came out as 0.
        depth: (S, H, W), along the optical axis.
        depth_confidence: (S, H, W), larger is surer, no unit.
        points: (S, H, W, 3) in the world frame, as the point head sees them.
        points_confidence: (S, H, W).
    """

    extrinsics: Tensor | None = None
    intrinsics: Tensor | None = None
    depth: Tensor | None = None
    depth_confidence: Tensor | None = None
    points: Tensor | None = None
    points_confidence: Tensor | None = None

    @property
    def has_depth_points(self) -> bool:
        """Whether depth maps and cameras are there to make points from."""
        return self.depth is not None and self.extrinsics is not None

    @property
    def has_usable_cameras(self) -> bool:
        """Whether there are cameras, and all have a field of view."""
        return self.intrinsics is not None and bool(self.intrinsics.isfinite().all())

    def depth_points(self) -> Tensor:
        """(S, H, W, 3) depth maps unprojected to the world frame; NaN for a camera without field of view.

        Raises:
            ValueError: the model has no depth or no camera head.
        """
        if not self.has_depth_points:
            raise ValueError("Reconstruction: points from depth need the depth head and the camera head")
        points = depth_to_world_points(self.depth, self.extrinsics, self.intrinsics)
        usable = self.intrinsics.isfinite().flatten(1).all(1)
        return points.where(usable[:, None, None, None], torch.nan)


@torch.inference_mode()
def reconstruct(model: VGGT, images: Tensor, dtype: torch.dtype = torch.float32) -> Reconstruction:
    """Run the model on one set of images.

    Args:
        model: with at least one of camera, depth and point head.
        images: (S, 3, H, W) in [0, 1], on the model's device.
        dtype: of the transformer, by autocast; the heads stay in the weights' dtype.

    Raises:
        ValueError: the model has none of these heads, or predicts nothing finite.
    """
    if model.camera_head is None and model.depth_head is None and model.point_head is None:
        raise ValueError(
            "reconstruct: the checkpoint has neither camera, depth nor point head, so it predicts no "
            "geometry; use one with heads, such as the released VGGT-1B"
        )
    with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
        predictions = model(images)
    _check_finite(predictions)
    # One set of images: the batch axis goes.
    values = {name: value[0].float().cpu() for name, value in predictions.items()}
    cameras = {}
    if "pose_enc" in values:
        height, width = images.shape[-2:]
        cameras = {
            "extrinsics": encoding_to_extrinsics(values["pose_enc"]),
            "intrinsics": encoding_to_intrinsics(values["pose_enc"], (height, width)),
        }
    depth = values.get("depth")
    return Reconstruction(
        **cameras,
        depth=None if depth is None else depth[..., 0],
        depth_confidence=values.get("depth_conf"),
        points=values.get("world_points"),
        points_confidence=values.get("world_points_conf"),
    )


def _check_finite(predictions: dict[str, Tensor]) -> None:
    """A head may leave a single pixel infinite, but one without any finite number is broken."""
    for name, value in predictions.items():
        if not value.isfinite().any():
            raise ValueError(
                f"reconstruct: nothing in {name} is finite; the weights are damaged, or overflow in this "
                "dtype: try --dtype float32"
            )
