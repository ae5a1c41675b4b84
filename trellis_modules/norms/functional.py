"""The norms of the transformers; a norm and the modulation that follows it are one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.norms.backends import select


def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """Layer norm over the last axis in float32, then ``shift + norm * (1 + scale)``.

    Args:
        x: (B, L, C) or (T, C).
        weight, bias: (C,), both or none.
        eps: added to the variance.
        shift, scale: (B, 1, C), (1, 1, C) for all rows, or (T, C); both or none.
        backend: "auto", or the name of a kernel (``norms.backends.BACKENDS``).

    Returns:
        The shape and dtype of x.

    Raises:
        BackendUnavailable: the named backend cannot run here.
    """
    inputs = (x, weight, bias, shift, scale)
    return select(_choice(backend, *inputs), x.device, x.dtype, "layer_norm")(*inputs[:3], eps, shift, scale)


def head_rms_norm(x: Tensor, gamma: Tensor, *, backend: str = "auto") -> Tensor:
    """Scale the d channels of every head to the length ``sqrt(d)`` times gamma, in float32.

    Args:
        x: (..., H, d).
        gamma: (H, d).
        backend: as in :func:`layer_norm`.

    Returns:
        The shape and dtype of x.

    Raises:
        BackendUnavailable: the named backend cannot run here.
    """
    return select(_choice(backend, x, gamma), x.device, x.dtype, "head_rms_norm")(x, gamma)


def load_for_compilation(device: torch.device) -> None:
    """Load the kernels that compiled code takes on a device, whose graphs would be broken by loading them."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for function in ("layer_norm", "head_rms_norm"):
            select("torch", device, dtype, function)


def _choice(backend: str, *inputs: Tensor | None) -> str:
    """The backend, or the reference where gradients or a compiler ask for PyTorch's own operations."""
    if backend == "auto" and (_needs_gradient(inputs) or torch.compiler.is_compiling()):
        return "torch"
    return backend


def _needs_gradient(inputs: tuple[Tensor | None, ...]) -> bool:
    return torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in inputs)
