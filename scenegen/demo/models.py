"""The networks of the demo, loaded when the first visitor brings a picture and then kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from PIL import Image

from scenegen.checkpoints.identity import made_by
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.demo.options import DemoOptions
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.segmentation.loading import load_segmenter
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.segmenter import Segmenter
from scenegen.segmentation.text import TextDetector, detect, load_detector
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import ConfigError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class DemoModels:
    """On each device a pipeline, a segmenter, and what finds objects by their names."""

    def __init__(self, options: DemoOptions) -> None:
        """Load nothing yet."""
        self._options = options
        self._pipelines: _Kept[SceneGenPipeline] = _Kept()
        self._segmenters: _Kept[Segmenter] = _Kept()
        self._detectors: _Kept[TextDetector] = _Kept()
        self._early = threading.Thread(target=self._load_early, name="early loading", daemon=True)
        self._early_lock = threading.Lock()

    def begin_to_load(self) -> None:
        """Load the pipeline of the first device in a thread of its own, while a visitor marks objects."""
        with self._early_lock:
            if self._early.ident is None:
                self._early.start()

    def close(self) -> None:
        """Wait for the end of what `begin_to_load` began."""
        if self._early.ident is not None:
            self._early.join()

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
        return self._pipelines.get(
            device,
            lambda: SceneGenPipeline.from_pretrained(
                options.checkpoint,
                device,
                options.dtype,
                revision=options.revision,
                offload=options.low_vram,
            ),
        )

    @cached_property
    def made_by(self) -> dict[str, str | None]:
        """What the record of a scene says of the networks, as that of ``inference.py`` does."""
        options = self._options
        dtype = None if options.dtype is None else str(options.dtype).removeprefix("torch.")
        return made_by(options.checkpoint, options.revision, dtype)

    def segmenter(self, device: torch.device) -> Segmenter:
        """What finds masks.

        Raises:
            CheckpointError: its weights are missing or damaged.
        """
        sam2, cutout_model = self._options.sam2, self._options.cutout_model
        return self._segmenters.get(
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
        detector = self._detectors.get(device, lambda: load_detector(text_model, device))
        return detect(photo, names, detector)

    def _load_early(self) -> None:
        try:
            self.pipeline(self._options.devices[0])
        except (RuntimeError, OSError, ValueError) as error:
            logger.debug("loading has to be tried again at the first scene, which tells why: %s", error)


class _Kept(Generic[T]):
    """One thing for each device, made at its first use."""

    def __init__(self) -> None:
        self._made: dict[torch.device, T] = {}
        self._lock = threading.Lock()

    def get(self, device: torch.device, make: Callable[[], T]) -> T:
        with self._lock:
            if device not in self._made:
                self._made[device] = make()
            return self._made[device]
