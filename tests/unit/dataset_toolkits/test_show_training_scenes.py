"""The picture of training scenes: as many tiles as asked for, and one line where there are none."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dataset_toolkits import show_training_scenes
from scenegen.synthesis.furniture.procedural.pack import generate_pack

SMOKE = Path(__file__).parents[3] / "configs" / "smoke"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("packs") / "pack.safetensors"
    generate_pack(8, seed=1, remove_hidden=False).save(path)
    return path


def arguments(config, pack, output):
    sizes = "--scenes 5 --columns 2 --objects 4 --shapes 12 --device cpu"
    return ["--config", str(config), "--packs", str(pack), "--output", str(output), *sizes.split()]


def test_scenes_are_drawn_beside_their_masks(pack, tmp_path):
    config = json.loads((SMOKE / "image_encoder.json").read_text())
    config["dataset"]["args"] |= {
        "looks": {"room": 1.0, "faulty_masks": 0.5},
        "layouts": {"low_probability": 1.0},
    }
    changed = tmp_path / "config.json"
    changed.write_text(json.dumps(config))
    assert show_training_scenes.main(arguments(changed, pack, tmp_path / "sheet.png")) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 2 * 56, 3 * 56)  # the sixth place stays white
        assert sheet.getpixel((3 * 56, 2 * 56 + 10)) == (255, 255, 255)
        assert sheet.getpixel((60, 60)) != (255, 255, 255)


def test_an_experiment_without_scenes_is_refused_with_one_line(pack, tmp_path, caplog):
    assert (
        show_training_scenes.main(arguments(SMOKE / "structure_vae.json", pack, tmp_path / "sheet.png")) == 1
    )
    assert "expected a dataset of composed scenes, got shapes" in caplog.text
    assert not (tmp_path / "sheet.png").exists()
