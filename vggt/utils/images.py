"""Image files to network input, with PIL and torch only."""
from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: Tensor) -> Tensor:
    """Shift and scale (..., 3, H, W) images in [0, 1] by the ImageNet mean and deviation."""
    channels = zip(images.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    # Channel by channel, so that no constant is copied to the device in each forward pass.
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], dim=-3)
