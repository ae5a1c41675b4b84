"""What of an object hangs together."""

import numpy as np
import trimesh

from scenegen.physics.pieces import loose_pieces, piece_labels


def test_pieces_that_hang_together_with_nothing_are_counted():
    box = trimesh.creation.box((1.0, 1.0, 1.0)).subdivide().subdivide()
    touching, apart = box.copy(), box.copy()
    touching.apply_translation((1.0, 0.0, 0.0))
    apart.apply_translation((0.0, 1.5, 0.0))
    for parts, pieces in (([box], 0), ([box, touching], 0), ([box, touching, apart], 1)):
        joined = trimesh.util.concatenate(parts)
        assert loose_pieces(joined.vertices, joined.faces) == pieces


def test_faces_without_a_surface_belong_to_no_piece():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert piece_labels(vertices, np.array([[0, 1, 2], [0, 1, 3]])).tolist() == [0, -1]
    assert loose_pieces(vertices, np.array([[0, 1, 3]])) == 0
