"""Submanifold convolution: backends against the dense convolution, both directions, edge cases."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trellis_modules.backends import BackendUnavailable
from trellis_modules.sparse import (
    MAX_RESOLUTION,
    SparseDownsample,
    SparseSubdivide,
    SparseTensor,
    SparseUpsample,
)
from trellis_modules.sparse.conv import (
    SparseConv3d,
    available_backends,
    conv3d_of_copies,
    neighbours,
    submanifold_conv3d,
)
from trellis_modules.sparse.conv.backends import BACKENDS, REGISTRY, gather_gemm
from trellis_modules.sparse.conv.neighbours import check_distinct, neighbour_rows
from trellis_modules.sparse.tensor import MAX_BATCH_SIZE


@pytest.fixture
def case() -> tuple[SparseTensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(3, 5, 5, 5, generator=generator) < 0.4
    occupied[1] = False  # an element without voxels
    coords = occupied.nonzero().int()
    feats = torch.randn(len(coords), 4, generator=generator)
    weight = torch.randn(6, 3, 3, 3, 4, generator=generator)
    return SparseTensor(feats, coords, batch_size=3), weight, torch.randn(6, generator=generator)


def dense_reference(x: SparseTensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    kernel = weight.permute(0, 4, 1, 2, 3)
    volume = F.conv3d(x.dense(), kernel, bias, padding=dilation, dilation=dilation)
    batch, *xyz = x.coords.long().unbind(1)
    return volume.movedim(1, -1)[(batch, *xyz)]


@pytest.mark.parametrize("backend", available_backends("cpu"))
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("out_channels", [6, 4, 2])  # more, as many and fewer than come in
def test_backend_matches_the_dense_convolution_in_both_directions(
    case: tuple[SparseTensor, Tensor, Tensor],
    backend: str,
    dilation: int,
    out_channels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limits in ("_CHUNK_ELEMENTS", "_PRODUCT_ELEMENTS"):  # several chunks
        monkeypatch.setitem(getattr(gather_gemm, limits), "cpu", 1000)
    x, weight, bias = case
    weight, bias = weight[:out_channels], bias[:out_channels]
    results = []
    for run in (partial(submanifold_conv3d, backend=backend), dense_reference):
        leaves = [value.clone().requires_grad_() for value in (x.feats, weight, bias)]
        output = run(x.replace(leaves[0]), leaves[1], leaves[2], dilation)
        output = output.feats if isinstance(output, SparseTensor) else output
        gradients = torch.autograd.grad(output.square().sum(), leaves)
        results.append((output, *gradients))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)  # other order of summation


@pytest.mark.parametrize("backend", available_backends("cpu"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_halved", [False, True])
def test_copies_are_convolved_as_if_they_were_written(
    case: tuple[SparseTensor, Tensor, Tensor], backend: str, dtype: torch.dtype, is_halved: bool
) -> None:
    x, weight, bias = case
    step, x = (SparseUpsample(2), SparseDownsample(2)(x)) if is_halved else (SparseSubdivide(), x)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.no_grad():
        copied = conv3d_of_copies(x, step, weight, bias, backend=backend)
        again = conv3d_of_copies(2 * x, step, weight, bias, backend=backend)  # with the rows that were kept
    for actual, source in ((copied, x), (again, 2 * x)):
        fine = step(source)
        expected = submanifold_conv3d(fine.to(torch.float32), weight.float(), bias.float())
        assert torch.equal(actual.coords, fine.coords)
        assert actual.dtype == dtype
        # Another order of summation; bfloat16 resolves 2^-8.
        tolerance = 1e-5 if dtype == torch.float32 else 3e-2
        limit = tolerance * float(expected.feats.abs().max())
        torch.testing.assert_close(actual.feats.float(), expected.feats, rtol=0, atol=limit)


def test_copies_have_gradients(case: tuple[SparseTensor, Tensor, Tensor]) -> None:
    x, weight, bias = case
    step, results = SparseSubdivide(), []
    for run in (
        lambda x, *parameters: conv3d_of_copies(x, step, *parameters),
        lambda x, *parameters: submanifold_conv3d(step(x), *parameters),
    ):
        leaves = [value.clone().requires_grad_() for value in (x.feats, weight, bias)]
        output = run(x.replace(leaves[0]), *leaves[1:])
        results.append(torch.autograd.grad(output.feats.square().sum(), leaves))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_backend_convolves_copies(
    case: tuple[SparseTensor, Tensor, Tensor], backend: str, dtype: torch.dtype
) -> None:
    if backend not in available_backends("cuda", dtype):
        pytest.skip(f"{backend} is not installed or does not take this dtype")
    x, weight, bias = case
    x = x.apply(lambda feats: feats.repeat(1, 8)).to(dtype)
    weight, bias = weight.repeat(8, 1, 1, 1, 8).to(dtype), bias.repeat(8).to(dtype)
    step = SparseSubdivide()
    expected = submanifold_conv3d(step(x.to(torch.float32)), weight.float(), bias.float()).feats
    with torch.no_grad():
        actual = conv3d_of_copies(x.to("cuda"), step, weight.cuda(), bias.cuda(), backend=backend)
    # TF32 resolves 2^-10 of the largest terms, bfloat16 2^-8.
    limit = (1e-2 if dtype is not torch.bfloat16 else 4e-2) * float(expected.abs().max())
    torch.testing.assert_close(actual.feats.float().cpu(), expected, rtol=0, atol=limit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("out_channels", [48, 16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_backend_matches_the_reference_in_both_directions(
    case: tuple[SparseTensor, Tensor, Tensor],
    backend: str,
    out_channels: int,
    dilation: int,
    dtype: torch.dtype,
) -> None:
    if backend not in available_backends("cuda", dtype):
        pytest.skip(f"{backend} is not installed or does not take this dtype")
    x, weight, bias = case
    # Widths that half-precision kernels take, more or fewer than come in.
    weight, bias = weight.repeat(8, 1, 1, 1, 8)[:out_channels], bias.repeat(8)[:out_channels]
    x = x.apply(lambda feats: feats.repeat(1, 8))
    results = []
    for name, device, kind in ((backend, "cuda", dtype), ("gather_scatter", "cpu", torch.float32)):
        leaves = [value.to(dtype).to(device, kind).requires_grad_() for value in (x.feats, weight, bias)]
        voxels = x.to(device).replace(leaves[0])
        output = submanifold_conv3d(voxels, *leaves[1:], dilation, backend=name).feats
        results.append([output, *torch.autograd.grad(output.float().square().sum(), leaves)])
    # TF32 resolves 2^-10 of the largest terms, bfloat16 2^-8.
    tolerance = 1e-2 if dtype is not torch.bfloat16 else 4e-2
    for actual, expected in zip(*results):
        limit = tolerance * float(expected.detach().abs().max())
        torch.testing.assert_close(actual.float().cpu(), expected, rtol=0, atol=limit)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_backend_survives_edge_cases(backend: str) -> None:
    if backend not in available_backends("cuda"):
        pytest.skip(f"{backend} is not installed or does not take this dtype")
    weight = torch.randn(8, 3, 3, 3, 8, device="cuda")
    empty = SparseTensor(torch.zeros(0, 8), torch.zeros(0, 4, dtype=torch.int32), batch_size=2).to("cuda")
    assert submanifold_conv3d(empty, weight, backend=backend).shape == (2, 8)
    corner = SparseTensor(torch.ones(1, 8), torch.tensor([[3, 1023, 1023, 1023]])).to("cuda")
    expected = weight[:, 1, 1, 1].sum(1)
    actual = submanifold_conv3d(corner, weight, backend=backend).feats[0]
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)  # TF32
    if backend == "spconv":  # its index pairs are kept for later convolutions
        assert corner.recall("spconv index pairs")
    twice = SparseTensor(torch.ones(2, 8), torch.tensor([[0, 1, 1, 1]] * 2)).to("cuda")
    with pytest.raises(ValueError, match="two voxels share a place"):
        submanifold_conv3d(twice, weight, backend=backend)


def test_products_are_few_and_large_on_every_device(caplog: pytest.LogCaptureFixture) -> None:
    assert available_backends("cpu") == ["gather_gemm", "gather_scatter"]
    REGISTRY.clear()
    with caplog.at_level("INFO", logger="trellis_modules.backends"):
        for device in ("cpu", "cuda"):
            REGISTRY.select("auto", torch.device(device), torch.float32)
    chosen = [record.message.split()[-1] for record in caplog.records]
    REGISTRY.clear()
    assert chosen == ["gather_gemm", "gather_gemm"]


def test_border_voxels_do_not_see_the_next_line() -> None:
    x = SparseTensor(torch.ones(2, 1), torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0]]))
    weight = torch.zeros(1, 3, 3, 3, 1)
    weight[0, 1, 1, 2] = 1  # reads z + 1
    assert submanifold_conv3d(x, weight).feats.tolist() == [[0], [0]]


def test_single_voxel_and_no_voxel() -> None:
    layer = SparseConv3d(2, 3, 3)
    single = SparseTensor(torch.ones(1, 2), torch.tensor([[0, 1023, 1023, 1023]]))
    expected = layer.conv.weight[:, 1, 1, 1].sum(1) + layer.conv.bias
    empty = SparseTensor(torch.zeros(0, 2), torch.zeros(0, 4, dtype=torch.int32), batch_size=1)
    for backend in available_backends("cpu"):
        alone = submanifold_conv3d(single, layer.conv.weight, layer.conv.bias, backend=backend)
        torch.testing.assert_close(alone.feats[0], expected)
        assert submanifold_conv3d(empty, layer.conv.weight, layer.conv.bias, backend=backend).shape == (1, 3)


def test_keys_beyond_32_bits_stay_apart() -> None:
    # Keys of elements 4 apart in a 1024^3 volume would coincide in 32 bits.
    coords = torch.tensor([[0, 1023, 1023, 1023], [4, 1023, 1023, 1022], [8, 1023, 1023, 1023]])
    rows = neighbour_rows(SparseTensor(torch.zeros(3, 1), coords), 3)
    assert (rows < 3).sum(1).tolist() == [1, 1, 1]
    assert rows[:, 13].tolist() == [0, 1, 2]


def test_last_element_at_the_largest_dilation_has_distinct_keys() -> None:
    last = MAX_BATCH_SIZE - 1
    coords = torch.tensor([[last, 0, 0, 0], [last, 1023, 1023, 1022], [last, 1023, 1023, 1023]])
    rows = neighbour_rows(SparseTensor(torch.zeros(3, 1), coords), 3, dilation=1022)
    assert (rows < 3).sum(1).tolist() == [1, 1, 1]
    assert neighbour_rows(SparseTensor(torch.zeros(3, 1), coords), 3)[1].tolist().count(2) == 1


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_table_and_a_search_find_the_same_neighbours(
    case: tuple[SparseTensor, Tensor, Tensor], dilation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _, _ = case
    found = neighbour_rows(x, 3, dilation)
    monkeypatch.setattr(neighbours, "_MAX_CELLS", 0)
    assert torch.equal(found, neighbour_rows(SparseTensor(x.feats, x.coords, batch_size=3), 3, dilation))


@pytest.mark.parametrize("cells", [0, neighbours._MAX_CELLS])
def test_shared_places_are_refused(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_MAX_CELLS", cells)
    x = SparseTensor(torch.zeros(2, 1), torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]]))
    with pytest.raises(ValueError, match="two voxels share a place"):
        SparseConv3d(1, 1, 3)(x)
    with pytest.raises(ValueError, match="two voxels share a place"):
        check_distinct(x)
    apart = SparseTensor(torch.zeros(2, 1), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    check_distinct(apart)  # places in different elements


def test_wrong_shapes_and_backends_are_refused(case: tuple[SparseTensor, Tensor, Tensor]) -> None:
    x, weight, _ = case
    for wrong in (weight[..., :3], weight[:, :2, :2, :2], weight[:, :, :, :2], weight[0], weight[0, 0, 0, 0]):
        with pytest.raises(ValueError, match="submanifold_conv3d: expected weight"):
            submanifold_conv3d(x, wrong)
    with pytest.raises(ValueError, match="dtype of the weight, torch.float32, got torch.float16"):
        submanifold_conv3d(x.to(torch.float16), weight)
    with pytest.raises(ValueError, match=r"dtype of the weight, torch.float64, got torch.float32"):
        submanifold_conv3d(x, weight[:, :1, :1, :1].double())
    for dilation in (0, -1, MAX_RESOLUTION):
        with pytest.raises(ValueError, match=r"dilation must be in \[1, 1024\)"):
            submanifold_conv3d(x, weight, dilation=dilation)
    with pytest.raises(BackendUnavailable, match="'spconv' does not take torch.float32 on cpu"):
        submanifold_conv3d(x, weight, backend="spconv")
    with pytest.raises(ValueError, match="unknown backend 'fast'"):
        submanifold_conv3d(x, weight, backend="fast")


def test_missing_package_is_named() -> None:
    if BACKENDS["spconv"].installed():
        pytest.skip("spconv is installed")
    with pytest.raises(BackendUnavailable, match="package 'spconv' does not import"):
        BACKENDS["spconv"].load()
