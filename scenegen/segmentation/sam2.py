"""SAM 2 on photos: boxes and points to masks, or masks of everything that looks like an object."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scenegen.segmentation.automatic import AutomaticSettings, find_objects
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.sam2_weights import DEFAULT_SAM2, load_sam2
from scenegen.segmentation.segmenter import PromptMasks, Segmenter

if TYPE_CHECKING:
    from transformers import Sam2Model

PROMPTS_AT_ONCE = 16  # each holds a copy of the photo's features, about 30 MB at the released size
PHOTOS_KEPT = 4  # features of the photos that were seen last, 17 MB each at the released size
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
_ON_OBJECT, _OFF_OBJECT = 1, 0  # labels of points


class Sam2Segmenter(Segmenter):
    """SAM 2 or 2.1 of any size."""

    def __init__(self, model: Sam2Model, name: str = "SAM 2") -> None:
        """Use a network in evaluation mode, on the device where it is; ``name`` describes it."""
        self._model = model
        self._name = name
        self._side = int(model.prompt_encoder.input_image_size)
        self._features: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: Path | str = DEFAULT_SAM2,
        device: torch.device | str = "cpu",
        *,
        revision: str | None = None,
    ) -> Sam2Segmenter:
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
        return cls(load_sam2(path_or_repo, torch.device(device), revision), f"SAM 2 ({path_or_repo})")

    @property
    def description(self) -> str:
        """Which weights it has."""
        return self._name

    @torch.inference_mode()
    def find_prompted(self, image: Image.Image, prompts: Sequence[ObjectPrompt]) -> PromptMasks:
        """See `Segmenter.find_prompted`. The scores are the network's guess of the overlap with the object.

        A single point may mean a part, an object or a group: of the network's three answers to it, the one
        that it trusts most is taken, as in the SAM 2 release.
        """
        clipped = [prompt.clipped(*image.size) for prompt in prompts]
        masks = np.zeros((len(clipped), image.height, image.width), bool)
        scores = np.zeros(len(clipped), np.float32)
        features = self._encode(image) if clipped else []
        for rows in _alike(clipped):
            chosen = [clipped[row] for row in rows]
            answer = self._model(
                image_embeddings=features,
                multimask_output=_is_ambiguous(chosen[0]),
                **self._network_input(chosen, image.size),
            )
            best = answer.iou_scores[0].argmax(dim=1)  # (P, M) -> (P,)
            each = torch.arange(len(rows), device=best.device)
            masks[rows] = at_photo_size(answer.pred_masks[0, each, best], image.size)
            scores[rows] = answer.iou_scores[0, each, best].clamp(0, 1).float().cpu().numpy()
        return PromptMasks(masks, scores)

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

    def _network_input(self, prompts: Sequence[ObjectPrompt], size: tuple[int, int]) -> dict[str, Tensor]:
        """Prompts of one kind, see `_alike`, in the network's square."""
        scale = torch.tensor([self._side / size[0], self._side / size[1]])
        given = {}
        if prompts[0].box is not None:
            boxes = torch.tensor([prompt.box for prompt in prompts]) * scale.repeat(2)
            given["input_boxes"] = boxes[None]  # (1, P, 4)
        if prompts[0].positive or prompts[0].negative:
            points = torch.tensor([prompt.positive + prompt.negative for prompt in prompts]) * scale
            labels = [
                [_ON_OBJECT] * len(prompt.positive) + [_OFF_OBJECT] * len(prompt.negative)
                for prompt in prompts
            ]
            given["input_points"] = points[None]  # (1, P, points, 2)
            given["input_labels"] = torch.tensor(labels, dtype=torch.int32)[None]  # (1, P, points)
        return {name: value.to(self._model.device) for name, value in given.items()}

    def _encode(self, photo: Image.Image) -> list[Tensor]:
        """Features of a photo, once for all its prompts."""
        pixels = photo.convert("RGB")
        key = hashlib.sha256(repr(pixels.size).encode("ascii") + pixels.tobytes()).digest()
        with self._lock:  # the pages of several people share one segmenter
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key]
        features = self._model.get_image_embeddings(prepare_photo(pixels, self._side).to(self._model.device))
        with self._lock:
            self._features[key] = features
            while len(self._features) > PHOTOS_KEPT:
                self._features.popitem(last=False)
        return features


def _is_ambiguous(prompt: ObjectPrompt) -> bool:
    return prompt.box is None and len(prompt.positive) + len(prompt.negative) == 1


def _alike(prompts: Sequence[ObjectPrompt]) -> list[list[int]]:
    """Rows of prompts that a call of the network takes without padding: with a box or not, as many points."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for row, prompt in enumerate(prompts):
        kind = (prompt.box is not None, len(prompt.positive) + len(prompt.negative))
        groups.setdefault(kind, []).append(row)
    return [
        rows[start : start + PROMPTS_AT_ONCE]
        for rows in groups.values()
        for start in range(0, len(rows), PROMPTS_AT_ONCE)
    ]


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
