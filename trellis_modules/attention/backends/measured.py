"""Backend that measures the kernels on the batch at hand, once for each size, and takes the fastest.

Only batches whose attention takes a while are measured; the others go to SDPA. What was found is kept in a
file of the user's cache, so that a machine goes on with the same kernels and a seed gives the same numbers.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.attention as torch_attention
from torch import Tensor

from trellis_modules.attention.backends import BACKENDS, BackendUnavailable, torch_sdpa
from trellis_modules.attention.backends.torch_varlen import run_segments
from trellis_modules.files import atomic_write_text

__all__ = ["run", "run_segments"]

logger = logging.getLogger(__name__)

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]

_FEWEST_OPERATIONS = 1e10  # 0.03 ms on a large GPU: less is not worth measuring
_BETTER = 0.97  # share of SDPA's time below which another kernel is taken: noise changes nothing
_WARM_UP, _REPEATS = 2, 5
_TORCH_KERNELS = ("FA4", "FA3")  # of packages that register themselves with PyTorch, best first
_OWN_KERNELS = ("triton_flash", "gluon_hopper")
_SDPA = "sdpa"


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    is_small = 4 * q.numel() * k.shape[1] < _FEWEST_OPERATIONS
    if is_small or torch.compiler.is_compiling() or _needs_gradient(q, k, v):
        return torch_sdpa.run(q, k, v)
    return _kernels()[_choice(q, k, v)](q, k, v)


def _needs_gradient(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(part.requires_grad for part in inputs)


def _choice(q: Tensor, k: Tensor, v: Tensor) -> str:
    """Name of the kernel for tensors of these sizes."""
    key = ",".join(map(str, (*q.shape, k.shape[1], q.dtype)))
    chosen = _choices(q.device.index or 0)
    if key not in chosen:
        if torch.cuda.is_current_stream_capturing():  # nothing can be measured now
            return _SDPA
        chosen[key] = _measure(q, k, v)
        _save(q.device.index or 0, chosen)
    return chosen[key]


def _measure(q: Tensor, k: Tensor, v: Tensor) -> str:
    """The fastest kernel; another one than SDPA only where it is clearly faster."""
    times = {}
    for name, kernel in _kernels().items():
        try:
            times[name] = _milliseconds(partial(kernel, q, k, v))
        except RuntimeError as error:  # a kernel that does not take these tensors
            logger.debug("attention kernel %s: %s", name, error)
    best = min(times, key=times.get)
    chosen = best if times[best] < _BETTER * times[_SDPA] else _SDPA
    listed = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in times.items())
    logger.info("attention of %s queries, %s keys: %s; takes %s", tuple(q.shape), k.shape[1], listed, chosen)
    return chosen


def _milliseconds(call: Callable[[], object]) -> float:
    for _ in range(_WARM_UP):
        call()
    times = []
    for _ in range(_REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


@cache
def _kernels() -> dict[str, Kernel]:
    """What there is, by name: PyTorch's own choice, FlashAttention 3 or 4 through it, and our own."""
    kernels: dict[str, Kernel] = {_SDPA: torch_sdpa.run}
    if activate := getattr(torch_attention, "activate_flash_attention_impl", None):
        for name in _TORCH_KERNELS:
            try:
                activate(name)
            except (ImportError, ValueError, RuntimeError):  # its package is not installed
                continue
            kernels[name] = _flash
            break
    for name in _OWN_KERNELS:
        backend = BACKENDS[name]
        if backend.accepts("cuda", torch.float16) and name not in _left_out():
            with suppress(BackendUnavailable):  # another version of Triton, or none
                kernels[name] = backend.load()
    return kernels


def _left_out() -> set[str]:
    return set(os.environ.get("G21_WITHOUT", "").split(","))


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch_attention.sdpa_kernel([torch_attention.SDPBackend.FLASH_ATTENTION]):
        return torch_sdpa.run(q, k, v)


@cache
def _choices(device: int) -> dict[str, str]:
    """What earlier runs with these kernels found on this kind of GPU, by size."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))[_machine(device)]
        return {key: name for key, name in kept.items() if name in _kernels()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or damaged
        return {}


def _save(device: int, chosen: dict[str, str]) -> None:
    path = _file()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept = kept if isinstance(kept, dict) else {}
    except (OSError, ValueError):
        kept = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(kept | {_machine(device): chosen}, indent=1))
    except OSError as error:  # the next process measures again
        logger.debug("%s: not written: %s", path, error)


def _machine(device: int) -> str:
    """GPU and kernels for which a choice holds."""
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {'+'.join(_kernels())}"


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scenegen" / "attention.json"
