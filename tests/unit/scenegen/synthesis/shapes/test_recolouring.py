"""Changes of colour: they belong to an object, and some objects keep theirs."""

import torch

from scenegen.synthesis.shapes.recolouring import Recolouring
from scenegen.synthesis.shapes.shape_bank import Triangles


def grey(objects: torch.Tensor) -> Triangles:
    corners = torch.rand(len(objects), 3, 3, generator=torch.Generator().manual_seed(1))
    return Triangles(corners, objects, torch.full((len(objects), 3), 0.5))


def test_rows_of_a_pool_have_the_same_colours_in_every_batch():
    pool = Recolouring.draw(6, torch.Generator().manual_seed(0))
    triangles = grey(torch.tensor([0, 0, 1, 2]))
    first = pool.of(torch.tensor([5, 3, 3])).apply(triangles)
    again = pool.of(torch.tensor([5, 3, 4])).apply(triangles)
    assert torch.equal(first.colours[:3], again.colours[:3])
    assert not torch.equal(first.colours[3], again.colours[3])
    assert torch.equal(first.corners, triangles.corners)


def test_colours_stay_in_range_and_differ_between_objects():
    changed = Recolouring.draw(200, torch.Generator().manual_seed(0)).apply(grey(torch.arange(200))).colours
    assert changed.min() >= 0 and changed.max() <= 1
    assert changed.std(0).min() > 0.05
