"""The table of furniture sizes, written from a pack of the training split."""

import json

import numpy as np
import pytest

from dataset_toolkits import furniture_sizes
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo
from scenegen.synthesis.furniture.split import load_split

TRIANGLE = FurnitureMesh(np.eye(3) / 2, np.array([[0, 1, 2]]), np.full((1, 3), 9))


def write_pack(path, split: str, sizes, procedural: bool = False) -> None:
    known = [entry for entry in load_split().values() if entry.split == split]
    names = [f"procedural/chair/{row}" if procedural else known[row].id for row in range(len(sizes))]
    MeshPack.from_meshes(
        (TRIANGLE, ModelInfo(name, "x", "Chair", "floor", split, size)) for name, size in zip(names, sizes)
    ).save(path)


def test_sizes_of_the_training_split_are_written(tmp_path, capsys):
    write_pack(tmp_path / "pack.safetensors", "train", [(1.0, 0.5, 0.25), (0.4512, 0.9, 0.5)])
    output = tmp_path / "sizes.json"
    arguments = ["--pack", str(tmp_path / "pack.safetensors"), "--output", str(output)]
    assert furniture_sizes.main(arguments) == 0
    table = json.loads(output.read_text())
    assert table["sizes_m"] == [[0.451, 0.9, 0.5], [1.0, 0.5, 0.25]]
    assert "2 models of the training split" in table["source"]
    assert "2 sizes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("split", "procedural", "message"),
    [("test", False, "train split only"), ("train", True, "procedural models alone"), (None, False, "none")],
)
def test_other_packs_are_refused_in_one_line(tmp_path, split, procedural, message, caplog):
    pack, output = tmp_path / "none.safetensors", tmp_path / "sizes.json"
    if split:
        write_pack(pack, split, [(1.0, 0.5, 0.25)], procedural)
    assert furniture_sizes.main(["--pack", str(pack), "--output", str(output)]) == 2
    assert message in caplog.text and not output.exists()
