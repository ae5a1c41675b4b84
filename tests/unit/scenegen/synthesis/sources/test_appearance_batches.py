"""Batches of the appearance stage: the latents of an object and its picture show the same colours."""

import pytest
import torch
import trimesh

from scenegen.conditioning.scene_light import COLOUR_SPREAD, PHOTO_BANDS
from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.sources.appearance_batches import (
    AppearanceSourceConfig,
    FieldSource,
    LatentPictureSource,
)
from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.synthesis.sources.shape_pool import ShapePool

CPU = torch.device("cpu")
SETTINGS = {
    "shapes": 6, "objects_per_step": 4, "object_counts": (1.0,), "render_size": 96, "image_size": 28,
    "patch_grid": 2, "resolution": 8, "surface_samples": 2000, "extra_voxels": 0.0, "missing_voxels": 0.0,
}  # fmt: skip


@pytest.fixture
def pool(make_pack):
    """Boxes of very different colours once they are recoloured."""
    pack = make_pack([trimesh.creation.box((1, 0.8, 0.6))] * 3)
    pack.face_colours[:] = [90, 150, 210]
    return ShapePool(ShapeBank(pack, CPU), AppearanceSourceConfig(**SETTINGS), CPU)


def mean_colours(fields) -> torch.Tensor:
    return fields.colour.mean(1)


def test_fields_are_a_function_of_the_step(pool):
    first, again, other = (FieldSource(pool).batch(step) for step in (0, 0, 1))
    assert all(map(torch.equal, first.tensors(), again.tensors()))
    assert first.fields.coords[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert first.fields.distance.shape[1] == 27 and first.fields.anchor_colour.shape[1:] == (4, 3)
    assert first.normal.shape == (len(first.fields.coords), 27, 3)
    assert not torch.equal(first.fields.colour[:50], other.fields.colour[:50])
    second_slot = FieldSource(pool).batch(0, slot=1, slots=2)
    assert all(map(torch.equal, second_slot.tensors(), other.tensors()))


def shown_and_meant(batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colours (B, 3) in the pictures and in the latents."""
    seen, meant = [], []
    for number, picture in enumerate(batch.asset_image):
        seen.append(picture[:, picture.amax(0) > 0.05].mean(1))
        meant.append(batch.x_0[batch.coords[:, 0] == number].mean(0))
    return torch.stack(seen), torch.stack(meant)


def test_light_has_the_tones_of_each_object_that_is_shown(pool):
    batch = LatentPictureSource(pool, mean_colours).batch(0)
    own = batch.light.unflatten(1, (-1, 3))[:, len(PHOTO_BANDS)] * COLOUR_SPREAD + 0.5
    seen, _ = shown_and_meant(batch)
    assert len(own) == len(seen) and own.std(0).max() > 0.05
    torch.testing.assert_close(own, seen, atol=0.1, rtol=0)  # edges of crops are darker


def test_latents_belong_to_the_object_in_the_picture(pool):
    source = LatentPictureSource(pool, mean_colours)
    batches = [source.batch(step) for step in range(3)]
    for batch in batches:
        assert batch.coords[:, 0].unique().tolist() == list(range(len(batch.asset_image)))
    seen, meant = map(torch.cat, zip(*map(shown_and_meant, batches)))
    # Light and camera change brightness; the ratios of the channels tell whose colours these are.
    hue = [values / values.norm(dim=1, keepdim=True) for values in (seen, meant)]
    own = (hue[0] - hue[1]).norm(dim=1)
    others = (hue[0] - hue[1].roll(1, 0)).norm(dim=1)
    assert own.mean() < 0.6 * others.mean()


def test_every_picture_shows_new_colours(pool):
    source = LatentPictureSource(pool, mean_colours)
    colours = torch.cat([shown_and_meant(source.batch(step))[1] for step in range(4)])
    assert len(colours) > SETTINGS["shapes"]  # so shapes came again
    distances = torch.cdist(colours, colours) + torch.eye(len(colours))
    assert distances.amin() > 1e-3


def test_steps_in_a_row_share_what_they_see_and_its_latents(make_pack):
    pack = make_pack([trimesh.creation.box((1, 0.8, 0.6))] * 3)
    config = AppearanceSourceConfig(**SETTINGS, repeat=2)
    source = LatentPictureSource(ShapePool(ShapeBank(pack, CPU), config, CPU), mean_colours)
    first, second, third = (source.batch(step) for step in range(3))
    assert first is second and not torch.equal(first.asset_image[0], third.asset_image[0])


def test_projections_lead_from_the_object_to_its_crop(pool):
    """The surface voxels of a box fill the silhouette in its crop, and nothing beside it."""
    batch = LatentPictureSource(pool, mean_colours).batch(0)
    places = (batch.coords[:, 1:] + 0.5) / 8 - 0.5
    homogeneous = torch.nn.functional.pad(places, (0, 1), value=1.0)
    owner = batch.coords[:, 0].long()
    u, v, depth = (batch.crop_projection[owner] * homogeneous[:, None]).sum(-1).unbind(-1)
    size = batch.asset_image.shape[-1]
    column, row = (((w / depth + 1) / 2 * size).long() for w in (u, v))
    for number, picture in enumerate(batch.asset_image):
        rows, columns = (picture.amax(0) > 0.05).nonzero().T
        own = owner == number
        for found, seen in ((column[own], columns), (row[own], rows)):
            assert seen.min() - 2 <= found.min() <= seen.min() + 4
            assert seen.max() - 4 <= found.max() <= seen.max() + 2


def test_latents_of_another_variant_have_the_colours_of_the_picture(make_pack):
    pack = make_pack([trimesh.creation.box((1, 0.8, 0.6)), trimesh.creation.box((0.3, 1, 0.3))])
    pack.face_colours[:] = [90, 150, 210]
    bank = ShapeBank(pack, CPU)

    def batches(share: float) -> list[LatentPictureBatch]:
        config = AppearanceSourceConfig(**SETTINGS | {"shapes": 12}, variant_share=share, max_stretch=2.0)
        source = LatentPictureSource(ShapePool(bank, config, CPU), mean_colours)
        return [source.batch(step) for step in range(4)]

    def is_pillar(coords: torch.Tensor) -> list[bool]:
        spread = [coords[coords[:, 0] == number, 1:].float().std(0) for number in coords[:, 0].unique()]
        return [bool(along[2] > 1.5 * along[0]) for along in spread]

    pillars = []
    for same, other in zip(batches(0.0), batches(1.0), strict=True):
        assert torch.equal(same.asset_image, other.asset_image)
        torch.testing.assert_close(shown_and_meant(same)[1], shown_and_meant(other)[1], atol=0.04, rtol=0)
        assert is_pillar(same.coords) == is_pillar(other.coords)  # the model is the same
        pillars += is_pillar(same.coords)
        assert not same.coords.shape == other.coords.shape or (same.coords != other.coords).any()
    assert len(set(pillars)) == 2


def test_a_new_pool_has_new_shapes(make_pack):
    pack = make_pack([trimesh.creation.box((1, 0.8, 0.6))] * 3)
    config = AppearanceSourceConfig(**SETTINGS, refresh_steps=1)
    source = LatentPictureSource(ShapePool(ShapeBank(pack, CPU), config, CPU), mean_colours)
    first, second = source.batch(0), source.batch(1)
    assert first.x_0.dtype == torch.float32 and first.coords.dtype == torch.int32
    assert {len(batch.coords) for batch in (first, second)} != {len(first.coords)}
