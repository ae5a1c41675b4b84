"""The training loop: precision, learning rate, clipping, EMA, exact resume, and a wall-clock limit."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
LOG_FILE = "log.jsonl"


class BatchSource(Protocol):
    """Batches as a function of the step: a resumed run sees what an uninterrupted one would have seen."""

    def batch(self, step: int) -> Mapping[str, Tensor]: ...


class Objective(Protocol):
    """What a network is trained for. ``modules`` are the trained ones, by the name they are saved under."""

    modules: Mapping[str, nn.Module]

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar to minimise and detached scalars to log."""
        ...

    def finish(self, source: BatchSource, step: int) -> None:
        """Last change to the averaged networks, in place, before they are exported; none by default."""


@dataclass(frozen=True)
class TrainerConfig:
    """Hyperparameters of the loop; times are in optimiser steps."""

    max_steps: int
    learning_rate: float = 1e-3
    optimizer: str = "AdamW"  # or "Muon": hidden matrices by Muon, everything else by AdamW
    weight_decay: float = 0.0
    warmup_steps: int = 100
    decay_fraction: float = 1.0  # last part of the schedule, cosine to zero; constant before it
    grad_clip: float = 1.0
    ema_rate: float = 0.999
    precision: str = "float32"  # or "bfloat16": autocast, weights stay float32
    log_every: int = 50
    save_every: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"trainer.precision: expected 'float32' or 'bfloat16', got {self.precision!r}")
        if self.optimizer not in ("AdamW", "Muon"):
            raise ValueError(f"trainer.optimizer: expected 'AdamW' or 'Muon', got {self.optimizer!r}")

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of ``step`` (0-based): linear warm-up, constant, cosine to zero.

        Args:
            step: for the warm-up.
            progress: part of the schedule that is done, 0 to 1.
        """
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decayed = min(max(1 - (1 - progress) / self.decay_fraction, 0.0), 1.0) if self.decay_fraction else 0.0
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * decayed))


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Muon orthogonalises updates: only for matrices between hidden layers, not embeddings or outputs."""
    outer = ("input_layer", "out_layer", "embed", "token", "pose_branch", "head")
    return parameter.ndim == 2 and not any(part in name for part in outer)


def build_optimizers(modules: Mapping[str, nn.Module], config: TrainerConfig) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the hidden matrices beside AdamW for the rest."""
    named = [(n, p) for m in modules.values() for n, p in m.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if config.optimizer == "Muon" and _is_hidden_matrix(n, p)]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    fused = bool(rest) and rest[0].is_cuda
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=fused
        )
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


class Trainer:
    """Runs an objective on a batch source and keeps everything needed to go on later in one state file."""

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        config: TrainerConfig,
        output_dir: Path,
        device: torch.device,
    ) -> None:
        self.objective, self.source, self.config = objective, source, config
        self.output_dir, self.device = output_dir, device
        self.modules = nn.ModuleDict(dict(objective.modules)).to(device)
        self.optimizers = build_optimizers(objective.modules, config)
        self.ema = {n: v.detach().float().clone() for n, v in self.modules.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self._progress = lambda: self.step / config.max_steps
        output_dir.mkdir(parents=True, exist_ok=True)

    # ---- state

    def save(self) -> None:
        """Write the state to a temporary file and rename it, so that a kill never leaves a broken state."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "config": asdict(self.config),
            "modules": self.modules.state_dict(),
            "ema": self.ema,
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        target = self.output_dir / STATE_FILE
        temporary = target.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, target)

    def resume(self) -> bool:
        """Load the state file if there is one; True when training goes on from it."""
        path = self.output_dir / STATE_FILE
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.ema = state["ema"]
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("resumed %s at step %d", path, self.step)
        return True

    def ema_modules(self) -> dict[str, nn.Module]:
        """The trained modules holding their averaged weights (in place: call at the end of a run)."""
        self.modules.load_state_dict(self.ema)
        return dict(self.objective.modules)

    # ---- loop

    def run(self, time_limit_s: float = math.inf, anneal: bool = False) -> bool:
        """Train until ``max_steps`` or until ``time_limit_s`` seconds have passed; saves in both cases.

        Args:
            time_limit_s: wall-clock seconds of this call.
            anneal: run the learning-rate schedule over the time limit of this call instead of over max_steps,
                to finish within a fixed time on hardware of unknown speed.

        Returns:
            True when max_steps is reached.

        Raises:
            ValueError: anneal without a time limit.
        """
        if anneal and not math.isfinite(time_limit_s):
            raise ValueError("Trainer.run: anneal needs a finite time_limit_s to spread the schedule over")
        start, before = time.monotonic(), self.seconds
        if anneal:
            self._progress = lambda: (time.monotonic() - start) / time_limit_s
        self.modules.train()
        sums: dict[str, Tensor] = {}
        while self.step < self.config.max_steps and time.monotonic() - start < time_limit_s:
            for name, value in self._train_step().items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            self.step += 1
            self.seconds = before + time.monotonic() - start
            if self.step % self.config.log_every == 0:
                self._log({n: float(v) / self.config.log_every for n, v in sums.items()})
                sums = {}
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        return self.step >= self.config.max_steps

    def _train_step(self) -> dict[str, Tensor]:
        config = self.config
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.step)
        batch = self.source.batch(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss, logs = self.objective.loss(batch, generator)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.modules.parameters(), config.grad_clip)
        rate = config.rate(self.step, self._progress())
        healthy = bool(
            torch.isfinite(norm)
        )  # a non-finite gradient would poison weights, moments and EMA alike
        for optimizer in self.optimizers if healthy else ():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self._update_ema()
        return {
            "loss": loss.detach(),
            "grad_norm": norm.detach(),
            "skipped": norm.new_tensor(float(not healthy)),
            "lr": norm.new_tensor(rate),
            **logs,
        }

    @torch.no_grad()
    def _update_ema(self) -> None:
        # early averages follow the weights closely; the rate grows to its final value with the step
        rate = min(self.config.ema_rate, (1 + self.step) / (10 + self.step))
        state = self.modules.state_dict()
        floats = [n for n in state if state[n].is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [state[n].float() for n in floats], 1 - rate)

    def _log(self, means: dict[str, float]) -> None:
        record = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            **{n: float(f"{v:.5g}") for n, v in means.items()},
        }
        with open(self.output_dir / LOG_FILE, "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        logger.info(
            "step %d/%d  %s",
            self.step,
            self.config.max_steps,
            "  ".join(f"{n} {v:.4g}" for n, v in record.items() if n != "step"),
        )
