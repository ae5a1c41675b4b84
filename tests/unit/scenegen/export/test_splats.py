"""3D Gaussians in scene.glb: what a reader of KHR_gaussian_splatting finds, and that nobody else minds."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from scenegen.cli.inference_options import formats
from scenegen.evaluation.loading import load_scene
from scenegen.export.gaussian_ply import place_gaussian
from scenegen.export.meshes import build_scene
from scenegen.export.scene_files import is_complete, write_scene
from scenegen.export.splats import MIN_OPACITY, splat_nodes, splats_of
from scenegen.geometry import zup_to_yup
from scenegen.pipelines.result import GeneratedObject, SceneResult
from tests.gltf_validator import errors_of
from trellis_modules.quaternions import quaternion_to_matrix
from trellis_modules.renderers.spherical_harmonics import rgb_to_sh
from trellis_modules.representations.gaussian import Gaussian, GaussianConfig

IDENTITY = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
BESIDE = torch.tensor([2.0, 0.5, 0, 0.9, 0.1, 0.4, 0.2, 0.5])
BESIDE[3:7] /= BESIDE[3:7].norm()
EXTENSION = "KHR_gaussian_splatting"
DTYPES = {5121: "u1", 5122: "<i2", 5126: "<f4"}
COLUMNS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


def gaussian(count=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rotation = torch.randn(count, 4, generator=draw)
    return Gaussian.from_values(
        GaussianConfig(),
        xyz=torch.rand(count, 3, generator=draw) - 0.5,
        features_dc=rgb_to_sh(torch.rand(count, 1, 3, generator=draw)),
        scaling=torch.rand(count, 3, generator=draw) * 0.05 + 0.01,
        rotation=rotation / rotation.norm(dim=1, keepdim=True),
        opacity=torch.rand(count, 1, generator=draw) * 0.9 + 0.05,
    )


def box():
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    mesh.visual.vertex_colors = np.tile((200, 100, 50, 255), (len(mesh.vertices), 1))
    return mesh


@pytest.fixture
def result():
    logits = torch.zeros(2, 2, 2)
    first = GeneratedObject(0, IDENTITY, logits, box(), gaussian())
    second = GeneratedObject(3, BESIDE, logits, box(), gaussian(seed=1))
    return SceneResult((first, second, GeneratedObject(5, IDENTITY, logits, box())), 0)


def read(path):
    """The JSON tree, and the attributes of each node with Gaussians as floats."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    tree, binary = json.loads(content[20 : 20 + length]), content[28 + length :]

    def values(index):
        accessor = tree["accessors"][index]
        view = tree["bufferViews"][accessor["bufferView"]]
        dtype, columns = np.dtype(DTYPES[accessor["componentType"]]), COLUMNS[accessor["type"]]
        stride = view.get("byteStride", dtype.itemsize * columns)
        raw = np.frombuffer(binary, "u1", view["byteLength"], view["byteOffset"])
        rows = np.ascontiguousarray(raw.reshape(-1, stride)[:, : dtype.itemsize * columns]).view(dtype)
        assert len(rows) == accessor["count"]
        return rows / np.iinfo(dtype).max if accessor.get("normalized") else rows

    found = {}
    for node in tree["nodes"]:
        if "mesh" in node and "extensions" in (part := tree["meshes"][node["mesh"]]["primitives"][0]):
            assert part["mode"] == 0 and part["extensions"][EXTENSION]["kernel"] == "ellipse"
            found[node["name"]] = {name: values(at) for name, at in part["attributes"].items()}
    return tree, found


def test_gaussians_lie_in_the_frame_of_the_meshes(result, tmp_path):
    write_scene(result, tmp_path / "room", ("glb+splats",))
    tree, found = read(tmp_path / "room" / "scene.glb")
    assert list(found) == ["obj_0_splats", "obj_3_splats", "obj_5_splats"]
    nodes = {node["name"]: node for node in tree["nodes"]}
    for name in ("obj_0", "obj_3", "obj_5"):
        for key in ("translation", "rotation", "scale"):
            assert nodes[name][key] == nodes[f"{name}_splats"][key]
    assert np.allclose(found["obj_5_splats"]["POSITION"], result.objects[2].mesh.vertices, atol=1e-6)
    # the same Gaussians as those of scene.ply, whose way into the frame of the scene is another one
    item, node, splats = result.objects[1], nodes["obj_3_splats"], found["obj_3_splats"]
    pose = torch.tensor([*node["translation"], *np.roll(node["rotation"], 1), node["scale"][0]])
    placed = place_gaussian(item.gaussian, pose.float())
    turn = quaternion_to_matrix(pose[3:7].float()).numpy()
    centres = node["scale"][0] * splats["POSITION"] @ turn.T + node["translation"]
    assert np.allclose(centres, zup_to_yup(placed.xyz), atol=1e-5)
    own = quaternion_to_matrix(torch.tensor(np.roll(splats[f"{EXTENSION}:ROTATION"], 1, axis=1)).float())
    factors = turn @ own.numpy() * (node["scale"][0] * splats[f"{EXTENSION}:SCALE"])[:, None]
    axes = zup_to_yup(torch.eye(3)).T.numpy()
    expected = axes @ (quaternion_to_matrix(placed.rotation) * placed.scaling[:, None]).numpy()
    assert np.allclose(factors @ factors.mT, expected @ expected.mT, atol=1e-5)
    assert np.allclose(splats[f"{EXTENSION}:OPACITY"], item.gaussian.opacity, atol=0.003)
    assert np.allclose(splats[f"{EXTENSION}:SH_DEGREE_0_COEF_0"], item.gaussian.features_dc[:, 0])


def test_the_file_is_valid_and_readers_need_not_know_gaussians(result, tmp_path):
    write_scene(result, tmp_path / "room", ("glb", "glb+splats"))
    path = tmp_path / "room" / "scene.glb"
    tree, _ = read(path)
    assert tree["extensionsUsed"] == [EXTENSION] and "extensionsRequired" not in tree
    assert list(load_scene(path).objects) == [0, 3, 5]
    assert is_complete(tmp_path / "room", ("glb", "glb+splats"))
    assert errors_of(path) == []


def test_of_too_many_gaussians_those_stay_that_cover_most(result):
    nodes = splat_nodes(result, build_scene(result), limit=30)
    counts = [len(node.content.centres) for node in nodes]
    assert sum(counts) == 30
    whole = splat_nodes(result, build_scene(result))
    assert sum(len(node.content.centres) for node in whole) == 88
    scales = {node.name: float(np.linalg.det(node.transform)) ** (1 / 3) for node in whole}

    def covers(node):
        widest = np.sort(node.content.scales * scales[node.name])[:, 1:].prod(axis=1)
        return node.content.opacities * widest

    least = min(covers(node).min() for node in nodes)
    assert sum((covers(node) >= least * (1 - 1e-5)).sum() for node in whole) == 30


def test_gaussians_that_nobody_sees_are_left_out(result):
    hidden = replace(result.objects[0].gaussian, hidden_opacity=torch.full((40, 1), -20.0))
    hidden.hidden_opacity[7] = 1.0
    dim = replace(result.objects[0], gaussian=hidden)
    (node,) = splat_nodes(replace(result, objects=(dim,)), build_scene(replace(result, objects=(dim,))))
    assert len(node.content.centres) == 1 and node.content.opacities[0] > MIN_OPACITY


def test_all_formats_write_the_plain_file():
    assert "glb+splats" not in formats("all") and "glb" in formats("all")
    assert formats("glb+splats,preview") == ("glb+splats", "preview")


def test_colours_of_points_are_linear_light():
    white = Gaussian.from_values(
        GaussianConfig(),
        xyz=torch.zeros(2, 3),
        features_dc=rgb_to_sh(torch.tensor([[[1.0, 0.5, 0.0]], [[2.0, 0.2, -1.0]]])),
        scaling=torch.full((2, 3), 0.1),
        rotation=torch.tensor([[1.0, 0, 0, 0]]).repeat(2, 1),
        opacity=torch.full((2, 1), 0.5),
    )
    colours = splats_of(white, torch.tensor([True, True])).colours
    assert colours[0].tolist() == [255, 55, 0, 128] and colours[1].tolist() == [255, 8, 0, 128]
