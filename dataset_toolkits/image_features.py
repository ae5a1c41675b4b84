"""Features of pictures at the voxels that they show: each voxel gets the mean over all views.

Source: TRELLIS, arXiv:2412.01506, sec. 3.1.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from safe_files.pictures import read_picture
from safe_files.regular import UnreadableFile
from scenegen.datasets.asset_pictures import AssetPictures
from trellis_modules.renderers.cameras import to_camera, to_pixels
from vggt.layers.vision_transformer import VisionTransformer

IMAGE_SIZE = 518
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def load_picture(path: Path, size: int = IMAGE_SIZE) -> Tensor:
    """Read an RGBA picture over black, normalised as the image encoder expects.

    Returns:
        (3, size, size) float32.

    Raises:
        ValueError: the file is missing, cut off, or no picture.
    """
    try:
        resized = read_picture(path).convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)
    except (OSError, UnreadableFile) as error:
        raise ValueError(f"{path}: not readable as a picture ({error}); render the asset again") from error
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).permute(2, 0, 1)
    return (pixels[:3] * pixels[3:] - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_DEVIATION)[
        :, None, None
    ]


@torch.no_grad()
def voxel_image_features(
    encoder: VisionTransformer,
    pictures: AssetPictures,
    voxels: np.ndarray,
    resolution: int,
    batch_size: int,
    readers: Executor,
    image_size: int = IMAGE_SIZE,
) -> Tensor:
    """Mean of the patch tokens, before the last norm, at the places of voxels.

    Args:
        encoder: its device is used.
        pictures: of the asset, all views.
        voxels: (N, 3) indices, z up.
        resolution: voxels along the edge of the cube.
        batch_size: pictures that are encoded at a time.
        readers: threads that read pictures.
        image_size: pixels per side that the encoder gets, a multiple of its patches.

    Returns:
        (N, C) float32 on the CPU. Voxels that are hidden in a view are not told apart.

    Raises:
        ValueError: a picture cannot be read, or there is none.
    """
    if not pictures.files:
        raise ValueError("transforms.json: expected at least one picture, found none; render the asset again")
    device = encoder.pos_embed.device
    centres = torch.from_numpy((voxels + 0.5) / resolution - 0.5)
    at_camera = to_camera(centres.expand(len(pictures.files), -1, -1), pictures.extrinsics)
    places = (to_pixels(at_camera, pictures.intrinsics, 1)[..., :2] * 2 - 1).float()  # (V, N, 2)
    total = torch.zeros(len(voxels), encoder.embed_dim, device=device)
    images = readers.map(lambda path: load_picture(path, image_size), pictures.files)
    for at_view in places.split(batch_size):
        batch = torch.stack([next(images) for _ in at_view]).to(device)
        tokens = encoder(batch)["x_prenorm"][:, 1 + encoder.num_register_tokens :]
        side = round(tokens.shape[1] ** 0.5)
        maps = tokens.mT.unflatten(2, (side, side)).float()  # (B, C, side, side)
        sampled = F.grid_sample(maps, at_view[:, :, None].to(device), align_corners=False)  # (B, C, N, 1)
        total += sampled[..., 0].sum(dim=0).T
    return (total / len(pictures.files)).cpu()
