"""SAM 2 from a folder or a hub repository, in the layout of the package transformers.

A folder holds ``config.json`` and ``model.safetensors``. The published ones are of the network for videos,
which contains that for photos; both are taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safe_files.weights import without_weights
from scenegen.hub.releases import download_command, expected_size, load_releases, size_text
from scenegen.hub.repository import FOLDER_FILES
from scenegen.hub.transformers_folders import check_transformers, find_folder
from scenegen.inputs.names import LABELS_NAME
from scenegen.segmentation.unavailable import SegmenterUnavailable
from trellis_modules.checkpoint import materialize, read_state
from trellis_modules.config import ConfigError, load_json

if TYPE_CHECKING:
    from transformers import Sam2Model

RELEASE = "sam2"
DEFAULT_SAM2 = "checkpoints/sam2.1-hiera-large"

PHOTO_MODEL, _VIDEO_MODEL = "sam2", "sam2_video"
_PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
_SAME_TENSOR = (  # two names of the network for one tensor of SAM 2: a file may hold it once
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
_OTHERWISE = (
    f"or give the masks in a file ({LABELS_NAME}, --masks), or find them in boxes with --segmenter grabcut"
)


def load_sam2(path_or_repo: Path | str, device: torch.device, revision: str | None = None) -> Sam2Model:
    """Load the network for photos in float32, with every weight from the checkpoint.

    Args:
        path_or_repo: a folder, or a repository as ``owner/name``.
        device: where it will run.
        revision: of a repository.

    Raises:
        SegmenterUnavailable: the package or a file is missing, or the description is of something else.
        CheckpointError: the weights are damaged, or not those of the description.
        HubError: the repository cannot be had.
    """
    check_transformers("masks from boxes", _OTHERWISE, SegmenterUnavailable)
    folder = find_folder(path_or_repo, FOLDER_FILES, _missing, revision)
    description, weights = (folder / name for name in FOLDER_FILES)
    raw = _read_description(description)
    model = build_network(raw, description)
    state = read_state(weights)
    if raw["model_type"] == _VIDEO_MODEL:
        wanted = model.state_dict().keys()
        state = {name: tensor for name, tensor in state.items() if name in wanted}
    materialize(model, with_both_names(state), str(weights), device)
    return model.requires_grad_(False)


def _missing(path: Path) -> SegmenterUnavailable:
    release = load_releases()[RELEASE]
    size = expected_size(release, path.name)
    about = f", about {size_text(size)}" if size else ""
    return SegmenterUnavailable(
        f"{path}: expected a file of SAM 2, found none; it comes from {release.repo} "
        f"({release.address(path.name)}{about}): {download_command(RELEASE)}; "
        f"{_OTHERWISE}"
    )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        raw = load_json(path)
    except ConfigError as error:
        raise SegmenterUnavailable(f"{error}; fetch it again") from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in (PHOTO_MODEL, _VIDEO_MODEL):
        raise SegmenterUnavailable(
            f"{path}: expected model_type {PHOTO_MODEL!r} or {_VIDEO_MODEL!r}, got {kind!r}; "
            "pass a folder of SAM 2"
        )
    return raw


def build_network(raw: dict[str, Any], path: Path) -> Sam2Model:
    """The network for photos without weights.

    Args:
        raw: its description.
        path: where that is from, for messages.

    Raises:
        SegmenterUnavailable: the package transformers is missing, or the description is of something else.
    """
    check_transformers("masks from boxes", _OTHERWISE, SegmenterUnavailable)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Sam2Config, Sam2Model

    try:
        with without_weights():
            return Sam2Model(Sam2Config(**{part: raw[part] for part in _PARTS if part in raw}))
    except (StrictDataclassError, TypeError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())
        raise SegmenterUnavailable(
            f"{path}: expected the sizes of a SAM 2 network, building it stopped ({cause}); fetch it again"
        ) from error


def with_both_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the tensor that the network knows by two names under both of them."""
    one, other = _SAME_TENSOR
    same = {one: state.get(one, state.get(other)), other: state.get(other, state.get(one))}
    return state | {name: tensor for name, tensor in same.items() if tensor is not None}
