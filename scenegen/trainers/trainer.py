"""The training loop: steps, schedules, what is logged and saved, exact resume, limits and signals."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scenegen.datasets.source import BatchSource
from scenegen.trainers.checkpoints import CHECKPOINTS, SavedState, StateError, StateStore
from scenegen.trainers.distributed import World
from scenegen.trainers.interruption import Interruption, StepBrokenOff
from scenegen.trainers.learner import Learner, Logs
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objective import Objective
from scenegen.trainers.prefetch import DataWait, Prefetcher
from scenegen.trainers.reporting import Reporter
from scenegen.trainers.saved_state import TrainingProgress, kept_generators, restore, save, slots_of
from trellis_modules.config import to_json

logger = logging.getLogger(__name__)

VALIDATION = "validation"
"""Name of the number of a watcher by which the best state is chosen; lower is better."""

TIME_LIMIT = "--time-limit"  # what `Interruption` calls it

_SLOT_SEED = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: slots of a step draw from far apart


class Watcher(Protocol):
    """Looks at the averaged networks now and then, for example to measure them or to draw what they make."""

    every: int  # steps between two looks

    def __call__(self, step: int, suffix: str) -> Mapping[str, float]:
        """Look; on every process, in eval mode, with the averaged weights in place.

        Args:
            step: steps that are done.
            suffix: "init" or "resume_step0000010" at the start, "step0000010" between, "final" at the end.

        Returns:
            Numbers to log; that named "validation" decides which state is kept as the best.
        """
        ...


class Trainer:
    """Runs an objective on a batch source and keeps everything needed to go on later.

    Attributes:
        step: steps that were done, of this and earlier runs.
        seconds: that they took.
        stopped_by: what ended `run` before its last step: "Ctrl-C", "SIGTERM" or "--time-limit".
        world: the processes that train together.
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
        """Make ready to train, or to go on after `resume`; all processes of a run must do this together.

        Args:
            objective: brought to the device; what is not trained is frozen already.
            source: of the batches that the objective learns from, on the device.
            config: of the loop.
            output_dir: folder of states and log; made where it is missing.
            device: where networks are trained.
            clock: seconds from any point in time on; never goes back.
            settings: the whole experiment as JSON types, for a saved state to agree with; None: ``config``.

        Raises:
            ConfigError: nothing is trained, or the optimiser, the clipper or the schedule is wrong.
        """
        self.world = World.current()
        self.source, self.config, self.device = source, config, device
        self.output_dir, self._clock = output_dir, clock
        self.learner = Learner(objective, config, device, self.world)
        self.settings = {"trainer": {"args": to_json(config)}} if settings is None else settings
        self._slots = range(self.world.rank, self.world.size * config.batch_split, self.world.size)
        self.store = StateStore(output_dir / CHECKPOINTS, config.keep_last)
        self._reporter = Reporter(config, output_dir, device, self.world)
        self.step = 0
        self.seconds = 0.0
        self.stopped_by: str | None = None
        self._schedule_s = math.inf  # that the schedule is spread over; infinite: it follows the steps
        self._saved_at: int | None = None
        self._watchers: list[Watcher] = []
        self.on_saved: Callable[[], None] | None = None  # called by the first process after every saved state
        output_dir.mkdir(parents=True, exist_ok=True)

    @property
    def objective(self) -> Objective:
        """What is trained."""
        return self.learner.objective

    @property
    def precision(self) -> str:
        """What networks compute in: a mode of `LoopConfig`, or "float32"."""
        return self.learner.fp16_mode or "float32"

    @property
    def ema(self) -> dict[str, Tensor]:
        """The first average of the trained weights, by their names."""
        return self.learner.named(self.learner.averages.tensors[0])

    def watch(self, watcher: Watcher) -> None:
        """Have somebody look at the networks at the start, now and then, and at the end."""
        self._watchers.append(watcher)

    # ---- state

    def save(self) -> None:
        """Write the state, unless this one is written; a kill never leaves a broken one.

        Raises:
            OSError: the disk refuses; earlier states are as they were.
        """
        if self._saved_at != self.step:
            progress = TrainingProgress(self.step, self.seconds, self._reporter.means)
            save(self.store, self.learner, progress, self.settings, self.world)
            self._saved_at = self.step
            if self.on_saved is not None and self.world.is_first:
                self.on_saved()

    def resume(self, folder: Path | None = None, step: int | None = None) -> bool:
        """Go on from a saved state, if there is one; True when there was.

        Args:
            folder: output of the run that saved it; None: of this one.
            step: of the state; None: the latest that is whole.

        Raises:
            StateError: it is missing, damaged, of other settings or of other networks; nothing was changed.
        """
        store = self.store if folder is None else StateStore(folder / CHECKPOINTS)
        with self.world.watched():
            saved = self._read(store, step)
            if saved is None:
                return False
            progress = restore(saved, self.learner, self.settings, self.world)
            self.learner.check_equal()
        self.step, self.seconds = progress.step, progress.seconds
        self._reporter.means = progress.means
        if store.folder == self.store.folder:
            self._saved_at = self.step
            if step is not None and self.world.is_first:
                store.point_to(step)  # later states belong to what is given up now
        self._reporter.tell("resumed %s at step %d", saved.path, self.step)
        if (before := slots_of(saved)) != (now := self.world.size * self.config.batch_split):
            self._reporter.tell(
                "a step has %d slots (processes times batch_split) and had %d: samples come in another order",
                now,
                before,
            )
        return True

    def _read(self, store: StateStore, step: int | None) -> SavedState | None:
        """The state to go on from: the first process chooses it and checks its files."""
        saved, error = None, None
        if self.world.is_first:
            try:
                saved = store.read_latest() if step is None else store.read(step)
            except StateError as refused:
                error = refused
        chosen, told = self.world.from_first((saved and saved.step, error and str(error)))
        if told is not None:
            raise error or StateError(told)
        return saved if saved is not None or chosen is None else store.read(chosen, verify=False)

    def averaged_networks(self) -> dict[str, nn.Module]:
        """The networks of the objective with their averaged weights (in place: call at the end of a run).

        All processes must call this together.
        """
        self.learner.take_averages()
        return self.objective.networks

    # ---- loop

    def run(self, time_limit_s: float = math.inf, anneal: bool = False) -> bool:
        """Train until ``max_steps``, until ``time_limit_s`` seconds have passed or a signal comes; then save.

        A step that is broken off by the limit or a signal does not count.

        Args:
            time_limit_s: wall-clock seconds of this call; with ``anneal`` of all calls of the run together.
            anneal: spread the learning-rate schedule over the time limit instead of over max_steps, to finish
                within a fixed time on hardware of unknown speed; a resumed run goes on where it was.

        Returns:
            True when max_steps is reached.

        Raises:
            ValueError: anneal without a time limit.
            RankLost: another process ended.
            OSError: the disk refuses.
        """
        if anneal and not math.isfinite(time_limit_s):
            raise ValueError("Trainer.run: anneal needs a finite time_limit_s to spread the schedule over")
        self._schedule_s = time_limit_s if anneal else math.inf
        limit_s = max(0.0, time_limit_s - self.seconds) if anneal else time_limit_s
        is_alone = self.world.size == 1
        with self.world.watched(), Interruption(limit_s, is_alone) as self._interruption:
            self.learner.check_equal()
            self._reporter.start(self.step, self.seconds, limit_s)
            try:
                self._look(self._watchers, f"resume_step{self.step:07d}" if self.step else "init")
                self._run_steps(limit_s)
                self.save()
                if self.stopped_by in (None, TIME_LIMIT):
                    self._look(self._watchers, "final")
            finally:
                self._reporter.close()
        return self.step >= self.config.max_steps

    def _run_steps(self, limit_s: float) -> None:
        self._start, before = self._clock(), self.seconds
        count = self.world.size * self.config.batch_split
        batches = Prefetcher(self.source, self.device, count, self.config.prefetch_data)
        wait = DataWait(self.device, self._clock)
        self.learner.train_mode()
        self.stopped_by = None
        _, passed, wish = self._meet(())
        while self.step < self.config.max_steps:
            if wish is not None or passed >= limit_s:
                self.stopped_by = wish or TIME_LIMIT
                return
            try:
                passes = self._passes(batches, wait)
            except StepBrokenOff:
                self.stopped_by = self._interruption.reason
                return
            logs = self._finish_step(batches, passes)
            names, passed, wish = self._meet([name for logs in passes for name in logs])
            means = self._mean_logs(passes, names)
            self.learner.end_step(means, logs["skipped"])
            self.step += 1
            self.seconds = before + passed
            self._report({**means, **logs}, wait)
            self._after_step()

    def _meet(self, names: Sequence[str]) -> tuple[list[str], float, str | None]:
        """What all processes agree on after a step.

        Args:
            names: of what this one logs.

        Returns:
            Names of what any logs, seconds of this call, and who wished to stop.
        """
        met = self.world.gather(
            (tuple(dict.fromkeys(names)), self._clock() - self._start, self._interruption.reason)
        )
        wishes = [wish for _, _, wish in met if wish is not None]
        return (
            list(dict.fromkeys(name for names, _, _ in met for name in names)),
            met[0][1],
            wishes[0] if wishes else None,
        )

    def _passes(self, batches: Prefetcher, wait: DataWait) -> list[Logs]:
        """The passes of this process in a step; on a GPU they are queued without waiting for it.

        Returns:
            What each logs.

        Raises:
            StepBrokenOff: broken off before anything of the state was changed.
        """
        seed, logs = self.config.seed * 1_000_003 + self.step, []
        with self._interruption.breakable():
            self.learner.start_step()
            decisions = self.objective.decide(torch.Generator().manual_seed(seed))
            for slot in self._slots:
                with wait.waiting():
                    batch = batches.get(self.step, slot)
                slot_seed, is_last = (seed + slot * _SLOT_SEED) % 2**63, slot == self._slots[-1]
                logs.append(self.learner.add_gradients(batch, slot_seed, decisions, is_last))
                wait.pass_queued()
                if not is_last:
                    batches.prepare(self.step, slot + self.world.size)
        return logs

    def _finish_step(self, batches: Prefetcher, passes: Sequence[Logs]) -> Logs:
        """The step of the optimiser; the next batch is made while a GPU still works on this step."""
        if math.isfinite(self._schedule_s):
            progress = self.seconds / self._schedule_s
        else:
            progress = self.step / self.config.max_steps
        logs = self.learner.finish_step(self.step, progress)
        if self.step + 1 < self.config.max_steps:
            batches.prepare(self.step + 1, self._slots[0])
        return logs

    def _mean_logs(self, passes: Sequence[Logs], names: Sequence[str]) -> Logs:
        """Means over all passes of all processes, of those that say something: the same on all."""
        if self.world.size == len(passes) == 1:
            return passes[0]
        missing = torch.full((), math.nan, device=self.device)
        values = torch.stack(
            [torch.stack([logs.get(n, missing).float() for n in names]) for logs in passes]
        )  # (passes, names)
        known = ~torch.isnan(values)
        sums = torch.stack([torch.where(known, values, 0.0).sum(0), known.sum(0).float()])
        sums, counts = self.world.sum_(sums)
        return dict(zip(names, (sums / counts).unbind(), strict=True))

    def _report(self, logs: Logs, wait: DataWait) -> None:
        if self._reporter.after_step(self.step, self.seconds, logs):
            more = self.learner.statistics() if self.config.log_param_stats else {}
            self._reporter.write(self.step, self.seconds, wait, more)

    def _after_step(self) -> None:
        if self.step % self.config.i_ddpcheck == 0:
            self.learner.check_equal()
        if self.step % self.config.i_save == 0:
            self.save()
        if self.step < self.config.max_steps:
            due = [watcher for watcher in self._watchers if self.step % watcher.every == 0]
            self._look(due, f"step{self.step:07d}")

    # ---- looking

    def _look(self, watchers: Sequence[Watcher], suffix: str) -> None:
        """Show watchers the averaged networks, log what they find, and keep the best state."""
        if not watchers:
            return
        with kept_generators(self.device):
            told = self.learner.with_averages(lambda: [watcher(self.step, suffix) for watcher in watchers])
        numbers = {name: value for part in told for name, value in part.items()}
        if suffix.startswith("resume"):
            return
        self._reporter.looked(self.step, self.seconds, numbers)
        best = self.store.best()
        value = self.world.from_first(numbers.get(VALIDATION))
        if self.step and value is not None and self.world.from_first(best is None or value < best[1]):
            self.save()
            if self.world.is_first:
                self.store.mark_best(self.step, value)
