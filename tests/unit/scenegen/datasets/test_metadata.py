"""The tables of assets and scenes: round trips, files of other programs, and lines that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scenegen.datasets.metadata import (
    ASSET,
    AssetRow,
    SceneRow,
    read_assets,
    read_scenes,
    write_assets,
    write_scenes,
)
from scenegen.datasets.tables import MetadataError

ASSET_ROW = AssetRow(
    sha256="007" + "a" * 61,
    file_identifier="3D-FUTURE-model/0001",
    aesthetic_score=5.25,
    captions='["a chair", "a \\"good\\" chair, red"]',
    rendered=True,
    voxelized=True,
    num_voxels=1234,
    local_path="raw/3D-FUTURE-model/0001/raw_model.obj",
    status={"feature_dinov2_vitl14_reg": True, "ss_latent_ss_enc_conv3d_16l8_fp16": False},
    extra={"licence": "CC0-1.0", "creator": "A, B"},
)
SCENE_ROW = SceneRow(
    scene_id="0004691",
    model_id="0001",
    translation=(0.5, -1.25, -3e-7),
    rotation=(0.0, 90.0, 0.0),
    scale=1.75,
    vggt_feature="vggt_features/0004691.npz",
    masked_image_path="masked_images/0004691/2.png",
    scene_image_path="masked_images/0004691/scene.jpg",
    sha256="a" * 64,
    status={"ss_latent_ss_enc_conv3d_16l8_fp16": True},
    instance_id=2,
    center=(0.0, 0.5, 0.0),
)
OLD_HEADER = (
    "scene_id,model_id,translation,rotation,scale,vggt_feature,masked_image_path,scene_image_path,sha256,"
    "file_identifier,aesthetic_score,captions,rendered,voxelized,num_voxels,cond_rendered,local_path,"
    "ss_latent_ss_enc_conv3d_16l8_fp16"
)


def test_assets_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [ASSET_ROW, AssetRow("b", extra={"tier": "floor"})]
    write_assets(rows, tmp_path / "metadata.csv")
    read = read_assets(tmp_path / "metadata.csv")
    assert read[0] == replace(ASSET_ROW, extra={**ASSET_ROW.extra, "tier": ""})
    assert read[1].extra["tier"] == "floor" and read[1].aesthetic_score is None
    assert read[0].caption_list == ["a chair", 'a "good" chair, red']
    write_assets(read, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "metadata.csv").read_bytes()


def test_scenes_come_back_as_they_were_written(tmp_path: Path) -> None:
    alone = SceneRow("c" * 64, sha256="c" * 64, kind=ASSET)
    status = {"ss_latent_ss_enc_conv3d_16l8_fp16": False}
    write_scenes([SCENE_ROW, alone], tmp_path / "scenes.csv")
    assert read_scenes(tmp_path / "scenes.csv") == [SCENE_ROW, replace(alone, status=status)]


def test_scene_columns_are_those_of_the_published_table_and_the_added_ones(tmp_path: Path) -> None:
    write_scenes([SCENE_ROW], tmp_path / "scenes.csv")
    header = (tmp_path / "scenes.csv").read_text().splitlines()[0]
    assert header == f"{OLD_HEADER},instance_id,kind,center"


def test_flags_of_other_programs_are_cast(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text(
        "sha256,rendered,voxelized,num_voxels,latent_x,aesthetic_score,captions\n"
        "1,True,,12.0,1,nan,\n2,0,nan,,False,,not a list\n"
    )
    first, second = read_assets(path)
    assert (first.rendered, first.voxelized, first.num_voxels, first.status) == (
        True,
        False,
        12,
        {"latent_x": True},
    )
    assert first.aesthetic_score is None and first.caption_list == second.caption_list == []
    assert (second.rendered, second.num_voxels, second.local_path) == (False, 0, "")


def test_table_without_the_added_columns_gets_them_from_the_others(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    place = "v/0004691.npz,masked_images/0004691/3.png,masked_images/0004691/scene.jpg"
    key = "e" * 64
    path.write_text(
        f'{OLD_HEADER}\n0004691,m,"[1, 2, 3]","[0, 0, 0]",2.0,{place},k,i,5.0,[],True,True,9,True,l,True\n'
        f"{key},m,False,False,False,v/{key}.npz,r/000.png,r/000.png,{key},i,,,True,True,9,True,l,True\n"
    )
    scene, alone = read_scenes(path)
    assert (scene.kind, scene.instance_id, scene.center) == ("scene", 3, None)
    assert (alone.kind, alone.translation, alone.scale) == (ASSET, None, None)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scene_id": "4691"}, "lost its leading zeros, its pictures are in 0004691"),
        ({"translation": (float("nan"), 0.0, 0.0)}, "column translation: expected three finite numbers"),
        ({"rotation": None}, "expected a translation, a rotation and a scale"),
        ({"scale": 0.0}, "a scale above 0"),
        ({"kind": "film"}, "kind: expected scene or asset, got 'film'"),
        ({"scene_id": ""}, "expected a scene_id"),
    ],
)
def test_bad_scene_line_is_named_and_the_others_are_read(
    tmp_path: Path, change: dict, complaint: str
) -> None:
    path = tmp_path / "scenes.csv"
    write_scenes(
        [SCENE_ROW, replace(SCENE_ROW, instance_id=7, **change), replace(SCENE_ROW, instance_id=3)], path
    )
    errors: list[MetadataError] = []
    assert [row.instance_id for row in read_scenes(path, errors.append)] == [2, 3]
    assert len(errors) == 1 and str(errors[0]).startswith(f"{path}: line 3: ") and complaint in str(errors[0])
    with pytest.raises(MetadataError, match="line 3"):
        read_scenes(path)


def test_key_twice_is_refused_by_writer_and_reader(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    with pytest.raises(MetadataError, match="two rows have the key a"):
        write_assets([AssetRow("a"), AssetRow("a")], path)
    assert not path.exists()
    path.write_text("sha256\na\nb\na\n")
    with pytest.raises(MetadataError, match="line 4: sha256 a is on line 2 too"):
        read_assets(path)


def test_table_that_was_cut_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "scenes.csv"
    write_scenes([SCENE_ROW, replace(SCENE_ROW, instance_id=3)], path)
    content = path.read_bytes()
    second = content.rindex(b"0004691,0001")
    for end in range(second + 1, len(content) - 12, 7):
        path.write_bytes(content[:end])
        errors: list[MetadataError] = []
        assert read_scenes(path, errors.append) == [SCENE_ROW]
        assert len(errors) == 1 and "line 3" in str(errors[0])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"a,b\n1,2\n", "column 'sha256'"), (b"", "column 'sha256'"), (b"sha256,a,a\n", "occurs twice")],
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(content)
    with pytest.raises(MetadataError, match=complaint):
        read_assets(path)


def test_missing_and_undecodable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="none.csv: no such file"):
        read_assets(tmp_path / "none.csv")
    (tmp_path / "m.csv").write_bytes(b"sha256\n\xff\xfe\n")
    with pytest.raises(MetadataError, match="m.csv: line .* not readable"):
        read_assets(tmp_path / "m.csv")
