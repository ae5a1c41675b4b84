"""What options of ``scenegen infer`` need of a checkpoint."""

from __future__ import annotations

import argparse

from scenegen.checkpoints.schema import TextureSource
from scenegen.export.options import ExportOptions
from scenegen.export.registry import representation_requests
from scenegen.pipelines.result import Representation
from scenegen.pipelines.settings import DECODER_ROLES
from scenegen.pipelines.texturing import TEXTURE_MODES, TextureMode


def texture_mode_problem(source: TextureSource | None, mode: TextureMode | None) -> str | None:
    """Why colours of a source are not taken in a mode, if both are known."""
    if source is None or mode is None:
        return None
    if source == "mesh":
        return (
            "--texture-mode: is for the colours of Gaussians and radiance fields, not for those of the mesh; "
            "give --texture gaussian or leave it out"
        )
    if mode not in TEXTURE_MODES[source]:
        return (
            f"--texture-mode {mode}: is not for the colours of the {source}; "
            f"give {' or '.join(TEXTURE_MODES[source])} or leave it out"
        )
    return None


def needed_representations(options: argparse.Namespace) -> dict[str, Representation]:
    """What the checkpoint needs a decoder for, by the flag that asks for it."""
    needed = {
        request.flag: request.representation
        for request in representation_requests(options.batch.formats, options.batch.export)
        if request.is_needed
    }
    if options.texture in DECODER_ROLES:
        needed[f"--texture {options.texture}"] = options.texture
    return needed


def appearance_flags(options: argparse.Namespace) -> list[str]:
    """What the command line asks of an appearance stage."""
    asked = {
        "--slat-steps": options.slat_steps is not None,
        "--slat-cfg": options.slat_cfg is not None,
        "--slat-cfg-interval": options.slat_cfg_interval is not None,
        "--slat-solver": options.slat_solver is not None,
        "--texture": options.texture is not None,
        "--texture-mode": options.texture_mode is not None,
        "--texture-size": options.texture_size is not None,
        "--surface": options.surface is not None,
        "--texture-format": options.texture_format != ExportOptions().texture_format,
    }
    return [flag for flag, is_asked in asked.items() if is_asked]
