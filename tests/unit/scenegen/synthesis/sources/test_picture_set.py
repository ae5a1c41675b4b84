"""Picture sets: which objects stay, round trip through a file, batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scenegen.conditioning.scene_light import LIGHT_TONES
from scenegen.synthesis.furniture.split import SplitError, load_split
from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.synthesis.sources.picture_set import PictureSet, PictureSetConfig, PictureSetSource

CPU = torch.device("cpu")
LENGTHS = (3, 5, 2, 4)


@pytest.fixture
def batch() -> LatentPictureBatch:
    """Four objects; picture k is k / 255 everywhere, and so are the latents k."""
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
    xyz = torch.randint(0, 64, (len(owner), 3), generator=torch.Generator().manual_seed(0))
    return LatentPictureBatch(
        asset_image=torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 8) / 255,
        coords=torch.cat([owner[:, None], xyz], 1).int(),
        x_0=owner[:, None].float().expand(-1, 2),
        crop_projection=torch.arange(4.0)[:, None, None].expand(4, 3, 4),
        light=torch.arange(4.0)[:, None].expand(4, LIGHT_TONES),
    )


def test_objects_with_too_many_voxels_are_left_out(batch: LatentPictureBatch) -> None:
    pictures = PictureSet.of_batch(batch, max_voxels=4)
    assert pictures.lengths.tolist() == [3, 2, 4] and pictures.images[:, 0, 0, 0].tolist() == [0, 2, 3]
    assert pictures.projections[:, 0, 0].tolist() == [0, 2, 3] == pictures.light[:, 0].tolist()
    assert pictures.latents[:, 0].tolist() == [0] * 3 + [2] * 2 + [3] * 4
    assert torch.equal(pictures.xyz.int(), batch.coords[batch.coords[:, 0] != 1, 1:])


def test_file_holds_the_set_and_anything_else_is_refused(batch: LatentPictureBatch, tmp_path: Path) -> None:
    pictures, path = PictureSet.of_batch(batch, max_voxels=9), tmp_path / "pictures.safetensors"
    pictures = pictures.of_models(["procedural/sofa/2", "procedural/bed/1", "procedural/bed/1"])
    pictures.save(path)
    for name, value in vars(PictureSet.load(path)).items():
        assert (
            value == pictures.model_ids
            if name == "model_ids"
            else torch.equal(value, getattr(pictures, name))
        )
    assert pictures.model_ids == ("procedural/bed/1", "procedural/sofa/2")
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"pictures\.safetensors: expected a file of .*build_picture_set"):
        PictureSet.load(path)


def test_pictures_of_test_models_are_neither_written_nor_read(batch, tmp_path, monkeypatch) -> None:
    path = tmp_path / "pictures.safetensors"
    test_id = next(entry.id for entry in load_split().values() if entry.split == "test")
    pictures = PictureSet.of_batch(batch, max_voxels=9)
    with pytest.raises(ValueError, match="expected the models that the pictures are of"):
        pictures.save(path)
    with pytest.raises(SplitError, match="belongs to the test split, not to train"):
        pictures.of_models([test_id]).save(path)
    assert not path.exists()
    with monkeypatch.context() as patch:
        patch.setattr("scenegen.synthesis.sources.picture_set.check_split", lambda ids, split: None)
        pictures.of_models([test_id]).save(path)
    with pytest.raises(SplitError, match="belongs to the test split, not to train"):
        PictureSetSource.load(PictureSetConfig((str(path),), objects_per_step=2), CPU)


def test_pictures_without_the_ids_of_their_models_are_refused(batch, tmp_path) -> None:
    path = tmp_path / "pictures.safetensors"
    pictures = PictureSet.of_batch(batch, max_voxels=9).of_models(["procedural/bed/1"])
    pictures.save(path)
    save_file(load_file(path), path)
    with pytest.raises(ValueError, match="model_ids.*make it again"):
        PictureSet.load(path)


def test_every_picture_comes_once_a_round_with_its_own_voxels(batch: LatentPictureBatch) -> None:
    both = PictureSet.concatenate([PictureSet.of_batch(batch, max_voxels=9)] * 2)
    source = PictureSetSource(both, PictureSetConfig(files=(), objects_per_step=2), CPU)
    seen = []
    for step in range(4):
        made = source.batch(step)
        shown = (made.asset_image[:, 0, 0, 0] * 255).round()
        owner = made.coords[:, 0].long()
        assert torch.bincount(owner).tolist() == [LENGTHS[int(k)] for k in shown]
        assert torch.equal(made.x_0[:, 0], shown[owner])
        assert torch.equal(made.crop_projection[:, 0, 0], shown)
        for row, picture in enumerate(shown):
            own = batch.coords[batch.coords[:, 0] == int(picture), 1:]
            assert torch.equal(made.coords[owner == row, 1:], own)
        seen += shown.tolist()
    assert sorted(seen) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(source.batch(2).coords, source.batch(2).coords)
    for step, slot in ((0, 0), (0, 1), (1, 0), (1, 1)):  # two slots a step: a round is over in half as many
        assert torch.equal(source.batch(step, slot, 2).coords, source.batch(2 * step + slot).coords)
    rounds = [[source.batch(4 * turn + step).x_0.sum().item() for step in range(4)] for turn in range(6)]
    assert len({tuple(sums) for sums in rounds}) > 1


def test_fewer_pictures_than_a_batch_are_refused(batch: LatentPictureBatch) -> None:
    with pytest.raises(ValueError, match="at least 5 pictures, the size of a batch, got 4"):
        PictureSetSource(PictureSet.of_batch(batch, 9), PictureSetConfig((), objects_per_step=5), CPU)
