"""The procedural pack: what it joins, and what it refuses to learn from."""

import sys
from dataclasses import replace

import numpy as np

from dataset_toolkits import build_procedural_pack
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural import DECOR, generate
from scenegen.synthesis.furniture.procedural.pack import generate_pack
from scenegen.synthesis.furniture.split import load_split


def chairs(count):
    """A pack of chairs alike enough for their parts to be swapped."""
    rngs = [np.random.default_rng(seed) for seed in range(count)]
    return MeshPack.from_meshes(generate("dining_chair", rng, remove_hidden=False) for rng in rngs)


def test_concatenation_keeps_meshes_and_records():
    first, second = chairs(2), generate_pack(3, remove_hidden=False)
    joined = MeshPack.concatenate([first, second])
    assert joined.infos == first.infos + second.infos
    for index, (mesh, _) in enumerate(first.models() + second.models()):
        np.testing.assert_array_equal(joined.mesh(index).vertices, mesh.vertices)
        np.testing.assert_array_equal(joined.mesh(index).faces, mesh.faces)


def test_the_command_writes_procedural_models_then_swaps(tmp_path, monkeypatch):
    chairs(6).save(tmp_path / "train.safetensors")
    output = tmp_path / "out.safetensors"
    arguments = f"--output {output} --count 2 --swaps 3 --train_pack {tmp_path}/train.safetensors --workers 1"
    monkeypatch.setattr(sys, "argv", ["build_procedural_pack", *arguments.split()])
    build_procedural_pack.main()
    pack = MeshPack.load(output)
    assert pack.infos[:2] == generate_pack(2).infos
    assert len(pack) == 5
    assert all(info.id.startswith("swap/procedural/dining_chair/") for info in pack.infos[2:])


def test_parts_of_test_models_are_refused(tmp_path, monkeypatch, caplog):
    name = next(entry.id for entry in load_split().values() if entry.split == "test")
    mesh, info = generate("stool", np.random.default_rng(0), remove_hidden=False)
    path = tmp_path / "test.safetensors"
    MeshPack.from_meshes([(mesh, replace(info, id=name, split="test"))]).save(path)
    arguments = f"--output {tmp_path}/out.safetensors --count 1 --swaps 1 --train_pack {path}"
    monkeypatch.setattr(sys, "argv", ["build_procedural_pack", *arguments.split()])
    assert build_procedural_pack.main() == 1
    assert f"expected models of the train split only, got '{name}'" in caplog.text
    assert not (tmp_path / "out.safetensors").exists()


def test_decor_comes_after_the_furniture_which_stays_the_same(tmp_path):
    output = tmp_path / "out.safetensors"
    assert build_procedural_pack.main(f"--output {output} --count 2 --decor 3 --workers 1".split()) == 0
    pack = MeshPack.load(output)
    assert pack.infos[:2] == generate_pack(2).infos
    classes = [info.id.split("/")[1] for info in pack.infos[2:]]
    assert len(classes) == 3 and set(classes) <= set(DECOR)
