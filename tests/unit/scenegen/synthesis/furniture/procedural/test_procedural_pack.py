"""A procedural pack is the same for any number of processes, and is training data."""

import numpy as np

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural import generate_seeded
from scenegen.synthesis.furniture.procedural.pack import generate_pack


def test_processes_do_not_change_the_pack(tmp_path):
    alone = generate_pack(6, seed=5, remove_hidden=False)
    shared = generate_pack(6, seed=5, workers=2, remove_hidden=False)
    assert alone.infos == shared.infos
    np.testing.assert_array_equal(alone.vertices, shared.vertices)
    np.testing.assert_array_equal(alone.face_colours, shared.face_colours)
    assert generate_pack(6, seed=6, remove_hidden=False).infos != alone.infos


def test_a_pack_can_be_saved_and_traced_back_to_its_ids(tmp_path):
    path = tmp_path / "procedural.safetensors"
    generate_pack(3, seed=0).save(path)
    pack = MeshPack.load(path)
    _, class_name, seed = pack.infos[2].id.split("/")
    mesh, info = generate_seeded(class_name, int(seed))
    assert info == pack.infos[2]
    np.testing.assert_array_equal(pack.mesh(2).faces, mesh.faces)
