"""Passes of a flow model recorded as CUDA graphs: launched once, replayed in every further step of a run.

A pass of a large flow model is some hundred short kernels; where few objects are sampled, a GPU waits for the
processor that launches them one by one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers.conditioning import Cond
from trellis_modules.samplers.flow_matching import PreparedTime

RECORDING_VARIABLE = "SCENEGEN_RECORDING"
"""Environment variable: "off" launches every kernel of every pass; unset or "auto" records where it pays."""

_LOCK = threading.Lock()
"""Held while a pass is recorded."""

MIN_PASSES = 6
"""Passes with one condition below which a recording does not pay: it takes the time of about two."""


@dataclass
class _Recording:
    """One condition: how often it was asked for, and the recorded pass once there is one."""

    cond: Cond  # kept, so that its identity stays its own
    passes: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    state: Tensor | None = None
    time: Tensor | PreparedTime | None = None
    output: FlowOutput | None = None


class RecordedModel:
    """A flow model whose passes are recorded, for the length of one sampling run on a GPU.

    The first pass with a condition runs as it is, so that libraries choose and load their kernels and what
    depends on the voxels only is kept; the second is recorded; that and all further ones are replays. A dense
    pass of a kind that the network has had in an earlier run is recorded at once. The numbers are those of
    the model. All recordings share their memory, which is free again when the object is.

    States must keep their shape and, if sparse, their voxels; weights and conditions must stay in place.

    Source: PyTorch, "CUDA graphs".
    """

    #: Kinds of dense passes that each network has had: shapes of state and condition.
    _known: WeakKeyDictionary[nn.Module, set[Any]] = WeakKeyDictionary()

    def __init__(self, model: Callable[..., FlowOutput], network: nn.Module | None = None) -> None:
        """Take a model that never waits for the GPU when it is called a second time with the same voxels.

        Args:
            model: the network, or a call of it.
            network: what computes, always with these arguments of the call for states and conditions of the
                same shapes; passes that it has had are recorded at once in further runs.
        """
        self._model = model
        self._kinds = set() if network is None else self._known.setdefault(network, set())
        self._recordings: dict[int, _Recording] = {}
        self._pool: Any = None

    def __call__(self, x_t: Tensor, t: Tensor | PreparedTime, cond: Cond) -> FlowOutput:
        """As the model; ``x_t`` may be a sparse tensor."""
        recording = self._recordings.setdefault(id(cond), _Recording(cond))
        recording.passes += 1
        kind = (x_t.shape, _shapes_in(cond)) if isinstance(x_t, Tensor) else None
        if recording.passes == 1 and kind not in self._kinds:
            if kind is not None:
                self._kinds.add(kind)
            return self._model(x_t, t, cond)
        if recording.graph is None:
            self._record(recording, x_t, t)
        else:
            _values(recording.state).copy_(_values(x_t))
            for recorded_part, part in zip(_time_parts(recording.time), _time_parts(t), strict=True):
                recorded_part.copy_(part)
        recording.graph.replay()
        return _copy(recording.output)

    def _record(self, recording: _Recording, x_t: Tensor, t: Tensor | PreparedTime) -> None:
        recording.state = _with_values(x_t, _values(x_t).clone())
        recording.time = PreparedTime(*map(torch.clone, t)) if isinstance(t, PreparedTime) else t.clone()
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with _LOCK:
            device = _time_parts(t)[0].device
            side = _recording_stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                # Other threads may use the GPU meanwhile: they texture objects or load networks.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    recording.output = self._model(recording.state, recording.time, recording.cond)
                finally:
                    graph.capture_end()
            torch.cuda.current_stream(device).wait_stream(side)
        recording.graph = graph


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream of a GPU on which passes are recorded, with the workspaces of matrix products."""
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):  # otherwise the first recording would get and keep them
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            ones = torch.ones(16, 16, dtype=dtype, device=device)
            F.linear(ones, ones, ones[0])
            torch.mm(ones, ones)
    stream.synchronize()
    return stream


def recorded(
    model: Callable[..., FlowOutput], device: torch.device, passes: int, network: nn.Module | None = None
) -> Callable[..., FlowOutput]:
    """The model with its passes recorded, where that makes ``passes`` of them with one condition faster.

    ``network`` as in `RecordedModel`.

    Raises:
        ValueError: the environment variable has another value.
    """
    choice = os.environ.get(RECORDING_VARIABLE, "auto")
    if choice not in ("auto", "off"):
        raise ValueError(f"environment variable {RECORDING_VARIABLE}: expected auto or off, got {choice!r}")
    if choice == "off" or device.type != "cuda" or passes < MIN_PASSES:
        return model
    return RecordedModel(model, network)


def _shapes_in(value: Any) -> Any:
    """The shapes of all tensors in a condition, nested as it is."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if is_dataclass(value):
        value = [getattr(value, part.name) for part in fields(value)]
    return tuple(_shapes_in(part) for part in value) if isinstance(value, tuple | list) else value


def _time_parts(t: Tensor | PreparedTime) -> tuple[Tensor, ...]:
    return t if isinstance(t, PreparedTime) else (t,)


def _values(x: Any) -> Tensor:
    """The numbers of a dense or sparse tensor."""
    return x if isinstance(x, Tensor) else x.feats


def _with_values(x: Any, values: Tensor) -> Any:
    return values if isinstance(x, Tensor) else x.replace(values)


def _copy(output: FlowOutput) -> FlowOutput:
    """What the next replay would write over, in memory of its own."""
    velocity = _with_values(output.velocity, _values(output.velocity).clone())
    return FlowOutput(velocity, {name: value.clone() for name, value in output.extras.items()})
