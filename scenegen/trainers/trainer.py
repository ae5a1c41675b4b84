"""The training loop: precision, learning rate, clipping, EMA, exact resume, and a wall-clock limit."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safe_files.regular import shown
from scenegen.datasets.batch import Batch
from scenegen.datasets.source import BatchSource
from scenegen.trainers.cuda_graph import GraphedGradients
from scenegen.trainers.freezing import compile_pattern
from scenegen.trainers.interruption import Interruption, StepBrokenOff
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objective import Objective
from scenegen.trainers.prefetch import Prefetcher
from scenegen.trainers.saved_state import (
    STATE_FILE,
    StateError,
    TrainingState,
    check_settings,
    load_state,
    save_state,
)
from scenegen.trainers.schedules import build_schedule
from trellis_modules.checkpoint import check_state
from trellis_modules.config import ConfigError, lookup, to_json

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"


_OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = {"AdamW": torch.optim.AdamW}


def duration_text(seconds: float) -> str:
    """Seconds in the unit that people would say them in."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


class Trainer:
    """Runs an objective on a batch source and keeps everything needed to go on later in one state file.

    Attributes:
        step: steps that were done, of this and earlier runs.
        seconds: that they took.
        precision: "float32" on a CPU, where 16 bits take several times as long, else the configuration's.
        stopped_by: what ended `run` before its last step: "Ctrl-C", "SIGTERM" or "--time-limit".
    """

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        config: LoopConfig,
        output_dir: Path,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make ready to train, or to go on after `resume`.

        Args:
            objective: brought to the device.
            source: of the batches that the objective learns from, on the device.
            config: hyperparameters.
            output_dir: folder of state and log; made where it is missing.
            device: where networks are trained.
            clock: seconds from any point in time on; never goes back.
            settings: the whole experiment as JSON types, for a saved state to agree with; None: ``config``.
        """
        if (
            config.fp16_mode not in ("bfloat16", None)
            or len(config.ema_rates) != 1
            or config.batch_split != 1
        ):
            raise ConfigError(
                "trainer: expected fp16_mode bfloat16 or null, one ema_rate and batch_split 1, which this "
                f"loop has, got {config.fp16_mode!r}, {config.ema_rate!r} and {config.batch_split}"
            )
        self.objective, self.source, self.config = objective.to(device), source, config
        self.output_dir, self.device, self._clock = output_dir, device, clock
        self._parameters = [p for p in objective.parameters() if p.requires_grad]
        self._generator = torch.Generator(device)
        graphed = config.cuda_graphs and device.type == "cuda"
        self._gradients = (
            GraphedGradients(self._loss, self._parameters, self._generator)
            if graphed
            else self._eager_gradients
        )
        self.optimizer = self._make_optimizer()
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._schedule = build_schedule(config.lr_scheduler)
        self.ema = {n: v.detach().float().clone() for n, v in objective.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self.stopped_by: str | None = None
        self.precision = "float32" if device.type == "cpu" else config.fp16_mode or "float32"
        self._progress = lambda: self.step / config.max_steps
        self.settings = {"trainer": to_json(config)} if settings is None else settings
        output_dir.mkdir(parents=True, exist_ok=True)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser with one group for each of the configuration that fits a name, and the rest."""
        chosen = self.config.optimizer
        rest: list[nn.Parameter] = []
        groups = [{"params": [], **group.args} for group in chosen.param_groups]
        patterns = [
            compile_pattern(group.regex, "trainer.optimizer.param_groups") for group in chosen.param_groups
        ]
        for name, parameter in self.objective.named_parameters():
            if parameter.requires_grad:
                fitting = next((i for i, pattern in enumerate(patterns) if pattern.search(name)), None)
                (rest if fitting is None else groups[fitting]["params"]).append(parameter)
        for group, raw in zip(groups, chosen.param_groups, strict=True):
            if not group["params"]:
                raise ConfigError(
                    f"trainer.optimizer.param_groups: expected a regular expression that fits a trained "
                    f"parameter, got {shown(raw.regex)}, which fits none that no group before it fits"
                )
        if rest:
            groups.append({"params": rest})
        kind = lookup(_OPTIMIZERS, chosen.name, "trainer.optimizer")
        try:
            return kind(groups, **chosen.args, fused=True)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"trainer.optimizer: {error}") from error

    # ---- state

    def save(self) -> None:
        """Write the state; a kill never leaves a broken one."""
        state = TrainingState(
            self.step,
            self.seconds,
            self.settings,
            self.objective.state_dict(),
            self.ema,
            self.optimizer.state_dict(),
        )
        save_state(self.output_dir / STATE_FILE, state)

    def resume(self) -> bool:
        """Load the state file if there is one; True when training goes on from it.

        Raises:
            CheckpointError: it is damaged, of other settings or of other networks; nothing was changed.
        """
        state = load_state(self.output_dir, self.device)
        if state is None:
            return False
        path = self.output_dir / STATE_FILE
        check_settings(path, state.settings, self.settings)
        check_state(self.objective, state.modules, f"{path}: modules")
        check_state(self.objective, state.ema, f"{path}: ema")
        self._check_moments(path, state.optimizer)
        self.objective.load_state_dict(state.modules)
        self.optimizer.load_state_dict(state.optimizer)
        self.ema = dict(state.ema)
        self.step, self.seconds = state.step, state.seconds
        logger.info("resumed %s at step %d", path, self.step)
        return True

    def _check_moments(self, path: Path, saved: Mapping[str, Any]) -> None:
        """Refuse a state of the optimiser that is of other parameters."""
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        fits = [group.get("params") for group in saved["param_groups"]] == [g["params"] for g in groups]
        for index, moments in saved["state"].items():
            fits = fits and index < len(parameters) and moments.keys() >= {"step", "exp_avg", "exp_avg_sq"}
            fits = fits and all(value.shape in ((), parameters[index].shape) for value in moments.values())
        if not fits:
            raise StateError(
                f"{path}: expected the optimiser's state of {len(parameters)} tensors, got another; remove "
                "the file to start anew, or choose another --output-dir"
            )

    def averaged_networks(self) -> dict[str, nn.Module]:
        """The networks of the objective with their averaged weights (in place: call at the end of a run)."""
        self.objective.load_state_dict(self.ema)
        return self.objective.networks

    # ---- loop

    def run(self, time_limit_s: float = math.inf, anneal: bool = False) -> bool:
        """Train until ``max_steps``, until ``time_limit_s`` seconds have passed or a signal comes; then save.

        A step that is broken off by the limit or a signal does not count.

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
        start, before = self._clock(), self.seconds
        if anneal:
            self._progress = lambda: (self._clock() - start) / time_limit_s
        for module in self.objective.children():  # one that is not trained normalises as it does when used
            module.train(any(parameter.requires_grad for parameter in module.parameters()))
        batches = Prefetcher(self.source, self.device)
        values: dict[str, list[Tensor]] = {}
        first = self.step
        with Interruption(time_limit_s) as interruption:
            while self.step < self.config.max_steps and self._clock() - start < time_limit_s:
                try:
                    logs = self._train_step(batches, interruption)
                except StepBrokenOff:
                    break
                for name, value in logs.items():
                    values.setdefault(name, []).append(value)
                self.step += 1
                self.seconds = before + self._clock() - start
                if self.step == first + 1:
                    self._log_first_step(self._clock() - start, time_limit_s)
                if self.step % self.config.i_log == 0:
                    self._log({name: float(torch.stack(seen).mean()) for name, seen in values.items()})
                    values = {}
                if self.step % self.config.i_save == 0:
                    self.save()
            self.stopped_by = interruption.reason
            self.save()
        return self.step >= self.config.max_steps

    def _loss(
        self, batch: Batch, generator: torch.Generator, *decisions: Hashable
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.objective(batch, generator, *decisions)

    def _eager_gradients(
        self, batch: Batch, decisions: tuple[Hashable, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.objective.zero_grad(set_to_none=True)
        loss, logs = self._loss(batch, self._generator, *decisions)
        loss.backward()
        return loss.detach(), logs

    def _train_step(self, batches: Prefetcher, interruption: Interruption) -> dict[str, Tensor]:
        """One step; on a GPU it is queued without waiting for it, and the next batch is made meanwhile.

        Raises:
            StepBrokenOff: broken off before anything of the state was changed.
        """
        config, seed = self.config, self.config.seed * 1_000_003 + self.step
        with interruption.breakable():
            batch = batches.get(self.step)
            self._generator.manual_seed(seed)
            decisions = self.objective.decide(torch.Generator().manual_seed(seed))
            loss, logs = self._gradients(batch, decisions)
        limit = math.inf if config.grad_clip is None else config.grad_clip
        norm = nn.utils.clip_grad_norm_(self._parameters, limit, foreach=True)
        factor = self._schedule.factor(self.step, self._progress())
        broken = (~torch.isfinite(norm)).float()
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        # A non-finite gradient would poison weights, moments and EMA alike: the fused step leaves them alone.
        self.optimizer.found_inf = broken
        self.optimizer.step()
        self._update_ema()
        logs = {
            "loss": loss.clone(),
            "grad_norm": norm.detach(),
            "skipped": broken,
            "lr": torch.full_like(norm, self._rates[-1] * factor),
            **{name: value.clone() for name, value in logs.items()},
        }
        batches.prepare(self.step + 1)
        return logs

    @torch.no_grad()
    def _update_ema(self) -> None:
        # early averages follow the weights closely; the rate grows to its final value with the step
        rate = min(self.config.ema_rates[0], (1 + self.step) / (10 + self.step))
        state = self.objective.state_dict()
        floats = [n for n in state if state[n].is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [state[n].float() for n in floats], 1 - rate)

    def _log_first_step(self, seconds: float, time_limit_s: float) -> None:
        """Say how long all steps will take; the first one, which makes everything ready, takes longest."""
        left = self.config.max_steps - self.step
        steps = (
            min(left, int((time_limit_s - seconds) / max(seconds, 1e-6))) if time_limit_s < math.inf else left
        )
        logger.info(
            "first step: %.1f s; at this rate %s for the %d steps to come%s",
            seconds,
            duration_text(seconds * steps),
            steps,
            " within the time limit" if steps < left else "",
        )

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
