"""The steps of the asset road as commands: their choice of assets, and what they make of bad input."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_toolkits import (
    build_metadata,
    download,
    encode_latent,
    encode_ss_latent,
    extract_feature,
    render,
    stat_latent,
    voxelize,
)
from dataset_toolkits.image_features import load_picture
from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, read_assets, write_assets
from scenegen.datasets.records import read_records
from scenegen.datasets.voxel_files import read_voxels, write_voxels
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import NamedConfig

DRAWN = ("--engine", "EMBREE", "--resolution", "16", "--num-views", "1")
Main = Callable[[Sequence[str]], int]


def keys(root: Path) -> dict[str, str]:
    return {row.file_identifier: row.sha256 for row in read_assets(root / ASSETS_NAME)}


def run(main: Main, root: Path, *arguments: str, subset: bool = True) -> int:
    return main([*(["folder"] if subset else []), "--output_dir", str(root), *arguments])


@pytest.fixture
def rendered(downloaded: Path) -> Path:
    assert run(render.main, downloaded, *DRAWN) == run(build_metadata.main, downloaded) == 0
    return downloaded


@pytest.fixture
def voxelized(rendered: Path) -> Path:
    assert run(voxelize.main, rendered) == run(build_metadata.main, rendered) == 0
    return rendered


# --- which assets -------------------------------------------------------------------------------------------


def test_instances_are_a_file_or_a_list_and_go_before_everything_else(downloaded, tmp_path, capsys):
    named = keys(downloaded)
    (tmp_path / "list.txt").write_text(f"{named['made']}\n\n{named['cone']}\n")
    assert run(render.main, downloaded, *DRAWN, "--instances", str(tmp_path / "list.txt")) == 0
    assert set(read_records(downloaded / "rendered_0.csv")) == {named["made"], named["cone"]}
    run(build_metadata.main, downloaded)
    both = f"{named['made']},{named['desk/raw_model']}"
    assert run(render.main, downloaded, *DRAWN, "--instances", both) == 0
    assert list(read_records(downloaded / "rendered_0.csv")) == both.split(",")


def test_scores_filter_and_assets_without_one_are_left_out(downloaded):
    rows = read_assets(downloaded / ASSETS_NAME)
    scores = [4.0, 5.0, None]
    write_assets(
        [replace(row, aesthetic_score=score) for row, score in zip(rows, scores)], downloaded / ASSETS_NAME
    )
    assert run(render.main, downloaded, *DRAWN, "--filter_low_aesthetic_score", "5") == 0
    assert list(read_records(downloaded / "rendered_0.csv")) == [rows[1].sha256]


def test_nothing_to_do_is_said_and_is_no_failure(rendered, capsys):
    assert run(render.main, rendered, *DRAWN) == 0
    assert "none of 3 assets is downloaded and not rendered; run build_metadata" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "arguments", "complaint"),
    [
        (render.main, ["3D-FRONT", "--output_dir", "x"], "invalid choice: '3D-FRONT'"),
        (
            render.main,
            ["folder", "--output_dir", "x", "--rank", "2", "--world_size", "2"],
            "--rank: expected 0 to 1",
        ),
        (
            encode_latent.main,
            ["--output_dir", "x", "--enc_model", "m"],
            "--enc-model and --ckpt: expected both",
        ),
        (voxelize.main, ["folder"], "--output-dir"),
    ],
)
def test_bad_command_lines_end_with_one_line(main, arguments, complaint, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "arguments", "complaint"),
    [
        (render.main, ["folder", *DRAWN], "no metadata; run python dataset_toolkits/build_metadata.py"),
        (build_metadata.main, ["folder"], "--source: expected the folder of the models, got None"),
        (build_metadata.main, ["3D-FUTURE", "--table", "no.csv"], "no.csv: no such file"),
        (stat_latent.main, [], "no metadata"),
    ],
)
def test_steps_before_the_first_say_what_to_run(main, arguments, complaint, tmp_path, caplog):
    assert main([*arguments, "--output_dir", str(tmp_path)]) == 1
    assert complaint in caplog.text and len(caplog.records) == 1


def test_unknown_instance_is_named(downloaded, caplog):
    assert run(render.main, downloaded, *DRAWN, "--instances", "abc") == 1
    assert "1 of 1 assets are not in the table, first 'abc'" in caplog.text


# --- models that cannot be used -----------------------------------------------------------------------------


def spoil(name: str) -> tuple[str, bytes]:
    """A file that is no model, and what is said of it."""
    flat = b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n"
    return {
        "empty": ("expected a model with triangles", b""),
        "zero size": ("all vertices lie at one point", flat),
        "not finite": ("not finite", flat.replace(b"v 1 1 1\nv", b"v nan 1 1\nv", 1)),
        "bad index": ("", flat.replace(b"f 1 2 3", b"f 1 2 99")),
    }[name]


@pytest.mark.parametrize("fault", ["empty", "zero size", "not finite", "bad index"])
def test_a_bad_model_is_named_and_the_others_are_drawn(downloaded, fault, caplog):
    complaint, content = spoil(fault)
    (downloaded / "raw" / "folder" / "desk" / "raw_model.obj").write_bytes(content)
    assert run(render.main, downloaded, *DRAWN) == 1
    failed = read_records(downloaded / "failed_rendered_0.csv")
    assert (
        list(failed) == [keys(downloaded)["desk/raw_model"]]
        and len(read_records(downloaded / "rendered_0.csv")) == 2
    )
    (error,) = [row["error"] for row in failed.values()]
    assert "raw_model.obj" in error and complaint in error and error in caplog.text
    assert not (downloaded / "renders" / keys(downloaded)["desk/raw_model"]).exists()
    assert sorted(path.name for path in (downloaded / "renders").iterdir()) == sorted(
        read_records(downloaded / "rendered_0.csv")
    )


def test_missing_model_is_named_and_counted_by_the_table(downloaded, capsys):
    (downloaded / "raw" / "folder" / "cone.ply").unlink()
    assert run(render.main, downloaded, *DRAWN) == 1
    capsys.readouterr()
    run(build_metadata.main, downloaded)
    assert "1 assets failed in rendered, see" in capsys.readouterr().out
    assert [row.rendered for row in read_assets(downloaded / ASSETS_NAME)] == [False, True, True]


def test_too_many_failures_stop_the_step(downloaded, caplog):
    for name in ("cone.ply", "made.glb", "desk/raw_model.obj"):
        (downloaded / "raw" / "folder" / name).write_bytes(b"")
    assert run(render.main, downloaded, *DRAWN, "--max_failures", "1", "--max_workers", "1") == 1
    assert "more than 1 assets failed (--max-failures); stopped" in caplog.text
    assert len(read_records(downloaded / "failed_rendered_0.csv")) == 2


def test_full_disk_ends_the_step_and_keeps_what_is_recorded(downloaded, monkeypatch, caplog):
    calls = []

    def full(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "transforms.json")
        return draw_asset(*arguments, **named)

    from dataset_toolkits import rendering

    draw_asset = rendering.draw_asset
    monkeypatch.setattr(rendering, "draw_asset", full)
    assert run(render.main, downloaded, *DRAWN, "--max-workers", "1") == 1
    assert caplog.records[-1].message.startswith("[Errno 28] No space left on device: 'transforms.json'")
    assert len(read_records(downloaded / "rendered_0.csv")) == 1
    monkeypatch.undo()
    assert run(render.main, downloaded, *DRAWN) == 0
    assert len(read_records(downloaded / "rendered_0.csv")) == 3


# --- data that were cut off ---------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_mesh_that_was_cut_off_is_named(rendered):
    key = keys(rendered)["cone"]
    cut(rendered / "renders" / key / "mesh.ply")
    assert run(voxelize.main, rendered) == 1
    assert "mesh.ply" in read_records(rendered / "failed_voxelized_0.csv")[key]["error"]
    assert len(read_records(rendered / "voxelized_0.csv")) == 2


def test_render_without_its_mesh_is_drawn_again(rendered):
    row = read_assets(rendered / ASSETS_NAME)[0]
    mesh = rendered / "renders" / row.sha256 / "mesh.ply"
    content = mesh.read_bytes()
    mesh.unlink()
    assert run(render.main, rendered, *DRAWN, "--instances", row.sha256) == 0
    assert mesh.read_bytes() == content


@pytest.fixture
def toy_encoders(tmp_path: Path) -> Path:
    """Encoders of the kinds that the steps ask for, with random weights."""
    torch.manual_seed(0)
    for name, config in {
        "vit": ("VisionTransformer", {"img_size": 28, "embed_dim": 32, "depth": 1, "num_heads": 2}),
        "ss": ("SparseStructureEncoder", {"in_channels": 1, "latent_channels": 2, "num_res_blocks": 0,
                                          "num_res_blocks_middle": 0, "channels": [8, 8, 8]}),
        "slat": ("SLatEncoder", {"resolution": 64, "in_channels": 32, "model_channels": 32,
                                 "latent_channels": 8, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 1,
                                 "attn_mode": "swin", "window_size": 8}),
    }.items():  # fmt: skip
        save_checkpoint(build_model(NamedConfig(*config)), tmp_path / name)
    return tmp_path


def test_pictures_and_arrays_that_were_cut_off_are_named(voxelized, toy_encoders, caplog):
    named = keys(voxelized)
    vit = ["--model", str(toy_encoders / "vit"), "--image-size", "28", "--device", "cpu"]
    cut(voxelized / "renders" / named["cone"] / "000.png")
    assert run(extract_feature.main, voxelized, *vit, subset=False) == 1
    assert (
        "000.png: not readable as a picture"
        in read_records(voxelized / "failed_feature_vit_0.csv")[named["cone"]]["error"]
    )
    run(build_metadata.main, voxelized)
    cut(voxelized / "features" / "vit" / f"{named['made']}.npz")
    slat = ["--feat_model", "vit", "--enc_pretrained", str(toy_encoders / "slat"), "--device", "cpu"]
    assert run(encode_latent.main, voxelized, *slat, subset=False) == 1
    assert list(read_records(voxelized / "latent_vit_slat_0.csv")) == [named["desk/raw_model"]]
    assert f"{named['made']}.npz: not readable as arrays" in caplog.text
    run(build_metadata.main, voxelized)
    assert run(stat_latent.main, voxelized, "--model", "vit_slat", subset=False) == 0
    cut(voxelized / "latents" / "vit_slat" / f"{named['desk/raw_model']}.npz")
    assert run(stat_latent.main, voxelized, "--model", "vit_slat", subset=False) == 1
    assert "none of 1 latents could be read" in caplog.text


def test_features_of_another_width_than_the_encoder_reads_are_named(voxelized, toy_encoders, caplog):
    for key in keys(voxelized).values():
        write_arrays(
            voxelized / "features" / "thin" / f"{key}.npz",
            indices=np.zeros((2, 3), np.uint8),
            patchtokens=np.zeros((2, 7), np.float16),
        )
    assert run(build_metadata.main, voxelized, "--from_file") == 0
    slat = ["--feat_model", "thin", "--enc_pretrained", str(toy_encoders / "slat"), "--device", "cpu"]
    assert run(encode_latent.main, voxelized, *slat, subset=False) == 1
    assert "patchtokens: expected (N, 32)" in caplog.text and "got (2, 7)" in caplog.text


def test_encoder_that_is_missing_or_of_another_kind_is_named(voxelized, toy_encoders, caplog):
    options = ["--device", "cpu", "--enc_pretrained"]
    assert run(encode_ss_latent.main, voxelized, *options, str(toy_encoders / "slat"), subset=False) == 1
    assert "slat: expected a network of kind SparseStructureEncoder, got SLatEncoder" in caplog.text
    assert run(encode_ss_latent.main, voxelized, *options, str(toy_encoders / "none"), subset=False) == 1
    assert "none: expected a network as" in caplog.text
    vit = ["--model", str(toy_encoders / "vit"), "--image-size", "30", "--device", "cpu"]
    assert run(extract_feature.main, voxelized, *vit, subset=False) == 1
    assert "--image-size: expected a multiple of 14, got 30" in caplog.text


def test_encoder_of_an_own_training(voxelized, toy_encoders, tmp_path):
    folder = tmp_path / "results" / "run"
    (folder / "ckpts").mkdir(parents=True)
    (toy_encoders / "ss.safetensors").rename(folder / "ckpts" / "encoder_step2.safetensors")
    description = (toy_encoders / "ss.json").read_text()
    (folder / "config.json").write_text(f'{{"models": {{"encoder": {description}}}}}')
    own = [
        "--model_root",
        str(tmp_path / "results"),
        "--enc_model",
        "run",
        "--ckpt",
        "step2",
        "--device",
        "cpu",
    ]
    assert run(encode_ss_latent.main, voxelized, *own, subset=False) == 0
    with np.load(next((voxelized / "ss_latents" / "run_step2").glob("*.npz"))) as stored:
        assert stored["mean"].shape == (2, 16, 16, 16)


def test_structures_can_be_turned_before_they_are_encoded(voxelized, toy_encoders):
    """The latents are those of voxels that were turned by hand."""
    ss = ["--enc_pretrained", str(toy_encoders / "ss"), "--device", "cpu"]
    assert run(encode_ss_latent.main, voxelized, *ss, "--yaw", "90", subset=False) == 0
    paths = sorted((voxelized / "voxels").glob("*.ply"))
    latents = {}
    for path in paths:
        with np.load(voxelized / "ss_latents" / "ss_yaw90" / f"{path.stem}.npz") as stored:
            latents[path] = stored["mean"]
        x, y, z = read_voxels(path).T
        write_voxels(path, np.stack([63 - y, x, z], axis=1))
    run(build_metadata.main, voxelized)
    assert run(encode_ss_latent.main, voxelized, *ss, subset=False) == 0
    for path in paths:
        with np.load(voxelized / "ss_latents" / "ss" / f"{path.stem}.npz") as stored:
            np.testing.assert_array_equal(stored["mean"], latents[path])
    run(build_metadata.main, voxelized)
    rows = read_assets(voxelized / ASSETS_NAME)
    assert all(row.status["ss_latent_ss"] and row.status["ss_latent_ss_yaw90"] for row in rows)


def test_pictures_are_over_black_and_normalised(voxelized):
    path = next((voxelized / "renders").glob("*/000.png"))
    picture = load_picture(path, 28)
    assert picture.shape == (3, 28, 28)
    corner = (0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(picture[:, 0, 0].numpy(), corner, rtol=1e-5)


# --- the table ----------------------------------------------------------------------------------------------


def test_files_without_records_are_believed_when_asked(voxelized, capsys):
    rows = read_assets(voxelized / ASSETS_NAME)
    bare = [AssetRow(row.sha256, row.file_identifier, local_path=row.local_path) for row in rows]
    write_assets(bare, voxelized / ASSETS_NAME)
    (voxelized / "voxels" / f"{rows[0].sha256}.ply").unlink()
    assert run(build_metadata.main, voxelized, "--from_file", "--field", "rendered") == 0
    assert [(row.rendered, row.voxelized) for row in read_assets(voxelized / ASSETS_NAME)] == [
        (True, False)
    ] * 3
    assert run(build_metadata.main, voxelized, "--from_file") == 0
    again = read_assets(voxelized / ASSETS_NAME)
    assert [row.num_voxels for row in again] == [0, *(row.num_voxels for row in rows[1:])]


def test_records_that_are_damaged_or_of_strangers_are_named_and_moved(voxelized, caplog):
    (voxelized / "rendered_3.csv").write_bytes(b"\xff\xfe")
    (voxelized / "voxelized_1.csv").write_text("sha256,voxelized,num_voxels\nstranger,True,3\n")
    key = keys(voxelized)["cone"]
    (voxelized / "cond_rendered_0.csv").write_text(f"sha256,cond_rendered\n{key},perhaps\n")
    before = (voxelized / ASSETS_NAME).read_bytes()
    assert run(build_metadata.main, voxelized) == 0
    assert (voxelized / ASSETS_NAME).read_bytes() == before
    for complaint in (
        "rendered_3.csv",
        "1 assets are not in the table",
        "expected True or False, got 'perhaps'",
    ):
        assert complaint in caplog.text
    assert not list(voxelized.glob("*_[0-9].csv"))


def test_models_of_one_content_are_named_once(models, tmp_path, caplog):
    (models / "copy.ply").write_bytes((models / "cone.ply").read_bytes())
    arguments = ["folder", "--output_dir", str(tmp_path / "r"), "--source", str(models)]
    assert build_metadata.main(arguments) == 0
    assert "one model file under several names, the first is kept: cone, copy" in caplog.text
    assert [row.file_identifier for row in read_assets(tmp_path / "r" / ASSETS_NAME)] == [
        "cone",
        "desk/raw_model",
        "made",
    ]


def test_model_that_changed_since_it_was_listed_is_refused(models, tmp_path, caplog):
    arguments = ["folder", "--output_dir", str(tmp_path / "r"), "--source", str(models)]
    assert build_metadata.main(arguments) == 0
    (models / "cone.ply").write_bytes((models / "made.glb").read_bytes())
    assert download.main(arguments) == 1
    assert "cone.ply: expected sha256" in caplog.text
    assert len(read_records(tmp_path / "r" / "downloaded_0.csv")) == 2


def test_a_damaged_table_is_never_written_again(rendered, caplog):
    path = rendered / ASSETS_NAME
    content = path.read_bytes().replace(b"True", b"Tru", 1)
    path.write_bytes(content)
    assert run(build_metadata.main, rendered) == 1
    assert "line 2: column rendered: expected True or False, got 'Tru'" in caplog.text
    assert path.read_bytes() == content
    assert run(voxelize.main, rendered) == 0
    assert len(read_records(rendered / "voxelized_0.csv")) == 2


def test_a_file_is_no_data_root(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        run(voxelize.main, tmp_path / "file" / "root")
    assert "expected a folder, got" in capsys.readouterr().err
