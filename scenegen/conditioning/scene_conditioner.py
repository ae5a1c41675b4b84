"""What the flow model sees: tokens of the asset, its mask and its scene, in one sequence per asset.

Order on the token axis, each part as long as one picture's tokens:

    asset crop | mask | scene | geometry, frame-attention half | geometry, global-attention half

The first three come from the image encoder, layer-normalised without parameters; the geometry feature of the
scene is appended as it is (released weights), or normalised likewise where a checkpoint asks for it. A part
that is switched off is left out, without a placeholder. Where a checkpoint asks for it, each token also says
where in the photo it lies (`patch_places`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from scenegen.conditioning.image_preparation import IMAGE_SIZE, images_to_tensor, prepare_geometry_image
from scenegen.conditioning.parts import ALL_PARTS, CondParts, assemble_cond
from scenegen.conditioning.patch_places import (
    PLACE_CHANNELS,
    PLACE_CODE_SIZE,
    PictureTokens,
    grid_places,
    patch_places,
    place_code,
)
from scenegen.conditioning.scene_light import COLOUR_SPREAD
from scenegen.inputs.scene_images import SceneImages
from trellis_modules.samplers.conditioning import MultiViewCond
from vggt.images import normalize_images

FEATURE_NORM_EPS = 1e-5
PATCH_DETAILS = 12 + PLACE_CODE_SIZE
"""Numbers that `append_patch_details` adds to a token."""


@dataclass(frozen=True)
class SceneCond:
    """The condition of a scene.

    Attributes:
        cond: (B, L, C) for B assets, or one such tensor per view.
        neg_cond: (B, L, C) zeros, the condition of unguided passes.
        num_object_tokens: tokens at the front of the sequence that show the asset itself.
        place_channels: channels at the end of each token that say where it lies, see `patch_places`.
    """

    cond: Tensor | MultiViewCond
    neg_cond: Tensor
    num_object_tokens: int
    place_channels: int = 0

    @property
    def num_assets(self) -> int:
        """B."""
        return self.neg_cond.shape[0]

    def repeated(self, count: int) -> SceneCond:
        """The condition of ``count`` samples of the scene, one after the other."""

        def repeat(tokens: Tensor) -> Tensor:
            return tokens.repeat(count, 1, 1)

        is_multi_view = isinstance(self.cond, MultiViewCond)
        cond = MultiViewCond(tuple(map(repeat, self.cond.views))) if is_multi_view else repeat(self.cond)
        return replace(self, cond=cond, neg_cond=repeat(self.neg_cond))


def append_patch_details(tokens: Tensor, images: Tensor, grid: int) -> Tensor:
    """Add to each patch's token the colours of its quarters and its place; other tokens get zeros.

    A small image encoder that was taught geometry keeps little of the colours that the appearance stage
    needs, and finds out late which patch shows which voxel.

    Args:
        tokens: (B, T, C), the grid * grid patches last, row by row.
        images: (B, 3, I, I) in [0, 1], of which they were made.
        grid: patches along an edge.

    Returns:
        (B, T, C + `PATCH_DETAILS`): 12 colours, and `place_code` of the patch's middle.

    Raises:
        ValueError: there are fewer tokens than patches.
    """
    if tokens.shape[1] < grid**2:
        raise ValueError(
            f"append_patch_details: expected at least {grid} x {grid} tokens, got {tokens.shape[1]}; "
            "the patch grid does not fit the image encoder"
        )
    quarters = F.interpolate(images.float(), size=(2 * grid, 2 * grid), mode="area")
    colours = F.pixel_unshuffle((quarters - 0.5) / COLOUR_SPREAD, 2).flatten(2).mT  # (B, G * G, 12)
    places = place_code(grid_places(grid, images.device)).expand(len(images), -1, -1)
    details = torch.cat([colours, places], dim=2)
    padded = F.pad(details, (0, 0, tokens.shape[1] - grid**2, 0))
    return torch.cat([tokens, padded.to(tokens)], dim=2)


def drop_cond(cond: Tensor, dropped: Tensor) -> Tensor:
    """Replace the conditions (B, L, C) of the rows with true ``dropped`` (B,) by the empty one, zeros."""
    return cond.masked_fill(dropped[:, None, None], 0.0)


class SceneConditioner:
    """Encodes pictures into conditions; sizes and devices come from the encoders it is given."""

    def __init__(
        self,
        image_encoder: nn.Module,
        geometry_encoder: nn.Module | None,
        image_size: int = IMAGE_SIZE,
        max_images: int | None = None,
        normalize_geometry: bool = False,
        append_places: bool = False,
    ) -> None:
        """Set the encoders.

        Args:
            image_encoder: normalised images (B, 3, I, I) -> {"x_prenorm": (B, T, C)}.
            geometry_encoder: images (S, 1, 3, I, I) in [0, 1] -> (list of (S, 1, P, 2C), first patch index),
                as VGGT's aggregator; None when the geometry part is never used.
            image_size: I, the side to which pictures are brought.
            max_images: pictures encoded at once, to bound memory; None encodes all of them at once.
            normalize_geometry: layer-normalise each half of the geometry feature; unnormalised it can
                outweigh the other parts many times over.
            append_places: add the channels of `patch_places` to every token; needs masks.
        """
        self.image_encoder = image_encoder
        self.geometry_encoder = geometry_encoder
        self.image_size = image_size
        self.max_images = max_images
        self.normalize_geometry = normalize_geometry
        self.append_places = append_places

    @torch.no_grad()
    def encode(
        self,
        views: Sequence[SceneImages],
        parts: CondParts = ALL_PARTS,
        *,
        on_view: Callable[[], object] | None = None,
    ) -> SceneCond:
        """Encode a scene from its photos; pictures of any size are brought to the encoders' size.

        Args:
            views: each with the same objects in the same order, the query first; their cut-outs are prepared
                crops, see `image_preparation.prepare_asset_image`.
            parts: which parts to encode; without the mask part, and without places, masks may be missing.
            on_view: called after each photo.

        Raises:
            ValueError: no view or no object, views with different numbers of objects, or a part is switched
                on and its pictures or its encoder are missing.
        """
        counts = [len(view.cutouts) for view in views]
        if len(set(counts)) != 1 or not counts[0]:
            raise ValueError(
                "SceneConditioner: expected views with the same number of objects, at least one, "
                f"got {counts}"
            )
        conds = []
        for view in views:
            cond, num_object_tokens = self._encode_view(view, parts)
            conds.append(cond)
            if on_view is not None:
                on_view()
        joined = conds[0] if len(conds) == 1 else MultiViewCond(tuple(conds))
        places = PLACE_CHANNELS if self.append_places else 0
        return SceneCond(joined, torch.zeros_like(conds[0]), num_object_tokens, places)

    def _encode_view(self, view: SceneImages, parts: CondParts) -> tuple[Tensor, int]:
        if parts.mask and len(view.masks) != len(view.cutouts):
            raise ValueError(
                "SceneConditioner: the mask part is on; expected one mask per object, got "
                f"{len(view.masks)} masks for {len(view.cutouts)} objects"
            )
        size, masks = self.image_size, [Image.fromarray(mask.astype(np.uint8) * 255) for mask in view.masks]
        return self.encode_tensors(
            images_to_tensor(view.cutouts, size),
            images_to_tensor(masks, size) if masks else None,
            images_to_tensor([view.photo], size),
            prepare_geometry_image(view.photo, size).squeeze(1),
            parts=parts,
            padding=(max(view.photo.size) / view.photo.width, max(view.photo.size) / view.photo.height),
        )

    def encode_tensors(
        self,
        asset_images: Tensor,
        mask_images: Tensor | None,
        scene_images: Tensor,
        geometry_images: Tensor | None = None,
        *,
        geometry_feature: Tensor | None = None,
        parts: CondParts = ALL_PARTS,
        padding: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[Tensor, int]:
        """Encode the pictures of S scenes with N assets each; gradients reach the encoders.

        Args:
            asset_images: (S * N, 3, I, I) in [0, 1], as all of them.
            mask_images: (S * N, 3, I, I); unused when the mask part is off and places are not appended.
            scene_images: (S, 3, I, I), stretched to the square.
            geometry_images: (S, 3, I, I), padded to the square; None takes the scene images.
            geometry_feature: (S, P, 2C) as the geometry encoder gave it for these scenes, in place of
                encoding them; taken as it is by a conditioner that does not normalise it.
            parts: which parts to encode.
            padding: width and height of the geometry images over those of the photo in them.

        Returns:
            The condition (S * N, L, C), and the number of tokens at its front that show the asset itself.

        Raises:
            ValueError: a part is switched on and its pictures or its encoder are missing, or places are to be
                appended to a ready feature.
        """
        if (parts.mask or self.append_places) and mask_images is None:
            raise ValueError("SceneConditioner: the mask part is on, got no mask images; pass them")
        if self.append_places and geometry_feature is not None:
            raise ValueError(
                "SceneConditioner: expected geometry images, got a ready feature, of whose patches it is not "
                "known where in the photo they lie; pass images, or append no places"
            )
        kinds = [asset_images]
        kinds += [mask_images] if parts.mask else []
        kinds += [scene_images] if parts.scene else []
        tokens = list(self.encode_images(torch.cat(kinds)).split([len(kind) for kind in kinds]))
        asset_tokens = tokens.pop(0)
        mask_tokens = tokens.pop(0) if parts.mask else None
        scene_tokens = tokens.pop(0) if parts.scene else None
        geometry = None
        if parts.geometry and geometry_feature is not None:
            geometry = self._normalised_geometry(geometry_feature.to(asset_tokens))
        elif parts.geometry:
            geometry = self.encode_geometry(scene_images if geometry_images is None else geometry_images)
        cond = assemble_cond(asset_tokens, mask_tokens, scene_tokens, geometry)
        num_object_tokens = asset_tokens.shape[1]
        if self.append_places:
            picture = PictureTokens(num_object_tokens, 1 + self.image_encoder.num_register_tokens)
            photos = [picture] * (parts.mask + parts.scene)
            if geometry is not None:
                first_patch = self.geometry_encoder.patch_start_idx
                photos += [PictureTokens(geometry.shape[1], first_patch, padded=True)] * 2
            places = patch_places(mask_images[:, 0].to(cond.device), picture, photos, padding)
            cond = torch.cat([cond, places.to(cond)], dim=-1)
        return cond, num_object_tokens

    def encode_images(self, images: Tensor) -> Tensor:
        """Tokens (B, T, C) of images (B, 3, I, I) in [0, 1]: class, registers, patches; layer-normalised."""
        chunks = images.split(self.max_images or len(images))
        return torch.cat([self._encode_image_chunk(chunk) for chunk in chunks])

    def _encode_image_chunk(self, images: Tensor) -> Tensor:
        features = self.image_encoder(normalize_images(_as_input_of(self.image_encoder, images)))["x_prenorm"]
        normalised = F.layer_norm(features.float(), features.shape[-1:], eps=FEATURE_NORM_EPS)
        return normalised.to(features.dtype)

    def encode_geometry(self, images: Tensor) -> Tensor:
        """Feature (S, P, 2C) of the scenes in images (S, 3, I, I) in [0, 1], frame-attention half first.

        Raises:
            ValueError: there is no geometry encoder.
        """
        if self.geometry_encoder is None:
            raise ValueError(
                "SceneConditioner: the geometry part is on, but no geometry encoder was given; load one or "
                "switch the part off"
            )
        frames = _as_input_of(self.geometry_encoder, images)[:, None]  # (S, 1, 3, I, I)
        rounds, _ = self.geometry_encoder(frames, last_only=True)
        return self._normalised_geometry(rounds[-1].squeeze(1))  # (S, P, 2C)

    def _normalised_geometry(self, feature: Tensor) -> Tensor:
        if not self.normalize_geometry:
            return feature
        halves = feature.float().unflatten(-1, (2, -1))
        return F.layer_norm(halves, halves.shape[-1:], eps=FEATURE_NORM_EPS).flatten(-2).to(feature.dtype)


def _as_input_of(module: nn.Module, images: Tensor) -> Tensor:
    """Move images to the device and dtype of a module's parameters."""
    parameter = next(module.parameters(), images)
    return images.to(parameter.device, parameter.dtype)
