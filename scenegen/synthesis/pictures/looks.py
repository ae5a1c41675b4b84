"""How pictures of training scenes may look: which changes are drawn, and how often."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trellis_modules.config import check_range


@dataclass(frozen=True)
class Looks:
    """The part of the scenes with each change; for ``patterns``, ``gloss``, ``faulty_masks`` of the objects.

    They are drawn independently of each other. With 0 nothing is drawn, so that pictures of older settings
    stay as they were.
    """

    room: float = 0.0  # patterns on floor and walls, carpets, windows, pictures: `room_paint`
    light: float = (
        0.0  # coloured, from lamps, in patches, darker in corners, with soft shadows: `scene_light`
    )
    patterns: float = 0.0  # stripes, checks and blobs on objects: `object_paint`
    gloss: float = 0.0  # highlights on objects: `object_paint`
    photo: float = 0.0  # colour casts, contrast, blur, vignetting, noise, blocks of JPEG: `development`
    faulty_masks: float = 0.0  # eroded, dilated, coarse, with holes: `mask_faults`

    def __post_init__(self) -> None:
        for field in fields(self):
            check_range(field.name, getattr(self, field.name), 0, 1)


@dataclass(frozen=True)
class Draws:
    """Random numbers for ``count`` things, on the device of a generator."""

    count: int
    generator: torch.Generator

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        """(count, *shape) between ``low`` and ``high``."""
        drawn = torch.rand(self.count, *shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn

    def powers(self, low: float, high: float, *shape: int) -> Tensor:
        """(count, *shape) between ``low`` and ``high``, small ones as often as large ones."""
        ratio = torch.log(torch.tensor(high / low)).item()
        return low * torch.exp(ratio * self.uniform(0.0, 1.0, *shape))

    def happens(self, probability: float, *shape: int) -> Tensor:
        """(count, *shape) bool, true with a probability."""
        return self.uniform(0.0, 1.0, *shape) < probability

    def choice(self, number: int, *shape: int) -> Tensor:
        """(count, *shape) int64 from 0 to ``number`` - 1."""
        return (self.uniform(0.0, 1.0, *shape) * number).long().clamp(max=number - 1)

    def colours(self, saturation: tuple[float, float], value: tuple[float, float], *shape: int) -> Tensor:
        """(count, *shape, 3) sRGB of any hue, with saturations and values in these ranges."""
        hue = self.uniform(0.0, 1.0, *shape, 1) + torch.tensor(
            [0.0, 2 / 3, 1 / 3], device=self.generator.device
        )
        pure = ((hue % 1.0 * 6 - 3).abs() - 1).clamp(0, 1)
        grey = self.uniform(*saturation, *shape, 1)
        return self.uniform(*value, *shape, 1) * (1 - grey + grey * pure)
