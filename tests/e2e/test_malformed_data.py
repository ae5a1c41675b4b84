"""Damaged files of data roots: one line, no traceback, and nothing that was made before is lost."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.data_commands import main
from tests.e2e.malformed import frugal
from tests.e2e.test_killed_data_commands import CASES, Case
from tests.spoils import (
    Spoil,
    arrays,
    cell,
    circle,
    claiming,
    compressed_otherwise,
    cut,
    endless,
    flagged,
    folder,
    picture,
    pipe,
    pixels,
    text,
    twice,
    value,
    without_column,
)

DEEP = "[" * 100_000 + "]" * 100_000
NO_FILES = {"pipe": pipe, "links in a circle": circle, "folder": folder, "endless device": endless}
"""What stands in the place of a file; every reader meets each of them."""
TABLE = {
    **NO_FILES,
    "empty": text(""),
    "noise": text(bytes(range(256))),
    "no key": without_column("sha256"),
    "same line twice": twice,
    "one cell": lambda path: path.write_text(path.read_text() + "a\n"),
    "count of 400 digits": cell("num_voxels", "9" * 400),
    "NaN as a count": cell("num_voxels", "NaN"),
    "text as a flag": cell("rendered", "maybe"),
    "infinite score": cell("aesthetic_score", "1e400"),
    "captions nested deeply": cell("captions", "[" * 5000),
    "cell of 200,000": cell("captions", "a" * 200_000),
    "line of a megabyte": lambda path: path.write_text(path.read_text() + "," * (1 << 20) + "\n"),
}
ARRAYS = {
    **NO_FILES,
    "cut off": cut,
    "no archive": text(b"PK nothing"),
    "claims 10^12 numbers": claiming("(1000000000000, 8)"),
    "claims 10^30 numbers": claiming(f"({10**30}, 8)"),
    "negative shape": claiming("(-1, 8)"),
    "encrypted": flagged,
    "unknown compression": compressed_otherwise,
}
_MADE_CELLS = {"count of 400 digits", "NaN as a count", "text as a flag"}
PICTURE = {**NO_FILES, "cut off": cut, "text": text("hello"), "13,000 x 13,000": pixels(13_000)}

LISTED = {name: spoil for name, spoil in TABLE.items() if name not in _MADE_CELLS}
AGAIN = Case("build_scene", ("3D-FUTURE", "--engine", "EMBREE"), ["scene_test_render"])
"""A scene that is there, whose picture is not."""

FAULTS: dict[str, tuple[str, str, dict[str, Spoil]]] = {
    "table of all assets": ("build_metadata, merging", "metadata.csv", TABLE),
    "table that is listed": ("build_metadata, listing", "3D-FUTURE.csv", LISTED),
    "table of a step": ("voxelize", "metadata.csv", TABLE),
    "models": (
        "download",
        "raw/3D-FUTURE-model.zip",
        {**NO_FILES, "cut off": cut, "empty": text(""), "encrypted": flagged},
    ),
    "model": (
        "render",
        "raw/3D-FUTURE-model/*/raw_model.obj",
        {
            **NO_FILES,
            "other letters": text(b"# \xff\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"),
            "no triangle": text("v 0 0 0\n"),
            "NaN": text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
            "index of 400 digits": text("v 0 0 0\nf " + "9" * 400 + " 1 1\n"),
        },
    ),
    "texture": ("render", "raw/3D-FUTURE-model/*/texture.png", PICTURE),
    "mesh": (
        "voxelize",
        "renders/*/mesh.ply",
        {
            **NO_FILES,
            "cut off": cut,
            "many vertices": lambda path: path.write_bytes(
                path.read_bytes().replace(b"element vertex ", b"element vertex 99999999999", 1)
            ),
        },
    ),
    "voxels": (
        "encode_ss_latent",
        "voxels/*.ply",
        {
            **NO_FILES,
            "cut off": cut,
            "ASCII": lambda path: path.write_bytes(
                path.read_bytes().replace(b"binary_little_endian", b"ascii")
            ),
            "not a number": lambda path: path.write_bytes(
                path.read_bytes().partition(b"end_header\n")[0]
                + b"end_header\n"
                + b"\xff" * len(path.read_bytes().partition(b"end_header\n")[2])
            ),
        },
    ),
    "features": (
        "encode_latent",
        "features/*/*.npz",
        {
            **ARRAYS,
            "too large for 32 bits": arrays(patchtokens=np.full((3, 132), 1e300), indices=np.zeros((3, 3))),
        },
    ),
    "latents": (
        "stat_latent",
        "latents/*/*.npz",
        {
            **ARRAYS,
            "a number": arrays(feats=np.float32(1)),
            "no rows": arrays(feats=np.zeros((0, 8))),
            "other width": arrays(feats=np.zeros((5, 9))),
            "objects": arrays(feats=np.array([{}], object)),
            "NaN": arrays(feats=np.full((5, 8), np.nan)),
            "too large to square": arrays(feats=np.full((5, 8), 1e30)),
        },
    ),
    "structures": (
        "pack_scenes, latents",
        "ss_latents/*/*.npz",
        {
            **ARRAYS,
            "other shape": arrays(mean=np.zeros((1, 8, 8, 8))),
            "too large": arrays(mean=np.full((16, 8, 8, 8), 1e300)),
        },
    ),
    "photo's features": ("pack_scenes", "vggt_features/*.npz", ARRAYS),
    "cut-out": ("pack_scenes", "masked_images/*/0.png", PICTURE),
    "mask": ("pack_scenes", "masked_images/*/0_mask.png", PICTURE),
    "photo": (
        "build_metadata_scene",
        "raw/3D-FUTURE-scene/train/image/*.jpg",
        {**PICTURE, "other size": picture((5, 7))},
    ),
    "annotations": (
        "build_metadata_scene",
        "raw/3D-FUTURE-scene/GT/train_set.json",
        {
            **NO_FILES,
            "cut off": cut,
            "deep": text(DEEP),
            "a list": text("[]"),
            "id of 5,000 digits": text('{"images": [{"id": ' + "9" * 5000 + '}], "annotations": []}'),
            "no photos": value(lambda content: content.pop("images")),
            "huge photo": value(lambda content: content["images"][0].update(width=10**30)),
            "same id twice": value(lambda content: content["images"].append(content["images"][0])),
            "text as annotation": value(lambda content: content["annotations"].append("a")),
            "pose of NaN": value(
                lambda content: content["annotations"][0]["pose"].update(translation=[float("nan")] * 3)
            ),
            "name with a line break": value(lambda content: content["images"][0].update(file_name="a\nb")),
            "name that leaves": value(lambda content: content["images"][0].update(file_name="../../a")),
        },
    ),
    "measured boxes": (
        "build_metadata_scene",
        ".cache/model_boxes.json",
        {
            **NO_FILES,
            "deep": text(DEEP),
            "text as numbers": value(
                lambda content: [entry.update(size=["a"] * 3) for entry in content.values()]
            ),
            "a number as entry": value(lambda content: content.update(a=3)),
            "box of text": value(lambda content: [entry.update(center="abc") for entry in content.values()]),
        },
    ),
    "true scene": (
        "build_scene, again",
        "scene_test/*.json",
        {**NO_FILES, "deep": text(DEEP), "null": text("null")},
    ),
    "inspected table": ("inspect_root", "metadata.csv", TABLE),
    "inspected picture": ("inspect_root", "masked_images/*/scene.jpg", PICTURE),
    "furniture's table": (
        "build_attribution",
        "metadata.csv",
        {**NO_FILES, "empty": text(""), "noise": text(b"\xff")},
    ),
    "prepared mesh": ("build_mesh_packs", "coloured/*/*.npz", ARRAYS),
    "prepared GLB": (
        "build_scenes",
        "meshes/*/coffee_table.glb",
        {**NO_FILES, "cut off": cut, "noise": text(bytes(99))},
    ),
}

QUICK = {"table of all assets", "models", "latents", "structures", "annotations", "furniture's table"}
"""Files whose cases are run by default; the others have the same readers, or take longer."""
HARMLESS = {
    ("measured boxes", None): "they are measured again",
    ("true scene", None): "it is built again",
    (None, "captions nested deeply"): "captions are text",
}
"""Files and faults, None for all, that are no reason for a word."""


def parameters() -> list:
    return [
        pytest.param(name, fault, id=f"{name}: {fault}", marks=() if name in QUICK else pytest.mark.slow)
        for name, (_, _, faults) in FAULTS.items()
        for fault in faults
    ]


@pytest.mark.parametrize(("name", "fault"), parameters())
def test_a_damaged_file_is_told_in_one_line_and_nothing_else_is_lost(
    tmp_path: Path, finished_roots: dict[str, Path], caplog, capfd, name: str, fault: str
) -> None:
    command, pattern, faults = FAULTS[name]
    case = AGAIN if command == "build_scene, again" else CASES[command]
    root = case.copies_of(finished_roots[case.root], tmp_path)("root")
    spoiled = min(root.glob(pattern))
    faults[fault](spoiled)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path != spoiled}
    with frugal():
        status = main([case.command, *case.given(root)])
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    printed = "".join(capfd.readouterr())
    assert status in (0, 1) and "Traceback" not in printed + caplog.text
    assert not any(record.exc_info or "\n" in record.getMessage() for record in said)
    if status == 0 and not said:
        assert {(name, None), (None, fault)} & HARMLESS.keys(), printed
    lost = [path for path in before if not path.is_file()]
    changed = [path for path in before if path.is_file() and path.read_bytes() != before[path]]
    assert not lost and all(path.suffix in (".csv", ".txt", ".json") for path in changed)
