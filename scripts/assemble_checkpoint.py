"""Put trained networks together into a checkpoint folder that `inference.py --checkpoint` reads.

``python scripts/assemble_checkpoint.py --structure-vae outputs/structure_vae \\
    --scene-flow outputs/scene_flow --structured-latent-vae outputs/structured_latent_vae \\
    --structured-latent-flow outputs/structured_latent_flow``
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scenegen.checkpoints.schema import (
    DECODER_ROLE,
    FLOW_ROLE,
    PIPELINE_FILE,
    PIPELINE_NAME,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
)
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import non_negative, positive_int
from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.hub import file_sha256
from trellis_modules.config import load_json

#: name in the new folder -> (training run, name of the network there)
NETWORKS = {
    "ss_dec": ("structure_vae", "decoder"),
    "ss_enc": ("structure_vae", "encoder"),  # for training only
    "ss_flow": ("scene_flow", "flow"),
    "image_encoder": ("scene_flow", "image_encoder"),
    "geometry_encoder": ("scene_flow", "geometry_encoder"),
}

#: the same for the appearance stage, with the role of each network in the pipeline; None: for training only
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
        "--structured-latent-vae",
        type=Path,
        help="likewise; left out, the checkpoint has no appearance stage",
    )
    parser.add_argument("--structured-latent-flow", type=Path, help="likewise")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/scenegen-small"))
    parser.add_argument("--steps", type=positive_int, default=12)
    parser.add_argument("--cfg-strength", type=non_negative, default=2.0)
    parser.add_argument("--cfg-interval", type=float, nargs=2, default=(0.5, 1.0))
    parser.add_argument("--rescale-t", type=float, default=3.0)
    parser.add_argument("--slat-steps", type=positive_int, default=8)
    parser.add_argument("--slat-cfg-strength", type=non_negative, default=0.0)
    parser.add_argument("--slat-cfg-interval", type=float, nargs=2, default=(0.5, 1.0))
    parser.add_argument("--slat-rescale-t", type=float, default=3.0)
    parser.add_argument(
        "--raw-geometry", action="store_true", help="the flow was trained on unnormalised geometry tokens"
    )
    options = parser.parse_args(arguments)
    if (options.structured_latent_vae is None) != (options.structured_latent_flow is None):
        parser.error("--structured-latent-vae and --structured-latent-flow belong together: give both")
    return options


def copy_network(run: Path, network: str, stem: Path) -> str:
    """Copy a trained network to the stem; returns the digest of its weights."""
    for suffix in (".json", ".safetensors"):
        shutil.copyfile(run / "ckpts" / f"{network}{suffix}", stem.with_suffix(suffix))
    return file_sha256(stem.with_suffix(".safetensors"))


def sampler(name: str, options: argparse.Namespace, prefix: str = "") -> dict[str, Any]:
    """The description of a sampler with the options of a prefix."""
    names = ("steps", "cfg_strength", "cfg_interval", "rescale_t")
    params = {parameter: getattr(options, prefix + parameter) for parameter in names}
    return {"name": name, "args": {"sigma_min": 1e-5}, "params": params}


def appearance(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the appearance stage adds to the description; its latents are trained to unit spread."""
    flow, encoder = (load_json(folder / name)["args"] for name in ("slat_flow.json", "image_encoder.json"))
    sees_colours, latent_channels = flow["cond_channels"] > encoder["embed_dim"], flow["in_channels"]
    return {
        "slat_sampler": sampler("FlowEulerGuidanceIntervalSampler", options, "slat_"),
        "slat_normalization": {"mean": [0.0] * latent_channels, "std": [1.0] * latent_channels},
        "slat_patch_grid": encoder["img_size"] // encoder.get("patch_size", 14) if sees_colours else 0,
        "texture_source": "mesh",
    }


def sees_places(folder: Path) -> bool:
    """Whether the structure flow was trained on tokens that say where they lie."""
    flow, encoder = (load_json(folder / name)["args"] for name in ("ss_flow.json", "image_encoder.json"))
    return flow["cond_channels"] == encoder["embed_dim"] + PLACE_CHANNELS


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the networks and describe the pipeline."""
    options = parse_arguments(arguments)
    folder = options.output / "ckpts"
    folder.mkdir(parents=True, exist_ok=True)
    digests, models = {}, {FLOW_ROLE: "ckpts/ss_flow", DECODER_ROLE: "ckpts/ss_dec"}
    for name, (run, network) in NETWORKS.items():
        digests[f"ckpts/{name}.safetensors"] = copy_network(getattr(options, run), network, folder / name)
    added: dict[str, Any] = {}
    if options.structured_latent_flow is not None:
        for name, (run, network, role) in APPEARANCE_NETWORKS.items():
            digest = copy_network(getattr(options, run), network, folder / name)
            digests[f"ckpts/{name}.safetensors"] = digest
            if role is not None:
                models[role] = f"ckpts/{name}"
        added = appearance(options, folder)
    pipeline = {
        "name": PIPELINE_NAME,
        "args": {
            "models": models,
            "sparse_structure_sampler": sampler("FlowEulerGuidanceIntervalSamplerVGGT", options),
            **added,
            "image_cond_model": "ckpts/image_encoder",
            "vggt_model": "ckpts/geometry_encoder",
            "image_size": load_json(folder / "image_encoder.json")["args"]["img_size"],
            "normalize_geometry": not options.raw_geometry,
            "append_places": sees_places(folder),
            "sha256": digests,
        },
    }
    (options.output / PIPELINE_FILE).write_text(json.dumps(pipeline, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
