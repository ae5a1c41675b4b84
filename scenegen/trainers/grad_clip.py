"""Clipping of gradients: to a number, or to a limit that follows the norms seen so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from trellis_modules.config import NamedConfig, build, check_range, lookup

_SMALLEST_NORM = 1e-6  # added to a norm before it divides, as torch.nn.utils.clip_grad_norm_ does

SquaredNorms = Callable[[Tensor], Tensor]
"""Adds up the squared norm of what this process holds over all processes that hold parts of the gradients."""


def total_norm(gradients: Sequence[Tensor], add_up: SquaredNorms | None = None) -> Tensor:
    """Euclidean norm of all gradients together, a float32 scalar on their device.

    Args:
        gradients: at least one tensor; all on one device.
        add_up: see `SquaredNorms`; None: this process holds the whole of them.
    """
    norm = torch.linalg.vector_norm(torch.stack([n.float() for n in torch._foreach_norm(list(gradients))]))
    return norm if add_up is None else add_up(norm.square()).sqrt()


class NormClipper:
    """Scales gradients down to a largest norm; without one it only measures.

    Nothing here waits for the device.
    """

    def __init__(self, max_norm: float | None = None) -> None:
        self.max_norm = max_norm

    def __call__(self, gradients: Sequence[Tensor], add_up: SquaredNorms | None = None) -> Tensor:
        """Scale gradients in place; returns their norm before that.

        A norm that is not finite leaves them as they are or worse: the step has to be skipped.
        """
        norm = total_norm(gradients, add_up)
        limit = self._limit(norm)
        if limit is not None:
            torch._foreach_mul_(list(gradients), (limit / (norm + _SMALLEST_NORM)).clamp(max=1.0))
        self._see(norm)
        return norm

    def _limit(self, norm: Tensor) -> Tensor | float | None:
        return self.max_norm

    def _see(self, norm: Tensor) -> None:
        """Learn from a norm."""

    def logs(self) -> dict[str, Tensor]:
        """What is worth logging, as scalars."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What has to be saved."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: it is of another clipper.
        """
        own = self.state_dict()
        if state.keys() != own.keys() or any(state[name].shape != own[name].shape for name in own):
            raise ValueError(f"expected a state of {type(self).__name__}, got {sorted(state) or 'none'}")
        for name, value in own.items():
            value.copy_(state[name])


class AdaptiveGradClipper(NormClipper):
    """Clips to a percentile of the last norms, once enough of them are known, and never above ``max_norm``.

    Source: the published training configurations (``AdaptiveGradClipper``).
    """

    def __init__(
        self, max_norm: float | None = None, clip_percentile: float = 95.0, buffer_size: int = 1000
    ) -> None:
        """Make ready.

        Args:
            max_norm: limit until ``buffer_size`` norms are known, and above all later ones; None: none.
            clip_percentile: of the norms in the buffer that is the limit, 0 to 100.
            buffer_size: norms that are remembered.
        """
        super().__init__(max_norm)
        if max_norm is not None:
            check_range("max_norm", max_norm, 0)
        check_range("clip_percentile", clip_percentile, 0, 100)
        check_range("buffer_size", buffer_size, 1)
        self.clip_percentile, self.buffer_size = clip_percentile, buffer_size
        self._state = {
            "grad_norm": torch.zeros(buffer_size),
            "max_norm": torch.tensor(math.inf if max_norm is None else float(max_norm)),
            "buffer_ptr": torch.tensor(0),
            "buffer_length": torch.tensor(0),
        }

    @property
    def limit(self) -> Tensor:
        """Largest norm that is let through now, infinite while there is no limit; a scalar."""
        return self._state["max_norm"]

    def _limit(self, norm: Tensor) -> Tensor:
        if self.limit.device != norm.device:
            self._state = {name: value.to(norm.device) for name, value in self._state.items()}
        return self.limit

    @torch.no_grad()
    def _see(self, norm: Tensor) -> None:
        """Take a finite norm into the buffer, without waiting for the device to tell whether it is one."""
        state, finite = self._state, torch.isfinite(norm)
        place = state["buffer_ptr"].view(1)
        kept = torch.where(finite, norm, state["grad_norm"].gather(0, place)[0])
        state["grad_norm"].scatter_(0, place, kept.view(1))
        state["buffer_ptr"].copy_((state["buffer_ptr"] + finite) % self.buffer_size)
        state["buffer_length"].copy_((state["buffer_length"] + finite).clamp(max=self.buffer_size))
        percentile = torch.quantile(state["grad_norm"], self.clip_percentile / 100)
        if self.max_norm is not None:
            percentile = percentile.clamp(max=self.max_norm)
        is_full = state["buffer_length"] == self.buffer_size
        state["max_norm"].copy_(torch.where(is_full, percentile, state["max_norm"]))

    def logs(self) -> dict[str, Tensor]:
        """The limit, NaN while there is none."""
        limit = self.limit
        return {"max_norm": torch.where(torch.isinf(limit), torch.nan, limit)}

    def state_dict(self) -> dict[str, Tensor]:
        """The buffer of norms, the place of the next one, how many there are, and the limit."""
        return dict(self._state)


CLIPPERS: Mapping[str, type[NormClipper]] = {"AdaptiveGradClipper": AdaptiveGradClipper}


def build_clipper(grad_clip: float | NamedConfig | None) -> NormClipper:
    """The clipper of ``trainer.grad_clip``: a largest norm, a class with its arguments, or None for none.

    Raises:
        ConfigError: the class or an argument is unknown or wrong.
    """
    if not isinstance(grad_clip, NamedConfig):
        return NormClipper(grad_clip)
    kind = lookup(CLIPPERS, grad_clip.name, "trainer.grad_clip")
    return build(kind, grad_clip.args, f"trainer.grad_clip {grad_clip.name}")
