"""Boxes of the objects that words name, found by Grounding DINO where its weights are given.

Source: Liu et al., "Grounding DINO", arXiv:2303.05499, as in the package transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scenegen.hub.transformers_folders import check_transformers, find_folder, load_with_tokenizer
from scenegen.inputs.image_files import SceneInputError
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.sam2 import IMAGE_MEAN, IMAGE_STD
from scenegen.segmentation.unavailable import SegmenterUnavailable
from trellis_modules.checkpoint import refuse_pickle

if TYPE_CHECKING:
    from transformers import GroundingDinoForObjectDetection

DETECTOR_FILES = ("tokenizer_config.json", "tokenizer.json", "config.json", "model.safetensors")
THRESHOLD = 0.3
"""Least score of a box, as in the published demo."""

_SHORT_SIDE, _LONG_SIDE = 800, 1333  # of the picture that the network sees
_SAME_BOX = 0.8  # intersection over union from which two boxes of one text are the same object
_END = "."
_REPOSITORY = "IDEA-Research/grounding-dino-tiny"
_OTHERWISE = "or draw the boxes"


@dataclass(frozen=True)
class TextDetector:
    """Grounding DINO with its tokenizer, on one device.

    Attributes:
        network: in evaluation mode.
        tokenizer: of its text encoder.
        short_side, long_side: of the picture that the network sees, in pixels; the long one is a limit.
    """

    network: GroundingDinoForObjectDetection
    tokenizer: Any
    short_side: int = _SHORT_SIDE
    long_side: int = _LONG_SIDE


def load_detector(
    path_or_repo: Path | str, device: torch.device | str = "cpu", revision: str | None = None
) -> TextDetector:
    """Load Grounding DINO, with every weight from the checkpoint.

    Args:
        path_or_repo: folder in the layout of transformers (`DETECTOR_FILES`), or ``owner/name``.
        device: where it runs.
        revision: of a repository.

    Raises:
        SegmenterUnavailable: the package or a file is missing, or the files are of something else.
        CheckpointError: the weights are a pickle.
        HubError: the repository cannot be had.
    """
    check_transformers("objects by their names", _OTHERWISE, SegmenterUnavailable)
    refuse_pickle(Path(path_or_repo).expanduser())
    folder = find_folder(path_or_repo, DETECTOR_FILES, _missing, revision)
    from transformers import GroundingDinoForObjectDetection

    network, tokenizer = load_with_tokenizer(GroundingDinoForObjectDetection, folder, _refused)
    return TextDetector(network.eval().requires_grad_(False).to(device), tokenizer)


@torch.inference_mode()
def detect(
    image: Image.Image, texts: Sequence[str], model: TextDetector, threshold: float = THRESHOLD
) -> list[ObjectPrompt]:
    """Find the objects of a picture that words name.

    Args:
        image: RGB.
        texts: names of objects, such as "chair" or "red lamp".
        model: finds them.
        threshold: least score of a box in [0, 1].

    Returns:
        A prompt with box and name for each object, the surest first; there may be none.

    Raises:
        SceneInputError: there is no name, one is empty, or they are too long together.
    """
    names = [" ".join(text.replace(_END, " ").split()) for text in texts]
    if not names or not all(names):
        raise SceneInputError(
            f"names of objects: expected at least one and none empty, got {list(texts)}; name what to "
            "look for"
        )
    tokens = model.tokenizer("".join(f"{name.lower()}{_END} " for name in names), return_tensors="pt")
    limit = model.network.config.max_text_len
    if tokens["input_ids"].shape[1] > limit:
        raise SceneInputError(
            f"names of objects: expected at most {limit} tokens together, "
            f"got {tokens['input_ids'].shape[1]}; look for fewer at a time"
        )
    device = model.network.device
    pixels = _prepare(image, model).to(device)
    answer = model.network(
        pixel_values=pixels,
        pixel_mask=torch.ones_like(pixels[:, 0], dtype=torch.int64),
        **{name: value.to(device) for name, value in tokens.items()},
    )
    of_tokens = answer.logits[0].sigmoid().cpu()  # (Q, limit)
    end = model.tokenizer.convert_tokens_to_ids(_END)
    of_names = torch.stack(
        [of_tokens[:, start:stop].amax(dim=1) for start, stop in _spans(tokens["input_ids"][0], end)], dim=1
    )  # (Q, names)
    scores, chosen = of_names.max(dim=1)
    boxes = _corners(answer.pred_boxes[0].float().cpu(), image.size)
    found = [row for row in scores.argsort(descending=True).tolist() if scores[row] > threshold]
    kept = _without_duplicates(found, boxes, chosen)
    return [ObjectPrompt(tuple(boxes[row].tolist()), name=names[int(chosen[row])]) for row in kept]


def _prepare(image: Image.Image, model: TextDetector) -> Tensor:
    """The picture as the network takes it, its sides in proportion: (1, 3, H, W)."""
    short, long = sorted(image.size)
    scale = min(model.short_side / short, model.long_side / long)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32) / 255
    normalised = (pixels - np.array(IMAGE_MEAN, np.float32)) / np.array(IMAGE_STD, np.float32)
    return torch.from_numpy(normalised).permute(2, 0, 1)[None]


def _spans(ids: Tensor, end: int) -> list[tuple[int, int]]:
    """First and last token, the latter excluded, of each name; the first token of all is a mark."""
    ends = (ids == end).nonzero()[:, 0].tolist()
    return list(zip([1, *(stop + 1 for stop in ends)], ends))


def _corners(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (Q, 4) of centre, width and height in [0, 1] as left, top, right, bottom in pixels."""
    centre, extent = boxes[:, :2], boxes[:, 2:].clamp(min=0)
    corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=1).clamp(0, 1)
    return corners * torch.tensor(size).repeat(2)


def _without_duplicates(rows: Sequence[int], boxes: Tensor, names: Tensor) -> list[int]:
    """Leave out boxes without an area, and those that a surer box of the same name covers."""
    kept: list[int] = []
    for row in rows:
        if bool((boxes[row, 2:] > boxes[row, :2]).all()) and not any(
            names[row] == names[other] and _overlap(boxes[row], boxes[other]) > _SAME_BOX for other in kept
        ):
            kept.append(row)
    return kept


def _overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two boxes."""
    shared = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


def _missing(path: Path) -> SegmenterUnavailable:
    return SegmenterUnavailable(
        f"{path}: expected a file of Grounding DINO, found none; it comes from {_REPOSITORY} on the model "
        f"hub, whose name can be given in place of the folder, {_OTHERWISE}"
    )


def _refused(folder: Path, cause: str) -> SegmenterUnavailable:
    return SegmenterUnavailable(
        f"{folder}: expected Grounding DINO in the layout of transformers, loading it stopped ({cause}); "
        "fetch it again"
    )
