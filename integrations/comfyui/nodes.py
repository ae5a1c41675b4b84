"""The nodes: load a checkpoint, find masks, generate a scene, save it.

ComfyUI's images are (B, H, W, 3) float32 in [0, 1] and its masks (N, H, W) float32 in [0, 1]. A batch of
images is a scene of several photos: photo k has the masks k * N to k * N + N - 1, with the same objects in
the same order.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scenegen.export.meshes import build_scene
from scenegen.export.preview import render_preview
from scenegen.export.registry import FORMATS_OF_ANY_CHECKPOINT
from scenegen.export.scene_files import write_scene
from scenegen.hub.releases import SMALL_MODEL
from scenegen.inputs.boxes import check_count
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Progress
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings
from scenegen.refinement.placement import refine_result
from scenegen.segmentation.loading import load_segmenter
from scenegen.segmentation.masks import find_masks
from scenegen.segmentation.polygon import refine_polygon
from scenegen.segmentation.prompts import parse_prompt

CATEGORY = "SceneGen"
OWN = 0
"""Steps, or guidance strength below 0, that stand for the checkpoint's own."""


class LoadCheckpoint:
    """A checkpoint on a device."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("SCENEGEN_PIPELINE",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node asks for."""
        devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        return {
            "required": {
                "checkpoint": ("STRING", {"default": SMALL_MODEL}),
                "device": (devices, {"default": devices[-1]}),
                "low_vram": ("BOOLEAN", {"default": False}),
            }
        }

    def load(self, checkpoint: str, device: str, low_vram: bool) -> tuple[SceneGenPipeline]:
        """Load it.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return (SceneGenPipeline.from_pretrained(checkpoint, device, offload=low_vram),)


class FindMasks:
    """The masks of the objects in boxes."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK", "STRING")
    RETURN_NAMES = ("masks", "segmenter")
    FUNCTION = "find"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node asks for."""
        return {
            "required": {
                "image": ("IMAGE",),
                "boxes": ("STRING", {"multiline": True, "default": "[[0, 0, 100, 100]]"}),
                "sam2": ("STRING", {"default": ""}),
                "polygons": ("BOOLEAN", {"default": False}),
            }
        }

    def find(self, image: Tensor, boxes: str, sam2: str, polygons: bool) -> tuple[Tensor, str]:
        """Find them.

        Args:
            image: (1, H, W, 3).
            boxes: JSON list of ``[x0, y0, x1, y1]``, or of objects with box, positive and negative.
            sam2: name, folder or repository; empty takes GrabCut, which needs no weights.
            polygons: keep the largest outline of each mask, filled.

        Returns:
            Masks (N, H, W), none empty and none over another, and what found them.

        Raises:
            SceneInputError: there is more than one picture, or a box cannot be used.
            CheckpointError: the segmenter cannot be had.
        """
        (photo,) = _photos(image, at_most=1)
        try:
            raw = json.loads(boxes)
        except json.JSONDecodeError as error:
            raise SceneInputError(
                f"boxes: expected JSON, e.g. [[x0, y0, x1, y1]], got {boxes!r}; {error}"
            ) from error
        check_count(raw, "boxes")
        prompts = [parse_prompt(item, photo.size, f"box {index}") for index, item in enumerate(raw)]
        segmenter = load_segmenter(sam2 or None)
        masks = find_masks(segmenter, photo, prompts)
        if polygons:
            masks = np.stack([refine_polygon(mask) for mask in masks])
        return torch.from_numpy(masks.astype(np.float32)), segmenter.description


class GenerateScene:
    """A scene of one photo or several with their masks."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("SCENEGEN_SCENE", "IMAGE")
    RETURN_NAMES = ("scene", "preview")
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node asks for."""
        return {
            "required": {
                "pipeline": ("SCENEGEN_PIPELINE",),
                "image": ("IMAGE",),
                "masks": ("MASK",),
                "seed": ("INT", {"default": 42, "min": 0, "max": 2**63 - 1}),
                "steps": ("INT", {"default": OWN, "min": 0, "max": 100}),
                "cfg": ("FLOAT", {"default": -1.0, "min": -1.0, "max": 10.0, "step": 0.1}),
                "texture_size": ("INT", {"default": 1024, "min": 64, "max": 4096}),
                "refine": ("BOOLEAN", {"default": False}),
            },
            "optional": {"few_steps": ("BOOLEAN", {"default": False})},
        }

    def generate(
        self,
        pipeline: SceneGenPipeline,
        image: Tensor,
        masks: Tensor,
        seed: int,
        steps: int,
        cfg: float,
        texture_size: int,
        refine: bool,
        few_steps: bool = False,
    ) -> tuple[SceneResult, Tensor]:
        """Generate it.

        Args:
            image: (B, H, W, 3).
            masks: (B * N, H, W).
            steps, cfg: 0, and below 0, take the checkpoint's own.
            few_steps: take the checkpoint's flow of structures that needs few steps, where it has one.

        Returns:
            The scene, and a picture of it, (1, H, 2 H, 3).

        Raises:
            SceneInputError: the number of masks does not fit, or one is empty.
            Cancelled, CheckpointError: see `SceneGenPipeline.run`.
        """
        views = _views(_photos(image), masks)
        sampling = {"steps": steps if steps > OWN else None, "cfg_strength": cfg if cfg >= 0 else None}
        settings = RunSettings(seed=seed, sampling=sampling, few_steps=few_steps)
        if pipeline.config.has_appearance:
            settings = replace(settings, texture=TextureSettings(size=texture_size))
        result = pipeline.run(views, settings, on_progress=_progress())
        if refine:
            result = refine_result(result, views[0].masks)
        if all(item.mesh is None for item in result.objects):
            raise SceneInputError(
                "expected an object with a surface, got none; try another seed or check the masks"
            )
        preview = render_preview(build_scene(result), result.camera)
        return result, torch.from_numpy(preview.astype(np.float32) / 255)[None]


class SaveScene:
    """Files of a scene in ComfyUI's output folder."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("glb",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node asks for."""
        known = ", ".join(FORMATS_OF_ANY_CHECKPOINT)
        return {
            "required": {
                "scene": ("SCENEGEN_SCENE",),
                "name": ("STRING", {"default": "scenegen"}),
                "formats": ("STRING", {"default": "glb,objects,poses,preview", "tooltip": known}),
            }
        }

    def save(self, scene: SceneResult, name: str, formats: str) -> dict[str, Any]:
        """Write it to ``<output>/<name>_<number>``.

        Returns:
            The path of ``scene.glb``, or of the first file, for further nodes, and all names to show.

        Raises:
            SceneInputError: the name leads out of the folder.
            ValueError: an unknown format.
        """
        root = _output_folder()
        if Path(name).name != name or name in ("", ".", ".."):
            raise SceneInputError(f"name: expected the name of a folder, got {name!r}; leave slashes out")
        number = next(number for number in range(1, 10**6) if not (root / f"{name}_{number:05d}").exists())
        folder = root / f"{name}_{number:05d}"
        files = write_scene(scene, folder, [part.strip() for part in formats.split(",")])
        shown = next((path for path in files if path.name == "scene.glb"), files[0])
        return {"ui": {"text": [path.name for path in files]}, "result": (str(shown),)}


def _photos(image: Tensor, at_most: int | None = None) -> list[Image.Image]:
    if at_most is not None and len(image) > at_most:
        raise SceneInputError(
            f"image: expected at most {at_most}, got a batch of {len(image)}; pick one of them"
        )
    pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(each) for each in pixels]


def _views(photos: list[Image.Image], masks: Tensor) -> list[SceneImages]:
    """The masks of a batch with their photos."""
    if len(masks) == 0 or len(masks) % len(photos):
        raise SceneInputError(
            f"masks: expected the same number for each of {len(photos)} pictures, got {len(masks)}; join "
            "them in the order of the pictures"
        )
    inside = (masks > 0.5).cpu().numpy()
    count = len(masks) // len(photos)
    try:
        return [
            SceneImages.from_masks(photo, inside[index * count : (index + 1) * count])
            for index, photo in enumerate(photos)
        ]
    except ValueError as error:
        raise SceneInputError(f"masks: {error}") from error


def _progress() -> Callable[[Progress], None] | None:
    """What moves ComfyUI's bar, and lets its button stop the scene; None outside of ComfyUI."""
    if importlib.util.find_spec("comfy") is None:
        return None
    bar = importlib.import_module("comfy.utils").ProgressBar(1)
    management = importlib.import_module("comfy.model_management")

    def show(progress: Progress) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(progress.done, progress.total)

    return show


def _output_folder() -> Path:
    if importlib.util.find_spec("folder_paths") is None:
        return Path("output")
    return Path(importlib.import_module("folder_paths").get_output_directory())


NODE_CLASS_MAPPINGS = {
    "SceneGenLoadCheckpoint": LoadCheckpoint,
    "SceneGenFindMasks": FindMasks,
    "SceneGenGenerateScene": GenerateScene,
    "SceneGenSaveScene": SaveScene,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SceneGenLoadCheckpoint": "SceneGen: load checkpoint",
    "SceneGenFindMasks": "SceneGen: masks from boxes",
    "SceneGenGenerateScene": "SceneGen: generate scene",
    "SceneGenSaveScene": "SceneGen: save scene",
}
