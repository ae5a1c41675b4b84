"""A stand-in for SAM 2."""

import numpy as np
from PIL import Image


class BoxFiller:
    """An object fills its box; automatically, `found` is found: (N, H, W) bool."""

    def __init__(self, found: np.ndarray):
        self.found = found

    def segment_boxes(self, photo: Image.Image, boxes: np.ndarray) -> np.ndarray:
        masks = np.zeros((len(boxes), photo.height, photo.width), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int)):
            mask[y0:y1, x0:x1] = True
        return masks

    def segment_everything(self, photo: Image.Image) -> np.ndarray:
        return self.found
