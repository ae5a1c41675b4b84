"""Shards of scenes and latents: what samples hold, that bytes repeat, and what is refused or named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_toolkits import pack_scenes
from dataset_toolkits.photos.rows import grouped
from scenegen.conditioning.image_preparation import images_to_tensor, prepare_training_asset
from scenegen.datasets.metadata import read_assets, read_scenes
from scenegen.datasets.normalization import Normalization
from scenegen.datasets.poses import asset_order, training_poses
from scenegen.datasets.scene_samples import LatentSamples, SceneSampleConfig, SceneSamples
from scenegen.datasets.shards import ShardError, read_header, shard_paths
from scenegen.datasets.tables import read_lines
from scenegen.synthesis.furniture.split import SplitError

MODEL = "ss_enc_conv3d_16l8_fp16"
SIZE = 42


def latent_path(root: Path, sha256: str) -> Path:
    return root / "ss_latents" / MODEL / f"{sha256}.npz"


@pytest.fixture
def root(finished) -> Path:
    """A finished data root with latents of every asset."""
    (finished / "ss_latents" / MODEL).mkdir(parents=True)
    for number, asset in enumerate(read_assets(finished / "metadata.csv")):
        mean = np.random.default_rng(number).normal(size=(8, 16, 16, 16)).astype(np.float32)
        np.savez_compressed(latent_path(finished, asset.sha256), mean=mean)
    return finished


def pack(root: Path, *flags: str) -> int:
    return pack_scenes.main(["--output_dir", str(root), "--image_size", str(SIZE), *flags])


def shards(root: Path, kind: str = "scenes", name: str = "train") -> list[Path]:
    return shard_paths(root / "shards", kind, name)


def test_samples_hold_what_the_files_hold(root):
    assert pack(root) == 0
    rows_of = grouped(read_scenes(root / "metadata_scene.csv"))
    samples = SceneSamples(shards(root), SceneSampleConfig(seed=3))
    assert len(samples) == sum(map(len, rows_of.values()))
    index = 0
    for rows in rows_of.values():
        for query in range(len(rows)):
            sample = samples[index]
            generator = torch.Generator().manual_seed(hash((3, 0, index)) % 2**63)
            order = asset_order(len(rows), query, 7, generator)
            check_sample(root, sample, [rows[number] for number in order])
            expected = training_poses(rows, order).float()
            torch.testing.assert_close(sample["positions"], expected)
            index += 1


def check_sample(root: Path, sample: dict, rows: list) -> None:
    latents = [np.load(latent_path(root, row.sha256))["mean"] for row in rows]
    torch.testing.assert_close(sample["x_0"], torch.from_numpy(np.stack(latents)), rtol=0, atol=0)
    half_a_level = 0.5 / 255 + 1e-6
    crops = [prepare_training_asset(Image.open(root / row.masked_image_path), SIZE) for row in rows]
    torch.testing.assert_close(sample["cond"], torch.stack(crops).clamp(0, 1), rtol=0, atol=half_a_level)
    masks = [Image.open(root / row.masked_image_path.replace(".png", "_mask.png")) for row in rows]
    torch.testing.assert_close(sample["mask_cond"], images_to_tensor(masks, SIZE), rtol=0, atol=half_a_level)
    photo = images_to_tensor([Image.open(root / rows[0].scene_image_path)], SIZE)[0]
    torch.testing.assert_close(sample["scene_image"], photo, rtol=0, atol=half_a_level)
    feature = np.load(root / rows[0].vggt_feature)["vggt_feature"].astype(np.float32)
    torch.testing.assert_close(sample["vggt_feature"], torch.from_numpy(feature), rtol=0, atol=0)
    assert all(value.dtype == torch.float32 for value in sample.values())


def test_settings_of_a_reader(root):
    assert pack(root) == 0
    rows = read_scenes(root / "metadata_scene.csv")
    by_scene = grouped(rows)
    first = next(iter(by_scene.values()))
    two = SceneSamples(shards(root), SceneSampleConfig(max_gpu_batch_size=2))
    assert max(len(two[index]["x_0"]) for index in range(len(two))) == 2
    small = SceneSamples(shards(root), SceneSampleConfig(max_batch_size=2))
    assert len(small) == sum(len(group) for group in by_scene.values() if len(group) <= 2)
    best = max(row.aesthetic_score for row in rows)
    chosen = SceneSamples(shards(root), SceneSampleConfig(min_aesthetic_score=best))
    assert len(chosen) == sum(row.aesthetic_score >= best for row in rows)
    assert sum(chosen.left_out.values()) == sum(row.aesthetic_score < best for row in rows)
    centred = SceneSamples(shards(root), SceneSampleConfig(centred=True, max_gpu_batch_size=1 + len(first)))
    generator = torch.Generator().manual_seed(hash((0, 0, 0)) % 2**63)
    order = asset_order(len(first), 0, 1 + len(first), generator)
    torch.testing.assert_close(centred[0]["positions"], training_poses(first, order, centred=True).float())
    angles = SceneSamples(shards(root), SceneSampleConfig(pose_encoding="absT_eulerR_S", use_mask_cond=False))
    assert angles[0]["positions"].shape[1] == 7 and "mask_cond" not in angles[0]
    scaled = SceneSamples(
        shards(root), SceneSampleConfig(normalization=Normalization((1.0,) * 8, (2.0,) * 8))
    )
    plain = SceneSamples(shards(root))
    torch.testing.assert_close(scaled[0]["x_0"], (plain[0]["x_0"] - 1) / 2)
    assert max(plain.num_objects()) == max(map(len, by_scene.values()))


def test_orders_change_by_epoch_and_repeat(root):
    assert pack(root) == 0
    config = SceneSampleConfig(max_gpu_batch_size=3)
    one, other = SceneSamples(shards(root), config), SceneSamples(shards(root), config)
    index = one.num_objects().index(max(one.num_objects()))
    seen = []
    for epoch in range(6):
        one.set_epoch(epoch), other.set_epoch(epoch)
        torch.testing.assert_close(one[index], other[index])
        seen.append(one[index]["positions"])
    if len(one[index]["x_0"]) > 2:
        assert any(not torch.equal(seen[0], positions) for positions in seen[1:])


def test_loaders_read_with_several_processes(root):
    assert pack(root) == 0
    samples = SceneSamples(shards(root))
    loader = torch.utils.data.DataLoader(samples, batch_size=None, num_workers=2)
    for index, sample in enumerate(loader):
        torch.testing.assert_close(sample, samples[index])


def test_the_test_set_is_packed_but_never_learnt_from(root):
    assert pack(root, "--set", "test") == 0
    with pytest.raises(ShardError, match="expected scenes of the train set, got the test set"):
        SceneSamples(shards(root, name="test"))
    assert len(SceneSamples(shards(root, name="test"), for_training=False)) == 2


def test_test_furniture_is_refused_when_packing_and_when_reading(root, furniture_of_split, monkeypatch):
    foreign = furniture_of_split("test", 1).infos[0].id
    table = root / "metadata_scene.csv"
    own = read_scenes(table)[0].extra["id"]
    table.write_text(table.read_text().replace(own, foreign))
    assert pack(root) == 1
    assert not shards(root)
    monkeypatch.setattr("scenegen.datasets.shards.check_split", lambda ids, split: None)
    assert pack(root) == 0
    monkeypatch.undo()
    with pytest.raises(SplitError, match="belongs to the test split, not to train"):
        SceneSamples(shards(root))


def test_the_same_rows_give_the_same_bytes_and_are_not_packed_again(root):
    assert pack(root, "--samples_per_shard", "1") == 0
    first = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in shards(root)}
    assert len(first) == 2
    assert pack(root, "--samples_per_shard", "1") == 0
    assert first == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in shards(root)}
    shutil.rmtree(root / "shards")
    for rank in ("1", "0"):
        assert pack(root, "--samples_per_shard", "1", "--rank", rank, "--world_size", "2") == 0
    assert {path.name: path.read_bytes() for path in shards(root)} == {n: b for n, (b, _) in first.items()}


def test_shards_beyond_the_last_one_are_removed(root):
    assert pack(root, "--samples_per_shard", "1") == 0
    assert pack(root) == 0
    assert [path.name for path in shards(root)] == ["scenes_train-00000.safetensors"]


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _wrong_array(path: Path) -> None:
    np.savez_compressed(path, other=np.zeros(3))


def _not_finite(path: Path) -> None:
    key = "mean" if "ss_latents" in path.parts else "vggt_feature"
    array = np.load(path)[key]
    array.flat[0] = np.nan
    np.savez_compressed(path, **{key: array})


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("latent", _cut, "damaged"),
        ("latent", Path.unlink, "no such file; run encode_ss_latent.py"),
        ("latent", _wrong_array, "expected the array 'mean', got"),
        ("latent", _not_finite, "expected finite latents"),
        ("crop", _cut, "damaged"),
        ("crop", Path.unlink, "no such file"),
        ("mask", _cut, "damaged"),
        ("photo", _cut, "damaged"),
        ("feature", _cut, "damaged"),
        ("feature", _not_finite, "expected a finite feature"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_packed(root, name, damage, message):
    assert pack(root) == 0
    whole = len(SceneSamples(shards(root)))
    row = read_scenes(root / "metadata_scene.csv")[0]
    crop = root / row.masked_image_path
    paths = {
        "latent": latent_path(root, row.sha256),
        "crop": crop,
        "mask": crop.with_name(f"{crop.stem}_mask.png"),
        "photo": root / row.scene_image_path,
        "feature": root / row.vggt_feature,
    }
    damage(paths[name])
    assert pack(root) == 1
    lines = [cells for _, cells in read_lines(root / "failed_scenes_train_shards_0.csv", ["item", "error"])]
    assert lines and all(str(paths[name]) in cells["error"] and message in cells["error"] for cells in lines)
    assert lines[0]["item"].startswith(row.scene_id)
    assert 0 < len(SceneSamples(shards(root))) < whole
    assert pack(root) == 1, "and again"


def test_a_line_of_the_table_that_cannot_be_used_is_named(root):
    table = root / "metadata_scene.csv"
    _cut(table)
    assert pack(root) == 1
    lines = [cells for _, cells in read_lines(root / "failed_scenes_train_shards_0.csv", ["item", "error"])]
    assert len(lines) == 1 and f"{table}: line" in lines[0]["error"]
    assert len(SceneSamples(shards(root))) > 0


def test_a_missing_mask_is_that_of_the_cut_out(root):
    for path in root.glob("masked_images/*/*_mask.png"):
        path.unlink()
    assert pack(root) == 0
    row = read_scenes(root / "metadata_scene.csv")[0]
    alpha = Image.open(root / row.masked_image_path).getchannel("A")
    expected = images_to_tensor([alpha], SIZE)[0]
    torch.testing.assert_close(SceneSamples(shards(root))[0]["mask_cond"][0], expected, rtol=0, atol=0.003)


def test_latents_alone(root):
    assert pack(root, "--kind", "latents", "--samples_per_shard", "2") == 0
    assets = read_assets(root / "metadata.csv")
    samples = LatentSamples(shards(root, "latents"), min_aesthetic_score=None)
    assert len(samples) == len(assets) == 3
    for asset, sample in zip(assets, (samples[index] for index in range(3))):
        expected = torch.from_numpy(np.load(latent_path(root, asset.sha256))["mean"])
        torch.testing.assert_close(sample["x_0"], expected, rtol=0, atol=0)
    assert len(LatentSamples(shards(root, "latents"), 100.0)) == 0
    with pytest.raises(ShardError, match="expected a shard of scenes, got one of latents"):
        SceneSamples(shards(root, "latents"))


def test_assets_alone_are_read_on_request(root):
    table = root / "metadata_scene.csv"
    lines = table.read_text().splitlines()
    header, cells = lines[0].split(","), None
    row = read_scenes(table)[0]
    named = {
        "scene_id": row.sha256, "sha256": row.sha256,
        "translation": "False", "rotation": "False", "scale": "False",
        "vggt_feature": row.vggt_feature, "masked_image_path": row.masked_image_path, "kind": "asset",
        "scene_image_path": row.scene_image_path, "aesthetic_score": "6", "cond_rendered": "True",
        f"ss_latent_{MODEL}": "True", "model_id": row.model_id, "split": "train",
    }  # fmt: skip
    cells = ",".join(named.get(name, "") for name in header)
    table.write_text("\n".join([*lines, cells]) + "\n")
    assert pack(root) == 0
    without = SceneSamples(shards(root))
    samples = SceneSamples(shards(root), SceneSampleConfig(use_single_asset=True))
    assert len(samples) == len(without) + 1
    assert samples[len(samples) - 1]["positions"].tolist() == [[0, 0, 0, 1, 0, 0, 0, 1]]


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_what_is_no_shard_is_refused_in_one_line(root, tmp_path, content):
    path = tmp_path / "scenes_train-00000.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ShardError, match="expected a shard of pack_scenes.py") as error:
        read_header(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_shard_that_is_cut_off_is_refused(root):
    assert pack(root) == 0
    (path,) = shards(root)
    _cut(path)
    with pytest.raises(ShardError, match="pack it again"):
        SceneSamples([path])
    assert pack(root) == 0, "packed again"
    assert len(SceneSamples([path]))


def test_scenes_of_the_same_name_in_two_roots_are_both_kept(root, tmp_path, caplog):
    assert pack(root, "--samples_per_shard", "1") == 0
    assert pack(root, "--samples_per_shard", "1", "--shards", str(tmp_path / "other")) == 0
    both = SceneSamples([*shards(root), *shard_paths(tmp_path / "other", "scenes", "train")])
    assert len(both) == 2 * len(SceneSamples(shards(root)))
    assert "too; both are kept" in caplog.text


def test_without_a_table_or_latents_the_next_step_is_named(root, tmp_path, caplog):
    assert pack(root, "--latent_model", "unheard") == 1
    assert "run encode_ss_latent.py" in caplog.records[-1].message
    assert pack_scenes.main(["--output_dir", str(tmp_path)]) == 1
    with pytest.raises(ShardError, match="expected at least one file"):
        SceneSamples([])
