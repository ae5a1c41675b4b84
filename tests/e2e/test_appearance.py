"""The appearance stage by command and as a library: textured files, faults, memory, several photos."""

import gc
import json
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import inference
from scenegen.checkpoints.roles import SLAT_GAUSSIAN_ROLE, SLAT_MESH_ROLE, SLAT_RADIANCE_FIELD_ROLE
from scenegen.inputs.scene_folder import read_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Cancelled
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings
from trellis_modules.representations.strivec import Strivec
from trellis_modules.sparse import SparseTensor

SMALL = TextureSettings(source="mesh", size=64, fill_holes=False)  # hidden faces take most of the time


@pytest.fixture(scope="module")
def pipeline(shared_appearance_checkpoint) -> SceneGenPipeline:
    return SceneGenPipeline.from_pretrained(shared_appearance_checkpoint)


@pytest.fixture
def scene(tmp_path, write_scene):
    """A photo with two objects; the second is the query."""
    (images,) = read_scene(write_scene(tmp_path / "room", 2))
    return images


def _gltf_json(path) -> dict:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length])


def _dumbbell(count: int) -> torch.Tensor:
    """Logits (count, 8, 8, 8) of a small box, another size for every object."""
    logits = torch.full((count, 8, 8, 8), -1.0)
    for index in range(count):
        logits[index, 2:5, 2 : 4 + index, 3:5] = 1.0
    return logits


def test_command_writes_textured_files_that_are_the_same_every_time(
    tmp_path, write_scene, shared_appearance_checkpoint, capsys
):
    write_scene(tmp_path / "in" / "room", 2)
    contents = []
    for name in ("first", "second"):
        arguments = [
            "--input", tmp_path / "in", "--output", tmp_path / name, "--texture-size", 64, "--seed", 3,
            "--checkpoint", shared_appearance_checkpoint, "--formats", "glb,objects", "--json",
        ]  # fmt: skip
        assert inference.main([str(argument) for argument in arguments]) == 0
        folder = tmp_path / name / "room"
        contents.append([(folder / file).read_bytes() for file in ("scene.glb", "obj_0.glb", "obj_1.glb")])
    assert contents[0] == contents[1]
    (report,) = json.loads(capsys.readouterr().out.partition("\n}\n")[0] + "}")["scenes"]
    assert {"condition", "sample", "sample latents", "decode latents", "texture"} <= report["seconds"].keys()
    assert report["peak_gib"]["process"] > 0 and report["problems"] == {}

    tree = _gltf_json(folder / "scene.glb")
    assert len(tree["materials"]) == len(tree["images"]) == 2
    for material in tree["materials"]:
        pbr = material["pbrMetallicRoughness"]
        assert (pbr["metallicFactor"], pbr["roughnessFactor"]) == (0.0, 1.0) and "baseColorTexture" in pbr
    for mesh in tree["meshes"]:
        assert {"POSITION", "NORMAL", "TEXCOORD_0"} <= mesh["primitives"][0]["attributes"].keys()
    settings = tree["asset"]["extras"]["settings"]
    assert settings["seed"] == 3 and settings["appearance"]["steps"] == 2
    assert settings["texture"]["source"] == "gaussian" and settings["texture"]["size"] == 64
    loaded = trimesh.load(folder / "scene.glb")
    assert sorted(loaded.graph.nodes_geometry) == ["obj_0", "obj_1"]
    np.testing.assert_allclose(loaded.extents.max(), 1.96, rtol=1e-5)


def test_appearance_can_be_left_out(tmp_path, write_scene, shared_appearance_checkpoint):
    write_scene(tmp_path / "in" / "room", 2)
    arguments = [
        "--input", tmp_path / "in", "--output", tmp_path / "out", "--no_appearance", "--formats", "glb",
        "--checkpoint", shared_appearance_checkpoint,
    ]  # fmt: skip
    assert inference.main([str(argument) for argument in arguments]) == 0
    tree = _gltf_json(tmp_path / "out" / "room" / "scene.glb")
    assert "images" not in tree and "appearance" not in tree["asset"]["extras"]["settings"]
    assert "COLOR_0" in tree["meshes"][0]["primitives"][0]["attributes"]


@pytest.mark.parametrize(
    "asked",
    [{"slat_sampling": {"steps": 1}}, {"representations": ("gaussian",)}, {"texture": SMALL}],
    ids=["steps", "gaussian", "texture"],
)
def test_what_the_appearance_stage_makes_is_refused_without_it(pipeline, scene, asked):
    with pytest.raises(ValueError, match="appearance"):
        pipeline.run([scene], RunSettings(appearance=False, **asked))


@pytest.mark.parametrize("appearance", [True, False])
def test_faces_are_as_many_as_asked_with_and_without_the_appearance_stage(pipeline, scene, appearance):
    common = {"structure": _dumbbell(2), "appearance": appearance}
    common |= {"texture": SMALL} if appearance else {}
    for item in pipeline.run([scene], RunSettings(faces=40, **common)).objects:
        assert abs(len(item.mesh.faces) - 40) <= 2  # this small untrained surface has few edges to collapse
    result = pipeline.run([scene], RunSettings(scene_faces=100, **common))
    assert abs(sum(len(item.mesh.faces) for item in result.objects) - 100) <= 3
    assert result.settings["scene_faces"] == 100 and result.settings["threads"] == torch.get_num_threads()
    whole, half = (
        pipeline.run([scene], RunSettings(simplify=share, **common)).objects for share in (0.0, 0.5)
    )
    counts = [sum(len(item.mesh.faces) for item in objects) for objects in (whole, half)]
    assert counts[1] == pytest.approx(counts[0] / 2, rel=0.05)


def test_gaussians_and_radiance_fields_come_on_request(pipeline, scene):
    settings = RunSettings(texture=SMALL, structure=_dumbbell(2))
    asked = replace(settings, representations=("gaussian", "radiance_field"))
    result = pipeline.run([scene], asked)
    for item, voxels in zip(result.objects, (3 * 2 * 2, 3 * 3 * 2), strict=True):
        assert len(item.gaussian) == 4 * voxels and len(item.radiance_field.nodes) == voxels
        assert item.mesh.visual.kind == "texture" and item.problem is None
    assert pipeline.run([scene], settings).objects[0].gaussian is None


def test_command_draws_radiance_fields_and_structures_and_takes_textures_from_fields(
    tmp_path, write_scene, shared_appearance_checkpoint, small_pictures, monkeypatch
):
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed (extra video)")
    monkeypatch.setattr("scenegen.pipelines.texturing._VIEWS", {"cpu": (6, 48)})
    write_scene(tmp_path / "in" / "room", 2)
    arguments = [
        "--input", tmp_path / "in", "--output", tmp_path / "out", "--texture-size", 64, "--texture",
        "radiance_field", "--turntable", "radiance_field", "--checkpoint", shared_appearance_checkpoint,
        "--formats", "glb,structure,radiance_field,mp4",
    ]  # fmt: skip
    assert inference.main([str(argument) for argument in arguments]) == 0
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    pictures = [f"obj_{k}_{name}.png" for name in ("radiance_field", "structure") for k in range(2)]
    assert {"structure.png", "turntable.mp4", *pictures} <= set(record["files"])
    texture = record["settings"]["texture"]
    assert (texture["source"], texture["mode"]) == ("radiance_field", "views")
    assert record["export"]["turntable"] == "radiance_field"


def test_texture_has_the_colours_of_the_radiance_field(pipeline, scene, monkeypatch):
    """A field that is opaque and of one colour, whatever the latents are."""
    monkeypatch.setattr("scenegen.pipelines.texturing._VIEWS", {"cpu": (6, 48)})
    colour = torch.tensor([0.8, 0.4, 0.2])
    with pipeline.networks.use(SLAT_RADIANCE_FIELD_ROLE) as decoder:
        forward = decoder.forward

    def plain(latents):
        return [
            Strivec(field.nodes, torch.ones_like(field.trivec), torch.full_like(field.density, 500.0),
                    leaf_colours=colour.repeat(len(field.nodes), 1))
            for field in forward(latents)
        ]  # fmt: skip

    monkeypatch.setattr(decoder, "forward", plain)
    texture = replace(SMALL, source="radiance_field")
    result = pipeline.run([scene], RunSettings(texture=texture, structure=_dumbbell(2)))
    for item in result.objects:
        assert item.problem is None and item.radiance_field is not None and item.gaussian is None
        colours = item.mesh.visual.to_color().vertex_colors[:, :3] / 255
        assert np.abs(np.median(colours, axis=0) - colour.numpy()).max() < 0.02


@pytest.mark.parametrize(
    "arguments",
    [
        ("--formats", "glb,radiance_field"),
        ("--turntable", "radiance_field", "--formats", "mp4"),
        ("--texture", "radiance_field"),
    ],
)
def test_what_a_checkpoint_has_no_decoder_for_is_refused(
    tmp_path, write_scene, appearance_checkpoint, caplog, arguments
):
    (appearance_checkpoint / "ckpts" / "slat_dec_rf.safetensors").unlink()
    write_scene(tmp_path / "in" / "room", 2)
    common = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--checkpoint", appearance_checkpoint)
    assert inference.main([str(argument) for argument in (*common, *arguments)]) == 2
    flag = " ".join(arguments[:2]).replace("glb,", "")
    wanted = f"{flag}: needs the network 'slat_decoder_rf', the checkpoint has none; leave it out"
    assert wanted in caplog.messages[-1]


def test_without_texture_the_decoded_mesh_keeps_its_vertices(pipeline, scene):
    for item in pipeline.run([scene], RunSettings(texture=None, structure=_dumbbell(2))).objects:
        assert item.mesh.visual.kind == "vertex" and len(item.mesh.faces) > 100
        assert np.unique(item.mesh.visual.vertex_colors[:, :3]).size > 1


def test_networks_loaded_in_turn_give_the_same_scene(pipeline, shared_appearance_checkpoint, scene):
    offloaded = SceneGenPipeline.from_pretrained(shared_appearance_checkpoint, offload=True)
    calls = []
    kept, freed = (
        each.run([scene], RunSettings(texture=SMALL, structure=_dumbbell(2)), on_progress=calls.append)
        for each in (pipeline, offloaded)
    )
    for one, other in zip(kept.objects, freed.objects, strict=True):
        torch.testing.assert_close(one.pose, other.pose, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(one.mesh.bounds, other.mesh.bounds, atol=1e-3)
    # structure, then appearance: all objects together, then one by one
    told = [(each.stage, each.done, each.total) for each in calls]
    start = [("condition", 0, 1), ("condition", 1, 1), *(("structure", done, 2) for done in range(3))]
    meshes = [("meshes", done, 2) for done in range(3)]
    texture = [("textures", done, 6) for done in range(7)]
    together = [*start, *(("latents", done, 2) for done in range(3)), *meshes, *texture]
    assert told[: len(together)] == together
    one_by_one = [("latents", done, 4) for done in range(5)]
    assert told[len(together) :] == [*start, *one_by_one, *meshes, *texture]


def test_offloaded_networks_are_gone_after_their_use(shared_appearance_checkpoint):
    networks = SceneGenPipeline.from_pretrained(shared_appearance_checkpoint, offload=True).networks
    with networks.use(SLAT_MESH_ROLE) as decoder:
        assert all(parameter.device.type == "cpu" for parameter in decoder.parameters())
    assert all(parameter.is_meta for parameter in decoder.parameters())


def test_many_scenes_do_not_grow(pipeline, scene):
    def tensors() -> int:
        pipeline.run([scene], RunSettings(texture=SMALL, structure=single_voxel(2)))
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def single_voxel(count: int) -> torch.Tensor:
        logits = torch.full((count, 8, 8, 8), -1.0)
        logits[:, 4, 4, 4] = 1.0
        return logits

    first = tensors()
    assert [tensors() for _ in range(2)] == [first, first]


def test_object_with_an_empty_structure_or_a_single_voxel(pipeline, scene):
    structure = _dumbbell(2)
    structure[0] = -1.0
    structure[1] = -1.0
    structure[1, 4, 4, 4] = 1.0
    empty, single = pipeline.run([scene], RunSettings(texture=SMALL, structure=structure)).objects
    assert empty.mesh is None and empty.problem == "the structure decoder left the grid empty"
    assert single.problem is None and np.abs(single.mesh.vertices).max() < 0.3
    nothing = RunSettings(texture=SMALL, structure=torch.full((2, 8, 8, 8), -1.0))
    everything_empty = pipeline.run([scene], nothing)
    assert [item.mesh for item in everything_empty.objects] == [None, None]


def test_structure_of_another_resolution_is_refused(pipeline, scene):
    with pytest.raises(ValueError, match=r"expected structures of 8\^3 voxels, got \(2, 16, 16, 16\)"):
        pipeline.run([scene], RunSettings(structure=torch.ones(2, 16, 16, 16)))


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (SLAT_MESH_ROLE, "slat_decoder_mesh: .*not finite"),
        (SLAT_GAUSSIAN_ROLE, "slat_decoder_gs: .*not finite"),
        ("slat_flow_model", "appearance sampling: its latents are not finite"),
    ],
)
def test_object_whose_appearance_breaks_keeps_the_surface_of_its_structure(
    pipeline, scene, monkeypatch, role, expected
):
    """Only the object with more voxels breaks."""
    with pipeline.networks.use(role) as network:
        forward = network.forward

    def broken(x, *arguments, **keywords):
        poisoned = x.feats.clone()
        poisoned[x.layout[int(np.argmax(x.lengths))]] *= torch.nan if max(x.lengths) == 18 else 1.0
        return forward(x.replace(poisoned), *arguments, **keywords)

    monkeypatch.setattr(network, "forward", broken)
    source = "gaussian" if role == SLAT_GAUSSIAN_ROLE else "mesh"
    settings = replace(SMALL, source=source)
    whole, broken_item = pipeline.run([scene], RunSettings(texture=settings, structure=_dumbbell(2))).objects
    assert whole.problem is None and whole.mesh.visual.kind == "texture"
    assert broken_item.mesh.visual.kind == "vertex" and len(broken_item.mesh.faces)
    assert re.search(expected, broken_item.problem)


def test_latents_that_are_not_finite_name_the_stage(pipeline, scene):
    with pipeline.networks.use("sparse_structure_flow_model") as flow:
        hook = flow.out_layer.register_forward_hook(lambda layer, inputs, output: output * torch.nan)
    result = pipeline.run([scene], RunSettings(texture=SMALL))
    hook.remove()
    for item in result.objects:
        assert item.mesh is None and item.problem.startswith("structure sampling: its latents are not finite")
        assert item.pose.isfinite().all()


def test_second_photo_changes_the_scene_and_equal_photos_do_not(pipeline, scene):
    settings = RunSettings(texture=SMALL, structure=_dumbbell(2))

    def poses(*more_views: SceneImages) -> torch.Tensor:
        result = pipeline.run([scene, *more_views], settings)
        assert result.settings["views"] == 1 + len(more_views)
        return torch.stack([item.pose for item in result.objects])

    turned = [cutout.rotate(180) for cutout in scene.cutouts]
    other = SceneImages(scene.photo.rotate(180), turned, scene.masks)
    alone = poses()
    torch.testing.assert_close(poses(scene), alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(poses(other), alone)
    with pytest.raises(ValueError, match="expected the 2 objects of the photo in view 1 too, got 1 images"):
        poses(SceneImages(scene.photo, scene.cutouts[:1], scene.masks))


def test_noise_of_the_latents_follows_that_of_the_structure(pipeline, scene, monkeypatch):
    """The published rule: one generator, first (B, 4, 2, 2, 2), then (T, 4)."""
    seen = []
    with pipeline.networks.use("slat_flow_model") as flow:
        forward = flow.forward

    def watch(x: SparseTensor, *arguments, **keywords):
        seen.append(x.feats.clone())
        return forward(x, *arguments, **keywords)

    monkeypatch.setattr(flow, "forward", watch)
    pipeline.run([scene], RunSettings(texture=SMALL, structure=_dumbbell(2), seed=11))
    torch.manual_seed(11)
    torch.randn(2, 4, 2, 2, 2)
    assert torch.equal(seen[0], torch.randn(30, 4))


def test_flow_that_sees_the_colours_of_patches(tmp_path, scene, colour_checkpoint):
    pipeline = SceneGenPipeline.from_pretrained(colour_checkpoint)
    settings = RunSettings(texture=None)
    for views in ([scene], [scene, scene]):
        result = pipeline.run(views, settings)
        assert [item.problem for item in result.objects] == [None, None]
    pipeline.save_pretrained(tmp_path / "saved")
    again = SceneGenPipeline.from_pretrained(tmp_path / "saved").run([scene, scene], settings)
    for item, other in zip(result.objects, again.objects):
        assert np.array_equal(item.mesh.vertices, other.mesh.vertices)


def test_only_a_flow_that_sees_the_light_heeds_what_is_around_the_objects(
    scene, colour_checkpoint, light_checkpoint
):
    pixels = np.asarray(scene.photo.convert("RGB")).copy()
    pixels[~np.any(scene.masks, axis=0)] //= 3
    darker = replace(scene, photo=Image.fromarray(pixels))
    settings = RunSettings(texture=None, structure=_dumbbell(2))
    for checkpoint, heeds in ((colour_checkpoint, False), (light_checkpoint, True)):
        pipeline = SceneGenPipeline.from_pretrained(checkpoint)
        results = [pipeline.run([view], settings) for view in (scene, darker)]
        latents = [result.objects[0].latents.feats for result in results]
        assert torch.equal(*latents) != heeds


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"representations": ["points"]}, "unknown representation 'points'"),
        ({"slat_sampling": {"steps": 0}}, "steps must be at least 1"),
        ({"slat_sampling": {"heat": 1}}, "'heat'"),
        ({"faces": 0}, "faces: expected a number of triangles above 0, got 0"),
        ({"simplify": 1.0}, r"simplify: expected a share in \[0, 1\), got 1.0"),
        ({"faces": 10, "simplify": 0.5}, "expected one number of faces, got faces, simplify"),
        ({"faces": 10, "texture": TextureSettings(simplify=0.5)}, "got faces, texture.simplify"),
        ({"faces": 10, "texture": None}, "texture is None, which leaves them as they are decoded"),
        (
            {"texture": TextureSettings(source="mesh", mode="views")},
            "mode: expected 'direct' for the colours of the source 'mesh', got 'views'",
        ),
        (
            {"texture": TextureSettings(source="radiance_field", mode="direct")},
            "expected 'views' or 'opt' for the colours of the source 'radiance_field', got 'direct'",
        ),
    ],
)
def test_bad_settings_are_refused(pipeline, scene, options, expected):
    with pytest.raises(ValueError, match=expected):
        pipeline.run([scene], RunSettings(**options))


def test_saved_checkpoint_makes_the_same_scene(pipeline, scene, tmp_path):
    pipeline.save_pretrained(tmp_path / "saved")
    again = SceneGenPipeline.from_pretrained(tmp_path / "saved")
    settings = RunSettings(texture=SMALL, structure=_dumbbell(2))
    results = (each.run([scene], settings).objects for each in (pipeline, again))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one.pose, other.pose)
        assert np.array_equal(one.mesh.vertices, other.mesh.vertices)


@pytest.mark.parametrize("last", [("latents", 1), ("meshes", 1), ("textures", 1), ("textures", 4)])
def test_a_run_can_be_stopped_between_steps_objects_and_pieces(pipeline, scene, last):
    calls = []
    with pytest.raises(Cancelled):
        pipeline.run(
            [scene],
            RunSettings(texture=SMALL, structure=_dumbbell(2)),
            on_progress=calls.append,
            should_stop=lambda: (calls[-1].stage, calls[-1].done) == last,
        )
    assert (calls[-1].stage, calls[-1].done) == last
