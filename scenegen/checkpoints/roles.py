"""What ``pipeline.json`` is written with: the name of the file, its pipelines, and the roles of networks.

The functions take the parsed content of such a file, ``{"name": ..., "args": {...}}``. No network is imported
here, so that whatever reads or writes checkpoints may share these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe_files.limits import MAX_JSON_NAME, MAX_NETWORKS
from safe_files.regular import shown

PIPELINE_FILE = "pipeline.json"

PIPELINE_NAME = "SceneGenImageToScenePipeline"
OBJECT_PIPELINE_NAME = "TrellisImageTo3DPipeline"
"""Published name of checkpoints that make each object from its own picture, without a scene."""

FLOW_ROLE = "sparse_structure_flow_model"
FEW_STEPS_FLOW_ROLE = "sparse_structure_flow_few_steps_model"
FLOW_ROLES = (FLOW_ROLE, FEW_STEPS_FLOW_ROLE)
"""Flows of structures: the one that every checkpoint has, and one that was trained to need few steps."""

FEW_STEPS_SAMPLER = "few_step_sampler"
"""Key of the sampler that belongs to the flow of few steps."""

DECODER_ROLE = "sparse_structure_decoder"
SLAT_FLOW_ROLE = "slat_flow_model"
SLAT_MESH_ROLE = "slat_decoder_mesh"
SLAT_GAUSSIAN_ROLE = "slat_decoder_gs"
SLAT_RADIANCE_FIELD_ROLE = "slat_decoder_rf"
MODEL_ROLES = (
    *FLOW_ROLES,
    DECODER_ROLE,
    SLAT_FLOW_ROLE,
    SLAT_MESH_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_RADIANCE_FIELD_ROLE,
)
"""Networks that stand in the table ``models``."""

IMAGE_ENCODER_ROLE = "image_cond_model"
GEOMETRY_ENCODER_ROLE = "vggt_model"
ENCODER_ROLES = (IMAGE_ENCODER_ROLE, GEOMETRY_ENCODER_ROLE)
"""Networks that have a key of their own beside ``models``."""

TRAINING_ROLES = ("sparse_structure_encoder", "slat_encoder")
"""Networks that are published for training; no pipeline names them."""


def model_stems(content: Any) -> dict[str, str]:
    """Role -> stem of the networks in the table ``models``.

    Raises:
        ValueError: there is no such table, an entry of it is not a text, or see `check_stems`.
    """
    args = content.get("args") if isinstance(content, Mapping) else None
    models = args.get("models") if isinstance(args, Mapping) else None
    if not isinstance(models, Mapping) or not all(isinstance(stem, str) for stem in models.values()):
        raise ValueError("expected args.models with a stem for each role, got something else")
    check_stems(models)
    return dict(models)


def check_stems(stems: Mapping[str, str]) -> None:
    """Check the number of networks, and that their stems can be names of files.

    Raises:
        ValueError: there are too many, or a stem is empty, too long or not printable.
    """
    if len(stems) > MAX_NETWORKS:
        raise ValueError(f"models: expected at most {MAX_NETWORKS} networks, got {len(stems)}")
    for role, stem in stems.items():
        if not stem.isprintable() or not 0 < len(stem) <= MAX_JSON_NAME:
            raise ValueError(
                f"{shown(role)}: expected a stem of 1 to {MAX_JSON_NAME} printable characters, got "
                f"{shown(stem)}"
            )


def network_stems(content: Any) -> dict[str, str]:
    """Role -> stem of every network, the encoders included.

    Raises:
        ValueError: as `model_stems`, or the stem of an encoder is not a text.
    """
    stems = model_stems(content)
    for role in ENCODER_ROLES:
        stem = content["args"].get(role)
        if stem is not None and not isinstance(stem, str):
            raise ValueError(f"expected a stem in args.{role}, got {type(stem).__name__}")
        if stem is not None:
            stems[role] = stem
    check_stems(stems)
    return stems


def with_networks(
    content: Mapping[str, Any], stems: Mapping[str, str], sha256: Mapping[str, str]
) -> dict[str, Any]:
    """The content with the networks of a folder that was written anew.

    Args:
        content: the description before.
        stems: role -> new stem. Roles of ``models`` that are missing here are left out, with a sampler that
            is theirs alone; encoders stay.
        sha256: weight file -> hex digest.
    """
    models = {role: stems[role] for role in model_stems(content) if role in stems}
    encoders = {role: stems[role] for role in ENCODER_ROLES if role in stems}
    args = {**content["args"], "models": models, **encoders, "sha256": dict(sha256)}
    if FEW_STEPS_FLOW_ROLE not in models:
        args.pop(FEW_STEPS_SAMPLER, None)
    return {**content, "args": args}
