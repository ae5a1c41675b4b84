"""Put trained networks together into a checkpoint folder that `inference.py --checkpoint` reads.

``python scripts/assemble_checkpoint.py --structure-vae outputs/structure_vae \\
    --scene-flow outputs/scene_flow --few-steps-flow outputs/scene_flow_few_steps \\
    --structured-latent-vae outputs/structured_latent_vae \\
    --structured-latent-flow outputs/structured_latent_flow``
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    ENCODER_ROLES,
    FEW_STEPS_FLOW_ROLE,
    FLOW_ROLE,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    PIPELINE_FILE,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
)
from scenegen.checkpoints.schema import PipelineConfig, SlatNormalization
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.conditioning.scene_conditioner import PATCH_DETAILS
from scenegen.conditioning.scene_light import LIGHT_TONES
from scenegen.hub import file_sha256
from scenegen.trainers.experiment import load_experiment
from trellis_modules.checkpoint import WEIGHTS_SUFFIX
from trellis_modules.config import load_json
from trellis_modules.files import atomic_write_text
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import SamplerConfig

logger = logging.getLogger("assemble")

#: name in the new folder -> (training run, name of the network there, role in the pipeline; None: for
#: training only)
NETWORKS = {
    "ss_dec": ("structure_vae", "decoder", DECODER_ROLE),
    "ss_enc": ("structure_vae", "encoder", None),
    "ss_flow": ("scene_flow", "flow", FLOW_ROLE),
    "image_encoder": ("scene_flow", "image_encoder", IMAGE_ENCODER_ROLE),
    "geometry_encoder": ("scene_flow", "geometry_encoder", GEOMETRY_ENCODER_ROLE),
}

#: the same for the flow of few steps ...
FEW_STEPS_NETWORKS = {"ss_flow_few_steps": ("few_steps_flow", "flow", FEW_STEPS_FLOW_ROLE)}

#: ... and for the appearance stage
APPEARANCE_NETWORKS = {
    "slat_flow": ("structured_latent_flow", "flow", SLAT_FLOW_ROLE),
    "slat_dec_gs": ("structured_latent_vae", "decoder_gs", SLAT_GAUSSIAN_ROLE),
    "slat_dec_mesh": ("structured_latent_vae", "decoder_mesh", SLAT_MESH_ROLE),
    "slat_enc": ("structured_latent_vae", "encoder", None),
}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--structure-vae", type=Path, required=True, help="output folder of its training")
    parser.add_argument("--scene-flow", type=Path, required=True, help="output folder of its training")
    parser.add_argument(
        "--few-steps-flow", type=Path, help="likewise; left out, the checkpoint has no flow of few steps"
    )
    parser.add_argument(
        "--structured-latent-vae",
        type=Path,
        help="likewise; left out, the checkpoint has no appearance stage",
    )
    parser.add_argument("--structured-latent-flow", type=Path, help="likewise")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/scenegen-small"))
    parser.add_argument("--steps", type=positive_int, default=12)
    parser.add_argument("--cfg-strength", type=float, default=2.0)
    parser.add_argument("--cfg-interval", type=float, nargs=2, default=(0.5, 1.0))
    parser.add_argument("--rescale-t", type=float, default=3.0)
    parser.add_argument("--slat-steps", type=positive_int, default=8)
    parser.add_argument("--slat-cfg-strength", type=float, default=0.0)
    parser.add_argument("--slat-cfg-interval", type=float, nargs=2, default=(0.5, 1.0))
    parser.add_argument("--slat-rescale-t", type=float, default=3.0)
    parser.add_argument(
        "--raw-geometry", action="store_true", help="the flow was trained on unnormalised geometry tokens"
    )
    options = parser.parse_args(arguments)
    if (options.structured_latent_vae is None) != (options.structured_latent_flow is None):
        parser.error("--structured-latent-vae and --structured-latent-flow belong together: give both")
    return options


def sampler(name: str, arguments: argparse.Namespace, prefix: str = "") -> SamplerConfig:
    """The description of a sampler with the options of a prefix."""
    names = ("steps", "cfg_strength", "cfg_interval", "rescale_t")
    params = {option: getattr(arguments, prefix + option) for option in names}
    params["cfg_interval"] = tuple(params["cfg_interval"])
    return SamplerConfig(name, params=SamplingParams(**params))


def copy_networks(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Copy the trained networks to ``folder/ckpts``.

    Returns:
        Role -> stem of what the pipeline uses, and weight file -> sha256 of everything.
    """
    networks = dict(NETWORKS)
    if arguments.few_steps_flow is not None:
        networks |= FEW_STEPS_NETWORKS
    if arguments.structured_latent_flow is not None:
        networks |= APPEARANCE_NETWORKS
    stems, digests = {}, {}
    for name, (run, network, role) in networks.items():
        stem = f"ckpts/{name}"
        for suffix in (".json", WEIGHTS_SUFFIX):
            source = getattr(arguments, run) / "ckpts" / f"{network}{suffix}"
            shutil.copyfile(source, folder / f"{stem}{suffix}")
        digests[stem + WEIGHTS_SUFFIX] = file_sha256(folder / f"{stem}{WEIGHTS_SUFFIX}")
        if role is not None:
            stems[role] = stem
    return stems, digests


def network_arguments(folder: Path, name: str) -> dict[str, Any]:
    """What a copied network was built with."""
    return load_json(folder / "ckpts" / f"{name}.json")["args"]


def few_step_sampler(arguments: argparse.Namespace) -> SamplerConfig:
    """The sampler that takes the steps which the flow of few steps was trained for."""
    settings = load_experiment(arguments.few_steps_flow / "config.json").settings
    params = SamplingParams(settings.steps, settings.rescale_t, cfg_strength=0.0)
    return SamplerConfig("FlowEulerGuidanceIntervalSamplerVGGT", params=params)


def appearance(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the appearance stage adds to the description; its latents are trained to unit spread."""
    flow, encoder = (network_arguments(folder, name) for name in ("slat_flow", "image_encoder"))
    latent_channels, added = flow["in_channels"], flow["cond_channels"] - encoder["embed_dim"]
    sees_light = added in (LIGHT_TONES, PATCH_DETAILS + LIGHT_TONES)
    sees_colours = added > (LIGHT_TONES if sees_light else 0)
    return {
        "slat_sampler": sampler("FlowEulerGuidanceIntervalSampler", arguments, "slat_"),
        "slat_normalization": SlatNormalization((0.0,) * latent_channels, (1.0,) * latent_channels),
        "slat_patch_grid": encoder["img_size"] // encoder.get("patch_size", 14) if sees_colours else 0,
        "slat_light": sees_light,
        "texture_source": "mesh",
    }


def describe(
    arguments: argparse.Namespace, folder: Path, stems: dict[str, str], digests: dict[str, str]
) -> PipelineConfig:
    """The description of the copied networks."""
    flow, encoder = (network_arguments(folder, name) for name in ("ss_flow", "image_encoder"))
    models = {role: stem for role, stem in stems.items() if role not in ENCODER_ROLES}
    return PipelineConfig(
        models=models,
        sparse_structure_sampler=sampler("FlowEulerGuidanceIntervalSamplerVGGT", arguments),
        image_cond_model=stems[IMAGE_ENCODER_ROLE],
        vggt_model=stems[GEOMETRY_ENCODER_ROLE],
        image_size=encoder["img_size"],
        normalize_geometry=not arguments.raw_geometry,
        append_places=flow["cond_channels"] == encoder["embed_dim"] + PLACE_CHANNELS,
        sha256=digests,
        few_step_sampler=few_step_sampler(arguments) if FEW_STEPS_FLOW_ROLE in models else None,
        **(appearance(arguments, folder) if SLAT_FLOW_ROLE in models else {}),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        assemble(options)
    except (OSError, ValueError, LookupError) as error:  # of folders that no training has filled
        logger.error("expected the folders of finished trainings, got others (%s); train them first", error)
        return 2
    return 0


def assemble(options: argparse.Namespace) -> None:
    """Copy the networks and describe the pipeline.

    Raises:
        OSError, ValueError, LookupError: a network or a configuration is missing or damaged.
    """
    folder = options.output
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    stems, digests = copy_networks(options, folder)
    named = describe(options, folder, stems, digests).to_named()
    content = {"name": named.name, "args": named.args}
    atomic_write_text(folder / PIPELINE_FILE, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
