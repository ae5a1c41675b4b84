"""Resolution steps and group norm of sparse tensors."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.sparse import (
    MAX_RESOLUTION,
    SparseDownsample,
    SparseGroupNorm32,
    SparseSubdivide,
    SparseTensor,
    SparseUpsample,
)
from trellis_modules.sparse.norm import sums_of_elements


@pytest.fixture
def x() -> SparseTensor:
    """Unsorted rows; the middle one of three batch elements is empty."""
    rows = [(0, 3, 1, 0), (0, 2, 0, 1), (0, 0, 0, 0), (2, 1, 1, 1)]
    return SparseTensor(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), torch.tensor(rows), batch_size=3)


def test_pooling_divides_by_count_plus_one(x: SparseTensor) -> None:
    coarse = SparseDownsample(2)(x)
    assert coarse.coords.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [2, 0, 0, 0]]
    torch.testing.assert_close(coarse.feats[:, 0], torch.tensor([5 / 2, 4 / 3, 7 / 2]))
    assert coarse.lengths == (2, 0, 1)


def test_upsampling_returns_through_several_levels(x: SparseTensor) -> None:
    coarse = SparseDownsample(2)(SparseDownsample((2, 2, 1))(x))
    fine = SparseUpsample((2, 2, 1))(SparseUpsample(2)(coarse))
    assert torch.equal(fine.coords, x.coords) and fine.lengths == x.lengths and fine.level == x.level
    assert (fine + x).batch_size == 3


def test_upsampling_needs_its_downsampling(x: SparseTensor) -> None:
    with pytest.raises(ValueError, match="downsampled by"):
        SparseUpsample(2)(x)
    with pytest.raises(ValueError, match="downsampled by"):
        SparseUpsample(4)(SparseDownsample(2)(x))


def test_same_grid_in_another_order_has_its_own_cache(x: SparseTensor) -> None:
    back = SparseDownsample(2)(SparseSubdivide()(x))  # the voxels of x, sorted
    assert sorted(back.coords.tolist()) == sorted(x.coords.tolist())
    assert x.cached("order", lambda: "unsorted") != back.cached("order", lambda: "sorted")


def test_subdividing_beyond_the_limit_is_refused(x: SparseTensor) -> None:
    edge = SparseTensor(torch.zeros(1, 1), torch.tensor([[0, 0, MAX_RESOLUTION // 2, 0]]))
    with pytest.raises(ValueError, match="coordinate 512 would become 1025"):
        SparseSubdivide()(edge)
    assert SparseSubdivide()(x).lengths == (24, 0, 8)


def test_steps_on_no_voxel() -> None:
    empty = SparseTensor(torch.zeros(0, 2), torch.zeros(0, 4, dtype=torch.int32), batch_size=2)
    coarse = SparseDownsample(2)(empty)
    assert coarse.shape == (2, 2)
    assert SparseUpsample(2)(coarse).shape == SparseSubdivide()(empty).shape == (2, 2)


def test_group_norm_normalises_each_element(x: SparseTensor) -> None:
    wide = x.replace(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 9 + 4)
    norm = SparseGroupNorm32(2, 6)
    for rows in (slice(0, 3), slice(3, 4)):
        groups = norm(wide).feats[rows].reshape(-1, 2, 3)
        torch.testing.assert_close(groups.mean((0, 2)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(groups.square().mean((0, 2)), torch.ones(2), atol=1e-3, rtol=0)
    assert norm(wide.to(torch.float16)).dtype == torch.float16


@pytest.mark.parametrize("factor", [0, (2, 2), (1, -1, 1)])
def test_bad_factors_are_refused(factor: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="factor"):
        SparseDownsample(factor)


def test_sums_of_elements_are_those_of_their_rows() -> None:
    coords = torch.tensor([(0, 1, 2, 3), (0, 1, 2, 4), (2, 0, 0, 0)])
    x = SparseTensor(torch.zeros(3, 1), coords, 4)  # the elements 1 and 3 are empty
    sums = sums_of_elements(x, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert sums.tolist() == [[4.0, 6.0], [0.0, 0.0], [5.0, 6.0], [0.0, 0.0]]
