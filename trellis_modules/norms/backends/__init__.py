"""Kernels of the norms; see ``trellis_modules.backends`` for how they are found and loaded.

A backend file defines ``layer_norm`` and ``head_rms_norm`` with the arguments of ``trellis_modules.norms``.
"""

from __future__ import annotations

import torch

from trellis_modules.backends import Backend, BackendRegistry

#: Names the backend that "auto" stands for; unset or "auto" leaves the choice to the order of BACKENDS.
BACKEND_VARIABLE = "SCENEGEN_NORMS"

_HALF = (torch.float16, torch.bfloat16)
_AMPERE = (8, 0)

#: In the order in which "auto" tries them: one kernel for a norm and its modulation, then PyTorch's.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("triton", f"{__name__}.triton_norms", "triton", ("cuda",), _HALF, _AMPERE),
        Backend("torch", f"{__name__}.torch_norms", "torch"),
    )
}

REGISTRY = BackendRegistry("norms", BACKEND_VARIABLE, BACKENDS)

available_backends = REGISTRY.available
select = REGISTRY.select
