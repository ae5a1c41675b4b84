"""Precisions: which tensors the optimiser sees, how the loss is scaled, what becomes of broken gradients."""

import pytest
import torch
from torch import nn

from scenegen.models.registry import build_model
from scenegen.trainers.loop_config import OptimizerConfig, ParameterGroup
from scenegen.trainers.optimizers import build_optimizer, trained_groups
from scenegen.trainers.precision import FlatPrecision, Precision, build_precision, prepare_networks
from tests.toy_training import BlockRegression, Source, loop_config, records, toy_trainer
from trellis_modules.config import NamedConfig

CPU = torch.device("cpu")
FLOW = {
    "resolution": 2, "in_channels": 2, "out_channels": 2, "model_channels": 8, "cond_channels": 4,
    "num_blocks": 2, "num_heads": 2, "patch_size": 1, "use_fp16": True,
}  # fmt: skip


def flow(**changes) -> nn.Module:
    torch.manual_seed(0)
    named = NamedConfig("SparseStructureFlowModel", {**FLOW, **changes})
    network = build_model(named, "flow").train()
    nn.init.normal_(network.out_layer.weight, std=0.1)
    return network


def flow_loss(network: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, cond = torch.randn(3, 2, 2, 2, 2, generator=generator), torch.randn(3, 5, 4, generator=generator)
    return network(x, torch.tensor([100.0, 500.0, 900.0]), cond).velocity.float().pow(2).mean()


def made(fp16_mode: str | None, network: nn.Module, regexes: tuple[str, ...] = (), growth: float = 0.005):
    config = OptimizerConfig("AdamW", {"lr": 1e-3}, tuple(ParameterGroup(regex) for regex in regexes))
    prepare_networks([network], fp16_mode)
    groups = trained_groups(network.named_parameters(), config)
    precision = build_precision(fp16_mode, groups, CPU, growth)
    return precision, build_optimizer(config, groups, precision.masters)


def step(precision: Precision, optimizer: torch.optim.Optimizer, network: nn.Module, spoil: bool = False):
    network.zero_grad(set_to_none=True)
    with precision.autocast():
        loss = flow_loss(network)
    precision.scaled(loss * (float("inf") if spoil else 1.0)).backward()
    gradients = precision.collect(optimizer)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    precision.step(optimizer, (~torch.isfinite(norm)).float())
    return loss.detach(), [gradient.clone() for gradient in gradients]


def test_flat_masters_are_one_float32_tensor_a_group():
    network = flow()
    network.input_layer.bias.requires_grad_(False)
    precision, optimizer = made("inflat_all", network, (r"blocks\.0", r"attn"))
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [len(group) for group in precision.masters] == [1, 1, 1]
    assert all(master.dtype == torch.float32 and master.ndim == 1 for master in precision.flat_masters)
    assert sum(master.numel() for master in precision.flat_masters) == sum(
        p.numel() for p in trained.values()
    )
    assert {network.blocks[0].mlp.mlp[0].weight.dtype, network.out_layer.weight.dtype} == {
        torch.float16,
        torch.float32,
    }
    named = precision.named(precision.flat_masters)
    assert named.keys() == trained.keys()
    for name, parameter in trained.items():
        assert torch.equal(named[name], parameter.float()), name
    assert optimizer.param_groups[0]["params"] == precision.masters[0]


def test_flat_gradients_are_those_of_float32_and_weights_follow_their_masters():
    network, plain = flow(), flow(use_fp16=False)
    plain.load_state_dict(network.state_dict())
    precision, optimizer = made("inflat_all", network)
    reference, reference_optimizer = made(None, plain)
    _, (gradient,) = step(precision, optimizer, network)
    _, expected = step(reference, reference_optimizer, plain)
    torch.testing.assert_close(gradient, torch.cat([g.flatten() for g in expected]), rtol=0.02, atol=2e-4)
    for name, master in precision.named(precision.flat_masters).items():
        assert torch.equal(network.get_parameter(name), master.to(network.get_parameter(name).dtype)), name


def test_the_loss_scale_of_flat_masters_grows_falls_and_starts_again():
    network = flow()
    precision, optimizer = made("inflat_all", network)
    assert precision.state_dict() == {"log_scale": 20.0}
    step(precision, optimizer, network)
    assert precision.state_dict()["log_scale"] == 20.005
    before = [master.clone() for master in precision.flat_masters]
    step(precision, optimizer, network, spoil=True)
    assert precision.state_dict()["log_scale"] == pytest.approx(19.005)
    assert all(torch.equal(old, new) for old, new in zip(before, precision.flat_masters, strict=True))
    precision.load_state_dict({"log_scale": 0.5})
    step(precision, optimizer, network, spoil=True)
    assert precision.state_dict() == {"log_scale": 10.0}


def test_parameters_without_gradient_do_not_shift_the_others():
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "unused": nn.Linear(3, 3), "b": nn.Linear(2, 1)})
    groups = trained_groups(network.named_parameters(), OptimizerConfig())
    precision = FlatPrecision(groups, CPU, 0.0)
    optimizer = build_optimizer(OptimizerConfig("AdamW", {"lr": 0.1}), groups, precision.masters)
    for _ in range(2):
        network.zero_grad(set_to_none=True)
        precision.scaled(network["b"](network["a"](torch.ones(1, 2))).sum()).backward()
        (gradient,) = precision.collect(optimizer)
        for name, part in precision.named([gradient]).items():
            expected = network.get_parameter(name).grad
            expected = torch.zeros_like(part) if expected is None else expected / 2**20
            torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("mode", [None, "bfloat16", "amp"])
def test_weights_that_the_optimiser_changes_itself_are_float32(mode):
    network = flow()
    precision, _ = made(mode, network)
    assert {p.dtype for p in network.parameters()} == {torch.float32} and network.torso_dtype == torch.float32
    assert precision.flat_masters[0] is next(network.parameters())


def test_autocast_computes_in_16_bits_and_gives_nearly_the_gradients_of_float32():
    _, expected = step(*made(None, plain := flow(use_fp16=False)), plain)
    for mode in ("bfloat16", "amp"):
        network = flow(use_fp16=False)
        precision, optimizer = made(mode, network)
        with precision.autocast():
            hidden = network.blocks[0].mlp(torch.zeros(1, 8))
        assert hidden.dtype == (torch.bfloat16 if mode == "bfloat16" else torch.float16)
        _, gradients = step(precision, optimizer, network)
        for gradient, reference in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=0.1, atol=0.02)


def test_the_scale_of_amp_halves_with_a_broken_step_that_changes_nothing():
    network = flow()
    precision, optimizer = made("amp", network)
    scale, before = float(precision.logs()["scale"]), network.out_layer.weight.clone()
    step(precision, optimizer, network, spoil=True)
    assert float(precision.logs()["scale"]) == scale / 2 and torch.equal(before, network.out_layer.weight)
    state = precision.state_dict()
    other, _ = made("amp", flow())
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_a_network_without_a_trained_parameter_keeps_its_precision():
    network = flow().requires_grad_(False)
    prepare_networks([network], None)
    assert network.torso_dtype == torch.float16


@pytest.mark.parametrize("mode", [None, "amp", "inflat_all"])
def test_broken_steps_are_counted_and_training_goes_on(tmp_path, mode):
    trainer = toy_trainer(
        tmp_path, Source(bad_step=1), objective=BlockRegression(), max_steps=8, fp16_mode=mode
    )
    trainer.run()
    logged = records(tmp_path)
    assert logged[1]["skipped"] == 1 and logged[1]["loss"] is None and logged[-1]["skipped"] == 0
    assert torch.isfinite(trainer.objective.mean_loss)  # what the objective keeps
    assert all(torch.isfinite(value).all() for value in trainer.ema.values())


def test_an_objective_of_frozen_networks_is_refused(tmp_path):
    objective = BlockRegression().requires_grad_(False)
    with pytest.raises(ValueError, match="expected a parameter that is trained, every one is frozen"):
        toy_trainer(tmp_path, objective=objective)


@pytest.mark.parametrize("mode", ["amp", "inflat_all"])
def test_spread_weights_are_refused_where_masters_are_not_the_weights(mode):
    with pytest.raises(ValueError, match="expected bfloat16 or null with parallel fsdp2"):
        loop_config(fp16_mode=mode, parallel="fsdp2")
