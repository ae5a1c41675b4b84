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

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from trellis_modules.attention.backends import BACKENDS, BackendUnavailable, torch_sdpa
from trellis_modules.attention.backends.torch_varlen import run_segments
from trellis_modules.files import atomic_write

__all__ = ["run", "run_segments"]

logger = logging.getLogger(__name__)

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]

_FEWEST_OPERATIONS = 2e10  # 0.05 ms on a large GPU: less is not worth measuring
_BETTER = 0.97  # share of SDPA's time below which another kernel is taken: noise changes nothing
_CALLS, _REPEATS = 4, 5  # of a kernel in a recording, and of that
_TORCH_KERNELS = ("FA4", "FA3")  # of packages that register themselves with PyTorch, best first
_OWN_KERNELS = ("gluon_hopper",)
_SDPA = "sdpa"


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    if torch.compiler.is_compiling() or _needs_gradient(q, k, v):
        return torch_sdpa.run(q, k, v)
    if 4 * q.numel() * k.shape[1] < _FEWEST_OPERATIONS:
        return torch_sdpa.run(q, k, v)
    return _kernels()[_choice(q, k, v)](q, k, v)


def _needs_gradient(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(part.requires_grad for part in inputs)


def _choice(q: Tensor, k: Tensor, v: Tensor) -> str:
    """Name of the kernel for tensors of these sizes."""
    key = ",".join(map(str, (*q.shape, k.shape[1], q.dtype)))
    chosen = _choices(q.device.index or 0)
    if key not in chosen:
        if len(_kernels()) == 1 or torch.cuda.is_current_stream_capturing():  # nothing can be measured
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
    """Time of a call on the GPU, recorded and replayed as in sampling: launches cost nothing."""
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()  # compiles and loads what it needs
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for _ in range(_CALLS):
                call()
        finally:
            graph.capture_end()
        graph.replay()
        times = [_replay(graph) / _CALLS for _ in range(_REPEATS)]
    torch.cuda.current_stream().wait_stream(side)
    return statistics.median(times)


def _replay(graph: torch.cuda.CUDAGraph) -> float:
    """Milliseconds of a recording."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


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
        if backend.accepts("cuda", torch.float16) and backend.installed():
            with suppress(BackendUnavailable):  # another version of Triton
                kernels[name] = backend.load()
    return kernels


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch_attention.sdpa_kernel([torch_attention.SDPBackend.FLASH_ATTENTION]):
        return torch_sdpa.run(q, k, v)


@cache
def _choices(device: int) -> dict[str, str]:
    """What earlier runs with these kernels found on this kind of GPU, by size."""
    try:
        kept = read_json(_file())[_machine(device)]
        return {key: name for key, name in kept.items() if name in _kernels()}
    except (OSError, UnreadableFile, KeyError, TypeError, AttributeError):  # none yet, or damaged
        return {}


def _save(device: int, chosen: dict[str, str]) -> None:
    path = _file()
    try:
        kept = read_json(path)
        kept = kept if isinstance(kept, dict) else {}
    except (OSError, UnreadableFile):
        kept = {}
    try:
        with atomic_write(path, shared=True) as temporary:
            temporary.write_text(json.dumps(kept | {_machine(device): chosen}, indent=1), encoding="utf-8")
    except OSError as error:  # the next process measures again
        logger.debug("%s: not written: %s", path, error)


def _machine(device: int) -> str:
    """GPU and kernels for which a choice holds."""
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {'+'.join(_kernels())}"


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scenegen" / "attention.json"
