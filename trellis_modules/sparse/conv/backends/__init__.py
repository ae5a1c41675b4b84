"""Submanifold convolution kernels; see ``trellis_modules.backends`` for how they are found and loaded.

A backend file defines ``run(x, weight, bias, dilation) -> (T, C_out) features`` for a SparseTensor x and a
weight (C_out, k, k, k, C_in), and ``run_copies(feats, copied, weight, bias, dilation)`` for voxels that copy
rows of features (P, C_in): (T,) ``copied`` says which.  The latter needs no gradients.
"""

from __future__ import annotations

import torch

from trellis_modules.backends import Backend, BackendRegistry

#: Names the backend that "auto" stands for; unset or "auto" leaves the choice to the order of BACKENDS.
BACKEND_VARIABLE = "SCENEGEN_SPARSE_CONV"

_SPCONV_FLOATS = (torch.float16, torch.float32)  # it knows no bfloat16

#: In the order in which "auto" tries them: few large products.  By name only: gather_scatter, the reference,
#: and spconv, on GPUs; its CPU kernels gave unstable results.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("gather_gemm", f"{__name__}.gather_gemm", "torch"),
        Backend("gather_scatter", f"{__name__}.gather_scatter", "torch"),
        Backend("spconv", f"{__name__}.spconv", "spconv", ("cuda",), _SPCONV_FLOATS),
    )
}

REGISTRY = BackendRegistry("sparse convolution", BACKEND_VARIABLE, BACKENDS)

available_backends = REGISTRY.available
select = REGISTRY.select
