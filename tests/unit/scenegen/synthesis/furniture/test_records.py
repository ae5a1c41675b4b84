"""The object frame, mesh packs and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from scenegen.synthesis.furniture.mesh_pack import MeshPack, PackError, palette_of
from scenegen.synthesis.furniture.procedural.shapes import box
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo, normalise, take_faces
from scenegen.synthesis.furniture.split import SplitError, load_split

BOX = box(2.0, 1.0, 0.5)


def info_of(model_id: str, split: str = "train", **changes) -> ModelInfo:
    entry = load_split()[model_id]
    return ModelInfo(model_id, entry.name, entry.super_category, "floor", split, (1.0, 0.5, 0.25), **changes)


def box_mesh(colour: int = 100) -> FurnitureMesh:
    vertices, _ = normalise(BOX.vertices)
    return FurnitureMesh(vertices, BOX.faces, np.full((len(BOX.faces), 3), colour))


def first_id(split: str) -> str:
    return next(entry.id for entry in load_split().values() if entry.split == split)


def test_normalise_centres_the_box_and_makes_the_longest_side_one():
    vertices, size = normalise(BOX.vertices + (5, -3, 2))
    np.testing.assert_allclose(size, (2.0, 1.0, 0.5))
    np.testing.assert_allclose(vertices.min(axis=0), (-0.5, -0.25, -0.125), atol=1e-12)
    np.testing.assert_allclose(vertices.max(axis=0), (0.5, 0.25, 0.125), atol=1e-12)


@pytest.mark.parametrize("vertices", [np.zeros((0, 3)), np.ones((4, 3))])
def test_normalise_refuses_what_has_no_size(vertices):
    with pytest.raises(ValueError, match="normalise"):
        normalise(vertices)


def test_take_faces_keeps_colours_and_drops_unused_vertices():
    mesh = FurnitureMesh(BOX.vertices, BOX.faces, np.arange(36).reshape(12, 3))
    piece = take_faces(mesh, np.array([3]))
    assert len(piece.vertices) == 3
    np.testing.assert_allclose(piece.vertices[piece.faces], mesh.vertices[mesh.faces[[3]]])
    np.testing.assert_array_equal(piece.face_colours, [[9, 10, 11]])


def test_mesh_rejects_a_missing_face_colour():
    with pytest.raises(ValueError, match="face_colours must be"):
        FurnitureMesh(BOX.vertices, BOX.faces, np.zeros((11, 3)))


def test_pack_returns_the_meshes_it_was_given(tmp_path):
    small = FurnitureMesh(box_mesh().vertices[:3], [[0, 1, 2]], [[1, 2, 3]])
    ids = [entry.id for entry in load_split().values() if entry.split == "train"][:2]
    infos = [info_of(ids[0], symmetry=2, licence="CC0-1.0", creator="Zo\u00eb"), info_of(ids[1])]
    MeshPack.from_meshes(zip([box_mesh(77), small], infos)).save(tmp_path / "train.safetensors")
    pack = MeshPack.load(tmp_path / "train.safetensors")
    assert pack.infos == tuple(infos)
    assert pack.index(ids[1]) == 1
    for index, mesh in enumerate([box_mesh(77), small]):
        np.testing.assert_allclose(pack.mesh(index).vertices, mesh.vertices, atol=0.5 / 65535 + 1e-7)
        np.testing.assert_array_equal(pack.mesh(index).faces, mesh.faces)
        np.testing.assert_array_equal(pack.mesh(index).face_colours, mesh.face_colours)


def test_pack_refuses_a_test_model_that_claims_to_be_of_the_train_split(tmp_path):
    disguised = info_of(first_id("test"), split="train")
    with pytest.raises(SplitError, match="belongs to the test split"):
        MeshPack.from_meshes([(box_mesh(), disguised)]).save(tmp_path / "train.safetensors")
    assert not list(tmp_path.iterdir())


def test_pack_refuses_two_splits_in_one_file(tmp_path):
    pairs = [(box_mesh(), info_of(first_id(split), split=split)) for split in ("train", "validation")]
    with pytest.raises(ValueError, match="of the validation split among train models"):
        MeshPack.from_meshes(pairs).save(tmp_path / "mixed.safetensors")


def test_pack_refuses_a_swap_with_a_test_part(tmp_path):
    swap = f"swap/{first_id('train')}+{first_id('test')}@0.450"
    info = replace(info_of(first_id("train")), id=swap)
    with pytest.raises(SplitError, match="belongs to the test split"):
        MeshPack.from_meshes([(box_mesh(), info)]).save(tmp_path / "train.safetensors")


def test_a_pack_is_not_believed_that_calls_a_test_model_train(tmp_path):
    path = tmp_path / "train.safetensors"
    MeshPack.from_meshes([(box_mesh(), info_of(first_id("test"), split="test"))]).save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = {name: text.replace('"test"', '"train"') for name, text in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    save_file(tensors, path, metadata=metadata | {"split": "train"})
    for load in (MeshPack.load, MeshPack.load_for_training):
        with pytest.raises(SplitError, match="belongs to the test split, not to train"):
            load(path)


def test_loading_names_what_is_wrong(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no pack")
    for name in ("missing.safetensors", "broken.safetensors"):
        with pytest.raises(PackError, match=f"{name}.*build_mesh_packs"):
            MeshPack.load(tmp_path / name)


def test_palette_is_exact_up_to_256_colours_and_close_beyond():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (200, 3), dtype=np.uint8)[rng.integers(0, 200, 1000)]
    indices, palette = palette_of(few)
    np.testing.assert_array_equal(palette[indices], few)
    shades = np.arange(1000, dtype=np.uint8)[:, None] // np.array([1, 2, 3], dtype=np.uint8)
    many = np.unique(np.concatenate([shades, shades[:, ::-1]]), axis=0)
    assert len(many) > 256
    indices, palette = palette_of(many)
    assert len(palette) <= 256
    assert np.abs(palette[indices].astype(int) - many).max() <= 16
