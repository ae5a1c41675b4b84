"""Attention inside groups of rows: against a loop over the groups, and how the groups are formed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trellis_modules.attention import (
    CrossAttention,
    FullPattern,
    Segments,
    SelfAttention,
    SerializedPattern,
    SerializeMode,
    WindowPattern,
    attention,
    serialize,
    variable_length_attention,
)

CPU = torch.device("cpu")


def looped(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context: Segments) -> Tensor:
    parts = zip(q.split(segments.lengths), k.split(context.lengths), v.split(context.lengths))
    return torch.cat([attention(*(part[None] for part in group))[0] for group in parts if len(group[0])])


@pytest.mark.parametrize(
    "lengths, context_lengths",
    [
        ((3, 5, 2), None),
        ((4, 4), None),  # no padding
        ((0, 5, 0, 1), None),  # empty groups
        ((40, 3, 0, 100, 33, 90), None),  # several buckets
        ((3, 0, 2), (2, 4, 7)),
        ((2, 2), (3, 3)),
        ((2, 2), (1, 3)),
        ((1,), None),
    ],
)
def test_matches_a_loop_over_the_groups(
    lengths: tuple[int, ...], context_lengths: tuple[int, ...] | None
) -> None:
    torch.manual_seed(0)
    segments = Segments(lengths, CPU)
    context = segments if context_lengths is None else Segments(context_lengths, CPU)
    rows = (sum(lengths), sum(context.lengths), sum(context.lengths))
    leaves = [torch.randn(count, 2, 4, requires_grad=True) for count in rows]
    actual = variable_length_attention(*leaves, segments, context)
    expected = looped(*leaves, segments, context)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(output.square().sum(), leaves) for output in (actual, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("backend", ["flash_attn", "xformers"])
def test_gpu_kernels_match_the_padded_reference(backend: str) -> None:
    pytest.importorskip(backend)
    segments = Segments((33, 77, 5), torch.device("cuda"))
    leaves = [
        torch.randn(115, 4, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    ]
    outputs = [variable_length_attention(*leaves, segments, backend=name) for name in (backend, "sdpa")]
    torch.testing.assert_close(*outputs, rtol=2e-2, atol=2e-2)  # bf16 resolves 2^-8
    gradients = [torch.autograd.grad(output.sum(), leaves) for output in outputs]
    torch.testing.assert_close(*gradients, rtol=5e-2, atol=5e-2)


def test_buckets_bound_the_padding() -> None:
    segments = Segments(tuple(range(1, 200)), CPU)
    assert len(segments.buckets) < 12
    for bucket in segments.buckets:
        assert bucket.max_length <= max(32, 1.25 * min(bucket.lengths))
    rows = torch.cat([bucket.padded_rows for bucket in segments.buckets])
    assert torch.equal(rows[segments.bucket_restore], torch.arange(sum(segments.lengths)))


def test_no_row_at_all() -> None:
    q = torch.zeros(0, 2, 4)
    for lengths in ((), (0, 0)):
        assert variable_length_attention(q, q, q, Segments(lengths, CPU)).shape == (0, 2, 4)


def test_queries_without_keys_and_wrong_shapes_are_refused() -> None:
    x = torch.zeros(4, 2, 4)
    with pytest.raises(ValueError, match="the 2 queries of group 1 have no keys"):
        variable_length_attention(x, x, x, Segments((2, 2), CPU), Segments((4, 0), CPU))
    with pytest.raises(ValueError, match="2 groups of queries but 1 of keys"):
        variable_length_attention(x, x, x, Segments((2, 2), CPU), Segments((4,), CPU))
    with pytest.raises(ValueError, match=r"expected q \(T, H, d\)"):
        variable_length_attention(x, x[..., :2], x[..., :2], Segments((4,), CPU))


def test_modules_agree_with_their_dense_selves() -> None:
    torch.manual_seed(0)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    segments = Segments((5, 5), CPU)
    self_attention, cross = SelfAttention(8, 2, qk_rms_norm=True), CrossAttention(8, 6, 2)
    rows = x.flatten(0, 1)
    torch.testing.assert_close(self_attention(rows, segments), self_attention(x).flatten(0, 1))
    key_value = cross.project_context(context)
    torch.testing.assert_close(cross(rows, key_value, segments), cross(x, key_value).flatten(0, 1))


def voxels(count: int = 40) -> tuple[Tensor, tuple[int, ...]]:
    """Voxels of two elements, an empty one between them."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(16**3, generator=generator)[:count]
    xyz = torch.stack([places // 256, places // 16 % 16, places % 16], 1)
    batch = torch.zeros(count, dtype=torch.long)
    batch[count // 3 :] = 2
    return torch.cat([batch[:, None], xyz], 1), (count // 3, 0, count - count // 3)


PATTERNS = [
    FullPattern(),
    WindowPattern(8, 4),
    WindowPattern(100),
    SerializedPattern(8),
    SerializedPattern(7, SerializeMode.HILBERT, shift_sequence=3),
    SerializedPattern(100, SerializeMode.Z_ORDER_TRANSPOSED, shift_window=(1, 2, 3)),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_row_gets_its_own_result_from_its_element(pattern) -> None:
    coords, lengths = voxels()
    segments = pattern.segments(coords, lengths)
    rows = segments.gather(torch.arange(len(coords)))
    assert torch.equal(segments.scatter(rows), torch.arange(len(coords)))
    for group in rows.split(segments.lengths):
        assert len(coords[group, 0].unique()) <= 1
    nothing = pattern.segments(coords[:0], (0, 0))
    assert sum(nothing.lengths) == 0


def test_windows_hold_what_their_cube_holds() -> None:
    coords, lengths = voxels()
    segments = WindowPattern(8, 4).segments(coords, lengths)
    for group in segments.gather(coords).split(segments.lengths):
        assert len(((group[:, 1:] + 4) // 8).unique(dim=0)) == 1


@pytest.mark.parametrize("mode", SerializeMode)
def test_curve_visits_every_voxel_once(mode: SerializeMode) -> None:
    xyz = torch.cartesian_prod(*[torch.arange(8)] * 3)
    codes = serialize(xyz, mode)
    assert codes.sort().values.tolist() == list(range(512))
    if mode is SerializeMode.HILBERT:
        assert (xyz[codes.argsort()].diff(dim=0).abs().sum(1) == 1).all()  # steps to a face neighbour


def test_coordinates_beyond_the_codes_are_refused() -> None:
    for wrong in (1024, -1):
        with pytest.raises(ValueError, match=r"must be in \[0, 1024\)"):
            serialize(torch.tensor([[0, 0, wrong]]), SerializeMode.Z_ORDER)


@pytest.mark.parametrize("pattern", [WindowPattern, SerializedPattern])
def test_windows_of_no_size_are_refused(pattern: type) -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        pattern(0)
