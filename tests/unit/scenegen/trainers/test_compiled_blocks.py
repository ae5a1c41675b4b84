"""Blocks as compiled graphs that compute their activations again."""

import logging
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from scenegen.trainers.compiled_blocks import compile_blocks
from tests.unit.scenegen.models.test_scene_flow import inputs, make, run
from tests.unit.scenegen.trainers.objectives.drawn_batch import drawn_batch
from tests.unit.scenegen.trainers.test_elastic import decoder
from trellis_modules.sparse import SparseTensor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Compiles to graphs of PyTorch's own operations, which takes no time, and keeps the graphs."""
    backend = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return backend


def gradients(network, compute):
    network.zero_grad()
    compute().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_graphs_of_the_scene_flow_hold_their_recomputation(compiled):
    network, arguments = make(share_mod=True, use_checkpoint=True).train(), inputs(4)

    def compute():
        return sum(tensor.square().mean() for tensor in run(network, *arguments, scene_size=2).values())

    expected = gradients(network, compute)
    compile_blocks(torch.nn.ModuleDict({"flow": network}), CPU, is_spread=False, recomputes=False)
    torch.testing.assert_close(gradients(network, compute), expected)
    (graph,) = compiled.graphs  # of all blocks
    assert [node for node in graph.graph.nodes if "checkpoint" in str(node.target)]


def test_sparse_blocks_are_recomputed_as_before():
    network, batch = decoder(), drawn_batch(8)
    network.recomputed_blocks = 3

    def compute():
        return network.features(SparseTensor(batch.feats, batch.coords)).feats.square().sum()

    expected = gradients(network, compute)
    compile_blocks(torch.nn.ModuleDict({"decoder": network}), CPU, is_spread=False, recomputes=True)
    torch.testing.assert_close(gradients(network, compute), expected)


@pytest.mark.parametrize("recomputes", [False, True])
def test_spread_blocks_are_compiled_where_nothing_is_recomputed(recomputes, caplog):
    network = make(use_checkpoint=recomputes)
    with caplog.at_level(logging.INFO):
        compile_blocks(torch.nn.ModuleDict({"flow": network}), CPU, is_spread=True, recomputes=False)
    assert (network.blocks[0]._compiled_call_impl is None) == recomputes
    assert ("trainer.compile changes nothing" in caplog.text) == recomputes
