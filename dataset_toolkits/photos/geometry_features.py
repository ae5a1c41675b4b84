"""Features of the geometry encoder for single photos, as files that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trellis_modules.files import atomic_write
from vggt.checkpoint import load_vggt
from vggt.images import CROP, preprocess_images

FEATURE_KEY = "vggt_feature"
_BFLOAT16_CAPABILITY = (8, 0)


class GeometryFeatures:
    """One geometry encoder and what it makes of photos."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        """Load the encoder.

        Raises:
            VggtCheckpointError: the checkpoint is missing or damaged.
        """
        model = load_vggt(checkpoint, device)
        self.aggregator, self.size, self.patch_size = model.aggregator, model.img_size, model.patch_size
        self.device = device

    @torch.no_grad()
    def of(self, photo: Image.Image) -> Tensor:
        """The last layer's tokens of a photo, frame attention first, then global attention, on channels.

        The photo fills the width and is cut to a square when it is higher; transparency becomes white.

        Returns:
            (1, P, 2C) float16 for one view with P tokens: camera, registers, patches row by row.
        """
        pixels = preprocess_images([photo], CROP, self.size, self.patch_size).to(self.device)
        with torch.autocast(self.device.type, self._half(), enabled=self.device.type == "cuda"):
            tokens, _ = self.aggregator(pixels[None], last_only=True)
        return tokens[-1][0].half().cpu()

    def write(self, photo: Image.Image, path: Path) -> None:
        """Write the feature of a photo as a compressed npz that appears whole."""
        feature = self.of(photo).numpy()
        if not np.isfinite(feature).all():
            raise ValueError(f"{path}: expected a finite feature of the geometry encoder; check its weights")
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{FEATURE_KEY: feature})

    def _half(self) -> torch.dtype:
        if (
            self.device.type == "cuda"
            and torch.cuda.get_device_capability(self.device) < _BFLOAT16_CAPABILITY
        ):
            return torch.float16
        return torch.bfloat16
