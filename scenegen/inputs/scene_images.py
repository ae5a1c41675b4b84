"""A photo with its objects, as the pipeline takes it: read from files, or put together from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from scenegen.inputs.cutouts import cut_out


@dataclass(frozen=True)
class SceneImages:
    """One photo of a scene with its objects. A scene is a sequence of them, one per photo.

    Attributes:
        photo: the whole scene.
        cutouts: per object, an RGBA picture of any size; or one without transparency, where the pipeline has
            a background remover.
        masks: per object, (H, W) bool in the photo, not empty.
        object_ids: per object, the caller's number, which names the node ``obj_<number>``; () numbers them
            0, 1, ...
        left_out: number -> one line, for objects that were given and cannot be used.
    """

    photo: Image.Image
    cutouts: Sequence[Image.Image]
    masks: Sequence[np.ndarray]
    object_ids: Sequence[int] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = tuple(int(number) for number in self.object_ids) or tuple(range(len(self.cutouts)))
        object.__setattr__(self, "object_ids", ids)

    @classmethod
    def from_masks(
        cls, photo: Image.Image, masks: Sequence[np.ndarray], object_ids: Sequence[int] = ()
    ) -> SceneImages:
        """Cut the objects out of the photo.

        Args:
            photo: the whole scene.
            masks: per object, (H, W), bool or above 0 on the object.
            object_ids: see `SceneImages`.

        Raises:
            ValueError: a mask is empty or has another size than the photo.
        """
        inside = [np.asarray(mask) > 0 for mask in masks]
        for index, mask in enumerate(inside):
            if mask.shape != (photo.height, photo.width) or not mask.any():
                raise ValueError(
                    f"SceneImages: expected masks of {photo.height} x {photo.width} with pixels above 0, "
                    f"mask {index} has shape {mask.shape} and {int(mask.sum())} such pixels"
                )
        return cls(photo, [cut_out(photo, mask) for mask in inside], inside, object_ids)
