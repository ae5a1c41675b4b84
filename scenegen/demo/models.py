"""The networks of the demo, loaded when they are first used and then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from scenegen.checkpoints.schema import PipelineConfig
from scenegen.demo.options import DemoOptions
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.segmentation.loading import load_segmenter
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.segmenter import Segmenter
from scenegen.segmentation.text import TextDetector, detect, load_detector
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError

T = TypeVar("T")


class DemoModels:
    """On each device a pipeline, a segmenter, and what finds objects by their names."""

    def __init__(self, options: DemoOptions) -> None:
        """Load nothing yet."""
        self._options = options
        self._lock = threading.Lock()
        self._pipelines: dict[torch.device, SceneGenPipeline] = {}
        self._segmenters: dict[torch.device, Segmenter] = {}
        self._detectors: dict[torch.device, TextDetector] = {}

    def config(self) -> PipelineConfig | None:
        """The checkpoint's description without its networks; None where it is not on this machine."""
        folder = Path(self._options.checkpoint).expanduser()
        try:
            return PipelineConfig.load(folder) if folder.is_dir() else None
        except (CheckpointError, ConfigError):
            return None  # generating says what is wrong with it

    def pipeline(self, device: torch.device) -> SceneGenPipeline:
        """The pipeline on a device.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        options = self._options
        return self._kept(
            self._pipelines,
            device,
            lambda: SceneGenPipeline.from_pretrained(
                options.checkpoint,
                device,
                options.dtype,
                revision=options.revision,
                offload=options.low_vram,
            ),
        )

    def segmenter(self, device: torch.device) -> Segmenter:
        """What finds masks.

        Raises:
            CheckpointError: its weights are missing or damaged.
        """
        sam2, cutout_model = self._options.sam2, self._options.cutout_model
        return self._kept(
            self._segmenters,
            device,
            lambda: load_segmenter(sam2, cutout_model=cutout_model, device=device),
        )

    def find_by_names(self, photo: Image.Image, names: list[str], device: torch.device) -> list[ObjectPrompt]:
        """Boxes of the objects that words name; see `detect`.

        Raises:
            CheckpointError: no detector was given, or its weights are missing or damaged.
            SceneInputError: there is no name, or they are too long.
        """
        text_model = self._options.text_model
        if text_model is None:
            raise CheckpointError(
                "objects are found by their names by Grounding DINO, which was not given; start the demo "
                "with --text-model, or draw boxes"
            )
        detector = self._kept(self._detectors, device, lambda: load_detector(text_model, device))
        return detect(photo, names, detector)

    def _kept(self, loaded: dict[torch.device, T], device: torch.device, load: Callable[[], T]) -> T:
        with self._lock:
            if device not in loaded:
                loaded[device] = load()
            return loaded[device]
