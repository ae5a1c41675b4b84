"""The picture of scenes as photo, as Blender draws them, and as preview."""

import stat
import sys

import pytest
from PIL import Image

from scripts import draw_solids

STAND_IN = """#!{python}
import json, sys
from PIL import Image
with open(sys.argv[-1]) as file:
    job = json.load(file)
Image.new("RGB", (9, 9), open(job["glb"]).read()).save(job["picture"])
"""


@pytest.fixture
def blender(tmp_path):
    """A program called as Blender, which draws a square in the colour that the file of the scene names."""
    program = tmp_path / "blender"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def scenes(tmp_path):
    """Folders of photos and of predictions with three scenes."""
    photos, made = tmp_path / "photos", tmp_path / "made"
    for name, colour in zip("abc", ("red", "lime", "blue"), strict=True):
        for folder in (photos / name, made / name):
            folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), "black").save(photos / name / "scene.jpg")
        Image.new("RGB", (16, 8), "white").save(made / name / "preview.png")
        (made / name / "scene.glb").write_text(colour)
    return photos, made


def arguments(scenes, blender, picture):
    photos, made = scenes
    return [
        *("--prediction", str(made), "--photos", str(photos), "--scenes", "a", "b", "c"),
        *("--blender", str(blender), "--output", str(picture)),
    ]


def test_scenes_stand_beside_each_other_in_rows(scenes, blender, tmp_path):
    picture = tmp_path / "picture.jpg"
    assert draw_solids.main(arguments(scenes, blender, picture)) == 0
    with Image.open(picture) as drawn:
        assert drawn.size == (2 * 4 * 270, 2 * 270)
        for place, colour in {
            (135, 135): (0, 0, 0),
            (405, 135): (255, 0, 0),
            (810, 135): (255, 255, 255),
            (1485, 135): (0, 255, 0),
            (405, 405): (0, 0, 255),
            (1485, 405): (255, 255, 255),  # no fourth scene
        }.items():
            assert drawn.getpixel(place) == pytest.approx(colour, abs=3)


def test_missing_scene_is_named_before_anything_is_drawn(scenes, tmp_path, capsys):
    (scenes[1] / "c" / "preview.png").unlink()
    assert draw_solids.main(arguments(scenes, tmp_path / "none", tmp_path / "picture.jpg")) == 2
    assert "preview.png: expected a file, found none" in capsys.readouterr().err


def test_missing_blender_is_one_line(scenes, tmp_path, capsys):
    assert draw_solids.main(arguments(scenes, tmp_path / "none", tmp_path / "picture.jpg")) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no such program" in message
