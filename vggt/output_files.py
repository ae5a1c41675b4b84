"""Files of a reconstruction: cameras as JSON, maps as NPZ with PNG previews, and its point cloud."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vggt.images import Placement
from vggt.point_cloud import PointCloud
from vggt.reconstruction import Reconstruction

logger = logging.getLogger(__name__)

FRAME = (
    "OpenCV axes: x right, y down, z forward; world = camera of the first image; extrinsics world to camera, "
    "intrinsics in pixels of the image file; unit chosen by the model"
)
#: Parts of a map's values, from the near and the far end, that a preview does not spread out.
_PREVIEW_QUANTILES = (0.02, 0.98)


def write_cameras(
    path: Path, reconstruction: Reconstruction, names: Sequence[str], placements: Sequence[Placement]
) -> None:
    """Write one entry an image: file name, size, extrinsics, intrinsics.

    Intrinsics that are not finite (no field of view) become null.
    """
    cameras = []
    for index, (name, placement) in enumerate(zip(names, placements)):
        intrinsics = placement.intrinsics_of_image(reconstruction.intrinsics[index])
        if not intrinsics.isfinite().all():
            logger.warning("%s: the field of view came out as 0; its intrinsics are null", name)
        cameras.append(
            {
                "image": name,
                "width": placement.image_size[0],
                "height": placement.image_size[1],
                "extrinsics": _finite_list(reconstruction.extrinsics[index]),
                "intrinsics": _finite_list(intrinsics),
            }
        )
    path.write_text(json.dumps({"frame": FRAME, "cameras": cameras}, indent=1, allow_nan=False) + "\n")


def write_depth_maps(
    folder: Path, reconstruction: Reconstruction, stems: Sequence[str], placements: Sequence[Placement]
) -> None:
    """Write STEM.npz (depth, confidence, mask; intrinsics and extrinsics if known) and two previews an image.

    The arrays have the size of the network input; ``mask`` is true where it shows the image, and the
    intrinsics are in its pixels.  STEM_depth.png is bright near by, STEM_confidence.png where it is sure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index, (stem, placement) in enumerate(zip(stems, placements)):
        depth, confidence = reconstruction.depth[index], reconstruction.depth_confidence[index]
        mask = placement.mask(*depth.shape)
        maps = {"depth": depth, "confidence": confidence, "mask": mask}
        if reconstruction.extrinsics is not None:
            maps["extrinsics"] = reconstruction.extrinsics[index]
            maps["intrinsics"] = reconstruction.intrinsics[index]
        np.savez_compressed(folder / f"{stem}.npz", **{name: value.numpy() for name, value in maps.items()})
        Image.fromarray(preview(1 / depth, mask)).save(folder / f"{stem}_depth.png")
        Image.fromarray(preview(confidence.log(), mask)).save(folder / f"{stem}_confidence.png")


def preview(values: Tensor, mask: Tensor) -> NDArray[np.uint8]:
    """(H, W) values as grey levels: the bulk of those inside the mask over 1 to 255, everything else 0."""
    valid = mask & values.isfinite()
    if not valid.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.quantile(values[valid].numpy(), _PREVIEW_QUANTILES)
    grey = 1 + 254 * ((values - low) / max(high - low, 1e-12)).clamp(0, 1)
    return grey.where(valid, 0).numpy().astype(np.uint8)


def collect_points(
    xyz: Tensor, confidence: Tensor, images: Tensor, placements: Sequence[Placement], keep: float = 1.0
) -> PointCloud:
    """The finite points of all images that lie on an image, with its colours.

    Args:
        xyz: (S, H, W, 3) float32.
        confidence: (S, H, W).
        images: (S, 3, H, W) in [0, 1].
        placements: where each image lies.
        keep: share of the points that stays, the surest ones.

    Raises:
        ValueError: no point is left.
    """
    masks = torch.stack([placement.mask(*confidence.shape[1:]) for placement in placements])
    valid = masks & xyz.isfinite().all(-1) & ~confidence.isnan()
    if not valid.any():
        raise ValueError(
            "collect_points: no image has a point with finite coordinates; check the checkpoint's weights"
        )
    rank = confidence[valid].argsort(descending=True, stable=True)
    chosen = rank[: max(round(keep * len(rank)), 1)].sort().values
    rgb = (images.movedim(1, -1)[valid][chosen] * 255).round().clamp(0, 255).to(torch.uint8)
    return PointCloud(xyz[valid][chosen].numpy(), rgb.numpy())


def _finite_list(matrix: Tensor) -> list[Any] | None:
    return matrix.tolist() if matrix.isfinite().all() else None
