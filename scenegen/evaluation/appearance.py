"""Appearance of predicted scenes: pictures through the photo's camera against the truth's and the photo's.

The prediction is moved with the alignment of its scene and drawn like the true scene, on white. ``render_*``
compares it with the picture of the truth, ``scene_*`` with the photo, where all but the objects is white.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from safe_files.json_reader import read_json
from safe_files.pictures import open_picture
from safe_files.regular import UnreadableFile
from scenegen.evaluation.comparison import Figures
from scenegen.evaluation.loading import EvaluationError, SceneFiles, fault_of
from scenegen.evaluation.pictures.cameras import SceneCamera, camera_of_render_config, camera_of_truth
from scenegen.evaluation.pictures.embeddings import (
    NetworkPaths,
    clip_embedding,
    cosine,
    dinov2_embedding,
    inception_features,
    lpips_distance,
)
from scenegen.evaluation.pictures.figures import WindowStatistics, frechet_distance, kernel_distance, psnr
from scenegen.evaluation.pictures.renderers import Renderer, find_renderer
from scenegen.evaluation.registration import Similarity
from scenegen.evaluation.settings import AppearanceSettings
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.scene_folder import read_scene
from trellis_modules.files import atomic_write

RENDER_CONFIG = "render_cfg.json"

_PNG_LEVEL = 1  # of the kept pictures: a quarter of the time for a fifth more bytes

TRUTH, PHOTO, PREDICTION = "truth", "photo", "prediction"
"""Whose features a record keeps for the figures of all pictures together."""

_EMPTY = {
    "lpips": "no weights; see docs/evaluation.md for LPIPS",
    "clip_similarity": "no weights; give --clip a folder with a CLIP model",
    "dinov2_similarity": "no weights; give --dinov2 a DINOv2 encoder",
    "fid, kid": "no weights; give --inception the network of FID",
    "scene_*": "no photos; give --images the folder of the photos and masks",
}


@dataclass(frozen=True)
class AppearanceSources:
    """Where everything is.

    Attributes:
        pictures: folder of the pictures of this run, kept for the next.
        images: folder of the folders of photos and masks, None where there are none.
        render_config: ``render_cfg.json`` of the true pictures, None where the truth's JSON has the camera.
        networks: weights.
        renderer: draws the pictures; some of `renderers.RENDERERS`.
        blender: program of the renderer that needs one, None for the one on the search path.
    """

    pictures: Path
    images: Path | None = None
    render_config: Path | None = None
    networks: NetworkPaths = NetworkPaths()
    renderer: str = "embree"
    blender: str | None = None

    def settings(self, samples: int | None = None) -> AppearanceSettings:
        """The settings that suit these sources.

        Args:
            samples: how finely pictures are drawn; None takes what the renderer suggests.

        Raises:
            EvaluationError: weights are missing or do not fit, the camera file cannot be read, or the
                program of the renderer is not there.
        """
        samples = samples or find_renderer(self.renderer, self.blender).default_samples
        weights = self.networks.digests()
        loaders = {
            "lpips": lpips_distance,
            "clip": clip_embedding,
            "dinov2": dinov2_embedding,
            "inception": inception_features,
        }
        for name, load in loaders.items():
            if path := getattr(self.networks, name):
                load(path)
        if self.render_config:
            _render_entries(self.render_config)
        have = (weights["lpips"], weights["clip"], weights["dinov2"], weights["inception"], self.images)
        empty = {name: why for (name, why), found in zip(_EMPTY.items(), have, strict=True) if not found}
        return AppearanceSettings(weights, self.images is not None, self.renderer, samples, empty)

    def camera_files(self, scene: SceneFiles) -> list[Path]:
        """Files whose content the pictures of a scene depend on, for fingerprints."""
        folder = self.images / scene.scene_id if self.images else None
        photos = (
            sorted(path for path in folder.iterdir() if path.is_file()) if folder and folder.is_dir() else []
        )
        return [*photos, *([self.render_config] if self.render_config else [])]


def guess_sources(
    truth: Path, pictures: Path, images: Path | None, networks: NetworkPaths
) -> AppearanceSources:
    """Sources of a data root, where ``scene_<set>_render`` and ``masked_images_<set>`` are beside the truth.

    Args:
        truth: folder ``scene_<set>``.
        pictures, networks: see `AppearanceSources`.
        images: folder of photos and masks where it is another one.
    """
    config = truth.with_name(f"{truth.name}_render") / RENDER_CONFIG
    beside = truth.with_name(truth.name.replace("scene_", "masked_images_", 1))
    if images is None and truth.name.startswith("scene_") and beside.is_dir():
        images = beside
    return AppearanceSources(pictures, images, config if config.is_file() else None, networks)


@dataclass(frozen=True)
class AppearanceFigures:
    """What was measured of one scene.

    Attributes:
        figures: by name.
        features: of truth, photo and prediction, base64 of float32; empty without the network of FID.
    """

    figures: Figures
    features: dict[str, str]


class _SeenPicture:
    """A picture with what networks make of it, which is found once however often it is compared."""

    def __init__(self, picture: np.ndarray, networks: NetworkPaths):
        self.picture, self._networks = picture, networks

    @cached_property
    def _unit(self) -> np.ndarray:
        return self.picture / 255.0

    @cached_property
    def _windows(self) -> WindowStatistics:
        return WindowStatistics(self._unit)

    @cached_property
    def _activations(self) -> list[Tensor]:
        return lpips_distance(self._networks.lpips).activations(self.picture)

    @cached_property
    def _clip(self) -> np.ndarray:
        return clip_embedding(self._networks.clip)(self.picture)

    @cached_property
    def _dinov2(self) -> np.ndarray:
        return dinov2_embedding(self._networks.dinov2)(self.picture)

    def against(self, other: _SeenPicture) -> Figures:
        """How alike this picture and another of its size are, by the names of the figures."""
        similarity = self._windows.similarity(other._windows)
        figures = {"psnr": psnr(self._unit, other._unit), "ssim": similarity}
        if self._networks.lpips:
            measure = lpips_distance(self._networks.lpips)
            figures["lpips"] = measure.distance(self._activations, other._activations)
        if self._networks.clip:
            figures["clip_similarity"] = cosine(self._clip, other._clip)
        if self._networks.dinov2:
            figures["dinov2_similarity"] = cosine(self._dinov2, other._dinov2)
        return figures


class ScenePictures:
    """The pictures of one true scene, with which predictions are compared."""

    def __init__(self, truth: SceneFiles, settings: AppearanceSettings, sources: AppearanceSources):
        """Draw the truth and read the photo.

        Raises:
            EvaluationError: the truth has no camera or cannot be drawn, or the photo cannot be read or has
                another shape than the true picture.
        """
        self._settings, self._sources = settings, sources
        self._renderer: Renderer = find_renderer(settings.renderer, sources.blender)
        photo = _masked_photo(truth.scene_id, sources) if settings.with_photo else None
        size = None if photo is None else (photo.shape[1], photo.shape[0])
        self.camera = scene_camera(truth, size, sources.render_config)
        self.truth = self._drawn(truth.scene, Similarity())
        self.photo = None if photo is None else self._kept_photo(_fitted(photo, self.camera, truth.scene_id))

    def compare(self, prediction: Path | None, transform: Similarity) -> AppearanceFigures:
        """Compare a prediction, or an empty picture where there is none.

        Args:
            prediction: scene file; None stands for nothing predicted.
            transform: takes it to the frame of the true scene file.

        Raises:
            EvaluationError: the prediction cannot be drawn.
        """
        picture = np.full_like(self.truth, 255) if prediction is None else self._drawn(prediction, transform)
        seen = _SeenPicture(picture, self._sources.networks)
        figures = {f"render_{name}": value for name, value in seen.against(self._seen_truth).items()}
        if self._seen_photo is not None:
            figures |= {f"scene_{name}": value for name, value in seen.against(self._seen_photo).items()}
        return AppearanceFigures(figures, self._features(picture))

    @cached_property
    def _seen_truth(self) -> _SeenPicture:
        return _SeenPicture(self.truth, self._sources.networks)

    @cached_property
    def _seen_photo(self) -> _SeenPicture | None:
        return None if self.photo is None else _SeenPicture(self.photo, self._sources.networks)

    def _features(self, picture: np.ndarray) -> dict[str, str]:
        if not self._sources.networks.inception:
            return {}
        embed = inception_features(self._sources.networks.inception)
        pictures = {TRUTH: self.truth, PREDICTION: picture}
        if self.photo is not None:
            pictures[PHOTO] = self.photo
        return {name: _encoded(embed(each)) for name, each in pictures.items()}

    def _drawn(self, path: Path, transform: Similarity) -> np.ndarray:
        """A scene file on white (H, W, 3) uint8, from the kept pictures where it is among them."""
        kept = self._sources.pictures / f"{self._key(path, transform)}.png"
        if (picture := _read_kept(kept)) is None:
            picture = on_white(self._renderer.draw(path, transform, self.camera, self._settings.samples))
            with atomic_write(kept, shared=True) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG", compress_level=_PNG_LEVEL)
        return picture

    def _key(self, path: Path, transform: Similarity) -> str:
        """Hash of everything that a picture depends on."""
        drawn = {
            "camera": self.camera.as_json(),
            "renderer": [self._settings.samples, *self._renderer.described()],
            "rotation": np.round(transform.rotation, 9).tolist(),
            "translation": np.round(transform.translation, 9).tolist(),
            "scale": round(transform.scale, 9),
        }
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EvaluationError(
                f"{path}: cannot be read ({error.strerror}); check its permissions"
            ) from error
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode() + content).hexdigest()

    def _kept_photo(self, photo: np.ndarray) -> np.ndarray:
        """Keep the photo on white beside the pictures, for the page that shows them."""
        kept = self._sources.pictures / f"{hashlib.sha256(photo.tobytes()).hexdigest()}.png"
        if not kept.is_file():
            with atomic_write(kept, shared=True) as temporary:
                Image.fromarray(photo).save(temporary, format="PNG", compress_level=_PNG_LEVEL)
        return photo


def on_white(picture: Image.Image) -> np.ndarray:
    """An RGBA picture over white: (H, W, 3) uint8."""
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))


def _read_kept(path: Path) -> np.ndarray | None:
    """A picture of an earlier run; None where it is missing or damaged, and has to be drawn."""
    try:
        with open_picture(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError):
        return None


def _masked_photo(scene_id: str, sources: AppearanceSources) -> np.ndarray:
    """The photo with all but its objects white: (H, W, 3) uint8."""
    try:
        images = read_scene(sources.images / scene_id)[0]
    except SceneInputError as error:
        raise EvaluationError(f"{error}; its pictures are not compared") from error
    seen = np.any(np.stack(images.masks), axis=0)
    return np.where(seen[..., None], np.asarray(images.photo.convert("RGB")), np.uint8(255))


def _fitted(photo: np.ndarray, camera: SceneCamera, scene_id: str) -> np.ndarray:
    """The photo in the size of the picture, where both have one shape."""
    height, width = photo.shape[:2]
    if (width, height) == (camera.width, camera.height):
        return photo
    if abs(width * camera.height - height * camera.width) > 0.01 * width * camera.height:
        raise EvaluationError(
            f"{scene_id}: expected a photo in the shape of the true picture, {camera.width} x {camera.height}"
            f", got {width} x {height}; its pictures are not compared"
        )
    resized = Image.fromarray(photo).resize((camera.width, camera.height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def scene_camera(truth: SceneFiles, size: tuple[int, int] | None, render_config: Path | None) -> SceneCamera:
    """The camera of a scene's photo.

    Args:
        truth: files of the true scene.
        size: width and height of the photo; None takes what the camera says.
        render_config: ``render_cfg.json``; None takes the truth's JSON.

    Raises:
        EvaluationError: there is none, or it cannot be used.
    """
    if render_config:
        entries = _render_entries(render_config)
        if truth.scene_id not in entries:
            raise EvaluationError(
                f"{render_config}: expected the camera of {truth.scene_id!r}, found none; write the true "
                "pictures again; its pictures are not compared"
            )
        return camera_of_render_config(entries[truth.scene_id], f"{render_config}: {truth.scene_id}")
    if truth.poses is None:
        raise EvaluationError(
            f"{truth.scene}: expected a camera in {RENDER_CONFIG} or in {truth.scene_id}.json, found "
            "neither; its pictures are not compared"
        )
    return camera_of_truth(truth.poses, size)


@cache
def _render_entries(path: Path) -> Mapping[str, Any]:
    try:
        raw = read_json(path)
    except (OSError, UnreadableFile) as error:
        raise EvaluationError(
            f"{path}: expected the cameras of the true pictures, got {fault_of(error)}; write them again"
        ) from error
    if not isinstance(raw, dict):
        raise EvaluationError(
            f"{path}: expected an object of scenes, got {type(raw).__name__}; write it again"
        )
    return raw


def _encoded(features: np.ndarray) -> str:
    return base64.b64encode(np.asarray(features, "<f4").tobytes()).decode()


def distances_of_all(features: list[dict[str, str]]) -> dict[str, float]:
    """FID and KID over the pictures of all scenes, from the features that their records keep.

    Args:
        features: `AppearanceFigures.features` of each scene, in the order of the list.

    Returns:
        ``render_fid``, ``render_kid``, and with photos ``scene_fid``, ``scene_kid``; none for fewer than two
        scenes.
    """
    figures = {}
    for target, reference in (("render", TRUTH), ("scene", PHOTO)):
        both = [entry for entry in features if PREDICTION in entry and reference in entry]
        if len(both) > 1:
            sets = [
                np.stack([np.frombuffer(base64.b64decode(entry[name]), "<f4") for entry in both])
                for name in (PREDICTION, reference)
            ]
            figures[f"{target}_fid"] = frechet_distance(*sets)
            figures[f"{target}_kid"] = kernel_distance(*sets)
    return figures
