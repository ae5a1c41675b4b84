"""The plain flow transformer: context, checkpointing, initial state, refusals."""

from __future__ import annotations

import pytest
import torch

from tests.parity.fill_weights import fill_module
from trellis_modules.config import ConfigError
from trellis_modules.models import SparseStructureFlowConfig, SparseStructureFlowModel, build_model

SIZES = {
    "resolution": 4,
    "in_channels": 2,
    "out_channels": 3,
    "model_channels": 16,
    "cond_channels": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "patch_size": 2,
    "qk_rms_norm": True,
}


def make(**changes) -> SparseStructureFlowModel:
    return fill_module(SparseStructureFlowModel(SparseStructureFlowConfig(**{**SIZES, **changes})))


def inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, 2, 4, 4, 4, generator=generator),
        torch.rand(batch, generator=generator) * 1000,
        torch.randn(batch, 7, 12, generator=generator),
    )


def test_batch_elements_do_not_see_each_other() -> None:
    model = make()
    x, t, cond = inputs(3)
    together = model(x, t, cond).velocity
    assert together.shape == (3, 3, 4, 4, 4)
    torch.testing.assert_close(together[1:2], model(x[1:2], t[1:2], cond[1:2]).velocity)


def test_prepared_context_gives_the_same_numbers() -> None:
    model = make(qk_rms_norm_cross=True)
    x, t, cond = inputs(2)
    prepared = model.precompute_context(cond)
    assert torch.equal(model(x, t, prepared).velocity, model(x, t, cond).velocity)


@pytest.mark.parametrize("share_mod", [False, True])
def test_prepared_times_stand_for_equal_times_of_all_objects(share_mod: bool) -> None:
    model = make(share_mod=share_mod)
    x, times, cond = inputs(3)
    for t, prepared in zip(times, model.precompute_times(times), strict=True):
        torch.testing.assert_close(model(x, prepared, cond).velocity, model(x, t.expand(3), cond).velocity)


@pytest.mark.parametrize("share_mod", [False, True])
def test_gradient_reaches_every_parameter_with_and_without_recomputation(share_mod: bool) -> None:
    x, t, cond = inputs(2)
    gradients = []
    for use_checkpoint in (False, True):
        model = make(share_mod=share_mod, use_checkpoint=use_checkpoint).train()
        model(x, t, cond).velocity.square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(g is not None and g.any() for g in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_fresh_model_predicts_zero_velocity() -> None:
    model = SparseStructureFlowModel(SparseStructureFlowConfig(**SIZES))
    assert not model(*inputs(1)).velocity.any()


def test_wrong_shapes_are_refused() -> None:
    model = make()
    x, t, cond = inputs(1)
    with pytest.raises(ValueError, match=r"x must be \(B, 2, 4, 4, 4\), got \(1, 2, 4, 4, 3\)"):
        model(x[..., :3], t, cond)
    with pytest.raises(ValueError, match=r"cond must be \(B, L, 12\), got \(1, 7, 11\)"):
        model(x, t, cond[..., :11])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"patch_size": 3}, "flow.json: resolution 4 must be divisible by patch_size 3"),
        ({"num_heads": 3}, "flow.json: model_channels 16 must be divisible by num_heads 3"),
        ({"pe_mode": "rope"}, r"flow.json: pe_mode: expected one of \['ape'\], got 'rope'"),
        ({"use_global": True}, "flow.json: unknown key 'use_global'"),
    ],
)
def test_bad_configuration_is_named(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model({"name": "SparseStructureFlowModel", "args": {**SIZES, **change}}, "flow.json")
