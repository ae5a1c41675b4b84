"""Attention kernels behind one call; see ``trellis_modules.backends`` for how they are found and loaded.

A backend file defines ``run(q, k, v)`` for batches of equal lengths and ``run_segments`` for concatenated
segments of different lengths.
"""

from __future__ import annotations

import torch

from trellis_modules.backends import Backend, BackendRegistry, BackendUnavailable

__all__ = ["BACKENDS", "BACKEND_VARIABLE", "REGISTRY", "Backend", "BackendUnavailable", "available_backends"]

#: Names the backend that "auto" stands for; unset or "auto" leaves the choice to the order of BACKENDS.
BACKEND_VARIABLE = "SCENEGEN_ATTENTION"

_HALF = (torch.float16, torch.bfloat16)
_AMPERE = (8, 0)
_VARLEN = "torch.nn.attention.varlen"

#: In the order in which "auto" tries them.  "measured" takes the fastest kernel of large batches.  Of those
#: that come with torch, SDPA dispatches to flash and memory-efficient ones itself, runs everywhere and is
#: traced by torch.compile; "varlen" adds flash attention of segments without padding.  The others are taken
#: by name.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("measured", f"{__name__}.measured", _VARLEN, ("cuda",), _HALF, _AMPERE),
        Backend("varlen", f"{__name__}.torch_varlen", _VARLEN, ("cuda",), _HALF, _AMPERE),
        Backend("sdpa", f"{__name__}.torch_sdpa", "torch"),
        Backend("flash_attn", f"{__name__}.flash_attn", "flash_attn", ("cuda",), _HALF, _AMPERE),
        Backend("gluon_hopper", f"{__name__}.gluon_hopper", "triton", ("cuda",), _HALF, (9, 0), ()),
        Backend("xformers", f"{__name__}.xformers", "xformers", ("cuda",), (*_HALF, torch.float32)),
    )
}

REGISTRY = BackendRegistry("attention", BACKEND_VARIABLE, BACKENDS)

available_backends = REGISTRY.available
select = REGISTRY.select


def load_automatic(device: torch.device) -> None:
    """Load the kernels that "auto" stands for on a device.

    Code that is compiled later finds them loaded: otherwise its first call, which loads them, would run other
    graphs than the next ones, and so would the passes that checkpointing repeats.
    """
    for dtype in (*_HALF, torch.float32):
        for function in ("run", "run_segments"):
            select("auto", device, dtype, function)
