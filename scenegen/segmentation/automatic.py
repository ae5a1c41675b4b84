"""Objects of a photo without any hint: ask for masks at a grid of points, keep those that are whole objects.

A network answers each point with several masks (part, object, group) and its guess of their quality. What
remains of them, in this order:

1. masks that the network trusts, and whose outline hardly moves with the threshold (stability);
2. neither tiny nor background: background is most of the photo, or much of its border, as walls and floors;
3. one of those that overlap almost fully, the most trusted;
4. no parts: a mask that lies inside a larger one is a part of it. What stands in front of an object is not
   inside its mask and stays.

Source: Segment Anything, arXiv:2304.02643, appendix B, for 1 and 3; thresholds of the SAM 2 release. 2 and 4
are ours: a scene wants whole objects, while Segment Anything wants every region.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

PredictMasks = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (P, 2) in [0, 1], x and y -> mask logits (P, M, h, w) and their quality (P, M) in [0, 1]."""


@dataclass(frozen=True)
class AutomaticSettings:
    """What counts as an object.

    Attributes:
        points_per_side: of the grid. Objects smaller than a cell may be missed; 16 finds what `min_area`
            keeps, if it is compact.
        points_at_once: points in one call of the network; memory grows with it.
        min_quality: least quality in the eyes of the network.
        min_stability: least overlap of the masks at thresholds -stability_offset and stability_offset.
        stability_offset: in logits.
        min_area, max_area: share of the photo.
        max_border: largest share of the pixels along the photo's border.
        duplicate_overlap: intersection over union from which two masks are the same.
        part_overlap: share of a mask inside a larger one from which it is a part of it.
        max_objects: the largest ones are kept.
    """

    points_per_side: int = 16
    points_at_once: int = 32
    min_quality: float = 0.8
    min_stability: float = 0.95
    stability_offset: float = 1.0
    min_area: float = 0.005
    max_area: float = 0.5
    max_border: float = 0.25
    duplicate_overlap: float = 0.7
    part_overlap: float = 0.8
    max_objects: int = 12

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_at_once", "max_objects"):
            if getattr(self, name) < 1:
                raise ValueError(f"AutomaticSettings: {name} must be at least 1, got {getattr(self, name)}")


def find_objects(predict: PredictMasks, settings: AutomaticSettings) -> Tensor:
    """Find the objects of a photo.

    Args:
        predict: the network, on one photo.
        settings: what counts as an object.

    Returns:
        (N, h, w) mask logits, the largest object first; N may be 0.
    """
    logits, quality = [], []
    for points in grid_points(settings.points_per_side).split(settings.points_at_once):
        found, trust = predict(points)
        found, trust = found.flatten(0, 1), trust.flatten()
        kept = _is_candidate(found, trust, settings)
        logits.append(found[kept])
        quality.append(trust[kept])
    candidates, trust = torch.cat(logits), torch.cat(quality)
    masks = candidates > 0
    kept = drop_duplicates(masks, trust, settings.duplicate_overlap)
    kept = kept[drop_parts(masks[kept], settings.part_overlap)]
    if len(kept) > settings.max_objects:
        logger.warning("found %d objects, keep the largest %d", len(kept), settings.max_objects)
    return candidates[kept[: settings.max_objects]]


def grid_points(per_side: int) -> Tensor:
    """Centres of a grid of cells: (per_side ** 2, 2) in [0, 1], x and y, row by row."""
    centres = (torch.arange(per_side) + 0.5) / per_side
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)


def stability(logits: Tensor, offset: float) -> Tensor:
    """How little masks change with their threshold: (N,) in [0, 1], 0 for empty ones.

    Args:
        logits: (N, h, w).
        offset: thresholds are this far on both sides of 0.
    """
    inner = (logits > offset).sum(dim=(1, 2))
    outer = (logits > -offset).sum(dim=(1, 2))
    return inner / outer.clamp(min=1)


def border_share(masks: Tensor) -> Tensor:
    """Share of the pixels along the border that masks (N, h, w) bool cover: (N,) in [0, 1]."""
    border = torch.ones(masks.shape[1:], dtype=torch.bool, device=masks.device)
    border[1:-1, 1:-1] = False
    return masks[:, border].float().mean(dim=1)


def drop_duplicates(masks: Tensor, quality: Tensor, overlap: float) -> Tensor:
    """Non-maximum suppression by masks.

    Args:
        masks: (N, h, w) bool, not empty.
        quality: (N,).
        overlap: intersection over union from which the one of less quality goes.

    Returns:
        (K,) indices to keep, of falling quality.
    """
    shared = _shared_pixels(masks)
    areas = shared.diagonal()
    same = shared / (areas[:, None] + areas[None, :] - shared) >= overlap
    return _greedy(quality.argsort(descending=True, stable=True), same)


def drop_parts(masks: Tensor, overlap: float) -> Tensor:
    """Leave out masks that lie inside larger ones.

    Args:
        masks: (N, h, w) bool, not empty.
        overlap: share of a mask inside a larger one from which it goes.

    Returns:
        (K,) indices to keep, of falling area.
    """
    shared = _shared_pixels(masks)
    areas = shared.diagonal()
    inside = (shared / areas[:, None] >= overlap).mT  # [larger, smaller]
    return _greedy(areas.argsort(descending=True, stable=True), inside)


def _is_candidate(logits: Tensor, quality: Tensor, settings: AutomaticSettings) -> Tensor:
    """Which of (N, h, w) logits are trusted masks of neither tiny things nor background: (N,) bool."""
    masks = logits > 0
    area = masks.float().mean(dim=(1, 2))
    return (
        (quality >= settings.min_quality)
        & (stability(logits, settings.stability_offset) >= settings.min_stability)
        & (area >= settings.min_area)
        & (area <= settings.max_area)
        & (border_share(masks) <= settings.max_border)
    )


def _shared_pixels(masks: Tensor) -> Tensor:
    """Pixels that pairs of masks (N, h, w) bool have in common: (N, N) float32, areas on the diagonal."""
    flat = masks.flatten(1).float()
    return flat @ flat.mT


def _greedy(order: Tensor, excludes: Tensor) -> Tensor:
    """Take indices in order, each unless one taken before excludes it (``excludes[taken, index]``)."""
    taken: list[int] = []
    for index in order.tolist():
        if not excludes[taken, index].any():
            taken.append(index)
    return torch.tensor(taken, dtype=torch.int64, device=order.device)
