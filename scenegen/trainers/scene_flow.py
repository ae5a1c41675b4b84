"""Objective of the sparse-structure flow with scene attention: velocity and poses, both encoders included."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scenegen.pipelines.conditioning import SceneConditioner, drop_cond
from scenegen.trainers.dense_probe import DenseProbe
from scenegen.trainers.losses import masked_mean, pose_errors
from scenegen.trainers.trainer import Objective
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time

_NEARLY_NOISE = 0.95  # above this time the state itself hardly shows the shape


@dataclass(frozen=True)
class SceneFlowConfig:
    """Noise schedule, weights of the terms, and what is dropped how often."""

    times: TimeSchedule = field(default_factory=lambda: TimeSchedule("logitNormal", 0.8, 1.2))
    sigma_min: float = 1e-5
    trans_weight: float = 3.0
    rot_weight: float = 3.0
    scale_weight: float = 1.0
    points_weight: float = 3.0  # where the patches of an asset's crop lie on the object
    depth_weight: float = 1.0  # how far the patches of the scene are
    smooth_scale: float = 0.02
    p_uncond: float = 0.1  # scenes trained without any condition, for guidance
    p_no_scene: float = 0.15  # steps without scene attention: every asset attends to itself alone


class SceneFlowObjective(Objective):
    """Trains ``flow``, ``image_encoder`` and ``geometry_encoder`` together on scenes of equal size.

    All assets of a scene share their time and their dropped conditions, as they do when scenes are sampled. A
    linear ``probe`` reads from the image tokens where each patch of a crop lies on its object and how far
    each patch of the scene is: an image encoder that starts from nothing learns to see much sooner from these
    dense targets than through the flow model alone. The probe is not needed afterwards.
    """

    def __init__(
        self, flow: nn.Module, image_encoder: nn.Module, geometry_encoder: nn.Module, config: SceneFlowConfig
    ) -> None:
        width = flow.config.cond_channels
        self.probe = DenseProbe(width)
        self.modules: Mapping[str, nn.Module] = {
            "flow": flow,
            "image_encoder": image_encoder,
            "geometry_encoder": geometry_encoder,
            "probe": self.probe,
        }
        self.flow, self.config = flow, config
        self.conditioner = SceneConditioner(
            image_encoder, geometry_encoder.aggregator, normalize_geometry=True
        )
        self.path = FlowPath(config.sigma_min)
        self._alone = False

    def settle(self, generator: torch.Generator) -> Hashable:
        """Whether the next loss is without scene attention."""
        self._alone = float(torch.rand((), generator=generator)) < self.config.p_no_scene
        return self._alone

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error of the visible assets, plus the pose errors of the visible targets.

        Args:
            batch: x_0 (S, N, C, r, r, r); scene_image (S, 3, I, I), asset_image and mask_image (S*N, 3, I, I)
                in [0, 1]; poses (S, N, 8); visible (S, N) bool; object_points (S*N, 4, G, G) and depth
                (S, I, I).
            generator: on the device of the batch.
        """
        config, (num_scenes, num_assets) = self.config, batch["visible"].shape
        device = batch["visible"].device
        cond, num_object_tokens = self.conditioner.encode_tensors(
            batch["asset_image"], batch["mask_image"], batch["scene_image"]
        )
        seen = self._probe_errors(cond, num_object_tokens, num_assets, batch)
        kept = torch.rand(num_scenes, generator=generator, device=device) >= config.p_uncond
        cond = drop_cond(cond, ~kept.repeat_interleave(num_assets))

        x_0 = batch["x_0"].flatten(0, 1).float()
        t = config.times.sample(num_scenes, generator=generator, device=device).repeat_interleave(num_assets)
        noise = torch.randn(x_0.shape, generator=generator, device=device)
        is_query = (torch.arange(num_assets, device=device) == 0).repeat(num_scenes)
        output = self.flow(
            self.path.diffuse(x_0, noise, t),
            model_time(t, len(t), device),
            cond,
            num_object_tokens=num_object_tokens,
            scene_size=1 if self._alone else num_assets,
            is_query=is_query,
        )

        visible = batch["visible"].flatten().float()
        error = (output.velocity.float() - self.path.target_velocity(x_0, noise)).pow(2).flatten(1).mean(1)
        mse = masked_mean(error, visible)
        blind = visible * (t > _NEARLY_NOISE)  # where only the condition tells what is there
        poses = output.extras["positions"].float().unflatten(0, (num_scenes, num_assets))
        counted = batch["visible"] & ~is_query.view(num_scenes, num_assets) & kept[:, None]
        errors = pose_errors(poses, batch["poses"], counted, config.smooth_scale)
        pose = (
            config.trans_weight * errors["translation"]
            + config.rot_weight * errors["rotation"]
            + config.scale_weight * errors["scale"]
        )
        look = config.points_weight * seen["points"] + config.depth_weight * seen["depth"]
        logs = {"mse": mse, "mse_blind": masked_mean(error, blind), **errors}
        if self._alone:
            logs = {"mse_alone": mse, "translation_alone": errors["translation"]}
        return mse + pose + look, {name: value.detach() for name, value in (logs | seen).items()}

    def _probe_errors(
        self, cond: Tensor, tokens: int, num_assets: int, batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The probe's errors on the patches of the crops and of the scenes within ``cond``."""
        patches = batch["object_points"][0, 0].numel()
        assets = cond[:, tokens - patches : tokens]
        scenes = cond[::num_assets, 3 * tokens - patches : 3 * tokens]
        return self.probe(assets, scenes, batch)
