"""Files for simulators: the same bodies in MuJoCo and in USD."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.registry import FormatUnavailable, check_formats, check_options, write_format
from scenegen.export.rigid_scene import RigidScene
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.result import GeneratedObject, SceneResult
from tests.furniture_shapes import table

pytest.importorskip("manifold3d")
mujoco = pytest.importorskip("mujoco")

LOGITS = torch.zeros(2, 2, 2)
IDENTITY = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
BESIDE = torch.tensor([1.5, -0.17, 0, 0.9238795, 0, 0.3826834, 0, 0.5])  # turned by 45 degrees, same floor
OPTIONS = ExportOptions(physics=True, metres=1.4, density=500.0)
VOLUME = table().volume


@pytest.fixture(scope="module")
def result() -> SceneResult:
    """Two tables on one floor, the second half as large, with the camera of their photo."""
    first, second = table(), table()
    first.visual.vertex_colors = np.tile((200, 100, 50, 255), (len(first.vertices), 1))
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(30), np.deg2rad(15))
    extrinsics[:3, 3] = (0.2, 0.1, 5.0)
    objects = (GeneratedObject(0, IDENTITY, LOGITS, first), GeneratedObject(3, BESIDE, LOGITS, second))
    return SceneResult(objects, query_id=0, camera=PhotoCamera(extrinsics, 1.2, 0.75, 0.5))


@pytest.fixture(scope="module")
def files(result, tmp_path_factory):
    """The scene as MJCF and as USD."""
    folder = tmp_path_factory.mktemp("physics")
    scene = build_scene(result)
    names = write_format("mjcf", result, scene, folder, OPTIONS)
    return folder, [*names, *write_format("usd", result, scene, folder, OPTIONS)]


def test_every_file_has_a_name_that_is_taken_away_with_the_scene(files):
    from scenegen.export.registry import can_have_written

    folder, names = files
    assert len(names) == len(set(names)) and all(map(can_have_written, names))
    assert all((folder / name).is_file() for name in names)


def test_mujoco_loads_the_scene_with_its_size_and_masses(files):
    model = mujoco.MjModel.from_xml_path(str(files[0] / "scene.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    side = 1.4 / 0.7  # the query is as high as the scene, and 0.7 of its longest side
    assert model.body("obj_0").mass == pytest.approx(500 * VOLUME * side**3, rel=1e-4)
    assert model.body("obj_3").mass == pytest.approx(500 * VOLUME * (side / 2) ** 3, rel=1e-4)
    between = data.body("obj_3").xpos - data.body("obj_0").xpos
    np.testing.assert_allclose(between[:2], (1.5 * side, 0.0), atol=1e-3)
    groups = {int(group) for group in model.geom_group}
    assert groups == {2, 3} and model.njnt == 2
    lowest = min(
        (data.geom_xpos[row] + (data.geom_xmat[row].reshape(3, 3) @ corner))[2]
        for row in range(model.ngeom)
        if model.geom_group[row] == 3 and model.geom_dataid[row] >= 0
        for corner in _corners(model, model.geom_dataid[row])
    )
    assert lowest == pytest.approx(0.0, abs=1e-3)


def _corners(model, mesh):
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    return model.mesh_vert[start : start + count]


def test_the_scene_stands_still_in_mujoco(files):
    model = mujoco.MjModel.from_xml_path(str(files[0] / "scene.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    before = data.xpos.copy()
    for _ in range(500):
        mujoco.mj_step(model, data)
    np.testing.assert_allclose(data.xpos, before, atol=0.02)


def test_usd_has_the_masses_and_inertias_of_mujoco(files):
    pytest.importorskip("pxr")
    from pxr import Gf, Usd, UsdGeom, UsdPhysics

    stage = Usd.Stage.Open(str(files[0] / "scene.usdc"))
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    model = mujoco.MjModel.from_xml_path(str(files[0] / "scene.xml"))
    for name in ("obj_0", "obj_3"):
        body, prim = model.body(name), stage.GetPrimAtPath(f"/Scene/{name}")
        mass = UsdPhysics.MassAPI(prim)
        assert mass.GetMassAttr().Get() == pytest.approx(float(body.mass[0]), rel=1e-5)
        np.testing.assert_allclose(mass.GetCenterOfMassAttr().Get(), body.ipos, atol=1e-5)
        turn = np.array(Gf.Matrix3d(Gf.Quatd(mass.GetPrincipalAxesAttr().Get()))).T
        inertia = turn @ np.diag(mass.GetDiagonalInertiaAttr().Get()) @ turn.T
        axes = np.zeros(9)
        mujoco.mju_quat2Mat(axes, body.iquat)
        axes = axes.reshape(3, 3)
        np.testing.assert_allclose(inertia, axes @ np.diag(body.inertia) @ axes.T, rtol=1e-4, atol=1e-5)
        placed = np.array(UsdGeom.Xformable(prim).GetLocalTransformation())
        np.testing.assert_allclose(placed[3, :3], body.pos, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(placed[:3, :3], axis=1), 1, atol=1e-6)
        parts = [child for child in prim.GetChildren() if child.HasAPI(UsdPhysics.MeshCollisionAPI)]
        assert parts and all(UsdGeom.Imageable(part).ComputePurpose() == "guide" for part in parts)


def test_validators_of_usd_find_nothing(files):
    pytest.importorskip("pxr")
    validator = pytest.importorskip("omni.asset_validator")
    found = validator.ValidationEngine().validate(str(files[0] / "scene.usdc"))
    failures = [issue for issue in found.issues() if issue.severity.name in ("FAILURE", "ERROR")]
    assert not failures, "\n".join(f"{issue.rule}: {issue.message} {issue.at}" for issue in failures)


def test_without_a_height_furniture_tells_the_size(result):
    rigid = RigidScene.of(result, build_scene(result), replace(OPTIONS, metres=None))
    height = max(
        float((part @ body.rotation.T + body.position)[:, 2].max())
        for body in rigid.bodies
        for part in body.parts
    )
    assert 0.3 < height < 1.5


def test_options_of_physics_need_a_format_that_has_it():
    with pytest.raises(ValueError, match="physics: changes only the formats usd, usdz, got glb"):
        check_options(["glb"], ExportOptions(physics=True))
    with pytest.raises(ValueError, match="metres: of the format mjcf"):
        check_options(["usd"], ExportOptions(metres=2.0))
    check_options(["usd"], ExportOptions(physics=True, metres=2.0))
    check_options(["mjcf"], ExportOptions(density=300.0))


@pytest.mark.parametrize("options", [{"metres": 0.0}, {"metres": -1.0}, {"density": float("nan")}])
def test_sizes_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=f"expected {next(iter(options))} above 0"):
        ExportOptions(**options)


def test_missing_packages_are_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FormatUnavailable, match="manifold3d.*bash setup.sh --sim, or leave 'mjcf' out"):
        check_formats(["mjcf"])
    with pytest.raises(FormatUnavailable, match="leave --physics out"):
        check_options(["usd"], ExportOptions(physics=True))
