"""Sparse tensors: checks, batch elements without voxels, the cache, arithmetic."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.sparse import MAX_RESOLUTION, SparseTensor, sparse_cat


def coords_of(*rows: tuple[int, int, int, int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


@pytest.fixture
def holed() -> SparseTensor:
    """Four batch elements, of which the second and the last are empty."""
    coords = coords_of((0, 1, 2, 3), (0, 4, 5, 6), (2, 1, 2, 3))
    return SparseTensor(torch.arange(6.0).reshape(3, 2), coords, batch_size=4)


def test_empty_elements_survive_every_operation(holed: SparseTensor) -> None:
    assert holed.lengths == (2, 0, 1, 0)
    assert (holed * 2 + holed).shape == (4, 2)
    assert holed[[3, 2]].lengths == (0, 1)
    assert holed[-1].batch_size == 1 and len(holed[-1].feats) == 0
    assert holed[[]].shape == (0, 2) and holed[torch.zeros(4, dtype=torch.bool)].lengths == ()
    assert sparse_cat([holed[3], holed]).lengths == (0, 2, 0, 1, 0)
    assert [part.lengths for part in holed.unbind(0)] == [(2,), (0,), (1,), (0,)]
    assert holed.dense().shape == (4, 2, 5, 6, 7)


def test_tensor_without_any_voxel() -> None:
    empty = SparseTensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int32), batch_size=2)
    assert empty.shape == (2, 3) and (empty + torch.ones(2, 3)).lengths == (0, 0)
    assert SparseTensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int32)).batch_size == 0


@pytest.mark.parametrize(
    "coords, batch_size, message",
    [
        (coords_of((0, 0, 0, -1)), None, r"coordinates must be in \[0, 1024\), got -1 to 0"),
        (coords_of((0, 0, MAX_RESOLUTION, 5)), None, "got 0 to 1024"),
        (coords_of((-1, 0, 0, 0)), 1, r"batch indices must be in \[0, 1\), got -1 to -1"),
        (coords_of((0, 0, 0, 0), (2, 0, 0, 0)), 2, "got 0 to 2"),
        (coords_of((1, 0, 0, 0), (0, 0, 0, 0)), None, "sorted by batch index, which falls 1 times"),
        (torch.zeros(1, 4), None, r"\(T, 4\) integers .* got \(1, 4\) torch.float32"),
        (torch.zeros(1, 3, dtype=torch.int32), None, r"got \(1, 3\)"),
        (coords_of(*[(0, 0, 0, i) for i in range(3)]), None, "expected 3 rows of feats"),
        (torch.zeros(1, 4, dtype=torch.bool), None, "torch.bool"),
        (coords_of((0, 0, 0, 0)), -1, r"batch_size must be in \[0, 65536\], got -1"),
        (coords_of((2**31 - 1, 0, 0, 0)), None, "got 2147483648"),  # would need a table of 16 GiB
        (torch.tensor([[0, 0, 0, 2**40]]), None, "got 0 to 1099511627776"),  # 0 in 32 bits
    ],
)
def test_wrong_rows_are_refused(coords: torch.Tensor, batch_size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseTensor(torch.zeros(2 if len(coords) == 2 else 1, 2), coords, batch_size)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_every_integer_type_is_checked_and_stored_alike(dtype: torch.dtype) -> None:
    rows = torch.tensor([(1, 0, 0, 0), (0, 0, 0, 0)] * 256, dtype=dtype)  # 256 is 0 in 8 bits
    with pytest.raises(ValueError, match="falls 256 times"):
        SparseTensor(torch.zeros(512, 1), rows)
    assert SparseTensor(torch.zeros(1, 1), rows[:1]).coords.dtype == torch.int32


def test_voxels_beyond_a_grid_are_named(holed: SparseTensor) -> None:
    holed.check_resolution(7, "here")
    with pytest.raises(ValueError, match=r"^here: coordinates must be in \[0, 6\), got 6"):
        (holed * 2).check_resolution(6, "here")
    holed[1].check_resolution(1, "no voxel")


def test_dense_operands_belong_to_elements_or_rows(holed: SparseTensor) -> None:
    per_element = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    assert (holed + per_element).feats[:, 0].tolist() == [10, 12, 34]
    assert (holed * torch.tensor([1.0, 0.0])).feats[:, 1].tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="size of tensor"):
        holed + torch.ones(2, 2)


def test_operands_with_other_voxels_are_refused(holed: SparseTensor) -> None:
    with pytest.raises(ValueError, match="different voxels"):
        holed + holed[[0, 2]]
    with pytest.raises(ValueError, match="same voxels"):
        sparse_cat([holed, holed[[0, 2]]], dim=1)
    with pytest.raises(ValueError, match="expected 3 rows"):
        holed.replace(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="one value for each of 4 batch elements"):
        holed.expand_batch(torch.zeros(3, 2))


def test_cache_is_shared_by_tensors_of_the_same_voxels_only(holed: SparseTensor) -> None:
    calls = []
    for x in (holed, holed * 2, holed.to(torch.float16), holed[[0, 2]]):
        x.cached("key", lambda x=x: calls.append(x.lengths))
    assert calls == [(2, 0, 1, 0), (2, 1)]


def test_gradients_reach_features_and_dense_operands(holed: SparseTensor) -> None:
    feats, values = holed.feats.requires_grad_(), torch.ones(4, 2, requires_grad=True)
    (SparseTensor(feats, holed.coords, 4) * values).feats.sum().backward()
    assert feats.grad.tolist() == [[1, 1]] * 3
    assert values.grad.tolist() == [[2, 4], [0, 0], [4, 5], [0, 0]]
