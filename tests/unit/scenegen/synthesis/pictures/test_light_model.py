"""The formulas of light and planes, for arrays and tensors alike."""

import math

import numpy as np
import pytest
import torch

from scenegen.synthesis.pictures.light_model import facing_eye, plane_depth, received_light

LIBRARIES = pytest.mark.parametrize("array", [np.float32, torch.tensor], ids=["numpy", "torch"])


@LIBRARIES
def test_the_sky_is_brighter_above(array):
    normals = array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    light = received_light(normals, 0.4, array([0.5, 0.0, 0.0]))
    np.testing.assert_allclose(light, [0.9, 0.3, 0.2], rtol=1e-6)


@LIBRARIES
def test_surfaces_have_two_sides(array):
    normals = facing_eye(
        array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), array([[0.0, 0.2, 1.0], [0.0, 0.2, 1.0]])
    )
    np.testing.assert_array_equal(normals, [[0, 0, -1], [0, 0, -1]])


@LIBRARIES
def test_planes_are_met_from_their_front_and_before_the_eye_only(array):
    # A floor 2 m below the eye: rays down, level, up, and down from below the floor.
    depth = plane_depth(array([-2.0, -2.0, -2.0, 2.0]), array([-0.5, 0.0, 0.5, -0.5]))
    np.testing.assert_array_equal(depth, [4.0, math.inf, math.inf, math.inf])
