import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from benchmarks import colour_error
from scenegen.export.glb import glb_bytes

SMALL = ["--size", "48"]


def _scene(colours: dict[str, tuple[int, int, int]], textured: bool) -> trimesh.Scene:
    """Boxes of one colour each, placed somewhere by their nodes."""
    scene = trimesh.Scene()
    for index, (node, colour) in enumerate(colours.items()):
        mesh = trimesh.creation.box((1.0, 0.6, 0.4))
        if textured:
            uv = np.random.default_rng(0).random((len(mesh.vertices), 2))
            material = trimesh.visual.material.PBRMaterial(
                baseColorTexture=Image.new("RGB", (8, 8), colour), metallicFactor=0.0, roughnessFactor=1.0
            )
            mesh.visual = trimesh.visual.TextureVisuals(uv, material=material)
        else:
            mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.uint8([(*colour, 255)] * 8))
        transform = trimesh.transformations.scale_and_translate(0.5, (index, 0, 0))
        scene.add_geometry(mesh, node_name=node, geom_name=node, transform=transform)
    return scene


@pytest.fixture
def folders(tmp_path):
    """Two true scenes of two objects; of the second scene one object is missing, the other has an error."""
    true = {"obj_0": (200, 100, 50), "obj_1": (20, 30, 220)}
    for folder in ("truth", "prediction/a", "prediction/b"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "truth" / f"{name}.glb").write_bytes(glb_bytes(_scene(true, textured=False)))
    right, wrong = _scene(true, textured=True), _scene({"obj_0": (200, 151, 50)}, textured=True)
    (tmp_path / "prediction/a/scene.glb").write_bytes(glb_bytes(right))
    (tmp_path / "prediction/b/scene.glb").write_bytes(glb_bytes(wrong))
    return tmp_path


def _run(folder, *more: str) -> dict:
    output = folder / "colours.json"
    arguments = ["--prediction", folder / "prediction", "--truth", folder / "truth", "--output", output]
    assert colour_error.main([str(argument) for argument in (*arguments, *SMALL, *more)]) == 0
    return json.loads(output.read_text())


def test_textures_are_compared_with_vertex_colours_in_the_same_light(folders, capsys):
    report = _run(folders)
    assert (report["scenes"], report["objects"], report["matched"]) == (2, 4, 3)
    lines = (folders / "colours.records.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["record"]["objects"] for line in lines)
    # one of 255 steps of linear light is up to five of sRGB, in dark colours
    assert first["obj_0"]["error"] < 1e-5 and first["obj_1"]["error"] < 1e-4
    assert second["obj_0"]["error"] == pytest.approx((51 / 255) ** 2 / 3, rel=0.05)
    assert second["obj_0"]["silhouette_iou"] == 1.0 and not second["obj_1"]["matched"]
    assert report["figures"]["silhouette_iou"]["mean"] == pytest.approx(0.75)
    np.testing.assert_allclose(np.array(report["mean_colour"]) * 255, [110, 65, 135], atol=2)
    assert report["figures"]["psnr"]["mean"] > report["figures"]["psnr_mean_colour"]["mean"]
    assert "| `psnr_flat` |" in capsys.readouterr().out


def test_finished_scenes_are_not_drawn_again(folders, monkeypatch):
    report = _run(folders)

    def refuse(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(colour_error, "draw", refuse)
    assert _run(folders) == report
    with pytest.raises(AssertionError, match="drawn again"):
        _run(folders, "--size", "32")


def test_missing_truth_ends_in_one_line(tmp_path, caplog):
    arguments = ["--prediction", tmp_path, "--truth", tmp_path / "none", "--output", tmp_path / "x.json"]
    assert colour_error.main([str(argument) for argument in arguments]) == 2
    assert "expected a folder of scenes" in caplog.text


def test_texture_is_read_with_its_origin_at_the_lower_left():
    texture = torch.zeros(2, 2, 3)
    texture[1, 0] = torch.tensor([1.0, 0.5, 0.25])  # lower left texel
    texels = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.5, 0.25]])
    expected = torch.tensor([[1.0, 0.5, 0.25], [0.0, 0.0, 0.0], [0.5, 0.25, 0.125]])
    torch.testing.assert_close(colour_error.sample_texture(texture, texels), expected)


def test_one_colour_for_all_leaves_the_spread_around_it():
    truth = colour_error.Views(torch.rand(4, 8, 8, 3), torch.ones(4, 8, 8, dtype=torch.bool))
    entry = colour_error.compare(truth, truth)
    report = colour_error.summarise([{"scene_id": "a", "objects": {"obj_0": entry}}])
    error = (truth.colour - truth.colour.mean(dim=(0, 1, 2))).square().mean()
    for name in ("psnr_flat", "psnr_mean_colour"):  # of one object the two means are the same
        assert report["figures"][name]["mean"] == pytest.approx(-10 * np.log10(float(error)), rel=1e-4)
    assert report["figures"]["psnr"]["mean"] == colour_error.MAX_PSNR
