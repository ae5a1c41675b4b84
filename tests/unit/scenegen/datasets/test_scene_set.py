"""The set of scenes: samples agree with files and photos, scenes are grouped and filtered, frames turn."""

from __future__ import annotations

import logging
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.conditioning.image_preparation import images_to_tensor, prepare_training_asset
from scenegen.conditioning.parts import assemble_cond
from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.cond_tokens import object_key, tokens_path, write_tokens
from scenegen.datasets.metadata import ASSET, SCENE, read_scenes, write_scenes
from scenegen.datasets.poses import camera_poses, training_poses, turned_voxels
from scenegen.datasets.sample_files import SampleError
from scenegen.geometry import identity_pose, place_yup, yup_to_zup, zup_to_yup
from scenegen.synthesis.furniture.split import SplitError, load_split
from tests.lookalike_root import PHOTO_FOV, SS_LATENT
from tests.unit.scenegen.datasets.conftest import SCENES
from trellis_modules.config import ConfigError

SIZE = 42


@pytest.fixture
def source(make_source):
    """Function (roots, settings) -> source."""

    def make(*roots, **settings):
        return make_source(SCENES, *roots, **({"latent_model": SS_LATENT, "image_size": SIZE} | settings))

    return make


def rows_of(source, number: int, batch) -> list:
    """The rows of a sample in its order, told by their latents."""
    case = source.samples.cases[number]
    stored = [
        np.load(case.root / "ss_latents" / SS_LATENT / f"{row.sha256}.npz")["mean"] for row in case.rows
    ]
    order = [
        next(place for place, latent in enumerate(stored) if np.array_equal(latent, own.numpy()))
        for own in batch.x_0
    ]
    assert order[0] == case.query and len(set(order)) == len(order)
    return [case.rows[place] for place in order]


def test_samples_hold_what_the_files_hold(toy_root, source):
    scenes = source(toy_root, use_single_asset=False)
    seen = set()
    for number in range(len(scenes.samples)):
        batch = scenes.samples.read(number, np.random.default_rng(number))
        rows, root = rows_of(scenes, number, batch), toy_root
        crops = [prepare_training_asset(Image.open(root / row.masked_image_path), SIZE) for row in rows]
        assert torch.equal(batch.cond, torch.stack(crops))
        masks = [Image.open(root / row.masked_image_path.replace(".png", "_mask.png")) for row in rows]
        assert torch.equal(batch.mask_cond, images_to_tensor(masks, SIZE))
        photo = images_to_tensor([Image.open(root / rows[0].scene_image_path)], SIZE)[0]
        assert torch.equal(batch.scene_image, photo)
        feature = np.load(root / rows[0].vggt_feature)["vggt_feature"]
        assert torch.equal(batch.vggt_feature, torch.from_numpy(feature))
        torch.testing.assert_close(batch.positions, training_poses(rows, range(len(rows))).float())
        seen.add((rows[0].scene_id, rows[0].instance_id))
    assert len(seen) == len(scenes.samples) == 11  # each object of each scene once as the query


def test_batches_are_whole_numbers_on_the_device(toy_root, source):
    batch = source(toy_root).batch(0)
    assert all(value.dtype == torch.float32 for value in batch.tensors())


def test_centred_poses_put_objects_where_their_masks_are(toy_root, source):
    """Centres by the poses of a sample, seen by the photo's camera, lie in the masks of the objects."""
    scenes = source(toy_root, use_single_asset=False, centred=True)
    side = 64
    for number in range(len(scenes.samples)):
        batch = scenes.samples.read(number, np.random.default_rng(0))
        rows = rows_of(scenes, number, batch)
        query = rows[0]
        pose = camera_poses(
            *(np.array([getattr(query, name)]) for name in ("translation", "rotation", "scale", "center"))
        )
        at_camera = place_yup(batch.positions[:, :3].double(), pose[0])  # x right, y up, looking along -z
        focal = 0.5 / np.tan(PHOTO_FOV / 2)
        places = at_camera[:, :2] * torch.tensor([1.0, -1.0]) / -at_camera[:, 2:] * focal + 0.5
        for row, (x, y) in zip(rows, (places * side).long().tolist()):
            mask = np.asarray(Image.open(toy_root / row.masked_image_path.replace(".png", "_mask.png")))
            assert mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()


def test_orders_are_drawn_anew_and_cut(toy_root, source):
    scenes = source(toy_root, use_single_asset=False, max_gpu_batch_size=2)
    assert set(scenes.samples.groups) == {2}
    number = next(n for n, case in enumerate(scenes.samples.cases) if len(case.rows) == 3)
    rng, second = np.random.default_rng(0), Counter()
    for _ in range(20):
        batch = scenes.samples.read(number, rng)
        assert batch.x_0.shape[0] == batch.positions.shape[0] == 2
        second[rows_of(scenes, number, batch)[1].instance_id] += 1
    assert len(second) == 2


def test_all_batches_of_a_step_have_as_many_objects(toy_root, source):
    scenes = source(toy_root, run={"slots": 2})
    sizes = set()
    for step in range(scenes.plan.steps_per_round):
        counts = {len(scenes.batch(step, slot, 2).x_0) for slot in range(2)}
        assert len(counts) == 1
        sizes |= counts
    assert sizes == {1, 2, 3}


def test_more_processes_than_scenes_of_any_size_are_refused(toy_root, source):
    with pytest.raises(
        ConfigError, match="at least 10 samples .* 6 with 1 objects, 2 with 2 objects, 9 with 3"
    ):
        source(toy_root, run={"slots": 10})


def test_assets_alone_have_the_pose_of_the_query(toy_root, source):
    scenes = source(toy_root)
    alone = [n for n, case in enumerate(scenes.samples.cases) if case.rows[0].kind == ASSET]
    assert len(alone) == 6
    batch = scenes.samples.read(alone[0], np.random.default_rng(0))
    assert torch.equal(batch.positions, identity_pose(1)) and batch.mask_cond.shape == (1, 3, SIZE, SIZE)
    angles = source(toy_root, pose_encoding_type="absT_eulerR_S").samples
    assert angles.read(alone[0], np.random.default_rng(0)).positions.tolist() == [[0, 0, 0, 0, 0, 0, 1]]


def test_the_alpha_of_a_cutout_stands_in_for_a_missing_mask(changed_root, source):
    for path in changed_root.glob("masked_images/*/*_mask.png"):
        path.unlink()
    scenes = source(changed_root, use_single_asset=False)
    batch = scenes.samples.read(0, np.random.default_rng(0))
    row = rows_of(scenes, 0, batch)[0]
    alpha = Image.open(changed_root / row.masked_image_path).getchannel("A")
    assert torch.equal(batch.mask_cond[0], images_to_tensor([alpha], SIZE)[0])


def test_parts_that_are_off_are_not_read(changed_root, source):
    for name in ("masked_images/*/*_mask.png", "masked_images/*/scene.jpg", "vggt_features/*"):
        for path in changed_root.glob(name):
            path.write_bytes(b"")
    off = {name: False for name in ("use_mask_cond", "use_scene_image_cond", "use_vggt_feature_cond")}
    batch = source(changed_root, use_single_asset=False, **off).batch(0)
    assert batch.mask_cond is batch.scene_image is batch.vggt_feature is None and batch.cond is not None


# ---- tables


def edit(root: Path, change, name: str = "metadata_scene.csv") -> None:
    """Write the rows of a table again, each as ``change`` makes it."""
    write_scenes([change(row) for row in read_scenes(root / name)], root / name)


def test_paths_are_those_of_the_table(changed_root, source):
    expected = source(changed_root).batch(0)
    (changed_root / "masked_images").rename(changed_root / "cut.outs")
    (changed_root / "vggt_features").rename(changed_root / "seen")

    def moved(row):
        names = ("masked_image_path", "scene_image_path", "vggt_feature")
        new = {
            name: getattr(row, name).replace("masked_images/", "./cut.outs/").replace("vggt_features", "seen")
            for name in names
        }
        return replace(row, **new)

    edit(changed_root, moved)
    batch = source(changed_root).batch(0)
    assert all(map(torch.equal, batch.tensors(), expected.tensors()))


def test_scenes_of_one_name_in_two_roots_stay_apart(toy_root, changed_root, source):
    edit(changed_root, lambda row: row if row.scene_id != "0000003" else replace(row, aesthetic_score=1.0))
    scenes = source(toy_root, changed_root, use_single_asset=False).samples
    sizes = defaultdict(set)
    for case in scenes.cases:
        sizes[case.root].add((case.rows[0].scene_id, len(case.rows)))
    assert sizes[toy_root] - sizes[changed_root] == {("0000003", 2)}
    assert len(scenes) == 11 + 9


def test_filters_are_counted(changed_root, source, caplog):
    changes = {
        "0000001": {"aesthetic_score": 1.0},
        "0000002": {"vggt_feature": ""},
        "0000003": {"cond_rendered": False},
    }
    edit(changed_root, lambda row: replace(row, **changes.get(row.scene_id, {})))
    with caplog.at_level(logging.INFO):
        scenes = source(changed_root, max_batch_size=3, use_single_asset=False)
    assert (
        f"{changed_root / 'metadata_scene.csv'}: 17 rows, 17 with ss_latent_{SS_LATENT}, 14 with "
        "aesthetic_score >= 4.5, 11 with vggt_feature, 9 with cond_rendered, 9 with masked_image_path, "
        "9 with scene_image_path, 9 in scenes of at most 3 objects, 3 in photos of scenes, 1 scenes"
    ) in caplog.messages
    assert len(scenes.samples) == 3
    with pytest.raises(
        ConfigError, match="9 in scenes of at most 2 objects|6 in scenes of at most 2 objects, 0 in"
    ):
        source(changed_root, max_batch_size=2, use_single_asset=False)


def test_the_batch_size_of_a_process_bounds_its_scenes(toy_root, source):
    scenes = source(toy_root, use_single_asset=False, run={"batch_size": 2})
    assert {len(case.rows) for case in scenes.samples.cases} == {2}


def test_held_out_scenes_are_never_learnt_from(changed_root, source):
    def scenes(validation, **settings):
        cases = source(changed_root, run={"validation": validation}, **settings).samples.cases
        return {case.rows[0].scene_id for case in cases}

    learnt, held_out = (scenes(part, validation_share=0.5) for part in (False, True))
    assert learnt and held_out and not learnt & held_out and len(learnt | held_out) == 10
    shutil.copy(changed_root / "metadata_scene.csv", changed_root / "other.csv")
    assert len(scenes(True, validation_file_name="other")) == 10


def test_test_furniture_is_not_learnt_from(changed_root, source):
    test_id = next(entry.id for entry in load_split().values() if entry.split == "test")
    edit(changed_root, lambda row: replace(row, extra={"id": test_id}))
    with pytest.raises(SplitError, match="train"):
        source(changed_root)
    assert source(changed_root, run={"validation": True}, validation_file_name="metadata_scene").samples.cases


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pose_encoding_type": "other"}, "expected absT_quatR_S or absT_eulerR_S, got 'other'"),
        ({"query_yaws": [45]}, r"expected some of \(90, 180, 270\), got \[45\]"),
        ({"max_gpu_batch_size": 0}, "max_gpu_batch_size: expected at least 1"),
        ({"data_file_name": "nothing"}, "nothing.csv: no such file"),
        ({"image_size": 5000}, "image_size: expected 1 to 2048"),
    ],
)
def test_wrong_settings_are_one_line(toy_root, source, settings, said):
    with pytest.raises(ValueError, match=said) as error:
        source(toy_root, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("masked_images/0000001/0.png", "0.png: damaged .*run build_metadata_scene.py again"),
        ("masked_images/0000001/0_mask.png", "0_mask.png: damaged"),
        ("masked_images/0000001/scene.jpg", "scene.jpg: damaged"),
        ("vggt_features/0000001.npz", "0000001.npz: damaged"),
    ],
)
def test_a_damaged_file_is_named(changed_root, source, name, said):
    (changed_root / name).write_bytes(b"\x00" * 40)
    scenes = source(changed_root, use_single_asset=False)
    with pytest.raises(SampleError, match=said):
        scenes.samples.read(0, np.random.default_rng(0))


# ---- options


@pytest.mark.parametrize("yaw", [90, 180, 270])
def test_a_turned_query_turns_the_frame_of_all_others(changed_root, source, yaw):
    """The scene stays as it was: in the frame of the query every point turns as the query's voxels do."""
    folder = changed_root / "ss_latents"
    turned = folder / f"{SS_LATENT}_yaw{yaw}"
    for path in (folder / SS_LATENT).iterdir():
        latent = np.load(path)["mean"]
        write_arrays(turned / path.name, mean=latent + 100)
    columns = {f"ss_latent_{SS_LATENT}": True, f"ss_latent_{SS_LATENT}_yaw{yaw}": True}
    edit(changed_root, lambda row: replace(row, status=columns))
    scenes = source(changed_root, use_single_asset=False, centred=True, query_yaws=[yaw])
    number = next(n for n, case in enumerate(scenes.samples.cases) if len(case.rows) == 3)
    seen = {}
    for seed in range(12):
        batch = scenes.samples.read(number, np.random.default_rng(seed))
        is_turned = bool(batch.x_0[0].min() > 50)
        assert batch.x_0[1:].max() < 50  # the others are as they were
        seen[is_turned, tuple(batch.x_0[:, 0, 0, 0, 0].tolist()[1:])] = batch.positions
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    compared = 0
    for (is_turned, others), positions in seen.items():
        if not is_turned or (False, others) not in seen:
            continue
        compared += 1
        assert torch.equal(positions[0], identity_pose(1)[0])
        for now, before in zip(positions[1:], seen[False, others][1:]):
            expected = yup_to_zup(place_yup(points, before))
            for _ in range(yaw // 90):
                expected = torch.stack([-expected[:, 1], expected[:, 0], expected[:, 2]], -1)
            torch.testing.assert_close(place_yup(points, now), zup_to_yup(expected), atol=1e-5, rtol=1e-5)
    assert compared


def test_voxels_turn_with_their_centres():
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 16, (40, 3))
    for quarters in range(5):
        centres = (turned_voxels(voxels, quarters, 16) + 0.5) / 16 - 0.5
        angle = np.pi / 2 * quarters
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        np.testing.assert_allclose(centres, ((voxels + 0.5) / 16 - 0.5) @ turn.T, atol=1e-12)


@pytest.fixture
def with_tokens(changed_root):
    """A root with 9 tokens of width 32 for each picture, under the name ``toy``; features have 9 too."""
    generator = torch.Generator().manual_seed(0)
    scenes = defaultdict(list)
    for row in read_scenes(changed_root / "metadata_scene.csv"):
        scenes[row.scene_id].append(row)
    for scene_id, rows in scenes.items():
        names = [object_key(row, picture) for row in rows for picture in ("cond", "mask_cond")]
        tokens = {name: torch.randn(9, 32, generator=generator) for name in ["scene", *names]}
        write_tokens(tokens_path(changed_root, "toy", scene_id), tokens)
    return changed_root


def test_ready_tokens_take_the_place_of_pictures(with_tokens, source):
    from safetensors.torch import load_file

    scenes = source(with_tokens, cond_tokens="toy", use_single_asset=False)
    number = next(n for n, case in enumerate(scenes.samples.cases) if case.rows[0].scene_id == "0000003")
    batch = scenes.samples.read(number, np.random.default_rng(0))
    assert batch.cond is batch.mask_cond is batch.scene_image is batch.vggt_feature is None
    rows = rows_of(scenes, number, batch)
    stored = load_file(tokens_path(with_tokens, "toy", "0000003"))
    crops, masks = (
        torch.stack([stored[object_key(row, picture)] for row in rows]) for picture in ("cond", "mask_cond")
    )
    feature = torch.from_numpy(np.load(with_tokens / rows[0].vggt_feature)["vggt_feature"])
    assert torch.equal(batch.cond_tokens, assemble_cond(crops, masks, stored["scene"][None], feature))
    assert scenes.batch(0).cond_tokens.dtype == torch.float32
    assert scenes.batch(0).cond_tokens.shape[1:] == (5 * 9, 32) and scenes.batch(0).num_object_tokens == 9
    few = source(with_tokens, cond_tokens="toy", use_mask_cond=False, use_vggt_feature_cond=False).batch(0)
    assert few.cond_tokens.shape[1:] == (2 * 9, 32)


def test_tokens_that_are_missing_or_damaged_are_named(with_tokens, source):
    scenes = source(with_tokens, cond_tokens="other", use_single_asset=False).samples
    with pytest.raises(SampleError, match="cond_tokens/other/0000001.*run encode_cond.py again"):
        scenes.read(0, np.random.default_rng(0))
    path = tokens_path(with_tokens, "toy", "0000001")
    scenes = source(with_tokens, cond_tokens="toy", use_single_asset=False).samples
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SampleError, match="0000001.safetensors: expected tokens of its pictures") as error:
        scenes.read(0, np.random.default_rng(0))
    assert "\n" not in str(error.value)
    write_tokens(path, {"scene": torch.zeros(9, 32), "0.cond": torch.zeros(9, 32)})
    with pytest.raises(SampleError, match="expected tokens of its pictures"):
        scenes.read(0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="within the range of float16"):
        write_tokens(path, {"scene": torch.full((9, 32), 1e6)})


def test_scene_rows_and_asset_rows_are_told_by_their_kind(toy_root, source):
    kinds = Counter(case.rows[0].kind for case in source(toy_root).samples.cases)
    assert kinds == {SCENE: 11, ASSET: 6}
