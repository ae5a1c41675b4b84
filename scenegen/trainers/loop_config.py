"""What the training loop is told: the part of ``trainer.args`` that every trainer shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trellis_modules.config import MAX_SEED, NamedConfig, check_range

PRECISIONS = ("inflat_all", "amp", "bfloat16", None)
PARALLEL = ("ddp", "fsdp2")


@dataclass(frozen=True)
class ParameterGroup:
    """Settings of the parameters whose name a regular expression finds; the first fitting group counts."""

    regex: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerConfig:
    """A class of ``torch.optim``, its arguments, and groups of parameters with arguments of their own."""

    name: str = "AdamW"
    args: Mapping[str, Any] = field(default_factory=dict)
    param_groups: tuple[ParameterGroup, ...] = ()


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop, with the names and defaults of published configurations; times are in steps.

    Attributes:
        batch_size: of all processes together; ``batch_size_per_gpu`` counts where both are given.
        batch_split: passes over which gradients are accumulated.
        ema_warmup: averages follow the weights closely at first, see `scenegen.trainers.ema`.
        fp16_mode: "inflat_all", "amp", "bfloat16" (autocast) or None, float32.
        grad_clip: largest norm of the gradients, or ``AdaptiveGradClipper`` with its arguments.
        finetune_ckpt: model -> stem of a checkpoint, or stems in order of their importance, that a run
            without saved state starts from.
        widen_inputs: give zeros to inputs of linear maps that ``finetune_ckpt`` lacks, the last ones.
        init_global_params: let scene attention that ``finetune_ckpt`` lacks start as the objects' own.
        peft_ckpt_path: an adapter (LoRA) that is merged into the network it was made for.
        freeze_weights, unfreeze_weights: regular expressions of parameter names.
        parallel: how several processes share a model, "ddp" or "fsdp2".
        cuda_graphs: record forward and backward passes; the loss must not wait for the GPU.
        keep_last: saved states that are kept; None keeps all.
        validate_every: steps between measurements on the validation part of the data; 0 for none.
    """

    max_steps: int
    batch_size: int | None = None
    batch_size_per_gpu: int | None = None
    batch_split: int = 1
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scheduler: NamedConfig | None = None
    elastic: NamedConfig | None = None
    ema_rate: float | tuple[float, ...] = 0.9999
    ema_warmup: bool = False
    fp16_mode: str | None = "inflat_all"
    fp16_scale_growth: float = 1e-3
    grad_clip: float | NamedConfig | None = None
    finetune_ckpt: Mapping[str, str | tuple[str, ...]] | None = None
    widen_inputs: bool = False
    init_global_params: bool = True
    peft_ckpt_path: str | None = None
    freeze_weights: tuple[str, ...] | None = None
    unfreeze_weights: tuple[str, ...] | None = None
    i_print: int = 1000
    i_log: int = 500
    i_sample: int = 10000
    i_save: int = 10000
    i_ddpcheck: int = 10000
    log_param_stats: bool = False
    prefetch_data: bool = True
    parallel: str = "ddp"
    compile: bool = False
    cuda_graphs: bool = False
    keep_last: int | None = 3
    validate_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_split", "i_print", "i_log", "i_sample", "i_save", "i_ddpcheck"):
            check_range(f"trainer.{name}", getattr(self, name), 1)
        check_range("trainer.seed", self.seed, 0, MAX_SEED)
        for rate in self.ema_rates:
            check_range("trainer.ema_rate", rate, 0, 1)
        if isinstance(self.grad_clip, int | float):
            check_range("trainer.grad_clip", self.grad_clip, 0)
        if self.keep_last is not None:
            check_range("trainer.keep_last", self.keep_last, 1)
        if self.parallel not in PARALLEL:
            raise ValueError(f"trainer.parallel: expected one of {PARALLEL}, got {self.parallel!r}")
        if self.parallel == "fsdp2" and self.fp16_mode not in ("bfloat16", None):
            raise ValueError(
                "trainer.fp16_mode: expected bfloat16 or null with parallel fsdp2, which spreads "
                f"float32 weights over processes, got {self.fp16_mode!r}"
            )
        if self.fp16_mode not in PRECISIONS:
            raise ValueError(f"trainer.fp16_mode: expected one of {PRECISIONS}, got {self.fp16_mode!r}")

    @property
    def ema_rates(self) -> tuple[float, ...]:
        """The rates of all averages."""
        return self.ema_rate if isinstance(self.ema_rate, tuple) else (self.ema_rate,)
