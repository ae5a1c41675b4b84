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
from trellis_modules.samplers import (
    Cond,
    FlowEulerSampler,
    FlowPath,
    MultiViewCond,
    SamplingParams,
    SamplingResult,
)
from trellis_modules.samplers.conditioning import ExtrasMean, arithmetic_mean, average_outputs
from trellis_modules.samplers.flow_euler import PrepareTimes
from trellis_modules.samplers.guidance import ConditionalPredictor
from trellis_modules.samplers.recording import recorded

FlowFunction = Callable[..., FlowOutput]
"""A flow model: (x_t, t, cond, num_object_tokens=...) -> prediction."""

Prepare = Callable[[Tensor, int], Cond]
"""A model's ``precompute_context``: (cond, num_object_tokens) -> what it accepts in place of cond."""

POSITIONS = "positions"
"""Name under which flow models return their poses."""

POSITION_TOKENS = "position_tokens"
"""Name under which they return what their ``poses`` makes the poses of."""

POSE_TIMES = (0.1, 0.2, 0.3)
"""How much noise finished latents get when the pose head is asked about them: that of the last steps."""

PATH_STEPS = 4
"""Steps of the sampler before the last one whose poses tell how sure the pose head is."""

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
        self.precompute_times = model.precompute_times

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond, **arguments: Any) -> FlowOutput:
        """As the model, with the assets of ``x_t`` (B, ...) each in a scene of its own."""
        query = _queries(x_t, arguments.pop("scene_size", None))
        return self.model(x_t, t, cond, scene_size=1, is_query=query, **arguments)

    def poses(self, tokens: Tensor, *, scene_size: int | None = None) -> Tensor:
        """As the model's, of assets in a scene each."""
        return self.model.poses(tokens, is_query=_queries(tokens, scene_size))


class InGroups:
    """A flow model whose assets see the query and some of their neighbours whole, see `asset_groups`."""

    def __init__(self, model: nn.Module, group_size: int) -> None:
        """Wrap a scene flow model."""
        self.model = model
        self.group_size = group_size
        self.precompute_context = model.precompute_context
        self.precompute_times = model.precompute_times
        self.poses = model.poses

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond, **arguments: Any) -> FlowOutput:
        """As the model, with the assets of a scene in groups."""
        return self.model(x_t, t, cond, group_size=self.group_size, **arguments)


def _queries(values: Tensor, scene_size: int | None) -> Tensor:
    """(B,) bool, true for the first row of each scene; None takes all rows for one scene."""
    return torch.arange(len(values), device=values.device) % (scene_size or len(values)) == 0


@dataclass(frozen=True)
class StructureSample:
    """What the structure stage produces for B assets.

    Attributes:
        latents: (B, C, r, r, r), input of the structure decoder.
        positions: (B, 8) poses in the query frame as predicted; quaternions need not have unit length. None
            for a model of single objects.
        path: (steps, B, 8) the poses that the last steps predicted, as many as were asked for and that of the
            last one; None likewise.
    """

    latents: Tensor
    positions: Tensor | None
    path: Tensor | None = None

    def of(self, rows: Sequence[int] | slice) -> StructureSample:
        """Some of the assets, in the order given."""
        if self.positions is None or self.path is None:
            return StructureSample(self.latents[rows], None)
        return StructureSample(self.latents[rows], self.positions[rows], self.path[:, rows])


@dataclass(frozen=True)
class HeldAssets:
    """Assets whose latents are known, while the others of their scene are sampled and see them.

    At each time a held asset is where its own path from noise to data passes: the network meets it as noisy
    as those that it makes, as it did in training.

    Attributes:
        latents: (B, C, r, r, r); rows that are not held may hold anything.
        rows: which of the B assets are held.
    """

    latents: Tensor
    rows: tuple[int, ...]

    def on_path(self, noise: Tensor, path: FlowPath) -> Callable[[Tensor, float], Tensor]:
        """What replaces the states (N * B, ...) of a `FlowEulerSampler` that began with ``noise``."""
        count = len(noise) // len(self.latents)
        is_held = torch.zeros(len(self.latents), dtype=torch.bool)
        is_held[list(self.rows)] = True
        is_held = is_held.repeat(count).to(noise.device)[:, None, None, None, None]
        latents = self.latents.to(noise).repeat(count, 1, 1, 1, 1)
        return lambda x_t, t: torch.where(is_held, path.diffuse(latents, noise, t), x_t)


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
    held: HeldAssets | None = None,
    path_steps: int = 0,
    on_step: Callable[[int, int], object] | None = None,
) -> StructureSample:
    """Sample the latents and poses of one scene, or several samples of the same scene at once.

    Args:
        model: a flow model that returns "positions".
        sampler: the Euler loop.
        scene: conditions of the B assets, the query first.
        noise: (N * B, C, r, r, r) of N samples, one after the other, see `structure_noise`.
        params: steps, times and guidance.
        positions_type: which steps the poses come from; with one view both choices are the last step.
        extras_mean: how poses of several views are averaged.
        precompute: make once what the model makes of conditions and times, where it offers to.
        needs_positions, held: refuse a model without poses; assets that are known already.
        path_steps: steps before the last one whose poses are returned, too.
        on_step: called with (steps done, steps) after every step.

    Raises:
        ValueError: unknown positions_type, noise for other assets, or a model without positions.
    """
    count = _num_estimates(positions_type, scene)
    prepare, prepare_times = _preparations(model) if precompute else (None, None)
    regress = _regression(model, scene)
    called, prepared, scene = for_samples(model, scene, len(noise), prepare)
    if regress is not None:
        called = _without_poses(called, model, noise.device, 0 if prepare is None else params.steps)
    result = sampler.sample(
        called,
        noise,
        prepared,
        prepare_neg_cond(prepare, scene) if sampler.uses_guidance(params) else None,
        params,
        extras_mean=extras_mean,
        on_step=on_step,
        constrain=None if held is None else held.on_path(noise, sampler.path),
        prepare_times=prepare_times,
    )
    poses = _last_poses(result, regress, max(count, 1 + path_steps))
    if poses:
        path = torch.stack(poses[-1 - path_steps :])
        return StructureSample(result.samples, _mean_of_last(poses, count, extras_mean), path)
    if needs_positions:
        raise ValueError(
            f"sample_structure: expected a model that returns {POSITIONS!r}, {type(model).__name__} returned "
            f"{sorted(result.extras)}; use a flow model with a pose head"
        )
    return StructureSample(result.samples, None)


def for_samples(
    model: FlowFunction, scene: SceneCond, num_rows: int, prepare: Prepare | None
) -> tuple[FlowFunction, Cond | MultiViewCond, SceneCond]:
    """A model and the conditions of B assets for N samples of their scene, ``num_rows`` = N * B.

    A model that can prepare conditions projects them once for all samples.

    Returns:
        The model without its arguments for scenes, its condition, and that of the scene, repeated where the
        model does not do so itself.

    Raises:
        ValueError: ``num_rows`` is no multiple of B.
    """
    if num_rows == 0 or num_rows % scene.num_assets:
        raise ValueError(
            f"sample_structure: expected noise for {scene.num_assets} assets, or a multiple of them, got "
            f"noise for {num_rows}"
        )
    called = partial(model, num_object_tokens=scene.num_object_tokens)
    count = num_rows // scene.num_assets
    if count > 1:
        called = partial(called, scene_size=scene.num_assets)
        if prepare is None:
            scene = scene.repeated(count)
        else:
            called = partial(called, cond_repeats=count)
    return called, prepare_cond(prepare, scene), scene


def told_poses(
    model: FlowFunction,
    sampler: FlowEulerSampler,
    scene: SceneCond,
    latents: Tensor,
    times: Sequence[float],
    generator: torch.Generator,
    *,
    precompute: bool = True,
) -> Tensor:
    """What the pose head tells of finished latents that are noised again, as often as there are times.

    Args:
        model, sampler, scene, precompute: see `sample_structure`.
        latents: (N * B, C, r, r, r) of N samples of the scene.
        times: in (0, 1), for each pass how much noise is added.
        generator: on the CPU; gives the noise.

    Returns:
        (len(times), N * B, 8) poses, the mean over all views.
    """
    prepare = getattr(model, "precompute_context", None) if precompute else None
    called, cond, _ = for_samples(model, scene, len(latents), prepare)
    predict = ConditionalPredictor(called)
    told = []
    for t in times:
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        x_t = sampler.path.diffuse(latents, noise, t)
        views = cond.views if isinstance(cond, MultiViewCond) else (cond,)
        told.append(average_outputs([predict(x_t, t, view) for view in views], mean_of_poses))
    return torch.stack([output.extras[POSITIONS] for output in told])


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


def _preparations(model: FlowFunction) -> tuple[Prepare | None, PrepareTimes | None]:
    """What a model makes of conditions and of times before a run, where it offers to."""
    return getattr(model, "precompute_context", None), getattr(model, "precompute_times", None)


def _regression(model: FlowFunction, scene: SceneCond) -> Callable[[Tensor], Tensor] | None:
    """What makes poses of the tokens of a pass; None where every pass has to make its own.

    Poses of one view are those of the last step, from its tokens; those of several are averaged as poses.
    """
    regress = None if isinstance(scene.cond, MultiViewCond) else getattr(model, "poses", None)
    return None if regress is None else partial(regress, scene_size=scene.num_assets)


def _without_poses(
    called: FlowFunction, model: FlowFunction, device: torch.device, passes: int
) -> FlowFunction:
    """A call of a model that leaves its poses to `_regression`; nothing in a pass waits for the GPU then.

    ``passes`` with a prepared condition are recorded where that pays.
    """
    network = model if isinstance(model, nn.Module) else None
    return recorded(partial(called, regress_poses=False), device, passes, network)


def _last_poses(
    result: SamplingResult, regress: Callable[[Tensor], Tensor] | None, count: int
) -> list[Tensor]:
    """Poses (B, 8) of the last ``count`` steps, or of all where there are fewer; none of a model without."""
    if regress is None:
        return list(result.extras.get(POSITIONS, []))[-count:]
    return [regress(tokens) for tokens in result.extras[POSITION_TOKENS][-count:]]


def _num_estimates(positions_type: PositionsType, scene: SceneCond) -> int:
    """Of how many last steps the poses are the mean.

    Raises:
        ValueError: unknown positions_type.
    """
    if positions_type not in ("last", "avg"):
        raise ValueError(f"sample_structure: positions_type must be 'last' or 'avg', got {positions_type!r}")
    views = len(scene.cond.views) if isinstance(scene.cond, MultiViewCond) else 1
    return views if positions_type == "avg" else 1


def _mean_of_last(estimates: Sequence[Tensor], count: int, mean: ExtrasMean) -> Tensor:
    """Mean of the last ``count`` poses, or of all where there are fewer; a single one is left as it is."""
    chosen = estimates[-count:]
    return chosen[0] if len(chosen) == 1 else mean(POSITIONS, torch.stack(list(chosen)))
