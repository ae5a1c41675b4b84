"""Put trained networks together into a checkpoint folder that `inference.py --checkpoint` reads.

``python scripts/assemble_checkpoint.py --structure_vae outputs/structure_vae \\
    --scene_flow outputs/scene_flow``
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from scenegen.hub import file_sha256
from scenegen.pipelines.description import DECODER_ROLE, FLOW_ROLE, PIPELINE_FILE, PIPELINE_NAME

#: name in the new folder -> (training run, name of the network there)
NETWORKS = {
    "ss_dec": ("structure_vae", "decoder"),
    "ss_enc": ("structure_vae", "encoder"),  # for training only
    "ss_flow": ("scene_flow", "flow"),
    "image_encoder": ("scene_flow", "image_encoder"),
    "geometry_encoder": ("scene_flow", "geometry_encoder"),
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structure_vae", type=Path, required=True, help="output folder of its training")
    parser.add_argument("--scene_flow", type=Path, required=True, help="output folder of its training")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/scenegen-small"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cfg_strength", type=float, default=2.0)
    parser.add_argument("--cfg_interval", type=float, nargs=2, default=(0.5, 1.0))
    parser.add_argument("--rescale_t", type=float, default=3.0)
    parser.add_argument(
        "--raw_geometry", action="store_true", help="the flow was trained on unnormalised geometry tokens"
    )
    return parser.parse_args()


def main() -> None:
    """Copy the networks and describe the pipeline."""
    arguments = parse_arguments()
    folder = arguments.output / "ckpts"
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, (run, network) in NETWORKS.items():
        for suffix in (".json", ".safetensors"):
            shutil.copyfile(
                getattr(arguments, run) / "ckpts" / f"{network}{suffix}", folder / f"{name}{suffix}"
            )
        digests[f"ckpts/{name}.safetensors"] = file_sha256(folder / f"{name}.safetensors")
    config = json.loads((folder / "image_encoder.json").read_text(encoding="utf-8"))
    sampler = {
        "name": "FlowEulerGuidanceIntervalSamplerVGGT",
        "args": {"sigma_min": 1e-5},
        "params": {
            "steps": arguments.steps,
            "cfg_strength": arguments.cfg_strength,
            "cfg_interval": list(arguments.cfg_interval),
            "rescale_t": arguments.rescale_t,
        },
    }
    pipeline = {
        "name": PIPELINE_NAME,
        "args": {
            "models": {FLOW_ROLE: "ckpts/ss_flow", DECODER_ROLE: "ckpts/ss_dec"},
            "sparse_structure_sampler": sampler,
            "image_cond_model": "ckpts/image_encoder",
            "vggt_model": "ckpts/geometry_encoder",
            "image_size": config["args"]["img_size"],
            "normalize_geometry": not arguments.raw_geometry,
            "sha256": digests,
        },
    }
    (arguments.output / PIPELINE_FILE).write_text(json.dumps(pipeline, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
