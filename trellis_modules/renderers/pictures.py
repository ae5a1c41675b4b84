"""From renderings to pictures and videos: colours and normals; turntables and snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers.cameras import snapshot_cameras, turntable_cameras
from trellis_modules.renderers.rendering import Rendering

#: Draws from cameras: extrinsics (V, 4, 4) and intrinsics (3, 3) -> V pictures.
Draw = Callable[[Tensor, Tensor], Rendering]

_VIEWS_AT_ONCE = 8


def to_uint8(pictures: Tensor) -> Tensor:
    """Float pictures in [0, 1] (values outside are clipped) as uint8."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def two_by_two(pictures: Tensor) -> Tensor:
    """Four pictures (4, H, W, C) as one (2 * H, 2 * W, C), row by row."""
    return torch.cat([torch.cat([*pictures[:2]], dim=1), torch.cat([*pictures[2:]], dim=1)])


def colour_pictures(rendering: Rendering) -> Tensor:
    """(V, S, S, 3) in [0, 1].

    Raises:
        ValueError: the rendering has no colour.
    """
    if rendering.colour is None:
        raise ValueError("colour_pictures: the rendering has no colour; give render_mesh vertex_attributes")
    return rendering.colour.clamp(0, 1)


def normal_pictures(rendering: Rendering) -> Tensor:
    """World normals as colours (n + 1) / 2, black where nothing is: (V, S, S, 3).

    Raises:
        ValueError: the rendering has no normals.
    """
    if rendering.normal is None:
        raise ValueError("normal_pictures: the rendering has no normals; only render_mesh makes them")
    return (rendering.normal + 1) / 2 * rendering.alpha[..., None]


@torch.no_grad()
def turntable(
    draw: Draw, num_frames: int = 300, pictures: Callable[[Rendering], Tensor] = colour_pictures
) -> Tensor:
    """Frames of a video around the object, see ``turntable_cameras``.

    Args:
        draw: e.g. ``lambda extrinsics, intrinsics: render_gaussians(gaussian, extrinsics, intrinsics, 512)``.
        num_frames: pictures of one turn.
        pictures: what to show, one of the functions of this module.

    Returns:
        (num_frames, S, S, 3) uint8.
    """
    return _frames(draw, *turntable_cameras(num_frames), pictures)


@torch.no_grad()
def snapshots(draw: Draw, pictures: Callable[[Rendering], Tensor] = colour_pictures) -> Tensor:
    """Four pictures around the object, see ``snapshot_cameras``: (4, S, S, 3) uint8.

    Arguments are those of :func:`turntable`.
    """
    return _frames(draw, *snapshot_cameras(), pictures)


def _frames(
    draw: Draw, extrinsics: Tensor, intrinsics: Tensor, pictures: Callable[[Rendering], Tensor]
) -> Tensor:
    parts = extrinsics.split(_VIEWS_AT_ONCE)
    return torch.cat([to_uint8(pictures(draw(part, intrinsics))).cpu() for part in parts])


def write_video(frames: Tensor, path: Path, fps: int = 30) -> None:
    """Write frames to a video (.mp4, H.264) or an animation (.gif) by the suffix of the file.

    Args:
        frames: (T, H, W, 3) uint8, T >= 1.
        path: the folder must exist.
        fps: frames per second; GIF viewers know hundredths of a second only.

    Raises:
        ValueError: another shape, dtype or suffix.
        BackendUnavailable: .mp4 without the packages imageio and imageio-ffmpeg.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or not len(frames):
        raise ValueError(
            f"{path}: expected frames (T, H, W, 3) uint8, T >= 1, got {tuple(frames.shape)} {frames.dtype}"
        )
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"{path}: expected a file name that ends in {' or '.join(writers)}, got {suffix!r}")
    writers[suffix](frames.cpu().numpy(), Path(path), fps)


def _write_mp4(frames: Sequence[np.ndarray], path: Path, fps: int) -> None:
    try:
        import imageio_ffmpeg  # noqa: F401  (imageio finds it by itself and fails late without it)
        from imageio.v2 import get_writer
    except ImportError as error:
        raise BackendUnavailable(
            f"{path}: videos need the packages imageio and imageio-ffmpeg ({error}); "
            "run bash setup.sh --video, or choose a name that ends in .gif"
        ) from error
    # The codec wants even edges; the default of 16 would scale small pictures. With the index in front of the
    # frames players on the web begin before they have the whole file.
    options = {"macro_block_size": 2, "output_params": ["-movflags", "+faststart"]}
    with get_writer(path, format="FFMPEG", fps=fps, codec="libx264", **options) as writer:
        for frame in frames:
            writer.append_data(frame)


def _write_gif(frames: Sequence[np.ndarray], path: Path, fps: int) -> None:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
