"""Extra output formats: what other programs read back from the files."""

import importlib.util
import json
import re
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from scenegen.export import registry
from scenegen.export.frames import SceneFrame
from scenegen.export.gaussian_ply import SCENE_FILE, place_gaussian, surface_gaussian
from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.registry import (
    ALL_FORMATS,
    FormatUnavailable,
    can_have_written,
    check_formats,
    check_options,
    representation_requests,
    write_format,
)
from scenegen.export.textures import corner_texture
from scenegen.export.turntable import turntable_frames
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.state import SceneState
from tests.unit.scenegen.export.fields import solid_field
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.ply import read_ply_vertices

pytestmark = pytest.mark.usefixtures("small_pictures")

DEFAULTS = ExportOptions()
LOGITS = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 1]).reshape(2, 2, 2)
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
            GeneratedObject(4, BESIDE, LOGITS, _textured_box(), radiance_field=solid_field(ORANGE)),
        ),
        query_id=0,
    )


@pytest.fixture
def seen(result) -> SceneResult:
    """The same with the camera of its photo."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(30), np.deg2rad(15))
    extrinsics[:3, 3] = (0.2, 0.1, 5.0)
    return replace(result, camera=PhotoCamera(extrinsics, focal=1.2, aspect=0.75, overlap=0.5))


def _write(name, result, folder, options=DEFAULTS):
    return write_format(name, result, build_scene(result), folder, options)


def _numbers(path, keyword):
    """The numbers of an OBJ file's lines with a keyword, as an array."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    return np.array([line[1:] for line in lines if line and line[0] == keyword], float)


def test_obj_reopens_with_placed_objects_colours_and_texture(result, tmp_path):
    files = ["obj_0.obj", "obj_0.mtl", "obj_4.obj", "obj_4.mtl", "obj_0_colour.png", "obj_4_colour.png"]
    assert _write("obj", result, tmp_path) == ["scene.obj", "scene.mtl", *files]
    scene = build_scene(result)
    loaded = trimesh.load(tmp_path / "scene.obj", split_objects=True, group_material=False)
    assert len(loaded.geometry) == 2
    np.testing.assert_allclose(loaded.bounds, scene.bounds, atol=1e-5)
    textured = loaded.geometry["obj_4"]
    assert textured.visual.material.image.getpixel((0, 0)) == ORANGE
    np.testing.assert_allclose(textured.visual.uv, result.objects[2].mesh.visual.uv, atol=1e-5)
    plain = loaded.geometry["obj_0"].visual.to_color().vertex_colors
    assert (plain[:, :3] == ORANGE).all()  # a reader without vertex colours shows no white


def test_obj_has_the_normals_of_the_mesh_turned_with_the_object(result, tmp_path):
    _write("obj", result, tmp_path)
    alone, scene = _numbers(tmp_path / "obj_4.obj", "vn"), _numbers(tmp_path / "scene.obj", "vn")
    mesh = result.objects[2].mesh
    np.testing.assert_allclose(alone, mesh.vertex_normals, atol=1e-4)
    turned = mesh.vertex_normals @ build_scene(result).graph["obj_4"][0][:3, :3].T
    expected = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    np.testing.assert_allclose(scene[-len(expected) :], expected, atol=1e-4)
    for file in ("scene.obj", "obj_0.obj", "obj_4.obj"):
        faces = [line for line in (tmp_path / file).read_text().splitlines() if line.startswith("f ")]
        assert faces and all(re.fullmatch(r"f( \d+/\d+/\d+){3}", line) for line in faces)


def test_obj_of_an_object_alone_is_in_its_own_frame_with_its_own_materials(result, tmp_path):
    _write("obj", result, tmp_path)
    np.testing.assert_allclose(
        _numbers(tmp_path / "obj_4.obj", "v"), result.objects[2].mesh.vertices, atol=1e-6
    )
    assert "mtllib obj_4.mtl" in (tmp_path / "obj_4.obj").read_text()
    assert "newmtl obj_4\n" in (tmp_path / "obj_4.mtl").read_text()


def test_corner_texture_shows_the_colours_between_the_corners():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    colours = np.full((len(mesh.vertices), 4), 255, np.uint8)
    colours[:, :3] = (
        mesh.vertices * 60 + 120
    ).round()  # an affine map, so that colours within faces are known
    mesh.visual.vertex_colors = colours
    picture, uvs = corner_texture(mesh)
    assert max(picture.size) <= 2 * np.ceil(np.sqrt(len(mesh.faces)))
    inside = uvs.mean(axis=1)
    places = (
        (1 - inside[:, 1]) * picture.height - 0.5,
        inside[:, 0] * picture.width - 0.5,
    )  # texels: row, column
    shown = [
        map_coordinates(np.asarray(picture, float)[..., channel], places, order=1) for channel in range(3)
    ]
    np.testing.assert_allclose(np.stack(shown, axis=1), mesh.triangles.mean(axis=1) * 60 + 120, atol=1)


def test_usd_stage_has_a_mesh_with_material_for_each_object(result, tmp_path):
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed; it only reads the file back here")
    from pxr import Gf, UsdGeom, UsdShade

    assert _write("usd", result, tmp_path) == ["scene.usda", "obj_4_usd.png"]
    stage = usd.Stage.Open(str(tmp_path / "scene.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y
    scene = build_scene(result)
    assert (
        UsdGeom.GetStageMetersPerUnit(stage) == 1 and "1.96" in stage.GetRootLayer().customLayerData["frame"]
    )
    for node, output in (("obj_0", "result"), ("obj_4", "rgb")):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/Scene/{node}/mesh"))
        corners, counts = mesh.GetFaceVertexIndicesAttr().Get(), mesh.GetFaceVertexCountsAttr().Get()
        points = mesh.GetPointsAttr().Get()
        assert UsdGeom.Mesh.ValidateTopology(corners, counts, len(points))[0]
        to_scene = UsdGeom.XformCache().GetLocalToWorldTransform(mesh.GetPrim())
        expected = trimesh.transform_points([points[3]], scene.graph[node][0])[0]
        np.testing.assert_allclose(to_scene.Transform(Gf.Vec3d(points[3])), expected, atol=1e-5)
        material, _ = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()
        assert material.GetPrim().GetName() == node
        normals = np.array(mesh.GetNormalsAttr().Get())
        np.testing.assert_allclose(normals, scene.geometry[node].vertex_normals, atol=1e-3)
        assert mesh.GetNormalsInterpolation() == UsdGeom.Tokens.vertex
        surface = material.ComputeSurfaceSource()[0]
        assert surface.GetInput("diffuseColor").GetConnectedSources()[0][0].sourceName == output


def test_usdz_is_an_aligned_archive_without_compression_that_usd_opens(result, tmp_path):
    assert _write("usdz", result, tmp_path) == ["scene.usdz"]
    path = tmp_path / "scene.usdz"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == ["scene.usda", "obj_4_usd.png"]
    content = path.read_bytes()
    for entry in entries:
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        assert (entry.header_offset + 30 + name + extra) % 64 == 0
        assert entry.compress_type == zipfile.ZIP_STORED
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed; it only reads the file back here")
    stage = usd.Stage.Open(str(path))
    assert stage.GetPrimAtPath("/Scene/obj_4/mesh") and stage.GetDefaultPrim().GetName() == "Scene"


@pytest.mark.parametrize("name", ["usd", "usdz"])
def test_validators_of_usd_find_nothing(name, seen, tmp_path):
    """They check stages, cameras, materials and textures, and what an archive may hold and point to."""
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed; it only reads the file back here")
    validation = pytest.importorskip("pxr.UsdValidation", reason="this usd-core has no validators")
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    assert "usdUtilsValidators:UsdzPackageValidator" in {each.GetMetadata().name for each in validators}
    stage = usd.Stage.Open(str(tmp_path / _write(name, seen, tmp_path)[0]))
    errors = validation.ValidationContext(validators).Validate(stage)
    assert not errors, [error.GetMessage() for error in errors]


def test_usd_camera_shows_the_scene_as_the_photo(seen, tmp_path):
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed; it only reads the file back here")
    from pxr import UsdGeom

    _write("usd", seen, tmp_path)
    stage = usd.Stage.Open(str(tmp_path / "scene.usda"))
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/Scene/photo")).GetCamera()
    view, projection = (
        np.array(matrix).T
        for matrix in (camera.frustum.ComputeViewMatrix(), camera.frustum.ComputeProjectionMatrix())
    )
    scene = build_scene(seen)
    point = seen.objects[0].mesh.vertices[3]  # the query's frame is the object's own
    shown = projection @ view @ scene.graph["obj_0"][0] @ (*point, 1)
    uv, _ = seen.camera.project(point)
    np.testing.assert_allclose(shown[:2] / shown[3] / 2, uv / (1, -seen.camera.aspect), atol=1e-5)


@pytest.mark.parametrize("node", ["scene", "obj_4"])
def test_ply_is_the_glb_after_the_matrix_in_its_header(node, result, tmp_path):
    """Gaussians made from a surface stand at its vertices."""
    assert _write("ply", result, tmp_path) == ["scene.ply", "obj_0.ply", "obj_4.ply"]
    _write("glb", result, tmp_path)
    _write("objects", result, tmp_path)
    vertices = read_ply_vertices(tmp_path / f"{node}.ply")
    (matrix,) = re.findall(rb"comment ply_to_glb: (.*)\n", (tmp_path / f"{node}.ply").read_bytes())
    matrix = np.array([row.split() for row in matrix.decode().split(";")], float)
    moved = trimesh.transform_points(np.stack([vertices[axis] for axis in "xyz"], axis=1), matrix)
    glb = trimesh.load_scene(tmp_path / f"{node}.glb", process=False).to_mesh()
    distance, _ = cKDTree(glb.vertices).query(moved)
    assert distance.max() < 1e-5 and len(moved) == len(glb.vertices)


def test_gaussians_of_the_scene_have_the_size_of_the_scene(result, tmp_path):
    _write("ply", result, tmp_path)
    whole, single = (Gaussian.load_ply(tmp_path / name) for name in (SCENE_FILE, "obj_4.ply"))
    scale = float(SceneFrame.of(result, build_scene(result)).scale * BESIDE[7])
    torch.testing.assert_close(whole.scaling[-len(single) :], single.scaling * scale)


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
    frames = turntable_frames(build_scene(result), 3, 48, azimuth_deg=0.0)
    assert frames.shape == (3, 48, 48, 3)
    assert (frames[:, 0, 0] == 255).all()
    shown = frames[(frames < 250).any(dim=-1)].float()
    assert len(shown) > 100
    assert (shown[:, 0] > shown[:, 1]).all() and (shown[:, 1] > shown[:, 2]).all()  # orange in any light


@pytest.mark.parametrize("azimuth_deg", [0.0, 90.0, 215.0])
def test_turntable_begins_at_the_side_it_is_told(azimuth_deg):
    """Of two balls on a line through the middle the one on that side is seen before the other."""
    side = np.array([np.sin(np.deg2rad(azimuth_deg)), 0, np.cos(np.deg2rad(azimuth_deg))])
    scene = trimesh.Scene()
    for place, colour in ((side, (255, 0, 0, 255)), (-side, (0, 0, 255, 255))):
        ball = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
        ball.apply_translation(place)
        ball.visual.vertex_colors = np.tile(colour, (len(ball.vertices), 1))
        scene.add_geometry(ball)
    first = turntable_frames(scene, 4, 48, azimuth_deg)[0].float()
    red, blue = ((first[..., channel] > first[..., 2 - channel] + 20).sum() for channel in (0, 2))
    assert red > 2 * blue > 0 or (red > 0 and blue == 0)


def test_video_has_every_frame(result, tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v2", reason="imageio is not installed (extra video)")
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed (extra video)")
    monkeypatch.setattr("scenegen.export.turntable.FRAMES", 4)
    monkeypatch.setattr("scenegen.export.turntable.SIZE", 64)
    assert _write("mp4", result, tmp_path) == ["turntable.mp4"]
    with imageio.get_reader(tmp_path / "turntable.mp4") as video:
        assert sum(1 for _ in video) == 4
    content = (tmp_path / "turntable.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # players begin before they have all of it


def _state(result) -> SceneState:
    """A state of other pictures, as if the pipeline had made the scene."""
    photo, masks = Image.new("RGB", (8, 6), "grey"), [np.ones((6, 8), bool) for _ in result.objects]
    view = SceneImages.from_masks(photo, masks, result.object_ids)
    return SceneState((view,), result.object_ids, RunSettings(), "", 42)


@pytest.mark.parametrize("name", [name for name in ALL_FORMATS if name not in ("mp4", "poses")])
def test_files_are_the_same_bytes_every_time_and_known_by_their_names(name, result, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    result = replace(result, state=_state(result))
    names = [_write(name, result, folder) for folder in folders]
    assert names[0] == names[1] == [file for file in names[0] if (folders[0] / file).is_file()]
    for file in names[0]:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
        assert can_have_written(file)


@pytest.mark.parametrize(
    "file", ["obj_0_edited.glb", "obj_table.glb", "obj_0_retouched_colour.png", "scene_edited.glb",
             "notes.txt", "labels.png", "../scene.glb", "obj_0.glb.bak", "obj_.glb"]
)  # fmt: skip
def test_names_that_no_format_gives(file):
    assert not can_have_written(file)


@pytest.mark.parametrize(
    ("texture_format", "suffix", "media"),
    [("png", "png", "image/png"), ("jpeg", "jpg", "image/jpeg"), ("webp", "png", "image/webp")],
)
def test_texture_format_is_that_of_the_pictures(result, tmp_path, texture_format, suffix, media):
    options = ExportOptions(texture_format)
    assert f"obj_4_colour.{suffix}" in _write("obj", result, tmp_path, options)
    assert f"obj_4_usd.{suffix}" in _write("usd", result, tmp_path, options)
    _write("glb", result, tmp_path, options)
    content = (tmp_path / "scene.glb").read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    tree = json.loads(content[20 : 20 + length])
    assert [image["mimeType"] for image in tree["images"]] == [media]
    assert tree.get("extensionsRequired", []) == (["EXT_texture_webp"] if texture_format == "webp" else [])
    colour = trimesh.load_scene(tmp_path / "scene.glb").geometry["obj_4"].visual.material.baseColorTexture
    np.testing.assert_allclose(colour.convert("RGB").getpixel((1, 1)), ORANGE, atol=4)


@pytest.mark.parametrize(
    ("options", "formats", "message"),
    [
        (
            ExportOptions("jpeg"),
            ["preview", "poses"],
            "'jpeg': changes only the formats glb, glb\\+splats, objects, obj, usd, usdz",
        ),
        (
            ExportOptions("webp"),
            ["obj"],
            "'webp': changes only the formats glb, glb\\+splats, objects, got obj",
        ),
        (
            ExportOptions(compress=True),
            ["obj", "usd"],
            "compress: changes only the formats glb, glb\\+splats, objects",
        ),
    ],
)
def test_options_without_effect_are_refused(options, formats, message):
    with pytest.raises(ValueError, match=message):
        check_options(formats, options)
    check_options([*formats, "glb"], options)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="texture_format must be one of .*, got 'gif'"):
        ExportOptions("gif")
    with pytest.raises(ValueError, match="turntable must be one of .*, got 'voxels'"):
        ExportOptions(turntable="voxels")


def test_turntable_without_a_video_is_refused():
    options = ExportOptions(turntable="gaussian")
    with pytest.raises(ValueError, match="turntable 'gaussian': changes only the formats mp4, got glb"):
        check_options(["glb"], options)
    check_options(["mp4"], options)


@pytest.mark.parametrize(
    ("formats", "turntable", "expected"),
    [
        (["glb", "mp4", "structure"], "mesh", []),
        (["ply"], "mesh", [("--formats ply", "gaussian", False)]),
        (["mp4"], "gaussian", [("--turntable gaussian", "gaussian", True)]),
        (
            ["mp4", "radiance_field", "poses"],
            "radiance_field",
            [
                ("--formats radiance_field", "radiance_field", True),
                ("--turntable radiance_field", "radiance_field", True),
            ],
        ),
    ],
)
def test_formats_say_what_objects_have_to_be_generated_as(formats, turntable, expected):
    requests = representation_requests(formats, ExportOptions(turntable=turntable))
    assert [(each.flag, each.representation, each.is_needed) for each in requests] == expected


def test_unknown_format_is_refused():
    with pytest.raises(
        ValueError,
        match="format 'stl': expected one of glb, objects, poses, preview, .*usdz, .*mp4",
    ):
        check_formats(["stl"])


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        registry.importlib.util,
        "find_spec",
        lambda name: None if name == "imageio_ffmpeg" else find_spec(name) or object(),
    )
    with pytest.raises(FormatUnavailable, match=r"'imageio_ffmpeg'.*bash setup.sh --video"):
        check_formats(["mp4"])


def test_openings_of_a_surface_show_in_the_turntable():
    box = _coloured_box()
    closed, opened = box.copy(), box.copy()
    opened.update_faces(~np.isclose(box.face_normals[:, 2], 1.0))  # without its front, the inside shows
    pictures = []
    for mesh in (closed, opened):
        result = SceneResult((GeneratedObject(0, IDENTITY, LOGITS, mesh),), query_id=0)
        pictures.append(turntable_frames(build_scene(result), 1, 48, azimuth_deg=0.0)[0].float())
    middle = [picture[20:28, 20:28].mean() for picture in pictures]
    assert middle[1] < 0.4 * middle[0]
