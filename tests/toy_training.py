"""A regression that trains in milliseconds: what the tests of the training loop share."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import Batch
from scenegen.datasets.source import batch_number
from scenegen.geometry import identity_pose
from scenegen.trainers.logs import LOG_FILE
from scenegen.trainers.loop_config import LoopConfig, OptimizerConfig
from scenegen.trainers.objective import Objective
from scenegen.trainers.reporting import MEASURED
from scenegen.trainers.samples import SceneSample
from scenegen.trainers.trainer import Trainer
from trellis_modules.config import NamedConfig


@dataclass(frozen=True)
class Points(Batch):
    x: Tensor  # (B, 4)


class Regression(Objective):
    """Fits a small network to a fixed map; the noise of a step comes from the trainer's generator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, batch, generator):
        x = batch.x
        noise = 0.01 * torch.randn(len(x), 1, generator=generator, device=x.device)
        loss = (self.net(x) - x.sum(1, keepdim=True) + noise).pow(2).mean()
        return loss, {"error": loss.detach()}


class Source:
    def __init__(self, bad_step=None, device="cpu"):
        self.bad_step, self.device = bad_step, device

    def batch(self, step, slot=0, slots=1):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(batch_number(step, slot, slots)))
        x = x.to(self.device)
        return Points(x * torch.inf if step == self.bad_step else x)


class Stopping(Source):
    """Interrupts the run before the batch after ``after`` steps."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def batch(self, step, slot=0, slots=1):
        if step == self.after:
            raise KeyboardInterrupt
        return super().batch(step, slot, slots)


class Clock:
    """Goes on by ``tick_s`` with every batch that is asked for, and stands still otherwise."""

    def __init__(self, tick_s):
        self.tick_s, self.now_s = tick_s, 1000.0

    def __call__(self):
        return self.now_s

    def timed(self, source):
        make = source.batch

        def batch(*place):
            self.now_s += self.tick_s
            return make(*place)

        source.batch = batch
        return source


def loop_config(learning_rate=1e-3, decay_fraction=1.0, groups=(), **options):
    """Settings of short runs, with a warm-up and a cosine."""
    optimizer = OptimizerConfig("AdamW", {"lr": learning_rate, "betas": (0.9, 0.98)}, groups)
    schedule = {"warmup_steps": 2, "decay_fraction": decay_fraction}
    defaults = {
        "max_steps": 20,
        "optimizer": optimizer,
        "lr_scheduler": NamedConfig("WarmupCosineLRScheduler", schedule),
        "ema_rate": 0.999,
        "fp16_mode": None,
        "grad_clip": 1.0,
        "i_log": 1,
        "i_save": 7,
    }
    return LoopConfig(**{**defaults, **options})


def toy_trainer(folder, source=None, clock=None, objective=None, device="cpu", **options):
    """A trainer of the regression, on a CPU unless told; ``options`` are those of `loop_config`."""
    config, objective, device = loop_config(**options), objective or Regression(), torch.device(device)
    source = source or Source(device=device)
    if clock is None:
        return Trainer(objective, source, config, folder, device)
    return Trainer(objective, clock.timed(source), config, folder, device, clock)


def records(folder):
    """What a run logged, without what is measured of it."""
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


class BlockNetwork(nn.Module):
    """A residual network of blocks, as transformers have them, with a layer that some steps do not use."""

    def __init__(self, width=8):
        super().__init__()
        self.stem, self.head, self.rare = nn.Linear(4, width), nn.Linear(width, 1), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.SiLU()) for _ in range(3))
        self.stem.weight.requires_grad_(False)

    def forward(self, x, is_rare=False):
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h) + self.rare(h) if is_rare else self.head(h)


class BlockRegression(Regression):
    """The regression by a network of blocks; what it learns from is told by a frozen helper."""

    places_objects = True

    def __init__(self):
        super().__init__()
        self.net, self.helper = BlockNetwork(), nn.Linear(4, 1).requires_grad_(False)
        self.register_buffer("mean_loss", torch.zeros(()))

    def decide(self, generator):
        return (bool(torch.rand((), generator=generator) < 0.3),)

    def forward(self, batch, generator, is_rare=False):
        noise = 0.01 * torch.randn(len(batch.x), 1, generator=generator, device=batch.x.device)
        error = (self.net(batch.x, is_rare) - self.helper(batch.x) + noise).pow(2)
        loss = error.mean()
        rare = (
            {"rare/error": loss.detach()} if batch.x[0, 0] > 0 else {}
        )  # not every batch has something to say
        return loss * (1 + self.mean_loss), {"error": loss.detach(), **rare}

    def samples(self, batch, generator, params):
        """Places along x that the network tells."""
        true = identity_pose(len(batch.x)).to(batch.x)
        poses = torch.cat([self.net(batch.x), true[:, 1:]], dim=1)
        return (SceneSample(batch.x, batch.x, poses, true),)

    def end_step(self, logs):
        self.mean_loss.copy_(0.9 * self.mean_loss + 0.1 * logs["error"])
