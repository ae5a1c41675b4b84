"""Download, metadata, packs and credits, end to end on the synthetic library."""

import re
from pathlib import Path

import pandas as pd
import pytest

from dataset_toolkits.subsets.sweethome3d.attribution import attribution_markdown
from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from dataset_toolkits.subsets.sweethome3d.data_set import build_mesh_pack, build_metadata, download
from dataset_toolkits.subsets.sweethome3d.licences import CC0, CC_BY, LicenceError, licence_of
from dataset_toolkits.subsets.sweethome3d.metadata import (
    METADATA_NAME,
    MetadataError,
    model_infos,
    read_metadata,
)
from dataset_toolkits.subsets.sweethome3d.prepare import coloured_path, load_prepared, mesh_path
from dataset_toolkits.subsets.sweethome3d.source import SourceError, find_libraries
from scenegen.synthesis.furniture.split import load_split

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture
def root(library, tmp_path):
    """A data root with metadata of the synthetic library."""
    folder = tmp_path / "data"
    assert build_metadata(folder, library.parent) == (2, [])
    return folder


def test_download_unpacks_the_models_of_the_split_only(library, tmp_path):
    assert download(tmp_path / "data", library.parent) == 2
    unpacked = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert unpacked == {"bed1.obj", "bed1.mtl", "paint.png", "chair.obj", "LICENSE.TXT"}


def test_a_folder_without_libraries_is_named(tmp_path):
    with pytest.raises(SourceError, match="expected .sh3f furniture libraries"):
        find_libraries(tmp_path)


def test_metadata_rows(root):
    row = read_metadata(root).set_index("id").loc["Scopia/bed1"]
    place = load_split()["Scopia/bed1"]
    assert (row["tier"], row["split"], row["group"]) == (place.tier, place.split, place.group)
    assert (row["width_m"], row["height_m"], row["depth_m"]) == (2.0, 1.0, 0.5)
    assert row["licence"] == CC_BY and "Emmanuel PUYBARET" in row["creator"]
    assert (row["num_faces"], row["num_visible_faces"]) == (4, 4)
    assert (root / row["local_path"]).is_file() and (root / row["mesh_path"]).is_file()
    assert len(row["sha256"]) == 64


def test_a_second_run_reads_what_the_first_prepared(root, library):
    written = {path: path.stat().st_mtime_ns for path in root.rglob("*.glb")}
    build_metadata(root, library.parent)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.glb")} == written


def test_a_damaged_mesh_is_prepared_again(root, library):
    damaged = root / coloured_path("Scopia/bed1")
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert load_prepared(root, "Scopia/bed1") is None
    build_metadata(root, library.parent)
    assert len(load_prepared(root, "Scopia/bed1").mesh.faces) == 4


def test_a_broken_model_is_left_out_and_counted(library, tmp_path, caplog):
    root = tmp_path / "data"
    download(root, library.parent)
    broken = next(root.rglob("chair.obj"))
    broken.write_bytes(b"#" * broken.stat().st_size)
    assert build_metadata(root, library.parent) == (1, ["Scopia/chair"])
    assert "Scopia/chair: left out" in caplog.text


def test_packs_hold_the_models_of_their_split(root):
    infos = model_infos(read_metadata(root))
    for split in ("train", "validation", "test"):
        expected = {info.id for info in infos.values() if info.split == split}
        assert {info.id for info in build_mesh_pack(root, split).infos} == expected


def test_packing_refuses_metadata_that_moves_a_model_into_training(root):
    path = root / METADATA_NAME
    table = pd.read_csv(path)
    stranger = load_split()
    foreign = next(entry for entry in stranger.values() if entry.split == "test" and entry.tier == "floor")
    table.loc[table["id"] == "Scopia/chair", ["id", "split", "tier"]] = [foreign.id, "train", "floor"]
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"{foreign.id} belongs to the test split"):
        build_mesh_pack(root, "train")


def test_missing_metadata_says_what_to_run(tmp_path):
    with pytest.raises(MetadataError, match="run python -m dataset_toolkits.build_metadata"):
        build_mesh_pack(tmp_path, "train")
    assert not (tmp_path / mesh_path("Scopia/bed1")).exists()


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


def test_attribution_names_creators_titles_and_licences(root):
    text = attribution_markdown(read_metadata(root))
    assert "**Emmanuel PUYBARET / eTeks <info@eteks.com> and Scopia Visual Interfaces Systems, s.l.**" in text
    assert "https://creativecommons.org/licenses/by/3.0/" in text
    assert "Bed \u20ac5 (`Scopia/bed1`)" in text


def test_committed_attribution_covers_every_model_in_use():
    text = (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8")
    credited = set(re.findall(r"\(`([^`\n]+)`\)", text))
    assert {entry.id for entry in load_split().values() if entry.tier != "drop"} <= credited


def test_committed_attribution_covers_every_creator():
    path = ROOT / "data" / "sweethome3d" / METADATA_NAME
    if not path.is_file():
        pytest.skip(f"{path} is missing; make it with python -m dataset_toolkits.build_metadata sweethome3d")
    table = read_metadata(path.parent)
    assert (ROOT / "ATTRIBUTION.md").read_text(encoding="utf-8") == attribution_markdown(table)
