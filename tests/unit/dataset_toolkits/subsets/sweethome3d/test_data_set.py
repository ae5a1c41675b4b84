"""Download, metadata, packs and credits, end to end on the synthetic library."""

import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_toolkits import build_attribution, build_metadata, download
from dataset_toolkits.subsets.sweethome3d.attribution import attribution_markdown
from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from dataset_toolkits.subsets.sweethome3d.data_set import build_mesh_pack, get_metadata, model_files
from dataset_toolkits.subsets.sweethome3d.licences import CC0, CC_BY, LicenceError, licence_of
from dataset_toolkits.subsets.sweethome3d.metadata import model_infos, read_metadata
from dataset_toolkits.subsets.sweethome3d.prepare import coloured_path, load_prepared, mesh_path
from dataset_toolkits.subsets.sweethome3d.source import SourceError, find_libraries
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, write_assets
from scenegen.datasets.records import read_records
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.split import load_split

ROOT = Path(__file__).resolve().parents[5]


def build(folder, library):
    """List, prepare, and take in what was prepared; the status of the preparation."""
    arguments = ["sweethome3d", "--output_dir", str(folder), "--source", str(library.parent)]
    assert build_metadata.main(arguments) == 0
    status = download.main(arguments)
    assert build_metadata.main(arguments) == 0
    return status


@pytest.fixture
def root(library, tmp_path):
    """A data root with metadata of the synthetic library."""
    folder = tmp_path / "data"
    assert build(folder, library) == 0
    return folder


def rows_by_id(root):
    return {row.file_identifier: row for row in read_metadata(root)}


def test_only_the_models_of_the_split_are_unpacked(library, tmp_path):
    rows = get_metadata(tmp_path / "data", Namespace(source=library.parent))
    assert [row.file_identifier for row in rows] == ["Scopia/bed1", "Scopia/chair"]
    unpacked = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert unpacked == {"bed1.obj", "bed1.mtl", "paint.png", "chair.obj", "LICENSE.TXT"}


def test_a_folder_without_libraries_is_named(tmp_path):
    with pytest.raises(SourceError, match="expected .sh3f furniture libraries"):
        find_libraries(tmp_path)


def test_metadata_rows(root):
    row = rows_by_id(root)["Scopia/bed1"]
    place, text = load_split()["Scopia/bed1"], row.extra
    assert (text["tier"], text["split"], text["group"]) == (place.tier, place.split, place.group)
    assert model_infos([row])["Scopia/bed1"].size_m == (2.0, 1.0, 0.5)
    assert text["licence"] == CC_BY and "Emmanuel PUYBARET" in text["creator"]
    assert (text["num_faces"], text["num_visible_faces"]) == ("4", "4")
    assert (root / row.local_path).suffix == ".glb" and (root / row.local_path).is_file()
    assert (root / text["source_path"]).is_file() and len(row.sha256) == 64


def test_a_second_run_reads_what_the_first_prepared(root, library):
    written = {path: path.stat().st_mtime_ns for path in root.rglob("*.glb")}
    (root / ASSETS_NAME).unlink()
    assert build(root, library) == 0
    assert len(written) == 2 and {path: path.stat().st_mtime_ns for path in root.rglob("*.glb")} == written


def test_a_damaged_mesh_is_prepared_again(root, library):
    damaged = root / coloured_path("Scopia/bed1")
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert load_prepared(root, "Scopia/bed1") is None
    (root / ASSETS_NAME).unlink()
    build(root, library)
    assert len(load_prepared(root, "Scopia/bed1").mesh.faces) == 4


def test_a_broken_model_is_left_out_and_counted(library, tmp_path, caplog):
    root = tmp_path / "data"
    get_metadata(root, Namespace(source=library.parent))
    broken = next(root.rglob("chair.obj"))
    broken.write_bytes(b"#" * broken.stat().st_size)
    assert build(root, library) == 1
    key = rows_by_id(root)["Scopia/chair"].sha256
    assert f"{key}: " in caplog.text and "chair.obj: expected triangles" in caplog.text
    assert "chair.obj" in read_records(root / "failed_downloaded_0.csv")[key]["error"]
    assert list(model_infos(read_metadata(root))) == ["Scopia/bed1"]


def test_a_model_of_another_version_of_the_library_is_refused(root, library, caplog):
    rows = [replace(row, sha256=row.sha256[::-1], local_path="") for row in read_metadata(root)]
    write_assets(rows, root / ASSETS_NAME)
    assert build(root, library) == 1
    assert caplog.text.count("the libraries are of another version") == 2


def test_a_table_of_an_earlier_version_is_not_rendered():
    old = AssetRow("a", local_path="raw/a.obj", extra={"id": "Scopia/bed1", "mesh_path": "meshes/a.glb"})
    with pytest.raises(MetadataError, match="earlier version; remove it"):
        model_files([old])


def test_packs_hold_the_models_of_their_split(root):
    infos = model_infos(read_metadata(root))
    for split in ("train", "validation", "test"):
        expected = {info.id for info in infos.values() if info.split == split}
        assert {info.id for info in build_mesh_pack(root, split).infos} == expected


def test_packing_refuses_metadata_that_moves_a_model_into_training(root):
    foreign = next(
        entry for entry in load_split().values() if entry.split == "test" and entry.tier == "floor"
    )
    moved = {"id": foreign.id, "split": "train", "tier": "floor"}
    rows = read_metadata(root)
    write_assets([rows[0], replace(rows[1], extra=rows[1].extra | moved)], root / ASSETS_NAME)
    with pytest.raises(ValueError, match=f"{foreign.id} belongs to the test split"):
        build_mesh_pack(root, "train")


def test_missing_metadata_says_what_to_run(tmp_path):
    with pytest.raises(MetadataError, match="run python dataset_toolkits/build_metadata.py"):
        build_mesh_pack(tmp_path, "train")
    assert not (tmp_path / mesh_path("Scopia/bed1")).exists()


def test_a_table_of_something_else_is_refused(tmp_path):
    write_assets([AssetRow("a")], tmp_path / ASSETS_NAME)
    with pytest.raises(MetadataError, match="expected furniture of sweethome3d with the column 'id'"):
        read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("library", "text", "name", "url"),
    [
        ("BlendSwap-CC-0", "", CC0, ""),
        ("BlendSwap-CC-0", "released under\nCreative Commons Attribution 3.0\n", CC_BY, ""),
        ("BlendSwap-CC-BY", "Creative Commons Zero http://www.blendswap.com/blends/view/12", CC0, "view/12"),
        (
            "BlendSwap-CC-BY",
            "<p>Creative Commons Attribution 3.0</p> http://www.blendswap.com/blends/view/7 MODERATION: "
            "Use of other CC0 licensed works",
            CC_BY,
            "view/7",
        ),
    ],
)
def test_a_models_own_licence_file_counts_first(tmp_path, library, text, name, url):
    (tmp_path / "BLENDSWAP_LICENSE.txt").write_text(text)
    entry = CatalogueEntry(f"{library}/chair", "Chair", "Office", "x/chair.obj", (1, 1, 1), creator="Ann")
    licence = licence_of(entry, tmp_path)
    assert (licence.name, licence.creator) == (name, "Ann")
    assert licence.source_url.endswith(url)


def test_an_unknown_library_has_no_licence(tmp_path):
    entry = CatalogueEntry("Other/chair", "Chair", "Office", "x/chair.obj", (1, 1, 1))
    with pytest.raises(LicenceError, match="licence of library 'Other' is unknown"):
        licence_of(entry, tmp_path)


def test_attribution_names_creators_titles_and_licences(root, tmp_path):
    path = tmp_path / "credits.md"
    assert build_attribution.main(["--output-dir", str(root), "--output", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert "**Emmanuel PUYBARET / eTeks <info@eteks.com> and Scopia Visual Interfaces Systems, s.l.**" in text
    assert "https://creativecommons.org/licenses/by/3.0/" in text
    assert "Bed \u20ac5 (`Scopia/bed1`)" in text


def test_committed_attribution_covers_every_model_in_use():
    text = (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
    credited = set(re.findall(r"\(`([^`\n]+)`\)", text))
    assert {entry.id for entry in load_split().values() if entry.tier != "drop"} <= credited


def test_committed_attribution_covers_every_creator():
    path = ROOT / "data" / "sweethome3d" / ASSETS_NAME
    if not path.is_file():
        pytest.skip(f"{path} is missing; make it as docs/data.md says")
    rows = read_metadata(path.parent)
    assert (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8") == attribution_markdown(rows)
