"""Batches of the appearance stage: the latents of an object and its picture show the same colours."""

import pytest
import torch
import trimesh

from dataset_toolkits.online.appearance_batches import (
    AppearanceSourceConfig,
    FieldSource,
    LatentPictureSource,
)
from dataset_toolkits.online.scene_batches import ShapePool
from dataset_toolkits.online.shape_bank import ShapeBank

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
    assert first.keys() == {"coords", "distance", "colour", "normal", "anchor_offset", "anchor_colour"}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["coords"][:, 0].unique().tolist() == [0, 1, 2, 3]
    assert first["distance"].shape[1] == 27 and first["anchor_colour"].shape[1:] == (4, 3)
    assert not torch.equal(first["colour"][:50], other["colour"][:50])


def test_latents_belong_to_the_object_in_the_picture(pool):
    source = LatentPictureSource(pool, mean_colours)
    seen, meant = [], []
    for step in range(3):
        batch = source.batch(step)
        assert batch["coords"][:, 0].unique().tolist() == list(range(len(batch["asset_image"])))
        for number, picture in enumerate(batch["asset_image"]):
            covered = picture.amax(0) > 0.05
            seen.append(picture[:, covered].mean(1))
            meant.append(batch["x_0"][batch["coords"][:, 0] == number].mean(0))
    seen, meant = torch.stack(seen), torch.stack(meant)
    # Light and camera change brightness; the ratios of the channels tell whose colours these are.
    hue = [values / values.norm(dim=1, keepdim=True) for values in (seen, meant)]
    own = (hue[0] - hue[1]).norm(dim=1)
    others = (hue[0] - hue[1].roll(1, 0)).norm(dim=1)
    assert own.mean() < 0.6 * others.mean()


def test_a_new_pool_has_new_latents(make_pack):
    pack = make_pack([trimesh.creation.box((1, 0.8, 0.6))] * 3)
    config = AppearanceSourceConfig(**SETTINGS, refresh_steps=1)
    calls = []

    def encode(fields):
        calls.append(len(fields.coords))
        return mean_colours(fields)

    source = LatentPictureSource(ShapePool(ShapeBank(pack, CPU), config, CPU), encode)
    first, second = source.batch(0), source.batch(1)
    assert len(calls) == 2
    assert first["x_0"].dtype == torch.float32 and first["coords"].dtype == torch.int32
    assert first["x_0"].shape != second["x_0"].shape or not torch.equal(first["x_0"], second["x_0"])
