"""Unknown texels get the colours of what is near, known ones stay."""

import torch

from trellis_modules.postprocess.inpainting import fill_outside_charts, spread_over_surface


def test_nearest_in_space_not_in_the_texture():
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0.9], [0, 0, 0.2]])
    known = torch.tensor([True, True, False, False])
    values = torch.tensor([[1.0], [2.0], [0.0], [0.0]])
    assert spread_over_surface(values, known, positions)[:, 0].tolist() == [1, 2, 2, 1]


def test_charts_keep_their_texels_and_their_border_their_colour():
    texture = torch.zeros(64, 64, 3)
    covered = torch.zeros(64, 64, dtype=torch.bool)
    covered[4:20, 4:20] = covered[40:60, 40:60] = True
    texture[4:20, 4:20] = torch.tensor([1.0, 0, 0])
    texture[40:60, 40:60] = torch.tensor([0.0, 0, 1])
    filled = fill_outside_charts(texture, covered)
    torch.testing.assert_close(filled[covered], texture[covered])
    torch.testing.assert_close(filled[20:24, 10], torch.tensor([1.0, 0, 0]).expand(4, 3))
    torch.testing.assert_close(filled[36:40, 50], torch.tensor([0.0, 0, 1]).expand(4, 3))
    # all between is a mixture of the two colours, without black
    torch.testing.assert_close(filled.sum(dim=-1), torch.ones(64, 64))


def test_a_border_is_the_mean_of_what_is_beside_it():
    generator = torch.Generator().manual_seed(0)
    covered = torch.rand(9, 12, generator=generator) < 0.1
    texture = torch.rand(9, 12, 3, generator=generator)
    filled = fill_outside_charts(texture, covered)
    border = [
        (row, column)
        for row, column in (~covered).nonzero().tolist()
        if covered[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
    ]
    assert (0 in [row for row, _ in border]) and len(border) > 20
    for row, column in border:
        beside = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        torch.testing.assert_close(filled[row, column], texture[beside][covered[beside]].mean(dim=0))


def test_sizes_that_are_no_power_of_two_and_nothing_covered():
    texture = torch.ones(37, 37, 3)
    covered = torch.zeros(37, 37, dtype=torch.bool)
    assert (fill_outside_charts(texture, covered) == 0).all()
    covered[3, 5] = True
    torch.testing.assert_close(fill_outside_charts(texture, covered), texture)
