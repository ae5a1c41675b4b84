"""Tokens of pictures, encoded once: what a frozen image encoder would make of them in every step.

They are those of the image encoder of the condition, (T, C) in float16. A scene has, in
``cond_tokens/<name>/<scene>.safetensors``, ``scene`` and for each object ``<instance>.cond`` and
``<instance>.mask_cond``; an asset has, in ``cond_tokens/<name>/assets/<sha256>.safetensors``, its views of
``renders_cond/`` by their file names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safe_files.weights import open_weights
from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.sample_files import SampleError
from trellis_modules.checkpoint import write_state
from trellis_modules.files import atomic_write

SCENE_KEY = "scene"
_REMEDY = "run encode_cond.py again"


@dataclass(frozen=True)
class SceneTokens:
    """Tokens of the pictures of N objects and of their photo, float16."""

    cond: Tensor  # (N, T, C)
    mask_cond: Tensor | None  # (N, T, C)
    scene: Tensor | None  # (1, T, C)


def tokens_path(root: Path, name: str, scene_id: str) -> Path:
    """The file of a scene; ``name`` is that of the encoder."""
    return root / "cond_tokens" / name / f"{scene_id}.safetensors"


def view_tokens_path(root: Path, name: str, sha256: str) -> Path:
    """The file of an asset; ``name`` is that of the encoder."""
    return root / "cond_tokens" / name / "assets" / f"{sha256}.safetensors"


def object_key(row: SceneRow, picture: str) -> str:
    """Name of the tokens of one picture of an object: its ``cond`` or its ``mask_cond``."""
    return f"{row.instance_id or 0}.{picture}"


def write_tokens(path: Path, tokens: Mapping[str, Tensor]) -> None:
    """Write the file of a scene; it appears whole.

    Args:
        path: see `tokens_path`.
        tokens: (T, C) by `SCENE_KEY` and `object_key`.

    Raises:
        ValueError: tokens beyond the range of float16.
    """
    halves = {name: value.half().contiguous().cpu() for name, value in tokens.items()}
    if bad := [name for name, value in halves.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{path}: {bad[0]}: expected tokens within the range of float16; check the encoder")
    with atomic_write(path) as temporary:
        write_state(halves, temporary)


def read_tokens(path: Path, rows: Sequence[SceneRow], mask: bool, scene: bool) -> SceneTokens:
    """Read the tokens of some objects of a scene.

    Args:
        path: see `tokens_path`.
        rows: the objects.
        mask, scene: whether those of masks and photo are read.

    Raises:
        SampleError: the file is missing or damaged, or lacks an object.
    """
    with _opened(path) as file:

        def all_of(picture: str) -> Tensor:
            return torch.stack([file.get_tensor(object_key(row, picture)) for row in rows])

        return SceneTokens(
            all_of("cond"),
            all_of("mask_cond") if mask else None,
            file.get_tensor(SCENE_KEY)[None] if scene else None,
        )


def read_view_tokens(path: Path, rng: np.random.Generator) -> Tensor:
    """The tokens (T, C) of a random view of an asset.

    Raises:
        SampleError: the file is missing or damaged, or has no view.
    """
    with _opened(path) as file:
        views = sorted(file.keys())
        if not views:
            raise SampleError(f"{path}: expected at least one view; {_REMEDY}")
        return file.get_tensor(views[rng.integers(len(views))])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with open_weights(path, "pt") as file:
            yield file
    except SampleError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # the last: tensors of different shapes
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise SampleError(f"{path}: expected tokens of its pictures ({reason}); {_REMEDY}") from error
