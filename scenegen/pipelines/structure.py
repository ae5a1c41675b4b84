"""The structure stage: what the objects look like in the photos, their coarse shapes and their poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from scenegen.checkpoints.networks import Networks
from scenegen.checkpoints.roles import DECODER_ROLE, FLOW_ROLE, GEOMETRY_ENCODER_ROLE, IMAGE_ENCODER_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.image_preparation import RemoveBackground, prepare_asset_image
from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import SceneCond, SceneConditioner, SceneView
from scenegen.inputs.image_files import cut_out
from scenegen.pipelines.sampling import (
    StructureSample,
    WithoutSceneAttention,
    sample_structure,
    structure_noise,
)
from scenegen.pipelines.settings import RunOptions

_IMAGES_AT_ONCE = 16
_OBJECTS_DECODED_AT_ONCE = 4


@dataclass(frozen=True)
class SceneImages:
    """One photo of a scene, as the caller has it.

    Attributes:
        photo: the whole scene.
        cutouts: per object, an RGBA picture of any size; or one without transparency, where the pipeline has
            a background remover.
        masks: per object, (H, W) bool in the photo, not empty.
    """

    photo: Image.Image
    cutouts: Sequence[Image.Image]
    masks: Sequence[np.ndarray]

    @classmethod
    def from_masks(cls, photo: Image.Image, masks: Sequence[np.ndarray]) -> SceneImages:
        """Cut the objects out of the photo.

        Args:
            photo: the whole scene.
            masks: per object, (H, W), bool or above 0 on the object.

        Raises:
            ValueError: a mask is empty or has another size than the photo.
        """
        inside = [np.asarray(mask) > 0 for mask in masks]
        for index, mask in enumerate(inside):
            if mask.shape != (photo.height, photo.width) or not mask.any():
                raise ValueError(
                    f"SceneImages: expected masks of {photo.height} x {photo.width} with pixels above 0, "
                    f"mask {index} has shape {mask.shape} and {int(mask.sum())} such pixels"
                )
        return cls(photo, [cut_out(photo, mask) for mask in inside], inside)


@dataclass(frozen=True)
class StructureStage:
    """Encodes photos, samples structures and poses, and decodes the structures.

    Attributes:
        config: the checkpoint's description.
        networks: its networks by role.
        device: where they run.
        remove_background: for cut-outs without transparency; None refuses them.
    """

    config: PipelineConfig
    networks: Networks
    device: torch.device
    remove_background: RemoveBackground | None = None

    def prepare(self, views: Sequence[SceneImages], order: Sequence[int]) -> list[SceneView]:
        """The pictures that the encoders get, the objects taken in this order.

        Raises:
            ValueError: a cut-out has no opaque pixel.
        """
        return [self._prepare(view, order) for view in views]

    def encode(self, prepared: Sequence[SceneView], parts: CondParts) -> SceneCond:
        """The condition of the objects from all photos.

        Raises:
            ValueError: a photo lacks what ``parts`` asks for.
        """
        with self.networks.use(IMAGE_ENCODER_ROLE) as image_encoder:
            if not parts.geometry:
                return self._encode(image_encoder, None, prepared, parts)
            with self.networks.use(GEOMETRY_ENCODER_ROLE) as geometry_encoder:
                return self._encode(image_encoder, geometry_encoder, prepared, parts)

    def _prepare(self, view: SceneImages, order: Sequence[int]) -> SceneView:
        size = self.config.image_size
        return SceneView(
            assets=[prepare_asset_image(view.cutouts[i], size, self.remove_background) for i in order],
            photo=view.photo,
            masks=[Image.fromarray(view.masks[i].astype(np.uint8) * 255) for i in order],
        )

    def _encode(
        self,
        image_encoder: nn.Module,
        geometry_encoder: nn.Module | None,
        views: Sequence[SceneView],
        parts: CondParts,
    ) -> SceneCond:
        conditioner = SceneConditioner(
            image_encoder,
            geometry_encoder,
            self.config.image_size,
            _IMAGES_AT_ONCE,
            self.config.normalize_geometry,
            self.config.append_places,
        )
        if len(views) == 1:
            return conditioner.encode(views[0], parts)
        return conditioner.encode_views(views, parts)

    def sample(self, cond: SceneCond, generator: torch.Generator, options: RunOptions) -> StructureSample:
        """Latents and poses of the objects; ``generator`` gives the noise."""
        with self.networks.use(FLOW_ROLE) as flow:
            noise = structure_noise(
                cond.num_assets, flow.config.in_channels, flow.config.resolution, generator, self.device
            )
            return sample_structure(
                flow if options.scene_attention else WithoutSceneAttention(flow),
                self.config.sparse_structure_sampler.build_sampler(),
                cond,
                noise,
                options.sampling,
                positions_type=options.positions_type,
                precompute=self.networks.keeps,
                needs_positions=self.config.has_scene,
                on_step=options.on_step,
            )

    def decode(self, latents: Tensor) -> Tensor:
        """Occupancy logits (B, R, R, R), float32 on the CPU, of latents (B, C, r, r, r)."""
        with self.networks.use(DECODER_ROLE) as decoder:
            chunks = [decoder(chunk).float().cpu() for chunk in latents.split(_OBJECTS_DECODED_AT_ONCE)]
        return torch.cat(chunks).squeeze(1)
