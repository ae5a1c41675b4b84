"""Families of the object-level and scene networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scenegen.models import PositionHead
from scenegen.models.registry import build_model
from tests.parity.golden import GoldenCase, family
from trellis_modules.transformer import TimestepEmbedder, timestep_embedding

# The reference splits the context at a constant: 1 class, 4 register and 37 x 37 patch tokens (518 pixels).
REFERENCE_OBJECT_TOKENS = 1374

NUM_CAPTURED_TOKENS = 16


def _build(case: GoldenCase) -> nn.Module:
    named = {"name": case.meta["class"], "args": case.config}
    return case.fill(build_model(named, case.name)).eval()


def _gradients(case: GoldenCase, module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of the loss for the parameters the case stores."""
    parameters = dict(module.named_parameters())
    names = [name.removeprefix("grad.") for name in case.tensors if name.startswith("grad.")]
    if not names:
        return {}
    gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
    return {f"grad.{name}": gradient for name, gradient in zip(names, gradients)}


@family("TimestepEmbedder")
def timestep_embedder(case: GoldenCase) -> dict[str, Tensor]:
    t = case.tensors["t"]
    module = case.fill(TimestepEmbedder(**case.config))
    widths = {
        name: int(name.removeprefix("sinusoid")) for name in case.tensors if name.startswith("sinusoid")
    }
    sinusoids = {name: timestep_embedding(t, width) for name, width in widths.items()}
    return {"t": t, "out": module(t), **sinusoids}


@family("PositionHead")
def position_head(case: GoldenCase) -> dict[str, Tensor]:
    module = case.fill(PositionHead(**case.config))
    token, iterations = case.input("position_token"), case.input("num_iteration")
    is_query = torch.arange(len(token)) == 0
    return {
        "train": module.train()(token, is_query, iterations),
        "train_1iter": module(token, is_query, 1),
        "eval": module.eval()(token, is_query, iterations),
    }


@family("SparseStructureFlowModel")
def sparse_structure_flow(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case)
    x, t, cond = case.input("x"), case.input("t"), case.input("cond")
    arguments = {"num_object_tokens": min(REFERENCE_OBJECT_TOKENS, cond.shape[1])}
    computed: dict[str, Tensor] = {"t": t, "pos_emb": module.pos_emb, "t_embedder.out": module.t_embedder(t)}

    def capture(index: int):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            computed[f"block{index}.out_first16tokens"] = output[:, :NUM_CAPTURED_TOKENS].detach()

        return hook

    hooks = [block.register_forward_hook(capture(i)) for i, block in enumerate(module.blocks)]
    with torch.no_grad():
        evaluated = module(x, t, cond, **arguments)
    for hook in hooks:
        hook.remove()
    computed["velocity"] = evaluated.velocity

    trained = module.train()(x, t, cond, **arguments)
    loss = trained.velocity.square().mean()
    if positions := trained.extras:
        computed["positions_eval"] = evaluated.extras["positions"]
        computed["positions_train"] = positions["positions"]
        computed["velocity_train_minus_eval_maxabs"] = (trained.velocity - evaluated.velocity).abs().max()
        loss = loss + positions["positions"].square().mean()
    return {**computed, "grad_loss": loss, **_gradients(case, module, loss)}


@family("SparseStructureEncoder")
def sparse_structure_encoder(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case)
    posterior = module.posterior(case.input("x"))
    return {**posterior._asdict(), **_gradients(case, module, posterior.z.square().mean())}


@family("SparseStructureDecoder")
def sparse_structure_decoder(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case)
    logits = module(case.input("z"))
    # A logit within tolerance of zero may fall on either side; there the reference's own sign decides.
    expected = case.tensors["logits"]
    undecided = expected.abs() <= case.tolerance("logits")["atol"]
    occupied = torch.where(undecided, expected, logits.detach())[:, 0] > 0
    return {
        "logits": logits,
        "occupied_coords": torch.argwhere(occupied).int(),
        **_gradients(case, module, logits.square().mean()),
    }
