"""What every segmenter does: prompts of the objects in a photo to their masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from scenegen.inputs.boxes import check_boxes
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.names import BOXES_NAME, LABELS_NAME
from scenegen.segmentation.prompts import ObjectPrompt, prompts_of_boxes


@dataclass(frozen=True)
class PromptMasks:
    """What a segmenter found for N prompts.

    Attributes:
        masks: (N, H, W) bool. A mask may reach out of its box, overlap others, or be empty.
        scores: (N,) float32 in [0, 1], how good the segmenter takes its masks to be; None where it cannot
            tell.
    """

    masks: np.ndarray
    scores: np.ndarray | None = None


class Segmenter(ABC):
    """Masks of the objects in photos."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Which segmenter this is, in words for a person."""

    @abstractmethod
    def find_prompted(self, image: Image.Image, prompts: Sequence[ObjectPrompt]) -> PromptMasks:
        """The object of each prompt, found by itself, and how sure the segmenter is.

        What a network computes of the picture alone is kept, so that the next prompts of the same picture,
        a single one too, cost little.

        Args:
            image: RGB.
            prompts: one for each object; they are brought into the picture by `ObjectPrompt.clipped`.

        Raises:
            SceneInputError: a prompt cannot be used.
        """

    def segment_prompts(self, image: Image.Image, prompts: Sequence[ObjectPrompt]) -> np.ndarray:
        """The masks of `find_prompted` alone: (N, H, W) bool at the picture's size; N may be 0."""
        return self.find_prompted(image, prompts).masks

    def segment_boxes(self, photo: Image.Image, boxes: np.ndarray) -> np.ndarray:
        """The object in each box.

        Args:
            photo: RGB.
            boxes: (N, 4) pixels: left, top, right, bottom.

        Returns:
            (N, H, W) bool at the photo's size.

        Raises:
            SceneInputError: there is no box, or one is empty or not inside the photo.
        """
        checked = check_boxes(boxes, photo.size, "segment_boxes")
        return self.segment_prompts(photo, prompts_of_boxes(checked))

    def segment_everything(self, photo: Image.Image) -> np.ndarray:
        """The objects of a photo, found without a hint, where the segmenter can do that.

        Returns:
            (N, H, W) bool at the photo's size, the largest object first; N may be 0.

        Raises:
            SceneInputError: the segmenter needs prompts.
        """
        raise SceneInputError(
            f"{self.description}: expected boxes or points, since only SAM 2 finds objects without a hint; "
            f"draw boxes ({BOXES_NAME}, --boxes) or masks ({LABELS_NAME}, --masks), or give --sam2"
        )
