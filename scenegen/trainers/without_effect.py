"""Settings of an experiment that are known and change nothing, so that nobody waits for their effect."""

from __future__ import annotations

from collections.abc import Iterator

from scenegen.trainers.data import DATA
from scenegen.trainers.elastic import ELASTIC
from scenegen.trainers.experiment import Experiment

_COLLISION = ("collision_smooth_scale", "collision_loss_weight", "collision_resolution")


def without_effect(experiment: Experiment) -> list[str]:
    """One line for each setting that the experiment gives and that changes nothing, with the reason."""
    return [f"{setting} changes nothing: {reason}" for setting, reason in _settings(experiment)]


def _settings(experiment: Experiment) -> Iterator[tuple[str, str]]:
    for name, reason in (*_of_loop(experiment), *_of_trainer(experiment)):
        if name in experiment.given:
            yield f"trainer.{name}", reason
    for role, model in experiment.models.items():
        if model.args.get("use_fp16") and experiment.loop.fp16_mode != "inflat_all":
            yield f"models.{role}.use_fp16", "only fp16_mode inflat_all keeps weights in 16 bits"
        if not model.args.get("use_global", True):
            for name in ("trunk_depth", "num_iteration"):
                if name in model.args:
                    yield f"models.{role}.{name}", "without use_global there is no position head"


def _of_loop(experiment: Experiment) -> Iterator[tuple[str, str]]:
    loop, dataset = experiment.loop, experiment.dataset.name
    if dataset in DATA and not DATA[dataset].takes_data:
        for name in ("batch_size", "batch_size_per_gpu"):
            yield name, f"batches of {dataset} have the size that its own arguments say"
    elif loop.batch_size_per_gpu is not None:
        yield "batch_size", "batch_size_per_gpu is given too"
    if loop.unfreeze_weights is not None:
        yield "freeze_weights", "unfreeze_weights is given too, which freezes all the rest"
    if not loop.finetune_ckpt:
        yield "init_global_params", "no finetune_ckpt is given"
    if loop.elastic is not None and not any(
        model.name.startswith(ELASTIC) for model in experiment.models.values()
    ):
        yield "elastic", f"no network has a name that begins with {ELASTIC}"
    if loop.fp16_mode != "inflat_all":
        yield "fp16_scale_growth", "only fp16_mode inflat_all scales the loss"


def _of_trainer(experiment: Experiment) -> Iterator[tuple[str, str]]:
    settings = experiment.settings
    if not getattr(settings, "use_collision_loss", True):
        for name in _COLLISION:
            yield name, "use_collision_loss is false"
        if not getattr(settings, "overlap_weight", 0):
            for name in ("pretrained_ss_dec", "ss_dec_path", "ss_dec_ckpt"):
                yield name, "use_collision_loss is false and overlap_weight is 0: no decoder is needed"
