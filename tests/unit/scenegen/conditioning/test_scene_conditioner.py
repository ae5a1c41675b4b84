"""Token order, switches, views and gradients of scene conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.patch_places import PLACE_CODE_SIZE, place_code
from scenegen.conditioning.scene_conditioner import (
    PATCH_DETAILS,
    SceneConditioner,
    append_patch_details,
    assemble_cond,
    drop_cond,
)
from scenegen.inputs.scene_images import SceneImages
from trellis_modules.samplers import MultiViewCond

SIZE, TOKENS, WIDTH, PATCHES = 28, 3, 4, 2


class _ImageEncoder(nn.Module):
    """TOKENS tokens whose channels are the (normalised) mean colour times weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, TOKENS * WIDTH, generator=torch.Generator().manual_seed(0)))
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.batches.append(len(images))
        assert images.shape[1:] == (3, SIZE, SIZE)
        return {"x_prenorm": (images.mean(dim=(2, 3)) @ self.weight).unflatten(1, (TOKENS, WIDTH))}


class _GeometryEncoder(nn.Module):
    """PATCHES tokens, 2 * WIDTH wide: the scene's red value, negative in the global half."""

    def forward(self, images: Tensor, last_only: bool) -> tuple[list[Tensor], int]:
        assert last_only and images.shape[1:] == (1, 3, SIZE, SIZE)
        level = images[:, :, 0].mean(dim=(2, 3))[..., None, None].expand(-1, -1, PATCHES, WIDTH)
        return [torch.cat((level, -level), dim=-1)], 0


def _conditioner(**options: int) -> SceneConditioner:
    return SceneConditioner(_ImageEncoder(), _GeometryEncoder(), SIZE, **options)


def _colours(count: int, first: int = 0) -> list[Image.Image]:
    colours = [(10 * k + first, 250 - 20 * k, (7 * k * k + first) % 256) for k in range(count)]
    return [Image.new("RGB", (40, 30), colour) for colour in colours]


def _view(count: int = 2, first: int = 0) -> SceneImages:
    photo = Image.new("RGB", (30, 30), (200, 90 + first, 30))
    masks = [np.arange(900).reshape(30, 30) < 300 + 40 * index for index in range(count)]
    return SceneImages(photo, _colours(count, first), masks)


def _bytes(views: list[SceneImages]) -> list[bytes]:
    return [image.tobytes() for view in views for image in [*view.cutouts, *view.masks, view.photo]]


@pytest.mark.parametrize("count", [1, 2, 12])
def test_parts_follow_in_order(count: int) -> None:
    conditioner, view = _conditioner(), _view(count)
    scene = conditioner.encode([view])
    assert scene.num_object_tokens == TOKENS and scene.num_assets == count
    sections = scene.cond.split([TOKENS, TOKENS, TOKENS, PATCHES, PATCHES], dim=1)
    for index in range(count):
        alone = SceneImages(view.photo, [view.cutouts[index]], [view.masks[index]])
        torch.testing.assert_close(conditioner.encode([alone]).cond[0], scene.cond[index])
    asset_only = conditioner.encode([view], CondParts(False, False, False)).cond
    torch.testing.assert_close(sections[0], asset_only)
    torch.testing.assert_close(sections[2][:1].expand(count, -1, -1), sections[2])
    torch.testing.assert_close(sections[3], torch.full_like(sections[3], 200 / 255))
    torch.testing.assert_close(sections[4], -sections[3])
    assert not scene.neg_cond.any() and scene.neg_cond.shape == scene.cond.shape


@pytest.mark.parametrize(
    "parts, length",
    [
        (CondParts(), 3 * TOKENS + 2 * PATCHES),
        (CondParts(mask=False), 2 * TOKENS + 2 * PATCHES),
        (CondParts(scene=False), 2 * TOKENS + 2 * PATCHES),
        (CondParts(geometry=False), 3 * TOKENS),
    ],
)
def test_parts_that_are_off_leave_no_placeholder(parts: CondParts, length: int) -> None:
    assert _conditioner().encode([_view()], parts).cond.shape == (2, length, WIDTH)


def test_image_tokens_are_layer_normalised() -> None:
    tokens = _conditioner().encode_images(torch.rand(2, 3, SIZE, SIZE))
    torch.testing.assert_close(tokens.mean(dim=-1), torch.zeros(2, TOKENS), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(dim=-1, correction=0), torch.ones(2, TOKENS), atol=1e-2, rtol=0)


def test_views_are_stacked_and_unchanged() -> None:
    conditioner, views = _conditioner(), [_view(2, 0), _view(2, 50)]
    before = _bytes(views)
    scene = conditioner.encode(views)
    assert isinstance(scene.cond, MultiViewCond) and scene.num_assets == 2
    for view, cond in zip(views, scene.cond.views, strict=True):
        torch.testing.assert_close(cond, conditioner.encode([view]).cond)
    assert _bytes(views) == before


def test_images_are_encoded_in_bounded_batches() -> None:
    bounded, free = _conditioner(max_images=2), _conditioner()
    torch.testing.assert_close(bounded.encode([_view(3)]).cond, free.encode([_view(3)]).cond)
    assert bounded.image_encoder.batches == [2, 2, 2, 1] and free.image_encoder.batches == [7]


def test_tensors_of_several_scenes_keep_their_own_scene_and_gradients() -> None:
    conditioner = _conditioner()
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    scenes = torch.stack((torch.zeros(3, SIZE, SIZE), torch.ones(3, SIZE, SIZE)))
    cond, count = conditioner.encode_tensors(images, images.flip(0), scenes)
    assert count == TOKENS
    assert cond[:, 3 * TOKENS, 0].tolist() == [0, 0, 1, 1]  # the geometry feature of each asset's scene
    torch.testing.assert_close(cond[0, TOKENS : 2 * TOKENS], cond[3, :TOKENS])
    cond.square().mean().backward()
    assert conditioner.image_encoder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("normalize", [False, True])
def test_a_feature_that_was_stored_gives_the_same_condition(normalize: bool) -> None:
    images, scenes = torch.rand(2, 3, SIZE, SIZE), torch.rand(1, 3, SIZE, SIZE)
    conditioner = _conditioner(normalize_geometry=normalize)
    plain = _conditioner()  # stores features as the encoder gives them
    feature = plain.encode_geometry(scenes)
    expected, count = conditioner.encode_tensors(images, images, scenes)
    conditioner.geometry_encoder = None
    cond, same_count = conditioner.encode_tensors(images, images, scenes, geometry_feature=feature.half())
    torch.testing.assert_close(cond, expected, atol=2e-3, rtol=1e-3)  # a half has 11 bits
    assert count == same_count and cond.dtype == expected.dtype


def test_places_are_not_appended_to_a_stored_feature() -> None:
    images = torch.rand(1, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match="expected geometry images, got a ready feature"):
        _conditioner(append_places=True).encode_tensors(
            images, images, images, geometry_feature=torch.zeros(1, TOKENS, 2 * WIDTH)
        )


def test_cond_follows_the_encoders_dtype() -> None:
    conditioner = _conditioner()
    conditioner.image_encoder.to(torch.float64)
    assert conditioner.encode_images(torch.rand(1, 3, SIZE, SIZE)).dtype == torch.float64


def test_dropped_rows_are_empty() -> None:
    cond = torch.rand(3, 5, WIDTH) + 0.1
    result = drop_cond(cond, torch.tensor([False, True, False]))
    assert not result[1].any() and torch.equal(result[[0, 2]], cond[[0, 2]]) and cond.all()


def test_patches_get_their_own_colours_and_places_and_other_tokens_none() -> None:
    images = torch.full((1, 3, SIZE, SIZE), 0.5)
    images[0, 0, : SIZE // 4, SIZE // 2 : 3 * SIZE // 4] = 1.0  # upper left quarter of the second patch, red
    joined = append_patch_details(torch.ones(1, 6, WIDTH), images, 2)
    assert joined.shape == (1, 6, WIDTH + PATCH_DETAILS) and joined[..., :WIDTH].eq(1).all()
    colours, places = joined[0, :, WIDTH:].split((12, PLACE_CODE_SIZE), dim=-1)
    assert colours.nonzero().tolist() == [[3, 0]]  # two tokens, then four patches
    middles = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    assert not places[:2].any() and torch.equal(places[2:], place_code(middles))
    with pytest.raises(ValueError, match="at least 3 x 3 tokens, got 6"):
        append_patch_details(torch.ones(1, 6, WIDTH), images, 3)


def test_bad_input_is_explained() -> None:
    conditioner = _conditioner()
    photo = Image.new("RGB", (30, 30))
    with pytest.raises(ValueError, match="got 1 masks for 2 objects"):
        conditioner.encode([SceneImages(photo, _colours(2), _view(1).masks)])
    with pytest.raises(ValueError, match=r"at least one, got \[0\]"):
        conditioner.encode([SceneImages(photo, [], [])])
    with pytest.raises(ValueError, match=r"same number of objects, at least one, got \[2, 3\]"):
        conditioner.encode([_view(2), _view(3)])
    with pytest.raises(ValueError, match="no geometry encoder"):
        SceneConditioner(_ImageEncoder(), None, SIZE).encode([_view()])
    with pytest.raises(ValueError, match="3 assets do not split evenly into 2 scenes"):
        assemble_cond(torch.zeros(3, 1, 2), scene_tokens=torch.zeros(2, 1, 2))
    with pytest.raises(ValueError, match=r"got channels \[2, 3\]"):
        assemble_cond(torch.zeros(2, 1, 2), geometry_feature=torch.zeros(1, 1, 6))
