"""SAM 2 on one photo: boxes to masks, or masks of everything that looks like an object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scenegen.inputs.boxes import check_boxes
from scenegen.segmentation.automatic import AutomaticSettings, find_objects
from scenegen.segmentation.loading import DEFAULT_SAM2, load_sam2

if TYPE_CHECKING:
    from transformers import Sam2Model

BOXES_AT_ONCE = 16  # each holds a copy of the photo's features, about 30 MB at the released size
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Segmenter:
    """Masks of the objects in photos."""

    def __init__(self, model: Sam2Model) -> None:
        """Use a network in evaluation mode, on the device where it is."""
        self._model = model
        self._side = int(model.prompt_encoder.input_image_size)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: Path | str = DEFAULT_SAM2,
        device: torch.device | str = "cpu",
        *,
        revision: str | None = None,
    ) -> Segmenter:
        """Load SAM 2 or 2.1 of any size.

        Args:
            path_or_repo: folder with ``config.json`` and ``model.safetensors`` in the layout of the package
                transformers; or a hub repository ``owner/name``.
            device: where it runs.
            revision: of a repository.

        Raises:
            SegmenterUnavailable: the package transformers or the weights are missing or damaged.
            HubError: the repository cannot be had.
        """
        return cls(load_sam2(path_or_repo, torch.device(device), revision))

    @torch.inference_mode()
    def segment_boxes(self, photo: Image.Image, boxes: np.ndarray) -> np.ndarray:
        """The object in each box.

        Args:
            photo: RGB.
            boxes: (N, 4) pixels: left, top, right, bottom.

        Returns:
            (N, H, W) bool at the photo's size. A mask may reach out of its box, overlap others, or be empty.

        Raises:
            SceneInputError: there is no box, or one is empty or not inside the photo.
        """
        boxes = check_boxes(boxes, photo.size, "segment_boxes")
        features = self._encode(photo)
        width, height = photo.size
        scale = torch.tensor([self._side / width, self._side / height] * 2)
        logits = []
        for part in (torch.from_numpy(boxes) * scale).split(BOXES_AT_ONCE):
            answer = self._model(
                image_embeddings=features,
                input_boxes=part[None].to(self._model.device),  # (1, P, 4)
                multimask_output=False,
            )
            logits.append(answer.pred_masks[0, :, 0])  # (P, h, w)
        return at_photo_size(torch.cat(logits), photo.size)

    @torch.inference_mode()
    def segment_everything(self, photo: Image.Image, settings: AutomaticSettings | None = None) -> np.ndarray:
        """The objects of a photo, found without a hint; see `scenegen.segmentation.automatic`.

        Args:
            photo: RGB.
            settings: what counts as an object.

        Returns:
            (N, H, W) bool at the photo's size, the largest object first; N may be 0.
        """
        features = self._encode(photo)

        def predict(points: Tensor) -> tuple[Tensor, Tensor]:
            prompts = (points * self._side)[None, :, None].to(self._model.device)  # (1, P, 1, 2)
            answer = self._model(image_embeddings=features, input_points=prompts, multimask_output=True)
            return answer.pred_masks[0].cpu(), answer.iou_scores[0].cpu()

        return at_photo_size(find_objects(predict, settings or AutomaticSettings()), photo.size)

    def _encode(self, photo: Image.Image) -> list[Tensor]:
        """Features of a photo, once for all its prompts."""
        return self._model.get_image_embeddings(prepare_photo(photo, self._side).to(self._model.device))


def prepare_photo(photo: Image.Image, side: int) -> Tensor:
    """Stretch a photo to the network's square and normalise its colours: (1, 3, side, side) float32.

    Source: the image transform of the SAM 2 release; as `Sam2ImageProcessor` of transformers, which needs
    torchvision, without its rounding to 8 bits after resizing.
    """
    pixels = torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    square = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    return (square - mean) / std


def at_photo_size(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Masks of a photo from logits (N, h, w) of its stretched copy: (N, H, W) bool.

    Args:
        logits: above 0 on the object.
        size: width and height of the photo.
    """
    width, height = size
    masks = np.zeros((len(logits), height, width), bool)
    for mask, values in zip(masks, logits):  # one by one: full-size logits of many masks fill the memory
        full = F.interpolate(values[None, None], (height, width), mode="bilinear", align_corners=False)
        mask[:] = (full[0, 0] > 0).cpu().numpy()
    return masks
