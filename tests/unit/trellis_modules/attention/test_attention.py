"""Attention: backends against the plain formula, selection, modules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from trellis_modules.attention import (
    BackendUnavailable,
    CrossAttention,
    MultiHeadRMSNorm,
    Segments,
    SelfAttention,
    attention,
    available_backends,
)
from trellis_modules.attention.backends import BACKEND_VARIABLE, BACKENDS, REGISTRY


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 3, 4), torch.randn(2, 7, 3, 4), torch.randn(2, 7, 3, 4)


@pytest.fixture
def fresh_selection() -> Iterator[None]:
    REGISTRY.clear()
    yield
    REGISTRY.clear()


def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("blhd,bmhd->bhlm", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("bhlm,bmhd->blhd", weights, v)


def test_mixed_and_integer_dtypes_are_refused(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    for arguments in ((q, k.half(), v.half()), (q, k, v.double()), (q.long(), k.long(), v.long())):
        with pytest.raises(ValueError, match="q, k and v in one floating point dtype"):
            attention(*arguments)


@pytest.mark.parametrize("backend", available_backends("cpu"))
def test_backend_matches_the_formula_in_both_directions(
    backend: str, qkv: tuple[Tensor, Tensor, Tensor]
) -> None:
    leaves = [leaf.requires_grad_() for leaf in qkv]
    results = []
    for output in (attention(*leaves, backend=backend), formula(*leaves)):
        results.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
    torch.testing.assert_close(*results)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_backend_matches_the_float32_formula_in_both_directions(backend: str, dtype: torch.dtype) -> None:
    if backend not in available_backends("cuda", dtype):
        pytest.skip(f"{backend} is not installed or does not run on this GPU")
    generator = torch.Generator("cuda").manual_seed(0)
    leaves = [torch.randn(2, n, 4, 64, device="cuda", generator=generator).to(dtype) for n in (33, 77, 77)]
    results = []
    for run, kind in ((partial(attention, backend=backend), dtype), (formula, torch.float32)):
        inputs = [leaf.to(kind).requires_grad_() for leaf in leaves]
        output = run(*inputs)
        results.append([output, *torch.autograd.grad(output.float().square().sum(), inputs)])
    for actual, expected in zip(*results):
        # Probabilities and results are rounded to the dtype: 2^-11 in float16, 2^-8 in bfloat16.
        tolerance = 8 * torch.finfo(dtype).eps * float(expected.detach().abs().max())
        torch.testing.assert_close(actual.float(), expected, rtol=0, atol=tolerance)


def test_shapes_that_do_not_fit_are_refused(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v = qkv
    for arguments in ((q[0], k, v), (q, k, v[:, :3]), (q, k[..., :2], v[..., :2]), (q[:1], k, v)):
        with pytest.raises(ValueError, match="attention: expected q"):
            attention(*arguments)


def test_unknown_backend_is_refused(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="attention: unknown backend 'fast'; choose auto or one of"):
        attention(*qkv, backend="fast")


def test_named_backend_does_not_fall_back(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(
        BackendUnavailable, match=r"backend 'flash_attn' does not take torch.float32 on cpu; .*sdpa"
    ):
        attention(*qkv, backend="flash_attn")


def test_missing_package_is_named() -> None:
    if BACKENDS["xformers"].installed():
        pytest.skip("xformers is installed")
    with pytest.raises(BackendUnavailable, match="package 'xformers' does not import"):
        BACKENDS["xformers"].load()


@pytest.mark.usefixtures("fresh_selection")
def test_environment_variable_names_the_backend(
    qkv: tuple[Tensor, Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "quick")
    with pytest.raises(ValueError, match=f"environment variable {BACKEND_VARIABLE}: unknown backend 'quick'"):
        attention(*qkv)
    monkeypatch.setenv(BACKEND_VARIABLE, "sdpa")
    torch.testing.assert_close(attention(*qkv), formula(*qkv))


@pytest.mark.usefixtures("fresh_selection")
def test_auto_logs_its_choice_once(
    qkv: tuple[Tensor, Tensor, Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="trellis_modules.backends"):
        attention(*qkv)
        attention(*qkv)
    assert [record.message for record in caplog.records] == ["attention on cpu with torch.float32 uses sdpa"]


def test_rms_norm_is_per_head_and_keeps_the_dtype() -> None:
    norm = MultiHeadRMSNorm(4, 3)
    with torch.no_grad():
        norm.gamma[1] = 2.0
    x = torch.randn(2, 5, 3, 4) * 50
    rms = norm(x).square().mean(-1).sqrt()
    torch.testing.assert_close(rms[:, :, 0], torch.ones(2, 5))
    torch.testing.assert_close(rms[:, :, 1], torch.full((2, 5), 2.0))
    assert norm(x.half()).dtype == torch.float16
    assert norm(torch.zeros(1, 1, 3, 4)).abs().max() == 0


def test_self_attention_keeps_batch_elements_apart() -> None:
    module = SelfAttention(8, 2, qk_rms_norm=True)
    x = torch.randn(2, 5, 8)
    changed = torch.stack([x[0], x[1] + 1])
    torch.testing.assert_close(module(x)[0], module(changed)[0])


def test_cross_attention_reads_a_context_of_another_width() -> None:
    module = CrossAttention(8, 6, 2, qk_rms_norm=True)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    order = torch.tensor([2, 0, 1])  # attention has no order of its own
    torch.testing.assert_close(
        module(x, module.project_context(context)), module(x, module.project_context(context[:, order]))
    )


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("lengths", [None, (3, 0, 2)])
def test_joining_a_context_adds_its_attention(tokens: int, lengths: tuple[int, ...] | None) -> None:
    module, norm = CrossAttention(8, 6, 2, qk_rms_norm=True), torch.nn.LayerNorm(8)
    x = torch.randn(3, 4, 8) if lengths is None else torch.randn(sum(lengths), 8)
    segments = None if lengths is None else Segments(lengths, x.device)
    context = module.project_context(torch.randn(3, tokens, 6))
    expected = x + module(norm(x), context, segments)
    torch.testing.assert_close(module.join(x, norm, context, segments), expected)
    with torch.no_grad():
        room = torch.empty_like(x)
        for out in (None, room):
            torch.testing.assert_close(module.join(x, norm, context, segments, out=out), expected)
        torch.testing.assert_close(room, expected)


def test_a_context_for_another_number_of_elements_is_refused() -> None:
    module = CrossAttention(8, 6, 2)
    context = module.project_context(torch.randn(2, 1, 6))
    with torch.no_grad(), pytest.raises(ValueError, match="each of 3 batch elements, got 2"):
        module.join(torch.randn(5, 8), torch.nn.Identity(), context, Segments((3, 0, 2), torch.device("cpu")))


@pytest.mark.parametrize("build", [lambda: SelfAttention(10, 4), lambda: CrossAttention(10, 8, 4)])
def test_heads_must_divide_the_channels(build) -> None:
    with pytest.raises(ValueError, match="10 channels cannot be split over 4 heads"):
        build()
