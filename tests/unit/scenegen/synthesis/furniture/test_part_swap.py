"""Part swaps: what is kept of both, what may be combined, and what the result is called."""

import numpy as np
import pytest

from scenegen.synthesis.furniture.part_swap import can_swap, random_swaps, swap_parts
from scenegen.synthesis.furniture.procedural.shapes import Assembly, box
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo, normalise

LOW_COLOUR, HIGH_COLOUR = (10, 20, 30), (200, 100, 50)


def chair(model_id: str, colour, width: float, back: float, **changes) -> tuple[FurnitureMesh, ModelInfo]:
    piece = Assembly()
    piece.add_corners(box(0.05, 0.42, 0.05).moved(x=width / 2 - 0.025, y=0.21, z=0.2), colour)
    piece.add(box(width, 0.04, 0.45).moved(y=0.42), colour)
    piece.add(box(width, back, 0.04).moved(y=0.42 + back / 2, z=-0.2), colour)
    vertices, faces, colours = piece.joined()
    unit, size = normalise(vertices)
    fields = {"super_category": "Chair", "tier": "floor", "split": "train", "symmetry": 1} | changes
    return FurnitureMesh(unit, faces, colours), ModelInfo(model_id, "Chair", size_m=tuple(size), **fields)


LOWER = chair("L/low", LOW_COLOUR, width=0.5, back=0.4)
UPPER = chair("L/high", HIGH_COLOUR, width=0.4, back=0.6)


def test_swap_takes_legs_from_one_and_back_from_the_other():
    mesh, info = swap_parts(LOWER, UPPER, np.random.default_rng(0))
    cut = float(info.id.rpartition("@")[2])
    assert info.id.startswith("swap/L/low+L/high@")
    np.testing.assert_allclose(info.size_m, (0.5, 1.02, 0.45), atol=1e-6)
    heights = mesh.vertices[mesh.faces][..., 1] * max(info.size_m) + info.size_m[1] / 2
    is_low = (mesh.face_colours == LOW_COLOUR).all(axis=1)
    assert heights[is_low].max() <= cut + 1e-3 and heights[~is_low].min() >= cut - 1e-3
    assert (mesh.face_colours[~is_low] == HIGH_COLOUR).all()


def test_clipping_keeps_area():
    """Two equal chairs cut at one height make the same chair: no face lost, none double."""
    twin = (LOWER[0], chair("L/twin", LOW_COLOUR, width=0.5, back=0.4)[1])
    mesh, info = swap_parts(LOWER, twin, np.random.default_rng(1))
    areas = []
    for each in (LOWER[0], mesh):
        corners = each.vertices[each.faces].astype(float)
        areas.append(
            np.linalg.norm(
                np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
            ).sum()
        )
    assert areas[1] == pytest.approx(areas[0], rel=1e-4)
    np.testing.assert_allclose(info.size_m, LOWER[1].size_m, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"super_category": "Sofa"}, {"split": "test"}, {"tier": "small"}],
    ids=["class", "split", "tier"],
)
def test_models_that_differ_in_kind_are_not_combined(changes):
    other = chair("L/other", HIGH_COLOUR, width=0.5, back=0.5, **changes)
    assert not can_swap(LOWER[1], other[1])
    with pytest.raises(ValueError, match="do not fit"):
        swap_parts(LOWER, other, np.random.default_rng(0))


def test_models_of_very_different_size_are_not_combined():
    assert not can_swap(LOWER[1], chair("L/wide", HIGH_COLOUR, width=1.2, back=0.5)[1])


def test_random_swaps_use_each_ordered_pair_once():
    swaps = random_swaps([LOWER, UPPER], 10, np.random.default_rng(0))
    assert {info.id.partition("@")[0] for _, info in swaps} == {"swap/L/low+L/high", "swap/L/high+L/low"}
