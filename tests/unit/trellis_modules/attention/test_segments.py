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
    available_backends,
    serialize,
    variable_length_attention,
)
from trellis_modules.attention.backends import BACKENDS

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
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "lengths, context_lengths",
    [
        ((33, 77, 5), None),
        ((64, 64), None),
        ((0, 300, 0, 1), None),
        ((200, 0, 17), (70, 4, 70)),
        ((50, 60), (77, 77)),
    ],
)
@pytest.mark.parametrize("width", [64, 12])  # 12 is no width that flash kernels take
def test_gpu_kernels_match_the_float32_reference_in_both_directions(
    backend: str, dtype: torch.dtype, lengths: tuple[int, ...], context_lengths: tuple | None, width: int
) -> None:
    if backend not in available_backends("cuda", dtype):
        pytest.skip(f"{backend} is not installed or does not run on this GPU")
    if width % 8 and backend in ("flash_attn", "xformers"):
        pytest.skip(f"{backend} takes head widths that are a multiple of 8")
    device = torch.device("cuda")
    segments = Segments(lengths, device)
    context = segments if context_lengths is None else Segments(context_lengths, device)
    generator = torch.Generator(device).manual_seed(0)
    rows = (sum(lengths), sum(context.lengths), sum(context.lengths))
    leaves = [torch.randn(n, 4, width, device=device, generator=generator) for n in rows]
    results = []
    for name, kind in ((backend, dtype), ("sdpa", torch.float32)):
        inputs = [leaf.to(dtype).to(kind).requires_grad_() for leaf in leaves]
        output = variable_length_attention(*inputs, segments, context, backend=name)
        gradients = torch.autograd.grad(output.float().square().sum(), inputs)
        results.append([output, *gradients])
    for actual, expected in zip(*results):
        # Probabilities and results are rounded to the dtype: 2^-11 in float16, 2^-8 in bfloat16.
        tolerance = 8 * torch.finfo(dtype).eps * float(expected.detach().abs().max())
        torch.testing.assert_close(actual.float(), expected, rtol=0, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("pattern", [WindowPattern(8, 4), SerializedPattern(7, shift_sequence=3)])
def test_gpu_windows_match_the_cpu(pattern) -> None:
    coords, lengths = voxels(200)
    segments = pattern.segments(coords, lengths)
    q, k, v = torch.randn(3, 200, 2, 16, generator=torch.Generator().manual_seed(0)).half().float()
    expected = variable_length_attention(q, k, v, segments)
    on_gpu = pattern.segments(coords.cuda(), lengths)
    actual = variable_length_attention(*(x.cuda().half() for x in (q, k, v)), on_gpu)
    torch.testing.assert_close(actual.cpu().float(), expected, rtol=0, atol=4e-3)  # float16


def test_flash_kernel_gets_padded_heads_at_the_right_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch.nn.attention.varlen", reason="needs torch 2.10")
    from trellis_modules.attention.backends import torch_varlen

    def kernel(q, k, v, starts, context_starts, longest, longest_context):
        assert q.shape[-1] == 16 and (longest, longest_context) == (5, 4)
        assert starts.dtype == torch.int32 and context_starts.tolist() == [0, 4, 6]
        return looped(q, k, v, segments, context)

    monkeypatch.setattr(torch_varlen, "varlen_attn", kernel)
    torch.manual_seed(0)
    segments, context = Segments((3, 5), CPU), Segments((4, 2), CPU)
    q, k, v = torch.randn(8, 2, 12), torch.randn(6, 2, 12), torch.randn(6, 2, 12)
    expected = variable_length_attention(q, k, v, segments, context, backend="sdpa")
    torch.testing.assert_close(torch_varlen.run_segments(q, k, v, segments, context), expected)
    equal = Segments((4, 4), CPU)  # no call of the kernel
    torch.testing.assert_close(
        torch_varlen.run_segments(q, q, q, equal, equal), looped(q, q, q, equal, equal)
    )


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
    with pytest.raises(ValueError, match="the groups hold 5 queries, got 4"):
        variable_length_attention(x, x, x, Segments((4, 1), CPU))
    with pytest.raises(ValueError, match="the groups hold 3 keys, got 4"):
        variable_length_attention(x, x, x, Segments((4,), CPU), Segments((3,), CPU))
    with pytest.raises(ValueError, match="one floating point dtype, got torch.float32, torch.float16"):
        variable_length_attention(x, x.half(), x.half(), Segments((4,), CPU))


def test_modules_agree_with_their_dense_selves() -> None:
    torch.manual_seed(0)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    segments = Segments((5, 5), CPU)
    self_attention, cross = SelfAttention(8, 2, qk_rms_norm=True), CrossAttention(8, 6, 2)
    rows = x.flatten(0, 1)
    torch.testing.assert_close(self_attention(rows, segments), self_attention(x).flatten(0, 1))
    key_value = cross.project_context(context)
    torch.testing.assert_close(cross(rows, key_value, segments), cross(x, key_value).flatten(0, 1))
    with pytest.raises(ValueError, match="a context for each of 1 batch elements, got 2"):
        cross(rows, key_value, Segments((10,), CPU))


def test_groups_of_contexts_are_kept() -> None:
    segments = Segments((3, 0, 2), CPU)
    contexts = segments.contexts_of(7)
    assert contexts.lengths == (7, 7, 7) and segments.contexts_of(7) is contexts


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


def test_windows_with_a_negative_shift_stay_in_their_element() -> None:
    coords = torch.tensor([(0, 4, 3, 3), (0, 0, 3, 0), (1, 3, 0, 4), (1, 0, 0, 0)])
    segments = WindowPattern(4, -4).segments(coords, (2, 2))
    assert sorted(segments.lengths) == [1, 1, 1, 1]


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
    with pytest.raises(ValueError, match="must be integers, got torch.float32"):
        serialize(torch.zeros(1, 3), SerializeMode.Z_ORDER)


@pytest.mark.parametrize("pattern", [WindowPattern, SerializedPattern])
def test_windows_of_no_size_are_refused(pattern: type) -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        pattern(0)
