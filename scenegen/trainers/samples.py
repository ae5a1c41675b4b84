"""What networks make while they are trained: objects and poses that flows sample, beside the true ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import FlowEulerSampler, Guidance, SamplingParams
from trellis_modules.sparse import SparseTensor

POSITIONS, POSITION_TOKENS = "positions", "position_tokens"
"""Names under which flow models return their poses, and what their ``poses`` makes the poses of."""

SHOWN = 4
"""Single objects of a batch that are sampled to be looked at."""


Latents = TypeVar("Latents", Tensor, SparseTensor)


@dataclass(frozen=True)
class SceneSample:
    """N objects of one photo, or N single objects.

    Attributes:
        latents, true_latents: (N, C, r, r, r) of their structures.
        poses, true_poses: (N, 8 or 7) in the frame of the query, the first; None for single objects.
        images: (N, 3, S, S) in [0, 1], what was shown of them.
        scene_image: (3, S, S) in [0, 1], the photo.
    """

    latents: Tensor
    true_latents: Tensor
    poses: Tensor | None = None
    true_poses: Tensor | None = None
    images: Tensor | None = None
    scene_image: Tensor | None = None


@dataclass(frozen=True)
class LatentSample:
    """Structured latents of N single objects.

    Attributes:
        latents, true_latents: (N, C) at the same voxels.
        images: (N, 3, S, S) in [0, 1], what was shown of them.
    """

    latents: SparseTensor
    true_latents: SparseTensor
    images: Tensor | None = None


def sample_flow(
    flow: Callable[..., FlowOutput],
    like: Latents,
    cond: Tensor,
    empty: Tensor,
    generator: torch.Generator,
    sigma_min: float,
    params: SamplingParams,
) -> tuple[Latents, Tensor | None]:
    """Sample with guidance at all times.

    Args:
        flow: called with states, times and a condition.
        like: (N, C, r, r, r) or sparse (N, C), of the shape and on the device of what is sampled.
        cond, empty: (N, L, C) conditions and empty ones.
        generator: of the noise, on the same device.
        sigma_min: of the flow's path.
        params: steps and strength.

    Returns:
        Latents, and the poses of the last step where the flow tells any.
    """

    def drawn(values: Tensor) -> Tensor:
        return torch.randn(values.shape, generator=generator, device=values.device)

    noise = like.apply(drawn) if isinstance(like, SparseTensor) else drawn(like)
    sampler = FlowEulerSampler(sigma_min, Guidance.ALWAYS)
    result = sampler.sample(flow, noise, cond, empty, params)
    return result.samples, result.last(POSITIONS).float() if POSITIONS in result.extras else None


@contextmanager
def as_used(objective: nn.Module) -> Iterator[None]:
    """Networks in eval mode and without gradients for the length of a block."""
    modes = {module: module.training for module in objective.modules()}
    objective.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
