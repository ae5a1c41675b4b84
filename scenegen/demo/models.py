"""The networks of the demo, loaded when they are first used and then kept."""

from __future__ import annotations

import threading
from pathlib import Path

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


class DemoModels:
    """One pipeline for each device and one segmenter, and what finds objects by their names."""

    def __init__(self, options: DemoOptions) -> None:
        """Load nothing yet."""
        self._options = options
        self._lock = threading.Lock()
        self._pipelines: dict[torch.device, SceneGenPipeline] = {}
        self._segmenter: Segmenter | None = None
        self._detector: TextDetector | None = None

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
        with self._lock:
            if device not in self._pipelines:
                options = self._options
                self._pipelines[device] = SceneGenPipeline.from_pretrained(
                    options.checkpoint,
                    device,
                    options.dtype,
                    revision=options.revision,
                    offload=options.low_vram,
                )
            return self._pipelines[device]

    def segmenter(self) -> Segmenter:
        """What finds masks, on the first device.

        Raises:
            CheckpointError: its weights are missing or damaged.
        """
        with self._lock:
            if self._segmenter is None:
                options = self._options
                self._segmenter = load_segmenter(
                    options.sam2, cutout_model=options.cutout_model, device=options.devices[0]
                )
            return self._segmenter

    def find_by_names(self, photo: Image.Image, names: list[str]) -> list[ObjectPrompt]:
        """Boxes of the objects that words name; see `detect`.

        Raises:
            CheckpointError: no detector was given, or its weights are missing or damaged.
            SceneInputError: there is no name, or they are too long.
        """
        with self._lock:
            if self._detector is None:
                options = self._options
                if options.text_model is None:
                    raise CheckpointError(
                        "objects are found by their names by Grounding DINO, which was not given; start the "
                        "demo with --text-model, or draw boxes"
                    )
                self._detector = load_detector(options.text_model, options.devices[0])
            return detect(photo, names, self._detector)
