"""Sets of single assets: batches hold what the files hold, filters are counted, bad input is one line."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.conditioning.image_preparation import prepare_training_asset
from scenegen.datasets.metadata import read_assets, write_assets
from scenegen.datasets.registry import DATASETS
from scenegen.datasets.sample_files import SampleError
from scenegen.datasets.tables import MetadataError
from scenegen.datasets.view_sets import coarsened
from scenegen.datasets.voxel_files import read_voxels
from scenegen.synthesis.furniture.split import SplitError, load_split
from tests.lookalike_root import FEATURE, SLAT, SS_LATENT
from trellis_modules.config import ConfigError
from trellis_modules.renderers.cameras import to_camera, to_pixels

SETTINGS = {
    "SparseStructure": {"resolution": 16},
    "SparseStructureLatent": {"latent_model": SS_LATENT},
    "TextConditionedSparseStructureLatent": {"latent_model": SS_LATENT},
    "ImageConditionedSparseStructureLatent": {"latent_model": SS_LATENT, "image_size": 28},
    "SLat": {"latent_model": SLAT},
    "TextConditionedSLat": {"latent_model": SLAT},
    "ImageConditionedSLat": {"latent_model": SLAT, "image_size": 28},
    "SparseFeat2Render": {"image_size": 48},
    "SLat2Render": {"image_size": 48, "latent_model": SLAT},
    "Slat2RenderGeo": {"image_size": 48, "latent_model": SLAT},
}


NO_FRAMES = b'{"frames": [], "scale": 1, "offset": [0, 0, 0]}'


@pytest.fixture
def batches(toy_root, make_source):
    """Function (name, settings) -> the assets of the first batch of four, and the batch."""

    def make(name, **settings):
        source = make_source(name, toy_root, **(SETTINGS[name] | settings))
        batch = source.batch(0)
        assert isinstance(batch, DATASETS[name].makes)
        return [source.samples.assets[row].row for row in source.plan.rows(0, 0, 1)], batch

    return make


def stored(root: Path, folder: str, name: str, key: str) -> np.ndarray:
    return np.load(root / folder / f"{key}.npz")[name]


def test_structures_are_those_of_the_files(toy_root, batches):
    rows, batch = batches("SparseStructure")
    for row, occupancy in zip(rows, batch.occupancy, strict=True):
        voxels = read_voxels(toy_root / "voxels" / f"{row.sha256}.ply", 16)
        assert torch.equal(occupancy[0].nonzero(), torch.from_numpy(voxels)) and occupancy.dtype == torch.bool


@pytest.mark.parametrize("name", [name for name in SETTINGS if "StructureLatent" in name])
def test_structure_latents_are_those_of_the_files_with_their_condition(toy_root, batches, name):
    rows, batch = batches(name)
    for row, latent in zip(rows, batch.x_0, strict=True):
        expected = stored(toy_root, f"ss_latents/{SS_LATENT}", "mean", row.sha256)
        assert torch.equal(latent, torch.from_numpy(expected))
    check_condition(toy_root, rows, batch, name)


@pytest.mark.parametrize("name", ["SLat", "TextConditionedSLat", "ImageConditionedSLat"])
def test_structured_latents_are_those_of_the_files_with_their_condition(toy_root, batches, name):
    rows, batch = batches(name)
    assert batch.coords.dtype == torch.int32
    for number, row in enumerate(rows):
        own = batch.coords[:, 0] == number
        for array, values in (("feats", batch.x_0[own]), ("coords", batch.coords[own, 1:])):
            expected = stored(toy_root, f"latents/{SLAT}", array, row.sha256)
            np.testing.assert_array_equal(values.numpy(), expected)
    assert len(batch.coords) == len(batch.x_0) == sum(row.num_voxels for row in rows)
    check_condition(toy_root, rows, batch, name)


def check_condition(root, rows, batch, name):
    assert (batch.image is not None) == name.startswith("Image")
    assert bool(batch.captions) == name.startswith("Text")
    for row, caption in zip(rows, batch.captions):
        assert caption in row.caption_list
    for row, image in zip(rows, () if batch.image is None else batch.image):
        views = [
            prepare_training_asset(Image.open(root / "renders_cond" / row.sha256 / f"00{number}.png"), 28)
            for number in range(2)
        ]
        assert any(torch.equal(image, view) for view in views)


def test_views_and_captions_are_drawn_anew(toy_root, make_source):
    source = make_source(
        "ImageConditionedSparseStructureLatent", toy_root, latent_model=SS_LATENT, image_size=14
    )
    rng = np.random.default_rng(0)
    images = [source.samples.read(0, rng)[1] for _ in range(12)]
    assert len({image.numpy().tobytes() for image in images}) == 2
    source = make_source("TextConditionedSLat", toy_root, latent_model=SLAT)
    assert len({source.samples.read(0, rng).condition for _ in range(12)}) == 2


@pytest.mark.parametrize("name", ["SparseFeat2Render", "SLat2Render", "Slat2RenderGeo"])
def test_cameras_see_the_voxels_where_the_picture_shows_the_asset(toy_root, batches, name):
    rows, batch = batches(name)
    folder, array = (f"features/{FEATURE}", "patchtokens") if "Feat" in name else (f"latents/{SLAT}", "feats")
    for number, row in enumerate(rows):
        own = batch.coords[:, 0] == number
        values = stored(toy_root, folder, array, row.sha256).astype(np.float32)
        np.testing.assert_array_equal(batch.feats[own].numpy(), values)
        centres = (batch.coords[own, 1:] + 0.5) / 16 - 0.5
        at_camera = to_camera(centres[None], batch.extrinsics[number, None])
        places = to_pixels(at_camera, batch.intrinsics[number, None], 48)[0, :, :2].long()
        shown = batch.alpha[number, places[:, 1], places[:, 0]]
        assert (shown > 0).float().mean() > 0.99 and (shown > 0.5).float().mean() > 0.95
        covered = torch.zeros(48, 48, dtype=torch.bool)
        covered[places[:, 1], places[:, 0]] = True
        assert covered.sum() > 0.25 * (batch.alpha[number] > 0.5).sum()  # and nowhere else
    transparent = batch.alpha[:, None].expand_as(batch.image) == 0
    assert transparent.any() and not batch.image[transparent].any()
    assert len(batch.vertices) == len(batch.faces) == (4 if name == "Slat2RenderGeo" else 0)


def test_true_meshes_come_with_their_asset(toy_root, batches):
    rows, batch = batches("Slat2RenderGeo")
    for row, vertices, faces in zip(rows, batch.vertices, batch.faces, strict=True):
        mesh = trimesh.load(toy_root / "renders" / row.sha256 / "mesh.ply", process=False)
        np.testing.assert_allclose(vertices.numpy(), mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(faces.numpy(), mesh.faces)
        assert vertices.dtype == torch.float32 and faces.dtype == torch.int64


def test_coarser_voxels_have_the_means_of_their_features(toy_root, batches):
    rows, fine = batches("SparseFeat2Render")
    same_rows, coarse = batches("SparseFeat2Render", resolution=32)
    assert rows == same_rows and coarse.coords[:, 1:].max() < 8
    place = coarse.coords[5]
    inside = (fine.coords[:, 0] == place[0]) & (fine.coords[:, 1:] // 2 == place[1:]).all(1)
    torch.testing.assert_close(coarse.feats[5], fine.feats[inside].mean(0))
    places = torch.tensor([[0, 0, 1], [3, 3, 3], [1, 1, 0]])
    coords, feats = coarsened(places, torch.tensor([[1.0], [5.0], [3.0]]), 2)
    assert coords.tolist() == [[0, 0, 0], [1, 1, 1]] and feats.tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize("name", ["SparseStructureLatent", "SLat"])
def test_latents_are_normalised_by_channel(batches, name):
    mean, std = [0.5 * c for c in range(8)], [1.0 + c for c in range(8)]
    _, plain = batches(name)
    _, scaled = batches(name, normalization={"mean": mean, "std": std})
    axis = 1
    restored = scaled.x_0.movedim(axis, -1) * torch.tensor(std) + torch.tensor(mean)
    torch.testing.assert_close(restored.movedim(-1, axis), plain.x_0)


def test_a_normalization_of_other_latents_is_one_line(toy_root, make_source):
    normalization = {"mean": [0.0] * 4, "std": [1.0] * 4}
    source = make_source("SLat", toy_root, latent_model=SLAT, normalization=normalization)
    with pytest.raises(SampleError, match="latents of 4 channels, .* got 8; correct the normalization"):
        source.batch(0)


# ---- which assets


def edit(root: Path, **changes) -> None:
    """Change the first assets of a table: field -> values of the first, second, ... asset."""
    rows = read_assets(root / "metadata.csv")
    for field, values in changes.items():
        for number, value in enumerate(values):
            rows[number] = replace(rows[number], **{field: value})
    write_assets(rows, root / "metadata.csv")


def test_filters_are_applied_in_order_and_counted_for_each_root(toy_root, changed_root, make_source, caplog):
    edit(
        changed_root,
        aesthetic_score=[4.0, None, 5.0, 4.5],
        captions=["", "", "not a list", "[]"],
        num_voxels=[1, 1, 1, 1, 40000],
        status=[{f"latent_{SLAT}": False}],
    )
    with caplog.at_level(logging.INFO):
        source = make_source("TextConditionedSLat", toy_root, changed_root, latent_model=SLAT)
    line = (
        f"{changed_root / 'metadata.csv'}: 6 rows, 6 of the train split, 5 with latent_{SLAT}, "
        "4 with aesthetic_score >= 4.5, 3 with num_voxels <= 32768, 1 with captions"
    )
    assert line in caplog.messages and len(source.samples) == 6 + 1
    assert str(source).splitlines()[0] == "7 samples" and str(source).splitlines()[2] == line


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({}, {"min_aesthetic_score": 9.0}, "6 with ss_latent_.*, 0 with aesthetic_score >= 9, 0 with"),
        ({}, {"latent_model": "other"}, "0 with ss_latent_other, 0 with aesthetic"),
        ({"cond_rendered": [False] * 6}, {}, "6 with aesthetic_score >= 4.5, 0 with cond_rendered$"),
        ({"extra": [{"split": "test"}] * 6}, {}, "6 rows, 0 of the train split"),
    ],
)
def test_a_set_without_samples_says_after_which_filter(changed_root, make_source, changes, settings, said):
    edit(changed_root, **changes)
    settings = {"latent_model": SS_LATENT} | settings
    with pytest.raises(ConfigError, match=rf"^dataset: no sample is left; .*metadata.csv: .*{said}") as error:
        make_source("ImageConditionedSparseStructureLatent", changed_root, **settings)
    assert "\n" not in str(error.value)


def test_test_furniture_is_not_learnt_from(changed_root, make_source):
    test_id = next(entry.id for entry in load_split().values() if entry.split == "test")
    edit(changed_root, extra=[{"id": test_id}])
    with pytest.raises(SplitError, match="train"):
        make_source("SparseStructure", changed_root, resolution=16)


def test_every_asset_counts_without_a_least_score(changed_root, make_source):
    edit(changed_root, aesthetic_score=[None] * 6)
    source = make_source("SparseStructure", changed_root, resolution=16, min_aesthetic_score=None)
    assert len(source.samples) == 6


def test_held_out_assets_are_never_learnt_from(toy_root, make_source):
    def keys(share, validation):
        source = make_source(
            "SparseStructure", toy_root, run={"validation": validation}, resolution=16, validation_share=share
        )
        return {asset.row.sha256 for asset in source.samples.assets}

    learnt, held_out = keys(0.5, False), keys(0.5, True)
    assert learnt and held_out and not learnt & held_out and len(learnt | held_out) == 6
    assert keys(0.6, True) >= held_out  # a larger share holds out more, and the same ones too


@pytest.mark.parametrize(
    ("run", "error", "said"),
    [
        ({"batch_size": None}, ConfigError, "expected batch_size or batch_size_per_gpu, got neither"),
        ({"data_dirs": ()}, ConfigError, "--data_dir: expected at least one data root"),
        ({"data_dirs": (Path("/nowhere"),)}, ConfigError, "found no folder /nowhere; check the path"),
        ({"data_dirs": (Path("/"),)}, MetadataError, "/metadata.csv: no such file"),
        ({"validation": True}, ConfigError, "expected validation_share above 0"),
    ],
)
def test_what_the_run_lacks_is_one_line(toy_root, make_source, run, error, said):
    with pytest.raises(error, match=said) as raised:
        make_source("SparseStructure", toy_root, run=run, resolution=16)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("SparseStructure", {"resolution": 0}, "resolution: expected 1 to 256, got 0"),
        ("SparseFeat2Render", {"image_size": 8, "resolution": 24}, "expected a divisor of 64, got 24"),
        ("SLat", {}, "missing key 'latent_model'"),
        ("SLat", {"latent_model": SLAT, "max_voxels": 3}, "unknown key 'max_voxels'"),
        ("SLat", {"latent_model": SLAT, "normalization": {"mean": [0], "std": [0]}}, "deviations above 0"),
        ("SLat", {"latent_model": SLAT, "normalization": {"mean": [0, 1], "std": [1]}}, "as many means"),
        ("SLat", {"latent_model": SLAT, "validation_share": 1.5}, "validation_share: expected 0 to 1"),
    ],
)
def test_wrong_settings_are_one_line(toy_root, make_source, name, settings, said):
    with pytest.raises(ConfigError, match=said):
        make_source(name, toy_root, **settings)


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("SparseStructure", "voxels/{}.ply", b"ply\nno", "voxels/.*ply"),
        ("SparseStructureLatent", "ss_latents/" + SS_LATENT + "/{}.npz", b"PK", "damaged"),
        ("SLat", "latents/" + SLAT + "/{}.npz", None, "not readable as arrays .no such file."),
        ("SLat2Render", "renders/{}/transforms.json", b"{}", "expected the cameras of pictures"),
        ("SLat2Render", "renders/{}/transforms.json", NO_FRAMES, "expected at least one picture"),
        ("Slat2RenderGeo", "renders/{}/mesh.ply", b"ply", "mesh.ply"),
        (
            "ImageConditionedSLat",
            "renders_cond/{}/000.png",
            b"\x89PNG",
            "000.png: damaged .*render the asset",
        ),
    ],
)
def test_a_damaged_file_is_named(changed_root, make_source, name, file, content, said):
    source = make_source(name, changed_root, **SETTINGS[name])
    asset = source.samples.assets[2]
    path = changed_root / file.format(asset.row.sha256)
    path.unlink() if content is None else path.write_bytes(content)
    (path.parent / "001.png").unlink(missing_ok=True)
    rng = np.random.default_rng(1)
    with pytest.raises(SampleError, match=said) as error:
        for _ in range(8):
            source.samples.read(2, rng)
    assert "\n" not in str(error.value) and str(changed_root) in str(error.value)


def test_captions_of_the_table_are_json(toy_root):
    assert all(json.loads(row.captions) for row in read_assets(toy_root / "metadata.csv"))
