"""Image features that others trained on ImageNet, as the small model's image encoder starts from them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from vggt.images import IMAGENET_MEAN, IMAGENET_STD
from vggt.layers.efficientnet import STAGES, EfficientNetLite0

_TRAINED_SCALE, _TRAINED_OFFSET = 255 / 128, -127 / 128  # of pixels in [0, 1], for the published network
_PREFIX = "patch_embed.trunk."  # in an image encoder


def image_feature_trunk() -> nn.Module:
    """The part of an image encoder that `image_features` are for."""
    return nn.ModuleDict({"patch_embed": nn.ModuleDict({"trunk": EfficientNetLite0()})})


def image_features(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk of the published classifier, under the names that it has in an image encoder.

    Raises:
        KeyError: one is missing.
    """
    return {_PREFIX + name: value for name, value in trunk_weights(published).items()}


def trunk_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `EfficientNetLite0` from those of the published classifier.

    The published network takes pixels less 127 over 128, ours those normalised by mean and deviation of
    ImageNet: the first convolution and its norm take over the difference.

    Args:
        published: names as the package efficientnet-lite-pytorch has them.

    Raises:
        KeyError: one is missing.
    """
    state = {}
    for block, (stage, number, width_stays) in enumerate(_places()):
        order = ["_expand_conv", "_bn0"] if not width_stays else []
        order += ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        slots = [0, 1, 3, 4, 6, 7] if not width_stays else [0, 1, 3, 4]
        for name, slot in zip(order, slots, strict=True):
            source = f"_blocks.{block}.{name}."
            state |= _renamed(published, source, f"stages.{stage}.{number}.layers.{slot}.")
    stem = published["_conv_stem.weight"].float()
    mean, std = (stem.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    state |= _renamed(published, "_bn0.", "stem.1.")
    state["stem.0.weight"] = stem * std * _TRAINED_SCALE
    offset = (stem * (mean * _TRAINED_SCALE + _TRAINED_OFFSET)).sum((1, 2, 3))
    state["stem.1.running_mean"] = state["stem.1.running_mean"] - offset
    return state


def _places() -> list[tuple[int, int, bool]]:
    """Stage, number within it, and whether there is no expansion, of every block."""
    return [
        (stage, number, expansion == 1)
        for stage, (expansion, _, count, _, _) in enumerate(STAGES)
        for number in range(count)
    ]


def _renamed(state: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    names = [name for name in state if re.match(rf"{re.escape(source)}\w+$", name)]
    if not names:
        raise KeyError(source)
    return {target + name.removeprefix(source): state[name] for name in names}
