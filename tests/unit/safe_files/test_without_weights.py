"""Networks that wait for the weights of a file: nothing is drawn, and no compiler is loaded for it."""

import subprocess
import sys

import torch
from torch import nn

from safe_files.weights import without_weights


def test_networks_are_built_without_memory_and_have_their_shapes():
    with without_weights():
        network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 2, 3), nn.Embedding(5, 6))
        nn.init.trunc_normal_(network[0].weight, std=0.02)
        nn.init.normal_(tensor=network[0].bias)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    assert network[0].weight.shape == (4, 3) and network[3].weight.requires_grad


def test_afterwards_weights_are_drawn_again():
    with without_weights():
        nn.Linear(2, 2)
    torch.manual_seed(0)
    first = nn.Linear(2, 2).weight
    assert first.device.type == "cpu" and not torch.equal(first, nn.Linear(2, 2).weight)


def test_loading_the_small_model_loads_no_compiler():
    code = (
        "import sys; from scenegen.pipelines.pipeline import SceneGenPipeline; "
        "SceneGenPipeline.from_pretrained('checkpoints/scenegen-small', 'cpu'); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
