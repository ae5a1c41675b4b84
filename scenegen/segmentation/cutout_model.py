"""Networks that tell what stands out in a picture, from an ONNX file of the user's (extra ``cutout``).

Any network will do that takes one picture (1, 3, H, W) and whose first output is a map of what stands out,
such as IS-Net, U²-Net or BiRefNet.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from scenegen.segmentation.unavailable import SegmenterUnavailable

Normalisation = Literal["imagenet", "isnet"]
"""Colours in [0, 1] less the mean of ImageNet over its spread; or less 0.5, as IS-Net wants it."""

_COLOURS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "isnet": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
}
_DEFAULT_SIDE = 1024  # where the file leaves the size of the picture open
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class CutoutModel:
    """A network from an ONNX file, on the CPU."""

    def __init__(self, path: Path | str, normalisation: Normalisation | None = None) -> None:
        """Load a network.

        Args:
            path: ONNX file.
            normalisation: of the colours; None takes "isnet" for files with that in their name and "imagenet"
                for others.

        Raises:
            SegmenterUnavailable: the package onnxruntime or the file is missing, or the file holds no network
                that takes one picture.
        """
        self.path = Path(path).expanduser()
        self.normalisation: Normalisation = normalisation or _usual_normalisation(self.path)
        self._session = _open(self.path)
        self._input = _picture_input(self._session, self.path)
        height, width = self._input.shape[2:]
        self.size = tuple(side if isinstance(side, int) else _DEFAULT_SIDE for side in (width, height))

    @property
    def description(self) -> str:
        """The file, and what it sees."""
        width, height = self.size
        return f"{self.path.name}, {width}x{height} pixels, colours as for {self.normalisation}"

    def saliency(self, picture: Image.Image) -> np.ndarray:
        """What stands out in a picture: (H, W) float32 at its size, from 0 (least) to 1 (most).

        Raises:
            SegmenterUnavailable: the network stops, or answers with something else than a map.
        """
        answer = self._run(self._prepare(picture))
        low, high = float(answer.min()), float(answer.max())
        answer = (answer - low) / (high - low) if high > low else np.zeros_like(answer)
        stretched = Image.fromarray(answer).resize(picture.size, Image.Resampling.BILINEAR)
        return np.asarray(stretched)

    def _prepare(self, picture: Image.Image) -> np.ndarray:
        """The picture as the network takes it: (1, 3, H, W)."""
        stretched = picture.convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        mean, spread = (np.array(values, np.float32) for values in _COLOURS[self.normalisation])
        pixels = (np.asarray(stretched, np.float32) / 255 - mean) / spread
        return pixels.transpose(2, 0, 1)[None].astype(_DTYPES[self._input.type])

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """The network's map: (h, w) float32."""
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

        try:
            answer = self._session.run(None, {self._input.name: pixels})[0]
        except (Fail, InvalidArgument, RuntimeException) as error:
            raise self._refused(" ".join(str(error).split())) from error
        found = np.asarray(answer, np.float32)
        if found.ndim < 2 or found.size != found.shape[-1] * found.shape[-2]:
            raise self._refused(f"its first output is {found.shape}")
        if not np.isfinite(found).all():
            raise self._refused("its map is not finite")
        return found.reshape(found.shape[-2:])

    def _refused(self, cause: str) -> SegmenterUnavailable:
        return SegmenterUnavailable(
            f"{self.path}: expected a network that turns one picture into one map, {cause}; give another "
            "--cutout-model or leave it out"
        )


def _usual_normalisation(path: Path) -> Normalisation:
    return "isnet" if "isnet" in path.name.lower().replace("-", "").replace("_", "") else "imagenet"


def _open(path: Path) -> Any:
    """A session of the file on the CPU."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise SegmenterUnavailable(
            f"{path}: expected the package 'onnxruntime', which is not installed; "
            "run bash setup.sh --cutout, or leave --cutout-model out"
        )
    if not path.is_file():
        raise SegmenterUnavailable(
            f"{path}: expected an ONNX file of a saliency network, found no such file; check --cutout-model"
        )
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    kinds = (faults.Fail, faults.InvalidGraph, faults.InvalidProtobuf, faults.InvalidArgument)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors are raised; warnings about the graph are for its makers
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (*kinds, faults.NoSuchFile, faults.NotImplemented, faults.RuntimeException) as error:
        raise SegmenterUnavailable(
            f"{path}: expected an ONNX file of a saliency network, opening it stopped "
            f"({' '.join(str(error).split())}); fetch it again"
        ) from error


def _picture_input(session: Any, path: Path) -> Any:
    """The network's only input, if it is a picture."""
    inputs = session.get_inputs()
    shapes = [f"{item.name} {item.type} {item.shape}" for item in inputs]
    if len(inputs) == 1 and inputs[0].type in _DTYPES and len(inputs[0].shape) == 4:
        batch, channels = inputs[0].shape[:2]
        if batch in (1, None) or isinstance(batch, str):
            if channels == 3:
                return inputs[0]
    raise SegmenterUnavailable(
        f"{path}: expected a network with one input (1, 3, height, width) of floating point numbers, got "
        f"{'; '.join(shapes) or 'none'}; give another --cutout-model"
    )
