"""Latents brought to mean 0 and deviation 1, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scenegen.datasets.sample_files import SampleError


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation of each channel, for example those of ``stat_latent.py``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"normalization: expected as many means as deviations, got {len(self.mean)} and "
                f"{len(self.std)}"
            )
        if not min(self.std) > 0:
            raise ValueError(f"normalization: expected deviations above 0, got {list(self.std)}")


def normalised_latents(latents: Tensor, normalization: Normalization | None, dim: int) -> Tensor:
    """Latents less their mean over their deviation; None leaves them as they are.

    Args:
        latents: any shape.
        normalization: of their channels.
        dim: the axis of the channels.

    Raises:
        SampleError: they have another number of channels.
    """
    if normalization is None:
        return latents
    mean, std = _per_channel(latents, normalization, dim)
    return (latents - mean) / std


def restored_latents(latents: Tensor, normalization: Normalization | None, dim: int) -> Tensor:
    """The way back of `normalised_latents`, with the same arguments and errors."""
    if normalization is None:
        return latents
    mean, std = _per_channel(latents, normalization, dim)
    return latents * std + mean


def _per_channel(latents: Tensor, normalization: Normalization, dim: int) -> list[Tensor]:
    channels = len(normalization.mean)
    if latents.shape[dim] != channels:
        raise SampleError(
            f"expected latents of {channels} channels, for which the dataset's normalization is, got "
            f"{latents.shape[dim]}; correct the normalization"
        )
    shape = [channels if axis == dim % latents.ndim else 1 for axis in range(latents.ndim)]
    return [latents.new_tensor(values).view(shape) for values in (normalization.mean, normalization.std)]
