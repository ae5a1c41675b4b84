"""What an inspection counts, names and draws."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_toolkits import inspect_root
from dataset_toolkits.photos.contact_sheet import TILE
from dataset_toolkits.photos.inspection import is_whole
from scenegen.datasets.metadata import read_assets, write_assets
from tests.unit.dataset_toolkits.conftest import LATENT


@pytest.fixture
def whole(finished: Path) -> Path:
    """A finished root in which every file that the tables name is there."""
    assets = read_assets(finished / "metadata.csv")
    for asset in assets:
        (finished / "renders_cond" / asset.sha256).mkdir(parents=True)
        (finished / "renders_cond" / asset.sha256 / "transforms.json").write_text("{}")
        Image.new("RGBA", (20, 20), "red").save(finished / "renders_cond" / asset.sha256 / "000.png")
        latent = finished / "ss_latents" / LATENT.removeprefix("ss_latent_") / f"{asset.sha256}.npz"
        latent.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(latent, mean=np.zeros(3))
    return finished


def inspect(root: Path, capsys: pytest.CaptureFixture, *flags: str) -> tuple[int, str]:
    status = inspect_root.main([str(root), *flags])
    return status, capsys.readouterr().out


def test_a_whole_root_is_counted_and_drawn(whole, capsys):
    status, printed = inspect(whole, capsys)
    assert status == 0, printed
    for line in (
        "assets: 3, with a model: 3", "cond_rendered: 3", f"{LATENT}: 3", "train set:", "Number of scenes: 2",
        "test set:", "Number of scenes: 1", "0 tilted, 0 not on the floor",
    ):  # fmt: skip
        assert line in printed
    with Image.open(whole / "contact_sheet.png") as sheet:
        assert sheet.width == 6 * TILE and sheet.height > TILE
        assert np.asarray(sheet).std() > 10
    (whole / "contact_sheet.png").unlink()
    assert inspect(whole, capsys, "--no_sheet")[0] == 0
    assert not (whole / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    "pattern",
    ["masked_images/*/0.png", "vggt_features_test/*.npz", "masked_images/*/scene.jpg",
     "renders_cond/*/*.json", "ss_latents/*/*.npz", "raw/3D-FUTURE-model/*/raw_model.obj",
     "raw/3D-FUTURE-scene/train/image/*.jpg"],
)  # fmt: skip
def test_missing_and_cut_off_files_are_named(whole, capsys, pattern):
    path = sorted(whole.glob(pattern))[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if path.suffix != ".json" else b"")
    status, printed = inspect(whole, capsys, "--no_sheet")
    if path.suffix != ".obj":  # half a text is a text; a wrong box would show in the poses
        assert status == 1 and "files cut off: " in printed and str(path) in printed
    path.unlink()
    status, printed = inspect(whole, capsys, "--no_sheet")
    assert status == 1 and "missing files: " in printed and str(path) in printed


def test_broken_rows_and_annotations_are_named(lookalike, capsys):
    status, printed = inspect(lookalike(faults=True), capsys, "--no_sheet", "--list", "100")
    assert status == 1 and "broken rows: " in printed
    for text in (
        "expected a file_name as text", "is there twice", "pose.translation: expected three finite numbers",
        "no pixel inside the photo", "expected one fov for a photo", "no such file",
    ):  # fmt: skip
        assert text in printed


def test_rows_that_cannot_be_used_are_named_with_their_line(whole, capsys):
    table = whole / "metadata_scene.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:2], lines[2].replace("[", "[nan", 1), *lines[3:]]))
    status, printed = inspect(whole, capsys, "--no_sheet")
    assert status == 1 and f"{table}: line 3" in printed
    table.write_text("".join(lines)[: len("".join(lines)) - 40])
    status, printed = inspect(whole, capsys, "--no_sheet")
    assert status == 1 and f"{table}: line {len(lines)}" in printed


def test_rows_that_the_annotations_do_not_have_are_named(whole, capsys):
    table = whole / "metadata_scene.csv"
    lines = table.read_text().splitlines(keepends=True)
    extra = re.sub(r"True,\d,scene", "True,9,scene", lines[-1])
    table.write_text("".join([*lines, extra]))
    status, printed = inspect(whole, capsys, "--no_sheet")
    assert status == 1 and "object 9 is not in the annotations; run build_metadata_scene.py again" in printed


def test_test_furniture_in_the_train_table_is_named(whole, capsys, furniture_of_split):
    test_id = furniture_of_split("test", 1).infos[0].id
    own = read_assets(whole / "metadata.csv")[0].extra["id"]
    table = whole / "metadata_scene.csv"
    table.write_text(table.read_text().replace(own, test_id))
    status, printed = inspect(whole, capsys, "--no_sheet")
    assert status == 1 and "belongs to the test split, not to train" in printed


def test_only_the_first_lines_of_a_long_list_are_printed(whole, capsys):
    assets = read_assets(whole / "metadata.csv")
    write_assets([type(a)(**{**vars(a), "rendered": True}) for a in assets], whole / "metadata.csv")
    status, printed = inspect(whole, capsys, "--no_sheet", "--list", "2")
    assert status == 1 and "missing files: 6" in printed and "and 4 more (--list)" in printed


def test_without_a_table_there_is_one_line(tmp_path, caplog):
    assert inspect_root.main([str(tmp_path)]) == 1
    assert "metadata.csv: no such file" in caplog.records[-1].message


def test_ends_of_files_tell_whether_they_are_whole(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png"), picture.save(tmp_path / "a.jpg")
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(1000))
    for path in tmp_path.iterdir():
        assert is_whole(path)
        content = path.read_bytes()
        for kept in (0, 10, len(content) // 2, len(content) - 13):
            path.write_bytes(content[:kept])
            assert not is_whole(path), (path, kept)
