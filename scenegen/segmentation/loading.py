"""Which segmenter a name, a folder or nothing stands for."""

from __future__ import annotations

from pathlib import Path

import torch

from scenegen.segmentation.cutout_model import CutoutModel
from scenegen.segmentation.grabcut import GrabCutSegmenter
from scenegen.segmentation.sam2 import Sam2Segmenter
from scenegen.segmentation.sam2_conversion import SIZES, is_published, published_name
from scenegen.segmentation.sam2_weights import DEFAULT_SAM2
from scenegen.segmentation.segmenter import Segmenter
from scenegen.segmentation.unavailable import SegmenterUnavailable
from trellis_modules.checkpoint import CheckpointError, refuse_pickle

GRABCUT = "grabcut"

_CHECKPOINTS = Path(DEFAULT_SAM2).parent
_OWNER = "facebook"  # of the published sizes on the model hub


def load_segmenter(
    name_or_path: Path | str | None = None,
    *,
    cutout_model: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> Segmenter:
    """Load what finds masks; its ``description`` says in words what that is.

    Args:
        name_or_path: a published SAM 2, such as "sam2.1-hiera-large" or "sam2-hiera-tiny", which is taken
            from the folder of that name in ``checkpoints``, or else from the model hub; a folder with one, a
            file in it, or a repository ``owner/name``; None, or "grabcut", for OpenCV's GrabCut.
        cutout_model: ONNX file of a network whose map starts GrabCut, see `CutoutModel`.
        device: where SAM 2 runs; GrabCut runs on the CPU.

    Raises:
        SegmenterUnavailable: a package or a file is missing or damaged, or a cut-out model is given to SAM 2.
        CheckpointError: the weights are damaged, or not those of their description.
        HubError: the repository cannot be had.
    """
    if name_or_path is None or str(name_or_path) == GRABCUT:
        return GrabCutSegmenter(None if cutout_model is None else CutoutModel(cutout_model))
    if cutout_model is not None:
        raise SegmenterUnavailable(
            f"{cutout_model}: a cut-out model starts GrabCut, while {name_or_path} is SAM 2, which needs "
            "none; leave one of them out"
        )
    return Sam2Segmenter.from_pretrained(resolve_sam2(name_or_path), device)


def resolve_sam2(name_or_path: Path | str) -> Path | str:
    """The folder or the repository that a name, a folder or a file of SAM 2 stands for.

    Raises:
        SegmenterUnavailable: it is a name that was not published.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        _refuse_pickle(path)
        return path.parent
    if path.exists() or len(path.parts) > 1 or not str(name_or_path).startswith("sam2"):
        return name_or_path
    if not is_published(str(name_or_path)):
        raise SegmenterUnavailable(
            f"{name_or_path}: expected a folder, or sam2-hiera-SIZE or sam2.1-hiera-SIZE with a size of "
            f"{', '.join(SIZES)}; correct the name"
        )
    local = _CHECKPOINTS / str(name_or_path)
    return local if local.exists() or local == Path(DEFAULT_SAM2) else f"{_OWNER}/{name_or_path}"


def _refuse_pickle(path: Path) -> None:
    """Raise for a published pickle, with the command that converts it."""
    try:
        refuse_pickle(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} --like {published_name(path.stem)}") from error
