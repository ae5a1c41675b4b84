import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures import object_colours
from scenegen.evaluation.pictures.object_colours import Views, colour_figures, compare_views, draw, objects_of
from scenegen.export.glb import glb_bytes


def write(path, colours: dict[str, tuple[int, int, int]], textured: bool):
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
    path.write_bytes(glb_bytes(scene))
    return objects_of(path)


def test_textures_are_compared_with_vertex_colours_in_the_same_light(tmp_path):
    true = write(tmp_path / "t.glb", {"obj_0": (200, 100, 50), "obj_1": (20, 30, 220)}, textured=False)
    right = write(tmp_path / "r.glb", {"obj_0": (200, 100, 50), "obj_1": (20, 30, 220)}, textured=True)
    wrong = write(tmp_path / "w.glb", {"obj_0": (200, 151, 50)}, textured=True)
    views = {node: draw(mesh, 48) for node, mesh in true.items()}
    # one of 255 steps of linear light is up to five of sRGB, in dark colours
    assert compare_views(draw(right["obj_0"], 48), views["obj_0"])["error"] < 1e-5
    assert compare_views(draw(right["obj_1"], 48), views["obj_1"])["error"] < 1e-4
    entry = compare_views(draw(wrong["obj_0"], 48), views["obj_0"])
    assert entry["error"] == pytest.approx((51 / 255) ** 2 / 3, rel=0.05) and entry["silhouette_iou"] == 1
    np.testing.assert_allclose(np.array(entry["mean"]) * 255, [200, 100, 50], atol=2)


def test_missing_object_has_0_in_every_figure(tmp_path):
    true = write(tmp_path / "t.glb", {"obj_0": (200, 100, 50)}, textured=False)
    entry = compare_views(None, draw(true["obj_0"], 32))
    assert not entry["seen"] and set(colour_figures(entry, np.zeros(3)).values()) == {0.0}
    np.testing.assert_allclose(np.array(entry["mean"]) * 255, [200, 100, 50], atol=2)


def test_texture_is_read_with_its_origin_at_the_lower_left():
    texture = torch.zeros(2, 2, 3)
    texture[1, 0] = torch.tensor([1.0, 0.5, 0.25])  # lower left texel
    texels = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.5, 0.25]])
    expected = torch.tensor([[1.0, 0.5, 0.25], [0.0, 0.0, 0.0], [0.5, 0.25, 0.125]])
    torch.testing.assert_close(object_colours.sample_texture(texture, texels), expected)


def test_one_colour_for_all_leaves_the_spread_around_it():
    truth = Views(torch.rand(4, 8, 8, 3), torch.ones(4, 8, 8, dtype=torch.bool))
    entry = compare_views(truth, truth)
    figures = colour_figures(entry, np.array(entry["mean"]))
    error = (truth.colour - truth.colour.mean(dim=(0, 1, 2))).square().mean()
    for name in (
        "colour_psnr_flat",
        "colour_psnr_mean",
        "colour_psnr_true_mean",
    ):  # of one object all are one
        assert figures[name] == pytest.approx(-10 * np.log10(float(error)), rel=1e-4)
    assert figures["colour_psnr"] == object_colours.MAX_PSNR


def test_unreadable_file_is_told(tmp_path):
    (tmp_path / "x.glb").write_bytes(b"glTF")
    with pytest.raises(EvaluationError, match="x.glb"):
        objects_of(tmp_path / "x.glb")
