"""How unlike drawn pictures are the true ones: a plain difference, structural similarity and LPIPS.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2; SSIM as in Wang et al., 2004; LPIPS as in Zhang et al.,
arXiv:1801.03924.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from trellis_modules.config import ConfigError

_WINDOW, _DEVIATION = 11, 1.5  # pixels of the Gaussian window
_C1, _C2 = 0.01**2, 0.03**2
_DIFFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PictureLossSettings:
    """Weights beside the plain difference, which counts once.

    Attributes:
        loss_type: the plain difference, "l1" or "l2".
        lambda_lpips: needs the package lpips where it is above 0.
    """

    loss_type: str = "l1"
    lambda_ssim: float = 0.2
    lambda_lpips: float = 0.2

    def __post_init__(self) -> None:
        if self.loss_type not in _DIFFERENCES:
            raise ValueError(f"loss_type: expected one of {sorted(_DIFFERENCES)}, got {self.loss_type!r}")


class PictureLoss:
    """Weighted sum of differences between pictures (B, 3, H, W) in [0, 1].

    Networks of LPIPS are no part of the objective that uses it: they are neither trained nor saved.
    """

    def __init__(self, settings: PictureLossSettings) -> None:
        """Make ready.

        Raises:
            ConfigError: LPIPS is asked for, and its package is not installed.
        """
        self.settings = settings
        self._lpips = lpips_distance() if settings.lambda_lpips else None

    def __call__(
        self, drawn: Tensor, true: Tensor, name: str = "", difference: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts without gradients.

        Args:
            drawn, true: pictures.
            name: begins the names of the parts.
            difference: in place of the plain one.
        """
        settings = self.settings
        if difference is None:
            difference = _DIFFERENCES[settings.loss_type](drawn, true)
        parts = {settings.loss_type: difference}
        loss = difference
        if settings.lambda_ssim:
            parts["ssim"] = 1 - structural_similarity(drawn, true)
            loss = loss + settings.lambda_ssim * parts["ssim"]
        if self._lpips is not None:
            parts["lpips"] = self._lpips(drawn, true)
            loss = loss + settings.lambda_lpips * parts["lpips"]
        return loss, {f"{name}{part}": value.detach() for part, value in parts.items()}


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of pictures (B, C, H, W) in [0, 1]; 1 for equal ones. Beyond their border they are black."""
    channels = first.shape[1]
    place = torch.arange(_WINDOW, dtype=first.dtype, device=first.device) - _WINDOW // 2
    line = torch.exp(-(place**2) / (2 * _DEVIATION**2))
    line = line / line.sum()
    window = (line[:, None] * line).expand(channels, 1, -1, -1)

    def blurred(picture: Tensor) -> Tensor:
        return F.conv2d(picture, window, padding=_WINDOW // 2, groups=channels)

    mean, other = blurred(first), blurred(second)
    variance = blurred(first * first) - mean**2
    other_variance = blurred(second * second) - other**2
    covariance = blurred(first * second) - mean * other
    likeness = (2 * mean * other + _C1) * (2 * covariance + _C2)
    return (likeness / ((mean**2 + other**2 + _C1) * (variance + other_variance + _C2))).mean()


def lpips_distance() -> Distance:
    """Mean LPIPS of pictures (B, 3, H, W) in [0, 1] by VGG features; the network moves to their device.

    Raises:
        ConfigError: the package lpips, or torchvision that it needs, is not installed.
    """
    if missing := [package for package in ("lpips", "torchvision") if find_spec(package) is None]:
        raise ConfigError(
            f"trainer.lambda_lpips: expected the package {missing[0]}, which is not installed; install it "
            "(pip install -e '.[lpips]'), or set lambda_lpips to 0"
        )
    import lpips

    network = lpips.LPIPS(net="vgg", verbose=False).eval().requires_grad_(False)

    def distance(drawn: Tensor, true: Tensor) -> Tensor:
        network.to(drawn.device)
        return network(drawn.float() * 2 - 1, true.float() * 2 - 1).mean()

    return distance
