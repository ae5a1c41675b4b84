"""The nodes of ComfyUI without ComfyUI: declarations, a scene through all of them, what they refuse."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from scenegen.inputs.image_files import SceneInputError
from tests.e2e.conftest import write_checkpoint

FOLDER = Path(__file__).resolve().parents[3] / "integrations" / "comfyui"
BOXES = '[[4, 8, 28, 40], {"box": [34, 8, 60, 40], "name": "chair"}]'


@pytest.fixture(scope="module")
def nodes():
    """The folder loaded as ComfyUI loads it."""
    spec = importlib.util.spec_from_file_location(
        "comfyui_scenegen", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield {name: each() for name, each in module.NODE_CLASS_MAPPINGS.items()}
    del sys.modules[spec.name], sys.modules["comfyui_scenegen.nodes"]


@pytest.fixture(scope="module")
def pipeline(nodes, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("nodes") / "toy", mean_logit=3.0)
    (made,) = nodes["SceneGenLoadCheckpoint"].load(str(folder), "cpu", False)
    return made


@pytest.fixture
def image() -> torch.Tensor:
    pixels = np.full((1, 48, 64, 3), 0.5, np.float32)
    pixels[:, 11:37, 7:25] = (0.9, 0.2, 0.1)
    pixels[:, 11:37, 37:57] = (0.1, 0.2, 0.9)
    return torch.from_numpy(pixels)


def generate(nodes, pipeline, image, masks, **changed):
    settings = {"seed": 1, "steps": 0, "cfg": -1.0, "texture_size": 64, "refine": True} | changed
    return nodes["SceneGenGenerateScene"].generate(pipeline, image, masks, **settings)


def test_every_node_declares_what_its_function_takes(nodes):
    for name, node in nodes.items():
        declared = node.INPUT_TYPES()
        asked = declared["required"] | declared.get("optional", {})
        taken = inspect.signature(getattr(node, node.FUNCTION)).parameters
        assert list(asked) == list(taken), name
        assert node.CATEGORY == "SceneGen" and all(isinstance(kind, str) for kind in node.RETURN_TYPES)


def test_from_an_image_and_boxes_to_files(nodes, pipeline, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    masks, words = nodes["SceneGenFindMasks"].find(image, BOXES, "", True)
    assert masks.shape == (2, 48, 64) and masks.dtype == torch.float32 and "GrabCut" in words
    assert masks[0, 20, 15] == 1 and masks[0, 20, 45] == 0
    scene, preview = generate(nodes, pipeline, image, masks)
    assert (
        preview.ndim == 4
        and preview.shape[2] == 2 * preview.shape[1]
        and 0 <= preview.min() <= preview.max() <= 1
    )
    assert "refinement" in scene.settings and scene.settings["steps"] == 2
    for number in (1, 2):
        saved = nodes["SceneGenSaveScene"].save(scene, "room", "glb, poses")
        (glb,) = saved["result"]
        assert Path(glb) == Path(f"output/room_{number:05d}/scene.glb")
        assert {"obj_0", "obj_1"} <= set(trimesh.load(glb).graph.nodes_geometry)


def test_a_batch_is_a_scene_of_several_photos(nodes, pipeline, image):
    masks, _ = nodes["SceneGenFindMasks"].find(image, BOXES, "", False)
    scene, _ = generate(nodes, pipeline, image.repeat(2, 1, 1, 1), masks.repeat(2, 1, 1), steps=3, cfg=0.0)
    assert (scene.settings["views"], scene.settings["steps"], scene.settings["cfg_strength"]) == (2, 3, 0.0)


def test_comfyui_sees_the_progress_and_may_stop(nodes, pipeline, image, monkeypatch):
    seen = []

    class ProgressBar:
        def __init__(self, total):
            pass

        def update_absolute(self, done, total):
            seen.append((done, total))

    class Interrupted(Exception):
        pass

    def interrupt():
        if len(seen) == 3:
            raise Interrupted

    comfy = {name: types.ModuleType(name) for name in ("comfy", "comfy.utils", "comfy.model_management")}
    comfy["comfy.utils"].ProgressBar = ProgressBar
    comfy["comfy.model_management"].throw_exception_if_processing_interrupted = interrupt
    for name, module in comfy.items():
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    masks, _ = nodes["SceneGenFindMasks"].find(image, BOXES, "", False)
    with pytest.raises(Interrupted):
        generate(nodes, pipeline, image, masks)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ("[[1, 2", "boxes: expected JSON"),
        ("{}", "boxes: expected a list of boxes .*got dict"),
        ("[[1, 2, 3]]", "box 0: expected four numbers"),
        ("[]", "boxes: expected at least one box"),
    ],
)
def test_boxes_that_are_none_are_refused(nodes, image, boxes, words):
    with pytest.raises(SceneInputError, match=words):
        nodes["SceneGenFindMasks"].find(image, boxes, "", False)


def test_masks_and_names_that_do_not_fit_are_refused(nodes, pipeline, image):
    with pytest.raises(SceneInputError, match="same number for each of 2 pictures, got 3"):
        generate(nodes, pipeline, image.repeat(2, 1, 1, 1), torch.ones(3, 48, 64))
    with pytest.raises(SceneInputError, match="masks: .*mask 0 has shape"):
        generate(nodes, pipeline, image, torch.zeros(1, 48, 64))
    with pytest.raises(SceneInputError, match="at most 1, got a batch of 2"):
        nodes["SceneGenFindMasks"].find(image.repeat(2, 1, 1, 1), BOXES, "", False)
    for name in ("../out", "", ".."):
        with pytest.raises(SceneInputError, match="expected the name of a folder"):
            nodes["SceneGenSaveScene"].save(None, name, "glb")
