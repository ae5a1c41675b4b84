"""Models that others made: what they name is read within limits, and nothing goes missing without a word."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh

from scenegen.datasets.model_files import load_model_file
from tests.asset_models import write_models
from tests.spoils import circle, endless, pipe, pixels


@pytest.fixture
def desk(tmp_path) -> Path:
    """A textured OBJ with its library and its texture."""
    return write_models(tmp_path)[0]


def textures(scene: trimesh.Scene) -> int:
    return sum(getattr(part.visual.material, "image", None) is not None for part in scene.geometry.values())


def test_models_of_each_format_are_read_with_their_textures(tmp_path, desk, caplog):
    assert textures(load_model_file(desk, group_material=True)) == 1
    for name in ("made.glb", "cone.ply"):
        assert len(load_model_file(tmp_path / name).dump()) == 1
    assert not caplog.messages


def test_letters_of_another_encoding_do_no_harm(desk):
    desk.write_bytes(b"# caf\xe9\n" + desk.read_bytes())
    library = desk.with_name("raw_model.mtl")
    library.write_bytes(b"# caf\xe9\n" + library.read_bytes())
    assert textures(load_model_file(desk, group_material=True)) == 1


@pytest.mark.parametrize(
    ("file", "says"),
    [("raw_model.mtl", "raw_model.mtl"), ("textures/paint.png", "textures/paint.png")],
)
def test_what_is_missing_beside_a_model_is_told(desk, caplog, file, says):
    (desk.parent / file).unlink()
    assert len(load_model_file(desk, group_material=True).geometry)
    assert caplog.messages == [f"{desk}: is read without {says}, which is missing"]


@pytest.mark.parametrize("file", ["raw_model.obj", "raw_model.mtl", "textures/paint.png"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (pipe, "expected a file, got a named pipe"),
        (circle, "ymbolic link|ymlink"),
        (endless, "a device|leaves|missing"),
    ],
)
def test_what_is_no_file_is_neither_waited_for_nor_read(
    desk, caplog, file, spoil: Callable[[Path], None], says
):
    spoil(desk.parent / file)
    try:
        load_model_file(desk, group_material=True)
    except ValueError as error:
        told = str(error)
    else:
        told = caplog.text
    assert any(part in told for part in says.split("|")), told


def test_a_texture_of_too_many_pixels_is_refused_before_it_is_decoded(desk):
    pixels(13_000)(desk.parent / "textures" / "paint.png")
    with pytest.raises(
        ValueError, match="textures/paint.png: expected a picture of at most .* got 13000x13000"
    ):
        load_model_file(desk, group_material=True)


@pytest.mark.parametrize(
    "content", [b"", b"glTF", b"v nan\nf 1 2 3\n", b"f 1 2 3\n", b"\0" * 99, b"v 0 0 0\nf 9 9 9\n"]
)
@pytest.mark.parametrize("suffix", [".obj", ".glb", ".ply", ".stl", ".gltf"])
def test_other_content_is_refused_or_holds_no_triangle(tmp_path, content, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    try:
        scene = load_model_file(path)
    except ValueError as error:
        assert str(error)
    else:
        assert not any(len(getattr(part, "faces", ())) for part in scene.geometry.values())
