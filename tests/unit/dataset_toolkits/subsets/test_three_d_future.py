"""3D-FUTURE: the table from a file, and the zip file that is placed by hand."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from dataset_toolkits import build_metadata, download
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.datasets.records import read_records

OBJ = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
MODELS = ("0a", "0b", "0c")


def picture(model: str) -> bytes:
    return f"picture of {model}".encode()


def key(model: str) -> str:
    return hashlib.sha256(picture(model)).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root whose table is there."""
    table = tmp_path / "table.csv"
    lines = [f'{key(model)},3D-FUTURE-model/{model},5.5,"[""a desk""]"' for model in MODELS]
    table.write_text("\n".join(["sha256,file_identifier,aesthetic_score,captions", *lines]) + "\n")
    root = tmp_path / "root"
    assert build_metadata.main(["3D-FUTURE", "--output_dir", str(root), "--table", str(table)]) == 0
    return root


def write_zip(root: Path, models: tuple[str, ...] = MODELS, **changed: bytes) -> Path:
    path = root / "raw" / "3D-FUTURE-model.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("3D-FUTURE-model/model_info.json", "[]")
        for model in models:
            archive.mkdir(f"3D-FUTURE-model/{model}") if hasattr(archive, "mkdir") else None
            archive.writestr(f"3D-FUTURE-model/{model}/raw_model.obj", OBJ)
            archive.writestr(f"3D-FUTURE-model/{model}/texture.png", b"texels")
            archive.writestr(f"3D-FUTURE-model/{model}/image.jpg", changed.get(f"m{model}", picture(model)))
    return path


def fetch(root: Path, *arguments: str) -> int:
    return download.main(["3D-FUTURE", "--output_dir", str(root), *arguments])


def test_models_are_unpacked_and_get_their_path(root):
    write_zip(root)
    assert fetch(root) == 0
    assert build_metadata.main(["3D-FUTURE", "--output_dir", str(root)]) == 0
    for row, model in zip(read_assets(root / ASSETS_NAME), MODELS):
        assert row.local_path == f"raw/3D-FUTURE-model/{model}/raw_model.obj"
        assert (root / row.local_path).read_bytes() == OBJ
        assert row.caption_list == ["a desk"] and row.aesthetic_score == 5.5
    assert (root / "raw" / "3D-FUTURE-model" / "0a" / "texture.png").is_file()
    assert not (root / "raw" / "3D-FUTURE-model" / "model_info.json").exists()


def test_two_ranks_share_the_models(root):
    write_zip(root)
    for rank in ("0", "1"):
        assert fetch(root, "--rank", rank, "--world_size", "2") == 0
    found = [list(read_records(root / f"downloaded_{rank}.csv")) for rank in (0, 1)]
    assert found == [[key("0a")], [key("0b"), key("0c")]]


def test_missing_zip_says_where_to_get_it(root, caplog):
    assert fetch(root) == 1
    assert "3D-FUTURE-model.zip: expected the models" in caplog.text and "accept the licence" in caplog.text


def test_zip_that_was_cut_off_is_named(root, caplog):
    path = write_zip(root)
    path.write_bytes(path.read_bytes()[:200])
    assert fetch(root) == 1
    assert "not readable as a zip file" in caplog.text and "download it again" in caplog.text


def test_wrong_picture_and_missing_model_are_named_and_the_others_unpacked(root):
    write_zip(root, ("0a", "0b"), m0b=b"another picture")
    assert fetch(root) == 1
    failed = read_records(root / "failed_downloaded_0.csv")
    assert "0b/image.jpg: expected sha256" in failed[key("0b")]["error"]
    assert "expected 3D-FUTURE-model/0c/raw_model.obj, found none" in failed[key("0c")]["error"]
    assert list(read_records(root / "downloaded_0.csv")) == [key("0a")]
    assert not (root / "raw" / "3D-FUTURE-model" / "0b").exists()


def test_damaged_member_is_named(root):
    path = write_zip(root)
    content = bytearray(path.read_bytes())
    place = content.index(OBJ)
    content[place + 3] ^= 1
    path.write_bytes(content)
    assert fetch(root) == 1
    assert "0a/raw_model.obj: damaged" in read_records(root / "failed_downloaded_0.csv")[key("0a")]["error"]


def test_half_unpacked_model_is_completed(root):
    write_zip(root)
    half = root / "raw" / "3D-FUTURE-model" / "0a" / "raw_model.obj"
    half.parent.mkdir(parents=True)
    half.write_bytes(OBJ[:5])
    assert fetch(root) == 0 and half.read_bytes() == OBJ


def test_table_that_cannot_be_fetched_says_how_to_give_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert build_metadata.main(["3D-FUTURE", "--output_dir", str(tmp_path / "root")]) == 1
    assert "datasets/JeffreyXiang/TRELLIS-500K: 3D-FUTURE.csv" in caplog.text
    assert caplog.text.strip().endswith("or give the table with --table FILE")
    assert "small model" not in caplog.text
