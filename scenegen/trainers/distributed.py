"""Processes that train one network together: who they are, what they agree on, how a lost one is noticed."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from scenegen.trainers.objective import Objective

T = TypeVar("T")

BUCKET_MB = 128  # of gradients that are sent together
_CHUNK = 10_000_000  # numbers that are hashed at once
_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # multiplier of a hash: 2^64 over the golden ratio, as a signed number
_SIGNS_OF_LOSS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


class RankLost(RuntimeError):
    """Another process of the run has ended or cannot be reached; the message is one line."""


class RanksDiffer(RuntimeError):
    """Processes hold different numbers where they must hold the same; the message is one line."""


@contextmanager
def processes(
    rank: int,
    size: int,
    device: torch.device,
    address: str = "localhost",
    port: int = 12345,
    timeout_s: float = 600.0,
) -> Iterator[None]:
    """Belong to a group of processes for the length of a ``with`` block; of one process there is no group.

    Args:
        rank: of this process, 0 to ``size`` - 1.
        size: processes on all machines together.
        device: of this process; GPUs of NVIDIA talk through NCCL, all else through gloo.
        address: machine of rank 0.
        port: free TCP port on it.
        timeout_s: how long the others are waited for.

    Raises:
        RankLost: the others cannot be reached.
    """
    if size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            backend,
            init_method=f"tcp://{address}:{port}",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise RankLost(
            f"rank {rank} of {size}: expected all processes at {address}:{port}, got none or too few "
            f"({_first_line(error)}); check the address and the port, and that every process was started"
        ) from error
    try:
        yield
    except RankLost:  # leaving the group would wait for what is gone
        raise
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@dataclass(frozen=True)
class World:
    """The processes of a run; a single one is a world of its own.

    Attributes:
        rank: of this process; that of the first is 0.
        size: number of processes.
        control: group through which they agree on numbers on the CPU, without waiting for a GPU.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @classmethod
    def current(cls) -> World:
        """The world that ``torch.distributed`` was started with. All processes must call this together."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes and logs for all."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each process gives, by rank; all must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def from_first(self, value: T | None) -> T:
        """What the first process gives, whatever the others do; all must call it."""
        return self.gather(value if self.is_first else None)[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)

    def sum_(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place, on its device; all must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def check_equal(self, tensors: Mapping[str, Tensor]) -> None:
        """Compare tensors of all processes by their hashes, bit for bit.

        Raises:
            RanksDiffer: names the first tensor that is not the same on all.
        """
        if self.size == 1:
            return
        hashes = self.gather(tensor_hashes(tensors))
        for name, value in hashes[0].items():
            for rank, other in enumerate(hashes):
                if other.get(name) != value:
                    raise RanksDiffer(
                        f"rank {rank}: expected {name} as rank 0 has it, got other numbers; the processes "
                        "have run apart: start again from the last saved state"
                    )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Tell in one line that another process has ended.

        Raises:
            RankLost: it did; something that was waiting for it failed.
        """
        try:
            yield
        except RuntimeError as error:
            told = str(error)
            if self.size == 1 or isinstance(error, (RankLost, RanksDiffer)):
                raise
            if isinstance(error, dist.DistError) or any(sign in told for sign in _SIGNS_OF_LOSS):
                raise RankLost(
                    f"rank {self.rank} of {self.size} on {socket.gethostname()}: another process of the run "
                    f"ended or cannot be reached ({_first_line(error)}); run the command again: it goes on "
                    "from the last saved state"
                ) from error
            raise


@torch.no_grad()
def tensor_hashes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """A number for each tensor that changes with any bit of it, up to chance; waits once for the device."""
    sums = []
    for value in tensors.values():
        total = torch.zeros((), dtype=torch.int64, device=value.device)
        for chunk in value.detach().contiguous().view(-1).view(torch.uint8).split(_CHUNK):
            places = torch.arange(1, len(chunk) + 1, device=chunk.device)
            total = total * _ODD + (places * _ODD).bitwise_xor(chunk.long() + 1).mul(places).sum()
        sums.append(total)
    return dict(zip(tensors, torch.stack(sums).tolist(), strict=True)) if sums else {}


def in_parallel(objective: Objective, parallel: str, world: World, device: torch.device) -> nn.Module:
    """The objective as all processes compute it together, each on its own batches.

    Args:
        objective: on the device, with what is not trained frozen; starts with the numbers of rank 0.
        parallel: "ddp": every process holds all weights; "fsdp2": weights, moments and averages of networks
            that are trained are spread over the processes, block by block.
        world: of more than one process.
        device: of the objective.

    Returns:
        The module to call in place of the objective; "fsdp2" changes the objective itself.
    """
    if parallel == "ddp":
        with warnings.catch_warnings():
            # From PyTorch 2.13 on the argument has another name, which those before it do not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(
                objective,
                broadcast_buffers=False,
                bucket_cap_mb=BUCKET_MB,
                find_unused_parameters=True,  # scenes of one object have no poses to learn
                gradient_as_bucket_view=True,
            )
    start_equal(objective)
    mesh = init_device_mesh(device.type, (world.size,))
    helpers = [c for c in objective.children() if not any(p.requires_grad for p in c.parameters())]
    ignored = {parameter for helper in helpers for parameter in helper.parameters()}
    for block in trained_blocks(objective):
        fully_shard(block, mesh=mesh)
    spread = fully_shard(objective, mesh=mesh, ignored_params=ignored)
    register_fsdp_forward_method(spread, "visit")
    return spread


@torch.no_grad()
def start_equal(objective: nn.Module) -> None:
    """Give all processes the numbers of rank 0."""
    for value in (*objective.parameters(), *objective.buffers()):
        dist.broadcast(value.detach(), 0)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Replace the gradients of all processes by their means; one that a process lacks counts as zeros."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    means = world.sum_(torch.cat([part.flatten() for part in parts])) / world.size
    for parameter, mean in zip(parameters, means.split([part.numel() for part in parts]), strict=True):
        parameter.grad = mean.view_as(parameter)


def trained_blocks(objective: nn.Module) -> Iterator[nn.Module]:
    """The transformer blocks of networks that are trained; a block computes all in its ``forward``."""
    for network in objective.children():
        if any(parameter.requires_grad for parameter in network.parameters()):
            blocks = getattr(network, "blocks", None)
            yield from blocks if isinstance(blocks, nn.ModuleList) else ()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
