"""What the person who starts the demo decides: models, devices and limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from scenegen.inputs.limits import MAX_OBJECTS


@dataclass(frozen=True)
class DemoOptions:
    """Settings of a demo server, the same for everybody who opens its page.

    Attributes:
        checkpoint: folder, or owner/name on the model hub.
        revision: of a checkpoint on the hub.
        sam2: name, folder or repository of SAM 2; None takes GrabCut, which needs no weights.
        cutout_model: ONNX saliency network whose map starts GrabCut.
        text_model: folder or repository of Grounding DINO, which finds objects by their names; None leaves
            that out.
        devices: where scenes are made; each makes one at a time.
        dtype: what large layers compute in; None takes float32 on a CPU and float16 elsewhere.
        low_vram: load each network for its stage and free it after it.
        max_objects: objects of one scene.
        max_side: pixels; larger photos are made smaller.
        max_upload_mb: size of one uploaded file.
        session_hours: after this time without any use a session and its files are deleted.
        queue_size: scenes that may wait.
        folder: where sessions keep their files; None takes a temporary one.
        debug_dumps: folder to which the input of every scene is copied; None keeps nothing.
    """

    checkpoint: str
    revision: str | None = None
    sam2: str | None = None
    cutout_model: Path | None = None
    text_model: str | None = None
    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    dtype: torch.dtype | None = None
    low_vram: bool = False
    max_objects: int = 16
    max_side: int = 2048
    max_upload_mb: int = 20
    session_hours: float = 1.0
    queue_size: int = 32
    folder: Path | None = None
    debug_dumps: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            raise ValueError(
                f"max_objects: expected a number from 1 to {MAX_OBJECTS}, got {self.max_objects}"
            )
        if not self.devices:
            raise ValueError("devices: expected at least one device, got none")
