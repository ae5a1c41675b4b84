"""Published pickles of SAM 2, such as ``sam2_hiera_large.pt``, in the layout of the package transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenegen.hub.conversion import (
    Conversion,
    find_state,
    independent_tensors,
    read_pickle,
    write_checked,
    write_description,
)
from scenegen.hub.releases import HubError
from scenegen.hub.repository import FOLDER_FILES
from scenegen.segmentation.sam2_weights import PHOTO_MODEL, build_network, with_both_names
from trellis_modules.checkpoint import CheckpointError, check_state

_BACKBONES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 96, "blocks": (1, 2, 7, 2), "global": (5, 7, 9)},
    "small": {"hidden_size": 96, "blocks": (1, 2, 11, 2), "global": (7, 10, 13)},
    "base-plus": {
        "hidden_size": 112, "heads": 2, "blocks": (2, 3, 16, 3), "global": (12, 16, 20), "background": 14
    },
    "large": {
        "hidden_size": 144, "heads": 2, "blocks": (2, 6, 36, 4), "global": (23, 33, 43),
        "windows": (8, 4, 16, 8),
    },
}  # fmt: skip
SIZES = tuple(_BACKBONES)
_NAME = re.compile(rf"sam2(?:\.1)?-hiera-({'|'.join(SIZES)})")

# Published name -> that of transformers; each pattern is tried on what those before it left.
_RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_head|_mlps\.\d+)\.layers\.0\.", r"\1.proj_in."),
    (r"(_head|_mlps\.\d+)\.layers\.2\.", r"\1.proj_out."),
    (r"(_head|_mlps\.\d+)\.layers\.1\.", r"\1.layers.0."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
)
_POINT = re.compile(r"^prompt_encoder\.point_embeddings\.(\d+)\.weight$")
_POINT_KINDS = 4  # beside an object, on it, left top corner of a box, right bottom one
_OF_VIDEOS = ("maskmem_", "memory_", "obj_ptr_", "no_obj_", "mask_downsample.", "no_mem_pos_enc")


def is_published(name: str) -> bool:
    """Whether this is the name of a published SAM 2, such as "sam2.1-hiera-tiny"."""
    return _NAME.fullmatch(name) is not None


def published_name(stem: str) -> str:
    """The name on the model hub of a published file: "sam2_hiera_large" -> "sam2-hiera-large"."""
    return stem.replace("_", "-")


def published_config(name: str) -> dict[str, Any]:
    """The content of ``config.json`` of a published SAM 2.

    Args:
        name: see `is_published`.

    Source: the configurations of the SAM 2 release.
    """
    size = _BACKBONES[_NAME.fullmatch(name)[1]]
    widths = [size["hidden_size"] * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": size.get("heads", 1),
        "blocks_per_stage": list(size["blocks"]),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [size.get("heads", 1) * 2**stage for stage in range(4)],
        "window_size_per_stage": list(size.get("windows", (8, 4, 14, 7))),
        "window_positional_embedding_background_size": [size.get("background", 7)] * 2,
        "global_attention_blocks": list(size["global"]),
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
    }
    return {"model_type": PHOTO_MODEL, "vision_config": vision}


def convert_sam2(
    source: Path, name: str, folder: Path, *, dtype: torch.dtype | None = None, key: str | None = None
) -> Conversion:
    """Write ``config.json`` and ``model.safetensors`` of a published pickle.

    Args:
        source: the pickle; opening it runs nothing.
        name: which one it is, see `is_published`.
        folder: is made where it is missing.
        dtype: of the tensors on the disk; None keeps theirs.
        key: where in the pickle the state dict is; None finds it.

    Returns:
        What was written; the parts of the network for videos are left out.

    Raises:
        HubError: the pickle is refused or is not of this size, or the disk refuses.
        SegmenterUnavailable: the package transformers is not installed.
    """
    state, _ = find_state(read_pickle(source), str(source), key)
    of_photos = {name: tensor for name, tensor in state.items() if not name.startswith(_OF_VIDEOS)}
    config = published_config(name)
    description, weights = (folder / file for file in FOLDER_FILES)
    try:
        renamed = with_both_names(rename(of_photos))
        check_state(build_network(config, description), renamed, str(source))
        stored = independent_tensors(renamed, dtype, str(source))
    except CheckpointError as error:
        raise HubError(str(error)) from error
    write_checked(stored, weights)
    write_description(config, description)
    parameters = sum(tensor.numel() for tensor in stored.values())
    left_out = tuple(dict.fromkeys(entry.partition(".")[0] for entry in state if entry not in of_photos))
    return Conversion(weights, description, len(stored), parameters, left_out)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the release to those of transformers, which also keeps the kinds of points in one tensor."""
    renamed: dict[str, Tensor] = {}
    kinds: dict[int, Tensor] = {}
    for name, tensor in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if point := _POINT.match(name):
            kinds[int(point[1])] = tensor
        else:
            renamed[name] = tensor
    if sorted(kinds) == list(range(_POINT_KINDS)):
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([kinds[kind] for kind in sorted(kinds)])
    return renamed
