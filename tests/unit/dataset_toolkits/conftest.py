"""Data roots at toy size: three small models; raw data that looks like 3D-FUTURE's; a geometry encoder."""

import csv
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from dataset_toolkits import build_lookalike, build_metadata, build_metadata_scene, download
from scenegen.datasets.metadata import AssetRow, write_assets
from scenegen.models.registry import build_model
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.split import load_split
from tests.asset_models import write_models
from trellis_modules.checkpoint import save_checkpoint

PHOTO_SIZE = 96
GEOMETRY_ENCODER = {
    "name": "VGGT",
    "args": {
        "img_size": 28, "embed_dim": 32, "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
        "camera_head": None, "depth_head": None, "point_head": None, "track_head": None,
    },
}  # fmt: skip
LATENT = "ss_latent_ss_enc_conv3d_16l8_fp16"


def unpack(root: Path) -> None:
    """What the steps before the scenes leave of the models: folders, and rows with everything done."""
    with zipfile.ZipFile(root / "raw" / "3D-FUTURE-model.zip") as archive:
        archive.extractall(root / "raw")
    rows = []
    with (root / "3D-FUTURE.csv").open(newline="") as file:
        for cells in csv.DictReader(file):
            rows.append(
                AssetRow(
                    sha256=cells.pop("sha256"),
                    file_identifier=(identifier := cells.pop("file_identifier")),
                    aesthetic_score=float(cells.pop("aesthetic_score")),
                    captions=cells.pop("captions"),
                    local_path=f"raw/{identifier}/raw_model.obj",
                    cond_rendered=True,
                    status={LATENT: True},
                    extra=cells,
                )
            )
    write_assets(rows, root / "metadata.csv")


@pytest.fixture(scope="session")
def _raw_roots(tmp_path_factory) -> dict[bool, Path]:
    roots = {}
    for faults in (False, True):
        root = tmp_path_factory.mktemp("lookalike") / "root"
        command = ["--output_dir", str(root), "--assets", "3", "--scenes", "3", "--size", str(PHOTO_SIZE)]
        command += ["--seed", "1"]  # a sofa, a desk and an armchair
        assert build_lookalike.main([*command, *(["--faults"] if faults else [])]) == 0
        unpack(root)
        roots[faults] = root
    return roots


@pytest.fixture(scope="session")
def _finished_root(_raw_roots, geometry_encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "root"
    shutil.copytree(_raw_roots[False], root)
    for name in ("train", "test"):
        command = ["3D-FUTURE", "--output_dir", str(root), "--vggt_ckpt", str(geometry_encoder)]
        command += ["--set", name, "--save_mask", "--device", "cpu"]
        assert build_metadata_scene.main(command) == 0
    return root


@pytest.fixture
def finished(_finished_root, tmp_path) -> Path:
    """A data root of `lookalike` with the tables, pictures and features of both sets, to be changed."""
    shutil.copytree(_finished_root, tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def lookalike(_raw_roots, tmp_path) -> Callable[..., Path]:
    """Function (faults=False) -> a new copy of a data root of 3 models, 2 train photos and 1 test photo."""
    made = []

    def copy(faults: bool = False) -> Path:
        made.append(tmp_path / f"root_{len(made)}")
        shutil.copytree(_raw_roots[faults], made[-1])
        return made[-1]

    return copy


@pytest.fixture(scope="session")
def geometry_encoder(tmp_path_factory) -> Path:
    """Checkpoint stem of a small geometry encoder."""
    torch.manual_seed(0)
    stem = tmp_path_factory.mktemp("vggt") / "vggt"
    save_checkpoint(build_model(GEOMETRY_ENCODER), stem)
    return stem


@pytest.fixture(scope="session")
def furniture_of_split() -> Callable[[str, int], MeshPack]:
    """Function (split, count) -> pack of boxes that bear ids of furniture of the split."""

    def make(split: str, count: int) -> MeshPack:
        ids = [entry.id for entry in load_split().values() if entry.split == split][:count]
        models = []
        for number, model_id in enumerate(ids):
            box = trimesh.creation.box(extents=(1.0, 0.5 + 0.1 * number, 0.6))
            colours = np.full((len(box.faces), 3), 90 + 40 * number, np.uint8)
            info = ModelInfo(model_id, "Box", "Table", "floor", split, tuple(box.extents))
            models.append((FurnitureMesh(box.vertices, box.faces, colours), info))
        return MeshPack.from_meshes(models)

    return make


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with an OBJ, a GLB and a PLY."""
    write_models(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def downloaded(models: Path, tmp_path: Path) -> Path:
    """A data root whose models are downloaded."""
    root = tmp_path / "root"
    arguments = ["folder", "--output_dir", str(root), "--source", str(models)]
    assert build_metadata.main(arguments) == download.main(arguments) == build_metadata.main(arguments) == 0
    return root
