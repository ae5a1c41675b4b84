"""The structure stage: from conditions to the latents and poses of a scene's assets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scenegen.conditioning.scene_conditioner import SceneCond
from scenegen.geometry import average_poses
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import Cond, FlowEulerSampler, MultiViewCond, SamplingParams
from trellis_modules.samplers.conditioning import ExtrasMean, arithmetic_mean
from trellis_modules.samplers.recording import recorded

FlowFunction = Callable[..., FlowOutput]
"""A flow model: (x_t, t, cond, num_object_tokens=...) -> prediction."""

Prepare = Callable[[Tensor, int], Cond]
"""A model's ``precompute_context``: (cond, num_object_tokens) -> what it accepts in place of cond."""

POSITIONS = "positions"
"""Name under which flow models return their poses."""

POSITION_TOKENS = "position_tokens"
"""Name under which they return what their ``poses`` makes the poses of."""

PositionsType = Literal["last", "avg"]
"""Poses of the last step, or the mean over as many last steps as there are views."""


def mean_of_poses(name: str, estimates: Tensor) -> Tensor:
    """Mean (B, ...) of the estimates (V, B, ...) of an extra; rotations as rotations, see `average_poses`."""
    return average_poses(estimates) if name == POSITIONS else arithmetic_mean(name, estimates)


class WithoutSceneAttention:
    """A flow model whose assets see their own condition and no other asset; the first is still the query.

    This is the ablation of the scene attention: the same weights, which are trained in this mode some of the
    time.
    """

    def __init__(self, model: nn.Module) -> None:
        """Wrap a scene flow model."""
        self.model = model
        self.precompute_context = model.precompute_context

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond, **arguments: Any) -> FlowOutput:
        """As the model, with the assets of ``x_t`` (B, ...) each in a scene of its own."""
        return self.model(x_t, t, cond, scene_size=1, is_query=_first(x_t), **arguments)

    def poses(self, tokens: Tensor) -> Tensor:
        """As the model's, of assets in a scene each."""
        return self.model.poses(tokens, is_query=_first(tokens))


def _first(values: Tensor) -> Tensor:
    """(B,) bool, true for the first of the rows."""
    return torch.arange(len(values), device=values.device) == 0


@dataclass(frozen=True)
class StructureSample:
    """What the structure stage produces for B assets.

    Attributes:
        latents: (B, C, r, r, r), input of the structure decoder.
        positions: (B, 8) poses in the query frame as predicted; quaternions need not have unit length. None
            for a model of single objects.
    """

    latents: Tensor
    positions: Tensor | None


def noise_generator(seed: int) -> torch.Generator:
    """The generator of all noise of one scene.

    It lives on the CPU, so that a seed gives the same scene on every device, and its draws come in a fixed
    order: first the structure noise of all assets (`structure_noise`), then that of later stages. Nothing
    else may draw from it.
    """
    return torch.Generator("cpu").manual_seed(seed)


def structure_noise(
    num_assets: int,
    channels: int,
    resolution: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the initial state (num_assets, channels, r, r, r) on the CPU and move it to ``device``."""
    shape = (num_assets, channels, resolution, resolution, resolution)
    return torch.randn(shape, generator=generator).to(device)


def sample_structure(
    model: FlowFunction,
    sampler: FlowEulerSampler,
    scene: SceneCond,
    noise: Tensor,
    params: SamplingParams,
    *,
    positions_type: PositionsType = "last",
    extras_mean: ExtrasMean = mean_of_poses,
    precompute: bool = True,
    needs_positions: bool = True,
    on_step: Callable[[int, int], object] | None = None,
) -> StructureSample:
    """Sample the latents and poses of one scene.

    Args:
        model: a flow model that returns "positions".
        sampler: the Euler loop.
        scene: conditions of the B assets, the query first.
        noise: (B, C, r, r, r), see `structure_noise`.
        params: steps, times and guidance.
        positions_type: which steps the poses come from; with one view both choices are the last step.
        extras_mean: how poses of several views are averaged.
        precompute: project the conditions once instead of in every step, where the model offers
            ``precompute_context``; the same result in less time, for the memory of all keys and values.
        needs_positions: refuse a model without poses.
        on_step: called with (steps done, steps) after every step.

    Raises:
        ValueError: unknown positions_type, other noise than for B assets, or a model without positions.
    """
    if positions_type not in ("last", "avg"):
        raise ValueError(f"sample_structure: positions_type must be 'last' or 'avg', got {positions_type!r}")
    if len(noise) != scene.num_assets:
        got = tuple(noise.shape)
        raise ValueError(f"sample_structure: expected noise for {scene.num_assets} assets, got shape {got}")
    prepare = getattr(model, "precompute_context", None) if precompute else None
    # Poses of one view are made of the last step's tokens; those of several views are averaged as poses.
    regress = None if isinstance(scene.cond, MultiViewCond) else getattr(model, "poses", None)
    flow = _flow_of(model, scene, params, noise.device, prepare is not None, regress is None)
    result = sampler.sample(
        flow,
        noise,
        prepare_cond(prepare, scene),
        prepare_neg_cond(prepare, scene) if sampler.uses_guidance(params) else None,
        params,
        extras_mean=extras_mean,
        on_step=on_step,
    )
    if regress is not None:
        return StructureSample(result.samples, regress(result.last(POSITION_TOKENS)))
    if POSITIONS not in result.extras:
        if not needs_positions:
            return StructureSample(result.samples, None)
        raise ValueError(
            f"sample_structure: expected a model that returns {POSITIONS!r}, {type(model).__name__} returned "
            f"{sorted(result.extras)}; use a flow model with a pose head"
        )
    count = _num_views(scene.cond) if positions_type == "avg" else 1
    return StructureSample(result.samples, _mean_of_last(result.extras[POSITIONS], count, extras_mean))


def _flow_of(
    model: FlowFunction,
    scene: SceneCond,
    params: SamplingParams,
    device: torch.device,
    is_prepared: bool,
    regress_poses: bool,
) -> Callable[..., FlowOutput]:
    """The model as the sampler calls it; recorded where nothing in a pass waits for the GPU."""
    if regress_poses:
        return partial(model, num_object_tokens=scene.num_object_tokens)
    flow = partial(model, num_object_tokens=scene.num_object_tokens, regress_poses=False)
    if not is_prepared:
        return flow
    return recorded(flow, device, params.steps)


def occupied_coords(logits: Tensor) -> Tensor:
    """Voxels with logits above 0: (B, 1, R, R, R) -> (T, 4) int32, columns (asset, x, y, z), sorted."""
    return torch.argwhere(logits > 0)[:, [0, 2, 3, 4]].int()


@torch.no_grad()
def prepare_cond(prepare: Prepare | None, scene: SceneCond) -> Cond | MultiViewCond:
    """The condition as ``prepare`` makes it, view by view; as it is without ``prepare``."""
    if prepare is None:
        return scene.cond
    if isinstance(scene.cond, MultiViewCond):
        return MultiViewCond(tuple(prepare(view, scene.num_object_tokens) for view in scene.cond.views))
    return prepare(scene.cond, scene.num_object_tokens)


@torch.no_grad()
def prepare_neg_cond(prepare: Prepare | None, scene: SceneCond) -> Cond:
    """The empty condition, as one token where a model can prepare it.

    Attention over equal tokens does not depend on their number, and all tokens of the empty condition are
    zero: the unguided pass has the same result without thousands of keys.
    """
    if prepare is None:
        return scene.neg_cond
    if scene.neg_cond.any():
        return prepare(scene.neg_cond, scene.num_object_tokens)
    return prepare(scene.neg_cond[:, :1], 1)


def _num_views(cond: Tensor | MultiViewCond) -> int:
    return len(cond.views) if isinstance(cond, MultiViewCond) else 1


def _mean_of_last(estimates: Sequence[Tensor], count: int, mean: ExtrasMean) -> Tensor:
    """Mean of the last ``count`` poses, or of all where there are fewer; a single one is left as it is."""
    chosen = estimates[-count:]
    return chosen[0] if len(chosen) == 1 else mean(POSITIONS, torch.stack(list(chosen)))
