"""Reference backend of the norms: PyTorch, on every device, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Shortest vector that an RMS norm scales to full length.
MIN_LENGTH = 1e-12


def layer_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shift: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """See ``trellis_modules.norms.layer_norm``."""
    if weight is None:  # the kernels compute in float32 whatever the dtype: no copy is needed
        normed = F.layer_norm(x, x.shape[-1:], None, None, eps).to(x.dtype)
    else:
        bias = None if bias is None else bias.float()
        normed = F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias, eps).to(x.dtype)
    return normed if shift is None else torch.addcmul(shift, normed, 1 + scale)


def head_rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """See ``trellis_modules.norms.head_rms_norm``."""
    # A float32 length makes the quotient float32, without a float32 copy of x.
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return (x / length.clamp_min(MIN_LENGTH) * (gamma * x.shape[-1] ** 0.5)).to(x.dtype)
