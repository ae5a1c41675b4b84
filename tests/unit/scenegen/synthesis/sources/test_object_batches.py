"""Pictures of single objects: what is hidden of them, and that the rest is as it was."""

from dataclasses import replace

import pytest
import torch

from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.sources.object_batches import ObjectLatentSource, ObjectSourceConfig, hide_some
from scenegen.synthesis.sources.shape_pool import ShapePool

CPU = torch.device("cpu")


@pytest.fixture
def source(furniture):
    """Function (settings) that makes a source of eight small pictures a batch, with latents of ones."""

    def make(**settings) -> ObjectLatentSource:
        config = ObjectSourceConfig(
            shapes=6, objects_per_step=8, render_size=64, image_size=32, patch_grid=4, resolution=8,
            surface_samples=400, **settings,
        )  # fmt: skip
        pool = ShapePool(ShapeBank(furniture, CPU), config, CPU)
        return ObjectLatentSource(pool, lambda occupancy: torch.ones(len(occupancy), 2, 2, 2, 2))

    return make


def test_a_batch_shows_one_object_a_picture(source):
    batch = source().batch(0)
    assert batch.asset_image.shape == (8, 3, 32, 32) and batch.mask_image.shape == (8, 1, 32, 32)
    assert batch.x_0.shape == (8, 2, 2, 2, 2) and batch.visible.shape == (8,) and batch.visible.any()
    shown = batch.asset_image.amax((1, 2, 3)) > 0
    assert shown[batch.visible].all()


def test_what_is_hidden_is_missing_in_mask_crop_and_points(source):
    whole, hidden = source(), source(hidden_share=1.0)
    before, after = whole.shoot(0), hidden.shoot(0)
    assert torch.equal(before.layout["shape"], after.layout["shape"])
    assert not (after.masks & ~before.masks).any()
    fewer = after.masks.flatten(1).sum(1) < before.masks.flatten(1).sum(1)
    assert fewer.float().mean() >= 0.25
    shares = [shot.object_points(4)[:, 3].sum((1, 2)) for shot in (before, after)]
    assert (after.masks.flatten(1).sum(1) >= 0.3 * before.masks.flatten(1).sum(1)).all()
    assert torch.equal(shares[0][~fewer], shares[1][~fewer])


def test_a_share_is_hidden(source):
    shot = source().shoot(0)
    generator = torch.Generator().manual_seed(0)
    masks, visible = shot.masks.repeat(40, 1, 1), shot.visible.repeat(40, 1)
    many = replace(shot, masks=masks, seen=masks, visible=visible)
    half = hide_some(many, 0.5, generator)
    changed = (half.masks != many.masks).flatten(1).any(1).float().mean()
    all_of_them = hide_some(many, 1.0, torch.Generator().manual_seed(0))
    most = (all_of_them.masks != many.masks).flatten(1).any(1).float().mean()
    assert 0 < changed < most and abs(float(changed / most) - 0.5) < 0.15
    assert hide_some(many, 0.0, generator) is many


def test_scenes_of_several_objects_are_refused():
    with pytest.raises(ValueError, match="expected scenes of one object"):
        ObjectSourceConfig(object_counts=(0.5, 0.5))
    with pytest.raises(ValueError, match="hidden_share"):
        ObjectSourceConfig(hidden_share=1.5)
