"""The variants of the small model's shape learning, and how one is trained and measured."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.structure_bottleneck_data import Bank, EvaluationSet
from scenegen.checkpoints.networks import CheckpointFolder
from scenegen.checkpoints.roles import FLOW_ROLE, GEOMETRY_ENCODER_ROLE, IMAGE_ENCODER_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.patch_places import PLACE_CHANNELS, PictureTokens, patch_places
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.trainers.distributed import World
from scenegen.trainers.finetune import load_what_fits
from scenegen.trainers.freezing import freeze
from scenegen.trainers.learner import Learner
from scenegen.trainers.loop_config import LoopConfig, OptimizerConfig, ParameterGroup
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.object_flow import ObjectFlowConfig, ObjectFlowObjective
from scenegen.trainers.structure_figures import SAMPLING, StructureFigures, decoded, structure_figures
from trellis_modules.checkpoint import read_state
from trellis_modules.config import NamedConfig
from trellis_modules.samplers import FlowEulerSampler

logger = logging.getLogger("bottleneck")

WIDTH, GRID = 256, 14
_RATE, _FEATURE_RATE = 7e-4, 3e-4  # of everything, and of a network that comes from ImageNet
_ORACLE_WAVES = 5
_LOOK_AT_CLOCK = 20  # steps
_WARM_UP_STEPS, _TIMED_STEPS = 10, 60
_SHIPPED_AT_ONCE = 12  # pictures

BASE_FLOW: Mapping[str, Any] = {
    "resolution": 8, "in_channels": 16, "out_channels": 16, "model_channels": 256,
    "cond_channels": WIDTH + PLACE_CHANNELS, "num_blocks": 6, "num_heads": 4, "mlp_ratio": 4, "patch_size": 2,
    "qk_rms_norm": True, "share_mod": True,
}  # fmt: skip
BASE_ENCODER: Mapping[str, Any] = {
    "img_size": 224, "patch_size": 16, "patch_embed": "residual", "embed_dim": WIDTH, "depth": 4,
    "num_heads": 4, "num_register_tokens": 4,
}  # fmt: skip
LARGE_FLOW = {"model_channels": 384, "num_blocks": 12, "num_heads": 6}
FEATURES = {"patch_embed": "efficientnet_lite0"}
EARLY = (r"^image_encoder\.patch_embed\.trunk\.(stem|stages\.[01])\.",)


@dataclass(frozen=True)
class Variant:
    """What differs from the base.

    Attributes:
        text: for the table.
        flow, encoder: arguments of the two networks that differ.
        is_oracle: true points in place of an image encoder.
        has_features: the patch embedding starts from weights of ImageNet.
        frozen: regular expressions of parameters that are not trained.
        factors: multiples of the base's steps after which it is measured; it trains up to the last.
        encoder_first: multiple of the base's steps for which the image encoder learns alone before.
        draws: noisy states for each picture.
    """

    text: str
    flow: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    is_oracle: bool = False
    has_features: bool = False
    frozen: tuple[str, ...] = ()
    factors: tuple[float, ...] = (1.0,)
    encoder_first: float = 0.0
    draws: int = 4


VARIANTS: Mapping[str, Variant] = {
    "base": Variant("base: flow 6 x 256 on 64 tokens; encoder 14 x 14 tokens, 4 blocks", factors=(1, 2, 4)),
    "oracle_tokens": Variant("oracle: true visible points in the patches", is_oracle=True, factors=(1, 2)),
    "oracle_one_draw": Variant("oracle, one state a picture", is_oracle=True, draws=1),
    "oracle_512": Variant(
        "oracle, one state, 512 tokens an object", {"patch_size": 1}, is_oracle=True, draws=1
    ),
    "oracle_flow_2x": Variant("oracle, flow 12 x 256", {"num_blocks": 12}, is_oracle=True),
    "oracle_flow_4x": Variant("oracle, flow 12 x 384", LARGE_FLOW, is_oracle=True),
    "features": Variant(
        "ImageNet: EfficientNet-Lite0 under the encoder", encoder=FEATURES, has_features=True
    ),
    "features_frozen": Variant(
        "ImageNet, first layers (stride 4) as they are", encoder=FEATURES, has_features=True, frozen=EARLY
    ),
    "features_drawn": Variant("the same network from nothing", encoder=FEATURES),
    "features_28": Variant(
        "ImageNet, 28 x 28 tokens", encoder={**FEATURES, "patch_size": 8}, has_features=True
    ),
    "features_deep": Variant("ImageNet, 8 blocks", encoder={**FEATURES, "depth": 8}, has_features=True),
    "features_first": Variant(
        "ImageNet, encoder alone before, for as many steps",
        encoder=FEATURES,
        has_features=True,
        encoder_first=1.0,
    ),
}


class OracleEncoder(nn.Module):
    """Tokens of what a perfect image encoder would tell: the points of the object that patches show."""

    embed_dim, table_edge = WIDTH, GRID

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4 * (4 + 6 * _ORACLE_WAVES), WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)
        )

    def forward(self, object_points: Tensor) -> Tensor:
        """(B, 4, 2 G, 2 G), see `SceneBatch` -> tokens (B, G * G, C)."""
        share = object_points[:, 3:]
        points = object_points[:, :3] / share.clamp(min=1e-3)
        angles = torch.cat([math.pi * 2**k * points for k in range(_ORACLE_WAVES)], 1)
        seen = torch.cat([points, angles.sin(), angles.cos(), share], 1) * (share > 0)
        return self.layers(F.pixel_unshuffle(seen, 2).flatten(2).mT)


class OracleObjective(ObjectFlowObjective):
    """The flow alone, conditioned on true points."""

    def encode(self, batch: ObjectLatentBatch) -> Tensor:
        """See `ObjectFlowObjective`."""
        tokens = self.image_encoder(batch.object_points)
        places = patch_places(batch.mask_image[:, 0], PictureTokens(GRID**2, 0), [])
        return torch.cat([F.layer_norm(tokens, tokens.shape[-1:]), places.to(tokens)], -1)


class PointsObjective(Objective):
    """The image encoder alone, taught by the probe of an objective that has both."""

    batch_type = ObjectLatentBatch

    def __init__(self, whole: ObjectFlowObjective) -> None:
        super().__init__()
        self.image_encoder, self.probes = whole.image_encoder, whole.probes
        self._whole = [whole]  # not a child

    def forward(
        self, batch: ObjectLatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The probe's error."""
        (whole,) = self._whole
        error = whole.points_error(whole.encode(batch), batch)
        return error, {"points": error.detach()}


class Run:
    """The training of one variant."""

    def __init__(
        self,
        variant: Variant,
        bank: Bank,
        sets: Mapping[str, EvaluationSet],
        decoder: nn.Module,
        batch: int,
        image_features: Path | None,
    ) -> None:
        self.variant, self.bank, self.sets, self.decoder, self.batch = variant, bank, sets, decoder, batch
        self.device = bank.shape.device
        flow = build_model(NamedConfig("SparseStructureFlowModel", {**BASE_FLOW, **variant.flow}))
        config = ObjectFlowConfig(draws=variant.draws, append_places=True)
        if variant.is_oracle:
            self.objective: ObjectFlowObjective = OracleObjective(flow, OracleEncoder(), config)
        else:
            encoder = build_model(NamedConfig("VisionTransformer", {**BASE_ENCODER, **variant.encoder}))
            if variant.has_features:
                if image_features is None:
                    raise ValueError(f"{variant.text}: expected --image-features, got none")
                load_what_fits(encoder, read_state(image_features), str(image_features))
            freeze({"image_encoder": encoder}, variant.frozen or None, None)
            self.objective = ObjectFlowObjective(flow, encoder, config)
        self.parameters = {
            name: sum(p.numel() for p in network.parameters())
            for name, network in self.objective.networks.items()
            if name != "probes"
        }

    def train(self, steps: int, limit_s: float) -> dict[str, Any]:
        """Train for the base's number of ``steps`` times the variant's factors, and measure."""
        start = time.monotonic()
        deadline = start + limit_s
        if self.variant.encoder_first:
            learner = self._learner(PointsObjective(self.objective))
            self._steps(learner, 0, int(steps * self.variant.encoder_first), deadline)
            learner.take_averages()
            del learner
        learner = self._learner(self.objective)
        done, spent, marks = 0, time.monotonic() - start, []
        for factor in self.variant.factors:
            began = time.monotonic()
            wanted = round(steps * factor)
            logs, done = self._steps(learner, done, wanted, deadline)
            spent += time.monotonic() - began
            figures = learner.with_averages(lambda: self._figures(learner))
            marks.append({"steps": done, "wanted": wanted, "seconds": spent, **logs, **figures})
            logger.info("%s: %s", self.variant.text, marks[-1])
            if done < wanted:
                break
        return {"text": self.variant.text, "parameters": self.parameters, "batch": self.batch, "marks": marks}

    def step_seconds(self) -> float:
        """How long a step takes; the networks are of no use afterwards."""
        learner = self._learner(self.objective)
        self._steps(learner, 0, _WARM_UP_STEPS, math.inf)
        start = time.monotonic()
        self._steps(learner, _WARM_UP_STEPS, _WARM_UP_STEPS + _TIMED_STEPS, math.inf)
        return (time.monotonic() - start) / _TIMED_STEPS

    def _learner(self, objective: Objective) -> Learner:
        groups = ()
        if self.variant.has_features:
            groups = (ParameterGroup(r"^image_encoder\.patch_embed\.trunk\.", {"lr": _FEATURE_RATE}),)
        config = LoopConfig(
            max_steps=1 << 30,
            optimizer=OptimizerConfig("AdamW", {"lr": _RATE, "betas": [0.9, 0.98]}, groups),
            lr_scheduler=NamedConfig("LinearWarmupLRScheduler", {"warmup_steps": 200}),
            ema_rate=0.998,
            ema_warmup=True,
            fp16_mode="bfloat16",
            grad_clip=1.0,
            cuda_graphs=True,
        )
        learner = Learner(objective, config, self.device, World())
        learner.train_mode()
        return learner

    def _steps(
        self, learner: Learner, first: int, last: int, deadline: float
    ) -> tuple[dict[str, float], int]:
        """Train up to a number of steps, or to the deadline; logs of the last one, and how many were done."""
        generator = torch.Generator(self.device).manual_seed(first)
        logs: dict[str, Tensor] = {}
        for step in range(first, last):
            if step % _LOOK_AT_CLOCK == 0:
                if logs:
                    float(logs["loss"])  # waits for the device
                if time.monotonic() > deadline:
                    last = step
                    break
            learner.start_step()
            logs = learner.add_gradients(self.bank.draw(self.batch, generator), step, (), True)
            learner.finish_step(step, 0.0)
        return {name: float(value) for name, value in logs.items()}, last

    @torch.no_grad()
    def _figures(self, learner: Learner) -> dict[str, float]:
        found = {}
        for name, part in self.sets.items():
            look = StructureFigures(
                self.objective, part.batch, part.true, self.decoder, 1, learner.precision.autocast
            )
            figures = look.measure()
            with learner.precision.autocast():
                figures["points"] = float(
                    self.objective.points_error(self.objective.encode(part.batch), part.batch)
                )
            found |= {f"{name}_{key}": value for key, value in figures.items()}
        return found


def trained_figures(
    networks: Mapping[str, nn.Module], sets: Mapping[str, EvaluationSet], decoder: nn.Module
) -> dict[str, float]:
    """What a trained ``flow`` of single objects and its ``image_encoder`` make of the pictures."""
    device = next(decoder.parameters()).device
    config = ObjectFlowConfig(append_places=networks["flow"].config.cond_channels > WIDTH)
    objective = ObjectFlowObjective(**networks, config=config).to(device).eval()
    found = {}
    for name, part in sets.items():
        look = StructureFigures(objective, part.batch, part.true, decoder, 1, partial(autocast, device))
        found |= {f"{name}_{key}": value for key, value in look.measure().items()}
    return found


def autocast(device: torch.device) -> AbstractContextManager:
    """The precision of trainings on a GPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.no_grad()
def autoencoder_figures(sets: Mapping[str, EvaluationSet], decoder: nn.Module) -> dict[str, Any]:
    """What the structure autoencoder allows."""
    found = {}
    for name, part in sets.items():
        seen = part.batch.visible
        figures = structure_figures(decoded(decoder, part.batch.x_0[seen]), part.true[seen])
        found |= {f"{name}_{key}": float(values.mean()) for key, values in figures.items()}
    return {"text": "structure autoencoder alone", "parameters": {}, "marks": [found]}


@torch.no_grad()
def shipped_figures(sets: Mapping[str, EvaluationSet], decoder: nn.Module, folder: Path) -> dict[str, Any]:
    """The networks of a checkpoint of scenes, shown each picture as a scene of one object."""
    device = next(decoder.parameters()).device
    checkpoint = CheckpointFolder(folder, PipelineConfig.load(folder), device)
    networks = checkpoint.networks()
    found: dict[str, float] = {}
    with (
        networks.use(FLOW_ROLE) as flow,
        networks.use(IMAGE_ENCODER_ROLE) as encoder,
        networks.use(GEOMETRY_ENCODER_ROLE) as geometry,
    ):
        conditioner = SceneConditioner(encoder, geometry, normalize_geometry=True, append_places=True)
        for name, part in sets.items():
            generator = torch.Generator(device).manual_seed(0)
            noise = torch.randn(part.batch.x_0.shape, generator=generator, device=device)
            pictures = (part.scenes.asset_image, part.scenes.mask_image, part.scenes.picture.image, noise)
            latents = [
                _shipped_latents(flow, conditioner, *rows)
                for rows in zip(*(values.split(_SHIPPED_AT_ONCE) for values in pictures), strict=True)
            ]
            seen = part.batch.visible
            figures = structure_figures(decoded(decoder, torch.cat(latents)[seen]), part.true[seen])
            found |= {f"{name}_{key}": float(values.mean()) for key, values in figures.items()}
    parameters = {"flow": sum(p.numel() for p in flow.parameters())}
    return {"text": "the small model of scenes", "parameters": parameters, "marks": [found]}


def _shipped_latents(
    flow: nn.Module,
    conditioner: SceneConditioner,
    crops: Tensor,
    masks: Tensor,
    photos: Tensor,
    noise: Tensor,
) -> Tensor:
    """Latents of pictures, each a scene of one object, from noise (B, C, r, r, r)."""
    cond, tokens = conditioner.encode_tensors(crops, masks, photos)
    contexts = [flow.precompute_context(each, tokens) for each in (cond, torch.zeros_like(cond))]
    sampler = FlowEulerSampler()
    alone = partial(flow, scene_size=1)
    return sampler.sample(alone, noise, *contexts, SAMPLING).samples
