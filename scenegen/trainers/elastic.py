"""Elastic memory: how many blocks are computed again in the backward pass follows the size of each batch.

Activations of a sparse network take memory in proportion to the voxels of a batch, which differ from step to
step. Small batches keep all of them, large ones compute some again.

Source: the training of TRELLIS, arXiv:2412.01506 (``LinearMemoryController``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from scenegen.datasets.batch import Batch
from trellis_modules.config import NamedConfig, build, check_range, lookup

_GIB = 2**30
_RATIO_STEP = 0.1  # added to the largest ratio at each update
ELASTIC = "Elastic"
"""Begins the names of networks whose blocks are controlled."""


class LinearMemoryController:
    """Fits memory = k * (size * ratio) + b to what was seen, and chooses the ratio that meets a target.

    The ratio is the share of blocks whose activations are kept. While nothing was fitted it is drawn at
    random below a largest ratio, which grows with each update.
    """

    def __init__(
        self,
        buffer_size: int = 1000,
        update_every: int = 500,
        target_ratio: float = 0.8,
        available_memory: float | None = None,
        max_mem_ratio_start: float = 0.1,
        params: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Make ready.

        Args:
            buffer_size: passes that the fit looks back on.
            update_every: passes between fits.
            target_ratio: share of the memory that a pass should take.
            available_memory: GiB; None: all of the GPU's.
            max_mem_ratio_start: largest ratio before the first fit.
            params: k (GiB) and b (GiB) to begin with.
        """
        check_range("buffer_size", buffer_size, 2)
        check_range("update_every", update_every, 1)
        for name, value in (("target_ratio", target_ratio), ("max_mem_ratio_start", max_mem_ratio_start)):
            check_range(name, value, 0, 1)
        self.update_every, self.target_ratio = update_every, target_ratio
        self.available_memory = available_memory
        self.params, self.max_ratio = tuple(map(float, params)), float(max_mem_ratio_start)
        self._seen = np.zeros((buffer_size, 2))
        self._count = 0

    def ratio(self, size: float, total_gib: float, draw: float) -> float:
        """Share of blocks to keep for a batch.

        Args:
            size: of the batch, 1 or more.
            total_gib: memory of the GPU.
            draw: a random number in [0, 1).
        """
        slope, offset = self.params
        if slope == 0:
            return draw * self.max_ratio
        available = total_gib if self.available_memory is None else self.available_memory
        wanted = (available * self.target_ratio - offset) / (slope * size)
        return min(max(wanted, 0.0), self.max_ratio)

    def observe(self, size: float, memory_gib: float) -> None:
        """Learn from a pass.

        Args:
            size: of the batch times the ratio that was used.
            memory_gib: the most that the pass took.
        """
        self._seen[self._count % len(self._seen)] = size, memory_gib
        self._count += 1
        if self._count % self.update_every == 0:
            self._fit()

    def _fit(self) -> None:
        sizes, memory = self._seen[: self._count].T
        if np.ptp(sizes) > 0:
            slope, offset = np.polyfit(sizes, memory, 1)
            self.params = float(slope), float(offset)
        self.max_ratio = min(1.0, self.max_ratio + _RATIO_STEP)

    def state_dict(self) -> dict[str, Tensor]:
        """What has to be saved."""
        numbers = [*self.params, self.max_ratio]
        return {"params": torch.tensor(numbers, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state; what was seen is seen anew."""
        slope, offset, self.max_ratio = state["params"].tolist()
        self.params = slope, offset


CONTROLLERS = {"LinearMemoryController": LinearMemoryController}


class ElasticMemory:
    """Controls the networks of an objective whose configuration has an ``Elastic`` name."""

    def __init__(
        self, networks: list[nn.Module], controller: LinearMemoryController, device: torch.device
    ) -> None:
        """Take networks with ``blocks`` and ``recomputed_blocks``; on a CPU nothing is computed again."""
        self.networks, self.controller, self.device = networks, controller, device

    @contextmanager
    def watch(self, batch: Batch, seed: int) -> Iterator[None]:
        """Choose how many blocks the pass within a ``with`` block computes again, and learn from it.

        Args:
            batch: with ``coords`` (T, 4), whose rows are its size.
            seed: of what is random while nothing is known.
        """
        if self.device.type != "cuda":
            yield
            return
        size = max(1, len(batch.coords))
        total = torch.cuda.get_device_properties(self.device).total_memory / _GIB
        draw = float(np.random.default_rng(seed).random())
        used = keep_share(self.networks, self.controller.ratio(size, total, draw))
        torch.cuda.reset_peak_memory_stats(self.device)
        yield
        self.controller.observe(size * used, torch.cuda.max_memory_allocated(self.device) / _GIB)


def keep_share(networks: list[nn.Module], ratio: float) -> float:
    """Let networks keep the activations of a share of their blocks; returns the share that came out."""
    shares = []
    for network in networks:
        count = len(network.blocks)
        network.recomputed_blocks = min(math.ceil((1 - ratio) * count) + 1, count)
        shares.append(1 - (network.recomputed_blocks - 1) / count)
    return sum(shares) / len(shares)


def elastic_networks(objective: nn.Module) -> list[nn.Module]:
    """The networks whose blocks are controlled."""
    named = [(getattr(network, "named_config", None), network) for network in objective.children()]
    return [network for config, network in named if config is not None and config.name.startswith(ELASTIC)]


def build_elastic(
    config: NamedConfig | None, objective: nn.Module, device: torch.device
) -> ElasticMemory | None:
    """What ``trainer.elastic`` asks for; None where nothing is controlled.

    Raises:
        ConfigError: the name or an argument is unknown or wrong.
    """
    if config is None:
        return None
    kind = lookup(CONTROLLERS, config.name, "trainer.elastic")
    controller = build(kind, config.args, f"trainer.elastic {config.name}")
    networks = elastic_networks(objective)
    return ElasticMemory(networks, controller, device) if networks else None
