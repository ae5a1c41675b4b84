"""How large a scene is in metres, from what furniture is known to measure.

A photo does not tell sizes, but few chairs are two metres high. For a guess of the scale each object has a
box in metres, which is as likely as there are pieces of furniture of about such widths, heights and depths.
The scale is the median of what the boxes of all objects leave. `furniture_sizes.json` holds the sizes of the
furniture of the training split; `dataset_toolkits.furniture_sizes` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from safe_files.json_reader import read_json

SIZES_FILE = Path(__file__).with_name("furniture_sizes.json")

_SPREAD = 0.25  # of the logarithms of sides, between pieces that count as alike
_UNLIKE = 1e-4  # likelihood of a box like no piece in the table: it then says nothing
_THINNEST = 0.02  # metres, and longest sides of the query: carpets and pictures are about as thick
_GUESSES = np.arange(np.log(0.1), np.log(8.0), 0.02)  # logarithms of metres per unit
_QUANTILES = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class MetricScale:
    """Metres per unit of the query frame.

    Attributes:
        metres_per_unit: the median.
        low, high: between them the scale lies with a probability of 68 %, were the objects furniture as in
            the table and of the right shape.
    """

    metres_per_unit: float
    low: float
    high: float


def metric_scale(boxes: np.ndarray) -> MetricScale:
    """Find the scale of a scene.

    Args:
        boxes: (N, 3) widths, heights and depths of the objects along their own axes, y up, in units of the
            query frame.

    Raises:
        ValueError: there is no box.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 3 or not len(boxes):
        raise ValueError(f"metric_scale: expected boxes (N, 3) of at least one object, got {boxes.shape}")
    sides = np.log(np.maximum(boxes, _THINNEST))[:, None] + _GUESSES[None, :, None]  # (N, G, 3)
    score = np.zeros(len(_GUESSES))
    for side in sides:
        squares = np.square(side[:, None] - _table()[None]).sum(axis=2) / _SPREAD**2
        score += np.log(np.exp(-squares / 2).mean(axis=1) + _UNLIKE)
    shares = np.exp(score - score.max())
    below = np.cumsum(shares) / shares.sum()
    low, middle, high = np.exp(np.interp(_QUANTILES, below, _GUESSES))
    return MetricScale(float(middle), float(low), float(high))


@cache
def furniture_sizes(path: Path = SIZES_FILE) -> dict[str, Any]:
    """The table: ``source`` says of what and how it was made, ``sizes_m`` are widths, heights and depths."""
    return read_json(path)


@cache
def _table() -> np.ndarray:
    """Logarithms (2 T, 3) of the sides of known furniture, also turned by a quarter: fronts are estimates."""
    sizes = np.log(np.maximum(np.array(furniture_sizes()["sizes_m"], dtype=np.float64), _THINNEST))
    return np.concatenate([sizes, sizes[:, [2, 1, 0]]])
