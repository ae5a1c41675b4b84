"""What flow models are conditioned on while they train, and the frozen encoders that make it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.checkpoints.text_encoder import PUBLISHED_TEXT_ENCODER, load_text_encoder
from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import SceneConditioner, drop_cond
from scenegen.conditioning.text_encoder import TextEncoder
from scenegen.datasets.batch import LatentBatch, SceneCaseBatch, SparseLatentBatch
from scenegen.trainers.objectives.flow_term import FlowSettings
from scenegen.trainers.objectives.frozen_networks import frozen_network
from trellis_modules.config import ConfigError

IMAGE_ENCODER = "dinov2_vitl14_reg"

AssetBatch = LatentBatch | SparseLatentBatch


_NO_ENCODER = (
    "dataset: expected ready condition tokens in each batch, got none; take a data set that keeps them, or a "
    "trainer with an encoder"
)


class AssetCondition(nn.Module):
    """Condition of single objects: without one, a single token of zeros for each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, batch: AssetBatch, count: int) -> Tensor:
        """The condition (B, L, C) of the B objects of a batch."""
        return torch.zeros(count, 1, self.width, device=batch.x_0.device)

    def drop(self, cond: Tensor, dropped: Tensor) -> Tensor:
        """Replace the conditions of the rows with true ``dropped`` (B,) by the empty one."""
        return drop_cond(cond, dropped)

    def empty(self, cond: Tensor) -> Tensor:
        """The empty conditions of all rows, for guidance."""
        return self.drop(cond, torch.ones(len(cond), dtype=torch.bool, device=cond.device))


class ReadyCondition(AssetCondition):
    """Condition tokens that the data set brings along, and needs no encoder for."""

    def forward(self, batch: AssetBatch, count: int) -> Tensor:
        """The tokens of the batch.

        Raises:
            ConfigError: it has none.
        """
        if batch.cond_tokens is None:
            raise ConfigError(_NO_ENCODER)
        return batch.cond_tokens


class ImageCondition(AssetCondition):
    """Tokens of the objects' cut-outs, by a frozen image encoder; ready ones are taken as they are."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder.embed_dim)
        self.encoder = encoder
        self.conditioner = SceneConditioner(encoder, None)

    @torch.no_grad()
    def forward(self, batch: AssetBatch, count: int) -> Tensor:
        """The tokens of the pictures.

        Raises:
            ConfigError: the batch has no pictures.
        """
        if batch.cond_tokens is not None:
            return batch.cond_tokens
        if batch.image is None:
            raise ConfigError(
                "dataset: expected a picture of each object, got none; take an image-conditioned data set"
            )
        return self.conditioner.encode_images(batch.image)


class TextCondition(AssetCondition):
    """Tokens of captions, by a frozen text encoder; the empty condition is that of the empty caption."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__(encoder.width)
        self.encoder = encoder

    def forward(self, batch: AssetBatch, count: int) -> Tensor:
        """The tokens of the captions.

        Raises:
            ConfigError: the batch has no captions.
        """
        if batch.cond_tokens is not None:
            return batch.cond_tokens
        if not batch.captions:
            raise ConfigError(
                "dataset: expected a caption of each object, got none; take a text-conditioned data set"
            )
        return self.encoder(batch.captions)

    def drop(self, cond: Tensor, dropped: Tensor) -> Tensor:
        """Replace conditions by the encoding of the empty caption."""
        return torch.where(dropped[:, None, None], self.encoder([""]).to(cond), cond)


@dataclass(frozen=True)
class AssetFlowSettings(FlowSettings):
    """Settings of flows without a condition."""

    p_uncond = 0.0

    def condition(self, width: int) -> AssetCondition:
        """What the flow is conditioned on; ``width`` is that of its condition tokens."""
        return AssetCondition(width)


@dataclass(frozen=True)
class GuidedFlowSettings(AssetFlowSettings):
    """Settings of flows that are sampled with guidance, on conditions that the data set keeps.

    Attributes:
        p_uncond: share of the objects that are shown the empty condition.
    """

    p_uncond: float = 0.1

    def condition(self, width: int) -> AssetCondition:
        """Ready tokens."""
        return ReadyCondition(width)


@dataclass(frozen=True)
class ImageFlowSettings(GuidedFlowSettings):
    """Settings of flows conditioned on pictures.

    Attributes:
        image_cond_model: the frozen image encoder, a reference of `load_network`; None where the data set
            has ready tokens.
    """

    image_cond_model: str | None = IMAGE_ENCODER

    def condition(self, width: int) -> AssetCondition:
        """Tokens of pictures."""
        encoder = self.image_encoder()
        return ReadyCondition(width) if encoder is None else ImageCondition(encoder)

    def image_encoder(self) -> nn.Module | None:
        """The frozen image encoder.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        return None if self.image_cond_model is None else frozen_network(self.image_cond_model)


@dataclass(frozen=True)
class TextFlowSettings(GuidedFlowSettings):
    """Settings of flows conditioned on captions.

    Attributes:
        text_cond_model: the frozen text encoder, see `load_text_encoder`.
    """

    text_cond_model: str = PUBLISHED_TEXT_ENCODER

    def condition(self, width: int) -> AssetCondition:
        """Tokens of captions."""
        return TextCondition(load_text_encoder(self.text_cond_model))


class SceneCondition(nn.Module):
    """Condition of the objects of a photo, by a frozen image encoder and a stored geometry feature.

    Ready tokens are taken as they are; without an encoder there must be some.
    """

    def __init__(self, encoder: nn.Module | None, parts: CondParts, normalize_geometry: bool = False) -> None:
        super().__init__()
        self.encoder, self.parts = encoder, parts
        self.conditioner = SceneConditioner(encoder, None, normalize_geometry=normalize_geometry)

    @torch.no_grad()
    def forward(self, batch: SceneCaseBatch) -> tuple[Tensor, int]:
        """The condition (N, L, C), and the number of tokens at its front that show the object itself.

        Raises:
            ConfigError: the batch lacks a part that is switched on.
        """
        if batch.cond_tokens is not None:
            return self._ready(batch)
        if self.encoder is None:
            raise ConfigError(_NO_ENCODER)
        needed = {
            "cond": True,
            "mask_cond": self.parts.mask,
            "scene_image": self.parts.scene,
            "vggt_feature": self.parts.geometry,
        }
        for name, wanted in needed.items():
            if wanted and getattr(batch, name) is None:
                raise ConfigError(
                    f"dataset: expected {name} of each scene, which the condition holds, got none; let the "
                    "data set give it, or switch that part off for the trainer"
                )
        no_photo = batch.cond[:0]
        return self.conditioner.encode_tensors(
            batch.cond,
            batch.mask_cond,
            no_photo if batch.scene_image is None else batch.scene_image[None],
            geometry_feature=batch.vggt_feature,
            parts=self.parts,
        )

    def _ready(self, batch: SceneCaseBatch) -> tuple[Tensor, int]:
        """Tokens that the data set brings along."""
        if self.conditioner.normalize_geometry and self.parts.geometry:
            raise ConfigError(
                "trainer.normalize_geometry: expected false for ready condition tokens, which hold the "
                "feature as it is, got true; let the data set give pictures, or leave it out"
            )
        if batch.num_object_tokens is None:
            raise ConfigError(
                "dataset: expected the number of tokens of the object with ready ones, got none"
            )
        return batch.cond_tokens, batch.num_object_tokens
