"""The road from raw data that looks like 3D-FUTURE's to true scenes, and data roots that went it."""

from __future__ import annotations

from pathlib import Path

import torch

from dataset_toolkits import (
    build_lookalike,
    build_metadata,
    build_metadata_scene,
    build_scene,
    download,
    encode_latent,
    encode_ss_latent,
    extract_feature,
    render,
    render_cond,
    stat_latent,
    voxelize,
)
from scenegen.models.registry import build_model
from tests.furniture_library import write_library
from trellis_modules.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SMALL = ROOT / "checkpoints" / "scenegen-small" / "ckpts"
CPU = ("--device", "cpu")
LATENT_MODEL = "ss_enc"
GEOMETRY_ENCODER = {
    "img_size": 28, "embed_dim": 32, "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
    "camera_head": None, "depth_head": None, "point_head": None, "track_head": None,
}  # fmt: skip


def steps(root: Path, encoder: Path, *drawn: str) -> list[tuple]:
    """The commands of the road and their arguments, the table of assets after each step of an asset."""
    where, subset = ["--output_dir", str(root)], ["3D-FUTURE", "--output_dir", str(root)]
    table = (build_metadata, [*subset, "--table", str(root / "3D-FUTURE.csv")])
    scene = [*subset, "--vggt_ckpt", str(encoder), "--save_mask", *CPU]
    assets = [
        (download, subset),
        (render, [*subset, *drawn]),
        (voxelize, subset),
        (extract_feature, [*where, "--model", "surface_fields", *CPU]),
        (encode_ss_latent, [*where, "--enc_pretrained", str(SMALL / "ss_enc"), *CPU]),
        (
            encode_latent,
            [*where, "--feat_model", "surface_fields", "--enc_pretrained", str(SMALL / "slat_enc"), *CPU],
        ),
        (stat_latent, [*where, "--model", "surface_fields_slat_enc"]),
        (render_cond, [*subset, *drawn, "--num_views", "2"]),
    ]
    scenes = [
        (build_metadata_scene, [*scene, "--set", "train", "--use_render_cond"]),
        (build_metadata_scene, [*scene, "--set", "test"]),
        (build_scene, [*subset, *(drawn[:2] if drawn else ())]),
    ]
    return [table, *(one for step in assets for one in (step, table)), *scenes]


def walk(root: Path, encoder: Path, *drawn: str) -> list[int]:
    """Run the road in this process; the exit statuses."""
    return [command.main(arguments) for command, arguments in steps(root, encoder, *drawn)]


def drawn_with_embree() -> tuple[str, ...]:
    return ("--engine", "EMBREE", "--resolution", "64", "--max-workers", "1")


FUTURE, HOME, NOTHING = "3D-FUTURE", "sweethome3d", "nothing"
"""Names of the roots that `write_roots` makes."""

ENCODER, IMAGE_ENCODER = "vggt", "small_encoder"


def write_roots(folder: Path) -> dict[str, Path]:
    """Make a root that went the whole road, one of prepared furniture, and an empty one.

    Beside them are the encoders of geometry and of pictures, and the furniture's ``library``.
    """
    torch.manual_seed(0)
    save_checkpoint(build_model({"name": "VGGT", "args": GEOMETRY_ENCODER}), folder / ENCODER)
    pictures = {"img_size": 28, "embed_dim": 32, "depth": 1, "num_heads": 2}
    save_checkpoint(build_model({"name": "VisionTransformer", "args": pictures}), folder / IMAGE_ENCODER)
    root = folder / FUTURE
    raw = ["--output_dir", str(root), "--assets", "3", "--scenes", "2", "--size", "96", "--seed", "1"]
    assert build_lookalike.main(raw) == 0
    assert set(walk(root, folder / ENCODER, *drawn_with_embree())) == {0}
    library = write_library(folder / "library").parent
    home = ["sweethome3d", "--output_dir", str(folder / HOME), "--source", str(library)]
    assert [step.main(home) for step in (build_metadata, download, build_metadata)] == [0] * 3
    (folder / NOTHING).mkdir()
    return {name: folder / name for name in (FUTURE, HOME, NOTHING)}
