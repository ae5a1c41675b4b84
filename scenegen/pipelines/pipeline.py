"""Photo and masks to a 3D scene: loading of the networks, and the stages one after the other."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from scenegen.geometry import pose_to_transform, sanitize_pose
from scenegen.pipelines.assembly import apply_transform
from scenegen.pipelines.colouring import MIN_OVERLAP, colour_by_height, colour_from_photo
from scenegen.pipelines.conditioning import CondParts, SceneCond, SceneConditioner, SceneView
from scenegen.pipelines.decoding import occupancy_to_mesh
from scenegen.pipelines.image_preparation import IMAGE_SIZE, prepare_asset_image
from scenegen.pipelines.masks import inverse_order, order_by_area
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.pipelines.sampling import (
    StructureSample,
    WithoutSceneAttention,
    noise_generator,
    sample_structure,
    structure_noise,
)
from scenegen.pipelines.view_fit import PhotoView, fit_photo_view
from scenegen.registry import load_checkpoint
from trellis_modules.checkpoint import CheckpointError, find_weights
from trellis_modules.config import ConfigError, NamedConfig, build, load_json
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.registry import SamplerConfig, merge_params
from vggt.models.vggt import VGGT

PIPELINE_FILE = "pipeline.json"
PIPELINE_NAME = "SceneGenImageToScenePipeline"
FLOW_ROLE = "sparse_structure_flow_model"
DECODER_ROLE = "sparse_structure_decoder"

ALL_PARTS = CondParts()

_IMAGES_AT_ONCE = 16
_HASH_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The ``args`` of ``pipeline.json``; values of models are stems relative to its folder.

    Attributes:
        models: role -> stem; roles of later stages (``slat_*``) may be there.
        sparse_structure_sampler: see `SamplerConfig`.
        image_cond_model: stem of the image encoder.
        vggt_model: stem of the geometry encoder.
        image_size: side of the encoders' input in pixels.
        normalize_geometry: see `SceneConditioner`; released checkpoints do without.
        sha256: weight file -> hex digest, checked when the file is loaded.
    """

    models: dict[str, str]
    sparse_structure_sampler: dict[str, Any]
    image_cond_model: str
    vggt_model: str
    image_size: int = IMAGE_SIZE
    normalize_geometry: bool = False
    sha256: dict[str, str] = field(default_factory=dict)
    slat_sampler: dict[str, Any] | None = None
    slat_normalization: dict[str, list[float]] | None = None

    def __post_init__(self) -> None:
        for role in (FLOW_ROLE, DECODER_ROLE):
            if role not in self.models:
                raise ValueError(f"models: expected the role {role!r}, got {sorted(self.models)}")

    @classmethod
    def load(cls, folder: Path) -> PipelineConfig:
        """Read ``folder/pipeline.json``.

        Raises:
            CheckpointError: no such folder, or a file that is not a pipeline description.
        """
        path = folder / PIPELINE_FILE
        if not path.is_file():
            raise CheckpointError(
                f"{path}: expected a checkpoint folder with {PIPELINE_FILE}, found none; check --checkpoint"
            )
        try:
            named = NamedConfig.parse(load_json(path), str(path))
            if named.name != PIPELINE_NAME:
                raise ConfigError(f"{path}: expected name {PIPELINE_NAME!r}, got {named.name!r}")
            return build(cls, named.args, str(path))
        except ConfigError as error:
            raise CheckpointError(str(error)) from error


class SceneGenPipeline:
    """Runs the stages: preparation, condition, structure sampling, decoding, colouring."""

    def __init__(
        self,
        flow: nn.Module,
        decoder: nn.Module,
        conditioner: SceneConditioner,
        sampler: FlowEulerSampler,
        params: SamplingParams,
    ) -> None:
        """Take the networks, all on one device and in eval mode, and the default sampling settings."""
        self.flow = flow
        self.decoder = decoder
        self.conditioner = conditioner
        self.sampler = sampler
        self.params = params

    @classmethod
    def from_pretrained(
        cls, path: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> SceneGenPipeline:
        """Load a checkpoint folder from the disk; the network is never touched.

        Args:
            path: folder with ``pipeline.json``.
            device: where the networks run.
            dtype: what their large layers compute in.

        Raises:
            CheckpointError: a file is missing or damaged, differs from its recorded sha256, or does not fit.
        """
        folder = Path(path)
        config = PipelineConfig.load(folder)

        def load(stem: str) -> nn.Module:
            return _load_verified(folder, stem, config.sha256, device, dtype)

        where = f"{folder / PIPELINE_FILE}: sparse_structure_sampler"
        try:
            sampler = SamplerConfig.parse(config.sparse_structure_sampler, where)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        conditioner = SceneConditioner(
            load(config.image_cond_model),
            _aggregator(load(config.vggt_model)),
            config.image_size,
            _IMAGES_AT_ONCE,
            config.normalize_geometry,
        )
        flow, decoder = load(config.models[FLOW_ROLE]), load(config.models[DECODER_ROLE])
        return cls(flow, decoder, conditioner, sampler.build_sampler(), sampler.params)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.flow.parameters()).device

    @torch.no_grad()
    def run(
        self,
        scene_image: Image.Image,
        asset_images: Sequence[Image.Image],
        mask_images: Sequence[np.ndarray],
        *,
        object_ids: Sequence[int] | None = None,
        seed: int = 42,
        steps: int | None = None,
        cond_parts: CondParts = ALL_PARTS,
        scene_attention: bool = True,
        max_faces: int | None = 20_000,
        on_step: Callable[[int, int], Any] | None = None,
    ) -> SceneResult:
        """Generate a scene.

        The object with the largest mask is the query, whose frame the poses are in.

        Args:
            scene_image: the photo.
            asset_images: per object, an RGBA cut-out of any size.
            mask_images: per object, (H, W) bool in the photo, not empty.
            object_ids: the caller's numbers; default 0, 1, ...
            seed: of all noise.
            steps: Euler steps; None takes the checkpoint's setting.
            cond_parts: which conditions are used; released weights expect all.
            scene_attention: let the assets see each other; without it only for comparisons.
            max_faces: triangles per object; None keeps all.
            on_step: called with (steps done, steps) after each sampling step.

        Returns:
            The objects in the caller's order.

        Raises:
            ValueError: numbers of images, masks and ids differ or are 0, a cut-out has no opaque pixel, or
                steps is below 1.
        """
        ids = list(range(len(asset_images))) if object_ids is None else list(object_ids)
        _check_counts(asset_images, mask_images, ids)
        params = merge_params(self.params, {"steps": steps}, "run")
        timings: dict[str, float] = {}
        with _timed(timings, "condition"):
            order = order_by_area([int(mask.sum()) for mask in mask_images])
            view = self._view(scene_image, [asset_images[i] for i in order], [mask_images[i] for i in order])
            cond = self.conditioner.encode(view, cond_parts)
        with _timed(timings, "sample"):
            sample = self._sample(cond, params, seed, scene_attention, on_step)
        with _timed(timings, "decode"):
            logits = self.decoder(sample.latents).float().squeeze(1).cpu()  # (B, R, R, R)
        with _timed(timings, "mesh"):
            poses = sanitize_pose(sample.positions.float()).cpu()
            meshes = [occupancy_to_mesh(grid.numpy(), max_faces) for grid in logits]
        restore = inverse_order(order)
        objects = tuple(
            GeneratedObject(object_id, poses[row], logits[row], meshes[row])
            for object_id, row in zip(ids, restore, strict=True)
        )
        with _timed(timings, "colour"):
            photo_view = colour_objects(objects, scene_image, asset_images, mask_images)
        settings = {
            "seed": seed,
            "steps": params.steps,
            "cfg_strength": params.cfg_strength,
            "scene_attention": scene_attention,
        }
        return SceneResult(objects, ids[order[0]], photo_view, settings, timings)

    def _view(
        self, photo: Image.Image, cutouts: Sequence[Image.Image], masks: Sequence[np.ndarray]
    ) -> SceneView:
        size = self.conditioner.image_size
        return SceneView(
            assets=[prepare_asset_image(cutout, size) for cutout in cutouts],
            photo=photo,
            masks=[Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks],
        )

    def _sample(
        self,
        cond: SceneCond,
        params: SamplingParams,
        seed: int,
        scene_attention: bool,
        on_step: Callable[[int, int], Any] | None,
    ) -> StructureSample:
        config = self.flow.config
        noise = structure_noise(
            cond.num_assets, config.in_channels, config.resolution, noise_generator(seed), self.device
        )
        flow = self.flow if scene_attention else WithoutSceneAttention(self.flow)
        return sample_structure(flow, self.sampler, cond, noise, params, on_step=on_step)


def colour_objects(
    objects: Sequence[GeneratedObject],
    photo: Image.Image,
    cutouts: Sequence[Image.Image],
    masks: Sequence[np.ndarray],
) -> PhotoView | None:
    """Colour the meshes of a scene, in place, from its photo.

    Returns:
        The fitted camera of the photo, or None where no camera explains the masks.
    """
    shown = [index for index, item in enumerate(objects) if item.mesh is not None]
    if not shown:
        return None
    transforms = {index: pose_to_transform(objects[index].pose.double()).numpy() for index in shown}
    clouds = [apply_transform(transforms[index], objects[index].mesh.vertices) for index in shown]
    view = fit_photo_view(clouds, [masks[index] for index in shown])
    is_believed = view.overlap >= MIN_OVERLAP
    pixels = np.asarray(photo.convert("RGB"))
    for index in shown:
        mesh = objects[index].mesh
        if not (is_believed and colour_from_photo(mesh, transforms[index], view, pixels, masks[index])):
            colour_by_height(mesh, cutouts[index])
    return view if is_believed else None


def _check_counts(images: Sequence[Any], masks: Sequence[np.ndarray], ids: Sequence[int]) -> None:
    if not images or not len(images) == len(masks) == len(ids):
        raise ValueError(
            "run: expected asset images and as many masks and ids, "
            f"got {len(images)} images, {len(masks)} masks, {len(ids)} ids"
        )
    if len(set(ids)) != len(ids):
        raise ValueError(f"run: expected different object ids, got {list(ids)}")


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start


def _aggregator(geometry_encoder: nn.Module) -> nn.Module:
    """The part of a geometry encoder that makes tokens; a complete VGGT also has heads."""
    return geometry_encoder.aggregator if isinstance(geometry_encoder, VGGT) else geometry_encoder


def _load_verified(
    folder: Path, stem: str, digests: Mapping[str, str], device: torch.device | str, dtype: torch.dtype
) -> nn.Module:
    """Load one network after checking its weights against the recorded sha256."""
    path = _local_stem(folder, stem)
    weights = find_weights(path)
    expected = digests.get(stem + weights.suffix)
    if expected is not None and (actual := file_sha256(weights)) != expected:
        raise CheckpointError(
            f"{weights}: expected sha256 {expected[:12]}... as in {PIPELINE_FILE}, got {actual[:12]}...; "
            "the file is damaged or was replaced, copy it again"
        )
    return load_checkpoint(path, device, dtype)


def _local_stem(folder: Path, stem: str) -> Path:
    for path in (folder / stem, Path(stem)):
        if path.with_name(path.name + ".json").is_file():
            return path
    raise CheckpointError(
        f"{folder / PIPELINE_FILE}: expected the checkpoint {folder / stem}.json, found none; "
        "put its .json and .safetensors there"
    )


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
