"""The norms' kernels against PyTorch's operations, on a GPU or in Triton's interpreter on the CPU."""

import contextlib
import os

import pytest
import torch

from trellis_modules.backends import BackendUnavailable
from trellis_modules.norms import head_rms_norm, layer_norm
from trellis_modules.norms.backends import BACKENDS, REGISTRY, torch_norms

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

on_kernels = pytest.mark.skipif(
    not INTERPRETED and DEVICE == "cpu", reason="needs a GPU, or Triton with TRITON_INTERPRET=1"
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Where the interpreter stands for a GPU, the registry gives the kernels to the CPU."""
    if INTERPRETED:
        monkeypatch.setattr(torch.cuda, "device_of", lambda x: contextlib.nullcontext())
        for function in ("layer_norm", "head_rms_norm"):
            for dtype in (torch.float16, torch.bfloat16):
                key = ("triton", "cpu", dtype, function)
                monkeypatch.setitem(REGISTRY._selected, key, BACKENDS["triton"].load(function))


def draw(*shape, dtype=torch.float16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 2 + 0.5).to(DEVICE, dtype)


def exact(*inputs):
    """Tensors in double precision, what is none as it is."""
    return tuple(value.double() if isinstance(value, torch.Tensor) else value for value in inputs)


def true_layer_norm(x, weight, bias, eps, shift, scale):
    x, weight, bias, shift, scale = exact(x, weight, bias, shift, scale)
    normed = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return normed if shift is None else normed * (1 + scale) + shift


def close(result, truth, dtype):
    """Rounded once, to the dtype."""
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(result.double(), truth, rtol=1.01 * step, atol=4 * step)


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("modulated", [None, "elements", "all", "rows"])
@pytest.mark.parametrize("channels", [64, 96])
def test_layer_norm_rounds_the_true_numbers_once(dtype, affine, modulated, channels):
    shape = (7, channels) if modulated == "rows" else (3, 5, channels)
    x = draw(*shape, dtype=dtype)
    weight, bias = (draw(channels, dtype=torch.float32, seed=s) for s in (1, 2)) if affine else (None, None)
    wanted = {"elements": (3, 1, channels), "all": (1, 1, channels), "rows": shape}
    shift, scale = (
        (draw(*wanted[modulated], dtype=dtype, seed=s) for s in (3, 4)) if modulated else (None, None)
    )
    result = layer_norm(x, weight, bias, 1e-6, shift, scale, backend="triton")
    assert result.dtype == dtype and result.shape == x.shape
    close(result, true_layer_norm(x, weight, bias, 1e-6, shift, scale), dtype)


@on_kernels
def test_layer_norm_reads_a_part_of_the_tokens_where_they_lie():
    tokens = draw(2, 9, 64)
    vectors = draw(2, 3 * 64, seed=1).unsqueeze(1)
    shift, scale, _ = vectors.split(64, dim=-1)
    result = layer_norm(tokens[:, 4:], None, None, 1e-6, shift, scale, backend="triton")
    close(result, true_layer_norm(tokens[:, 4:], None, None, 1e-6, shift, scale), torch.float16)


@on_kernels
@pytest.mark.parametrize("shape", [(0, 4, 64), (2, 0, 64), (0, 64)])
def test_layer_norm_of_no_rows_has_no_rows(shape):
    assert layer_norm(draw(*shape), backend="triton").shape == shape


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5, 3, 16), (7, 3, 16), (7, 3, 24)])
def test_head_norm_of_queries_inside_a_joint_projection(dtype, shape):
    *rows, heads, width = shape
    joint = draw(*rows, 3 * heads * width, dtype=dtype)
    gamma = draw(heads, width, dtype=torch.float32, seed=1)
    for part in joint.unflatten(-1, (3, heads, width)).unbind(-3)[:2]:
        truth = part.double() / part.double().norm(dim=-1, keepdim=True) * gamma.double() * width**0.5
        close(head_rms_norm(part, gamma, backend="triton"), truth, dtype)


@on_kernels
def test_head_norm_of_a_zero_vector_is_zero():
    gamma = torch.ones(2, 8, device=DEVICE)
    assert not head_rms_norm(torch.zeros(3, 2, 8, device=DEVICE).half(), gamma, backend="triton").any()


def test_gradients_and_the_cpu_take_pytorchs_operations():
    x = draw(2, 3, 8, dtype=torch.float32).requires_grad_()
    weight, bias = torch.full((8,), 2.0, device=DEVICE), torch.ones(8, device=DEVICE)
    shift, scale = draw(2, 1, 8, dtype=torch.float32), draw(2, 1, 8, dtype=torch.float32, seed=1)
    result = layer_norm(x, weight, bias, 1e-6, shift, scale)
    torch.testing.assert_close(result, torch_norms.layer_norm(x, weight, bias, 1e-6, shift, scale))
    result.sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(DEVICE == "cuda", reason="needs a machine without GPU")
def test_the_kernels_are_refused_where_they_cannot_run():
    REGISTRY.clear()
    with pytest.raises(BackendUnavailable, match="triton"):
        layer_norm(torch.zeros(1, 2, 8), backend="triton")
