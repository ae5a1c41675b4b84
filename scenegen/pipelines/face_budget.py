"""How many triangles each object gets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from torch import Tensor

from scenegen.geometry import SCALE
from scenegen.pipelines.drafts import ObjectDraft


def share_faces(drafts: Sequence[ObjectDraft], faces: int | None, scene_faces: int | None) -> None:
    """Tell drafts how many triangles are wanted of them.

    Args:
        drafts: all objects that get a surface, placed.
        faces: of each object; None leaves it open.
        scene_faces: of all together, shared by the areas of their structures as they are placed.
    """
    if scene_faces is None or not drafts:
        for draft in drafts:
            draft.num_faces = faces
        return
    areas = np.array([structure_area(draft.logits) * float(draft.pose[SCALE]) ** 2 for draft in drafts])
    # Rounding the running sums keeps the total.
    ends = np.rint(scene_faces * np.cumsum(areas) / areas.sum()).astype(int)
    for draft, count in zip(drafts, np.diff(ends, prepend=0), strict=True):
        draft.num_faces = max(int(count), 1)


def structure_area(logits: Tensor) -> int:
    """Area of the outside of a structure (R, R, R) in sides of voxels; hollow interiors do not count."""
    solid = np.pad(ndimage.binary_fill_holes(logits.numpy() > 0), 1)
    return int(sum(np.count_nonzero(np.diff(solid, axis=axis)) for axis in range(3)))
