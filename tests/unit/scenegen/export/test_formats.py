"""Extra output formats: what other programs read back from the files."""

import importlib.util

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scenegen.export import registry
from scenegen.export.gaussian_ply import SCENE_FILE, place_gaussian, surface_gaussian
from scenegen.export.meshes import build_scene
from scenegen.export.registry import (
    ALL_FORMATS,
    FormatUnavailable,
    check_formats,
    file_patterns,
    write_format,
)
from scenegen.export.turntable import turntable_frames
from scenegen.geometry import place
from scenegen.pipelines.result import GeneratedObject, SceneResult
from trellis_modules.representations.gaussian import Gaussian

LOGITS = torch.zeros(2, 2, 2)
IDENTITY = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
BESIDE = torch.tensor([2.0, 0, 0, 0.7071068, 0, 0.7071068, 0, 0.5])
ORANGE = (200, 100, 50)


def _coloured_box() -> trimesh.Trimesh:
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    mesh.visual.vertex_colors = np.tile((*ORANGE, 255), (len(mesh.vertices), 1))
    return mesh


def _textured_box() -> trimesh.Trimesh:
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (4, 4), ORANGE))
    uv = np.linspace(0.1, 0.9, 2 * len(mesh.vertices)).reshape(-1, 2)
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


@pytest.fixture
def result() -> SceneResult:
    """Object 0 has vertex colours, 4 a texture, 2 has no mesh."""
    return SceneResult(
        (
            GeneratedObject(0, IDENTITY, LOGITS, _coloured_box()),
            GeneratedObject(2, BESIDE, LOGITS, None),
            GeneratedObject(4, BESIDE, LOGITS, _textured_box()),
        ),
        query_id=0,
    )


def _write(name, result, folder):
    return write_format(name, result, build_scene(result), folder)


def test_obj_reopens_with_placed_objects_colours_and_texture(result, tmp_path):
    assert _write("obj", result, tmp_path) == ["scene.obj", "scene.mtl", "obj_4_colour.png"]
    scene = build_scene(result)
    loaded = trimesh.load(tmp_path / "scene.obj", split_objects=True, group_material=False)
    assert len(loaded.geometry) == 2
    np.testing.assert_allclose(loaded.bounds, scene.bounds, atol=1e-5)
    textured = loaded.geometry["obj_4"]
    assert textured.visual.material.image.getpixel((0, 0)) == ORANGE
    np.testing.assert_allclose(textured.visual.uv, result.objects[2].mesh.visual.uv, atol=1e-5)
    first_vertex = next(
        line for line in (tmp_path / "scene.obj").read_text().splitlines() if line[:2] == "v "
    )
    np.testing.assert_allclose(np.array(first_vertex.split()[4:], float) * 255, ORANGE, atol=0.1)


def test_usd_stage_has_a_mesh_with_material_for_each_object(result, tmp_path):
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed; it only reads the file back here")
    from pxr import Gf, UsdGeom, UsdShade

    assert _write("usd", result, tmp_path) == ["scene.usda", "obj_4_usd.png"]
    stage = usd.Stage.Open(str(tmp_path / "scene.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y
    scene = build_scene(result)
    for node, output in (("obj_0", "result"), ("obj_4", "rgb")):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/Scene/{node}/mesh"))
        corners, counts = mesh.GetFaceVertexIndicesAttr().Get(), mesh.GetFaceVertexCountsAttr().Get()
        points = mesh.GetPointsAttr().Get()
        assert UsdGeom.Mesh.ValidateTopology(corners, counts, len(points))[0]
        to_scene = UsdGeom.XformCache().GetLocalToWorldTransform(mesh.GetPrim())
        expected = trimesh.transform_points([points[3]], scene.graph[node][0])[0]
        np.testing.assert_allclose(to_scene.Transform(Gf.Vec3d(points[3])), expected, atol=1e-5)
        material, _ = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()
        surface = material.ComputeSurfaceSource()[0]
        assert surface.GetInput("diffuseColor").GetConnectedSources()[0][0].sourceName == output


def test_ply_has_the_gaussians_of_the_scene_where_the_objects_stand(result, tmp_path):
    names = _write("ply", result, tmp_path)
    assert names == [SCENE_FILE, "obj_0.ply", "obj_4.ply"]
    whole, single = (Gaussian.load_ply(tmp_path / name) for name in (SCENE_FILE, "obj_4.ply"))
    count = len(single)
    placed = place(single.xyz, BESIDE)  # y up
    in_scene = torch.stack((whole.xyz[-count:, 0], whole.xyz[-count:, 2], -whole.xyz[-count:, 1]), dim=1)
    torch.testing.assert_close(in_scene, placed, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.scaling[-count:], single.scaling / 2)  # the object's scale


def test_placing_gaussians_turns_their_axes():
    gaussian = surface_gaussian(_coloured_box())
    long = Gaussian.from_values(
        gaussian.config,
        xyz=gaussian.xyz,
        features_dc=gaussian.features_dc,
        scaling=torch.tensor([0.3, 0.1, 0.1]).repeat(len(gaussian), 1),
        rotation=gaussian.rotation,
        opacity=gaussian.opacity,
    )
    turned = place_gaussian(long, BESIDE)  # 90 degrees about the vertical: x becomes the other floor axis
    covariance = turned.covariance()[0]  # xx, xy, xz, yy, yz, zz
    torch.testing.assert_close(covariance[[0, 3, 5]] * 4, torch.tensor([0.01, 0.09, 0.01]), atol=1e-5, rtol=0)


def test_turntable_shows_the_scene_in_its_colours_on_white(result):
    frames = turntable_frames(build_scene(result), 3, 48)
    assert frames.shape == (3, 48, 48, 3)
    assert (frames[:, 0, 0] == 255).all()
    shown = frames[(frames < 250).any(dim=-1)].float()
    assert len(shown) > 100
    assert (shown[:, 0] > shown[:, 1]).all() and (shown[:, 1] > shown[:, 2]).all()  # orange in any light


def test_video_has_every_frame(result, tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v2", reason="imageio is not installed (extra video)")
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed (extra video)")
    monkeypatch.setattr("scenegen.export.turntable.FRAMES", 4)
    monkeypatch.setattr("scenegen.export.turntable.SIZE", 64)
    assert _write("mp4", result, tmp_path) == ["turntable.mp4"]
    with imageio.get_reader(tmp_path / "turntable.mp4") as video:
        assert sum(1 for _ in video) == 4


@pytest.mark.parametrize("name", [name for name in ALL_FORMATS if name not in ("mp4", "poses")])
def test_files_are_the_same_bytes_every_time_and_known_by_their_patterns(name, result, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    names = [_write(name, result, folder) for folder in folders]
    assert names[0] == names[1] == [file for file in names[0] if (folders[0] / file).is_file()]
    for file in names[0]:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
        assert any((folders[0] / file).match(pattern) for pattern in file_patterns())


def test_unknown_format_is_refused():
    with pytest.raises(
        ValueError, match="format 'stl': expected one of glb, objects, poses, preview, ply, obj, usd, mp4"
    ):
        check_formats(["stl"])


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        registry.importlib.util,
        "find_spec",
        lambda name: None if name == "imageio_ffmpeg" else find_spec(name) or object(),
    )
    with pytest.raises(FormatUnavailable, match=r"'imageio_ffmpeg'.*pip install 'scenegen\[video\]'"):
        check_formats(["mp4"])
