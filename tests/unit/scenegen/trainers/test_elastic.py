"""How many blocks are computed again follows the memory that batches take."""

import pytest
import torch

from scenegen.trainers.elastic import (
    ElasticMemory,
    LinearMemoryController,
    build_elastic,
    elastic_networks,
    keep_share,
)
from tests.unit.scenegen.trainers.objectives.drawn_batch import drawn_batch
from trellis_modules.config import ConfigError, NamedConfig
from trellis_modules.models import build_model
from trellis_modules.sparse import SparseTensor

SIZES = {
    "resolution": 8, "model_channels": 32, "latent_channels": 3, "num_blocks": 4, "num_heads": 2,
    "window_size": 4, "representation_config": {"rank": 2, "dim": 4},
}  # fmt: skip


def decoder(name: str = "ElasticSLatRadianceFieldDecoder") -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_model({"name": name, "args": SIZES})
    torch.nn.init.normal_(network.out_layer.weight, std=0.1)
    return network.train()


def test_the_fit_finds_what_memory_follows():
    controller = LinearMemoryController(update_every=50, target_ratio=0.5, max_mem_ratio_start=1.0)
    for number in range(50):
        size = 1000.0 + 10 * number
        controller.observe(size, 0.004 * size + 2)
    assert controller.params == pytest.approx((0.004, 2.0))
    # half of 80 GiB: 38 of them for activations, at 0.004 GiB a voxel for all blocks
    assert controller.ratio(19_000, 80, 0.3) == pytest.approx(0.5)
    assert controller.ratio(10, 80, 0.3) == 1
    assert controller.ratio(10**9, 80, 0.3) == pytest.approx(0, abs=1e-4)


def test_ratios_are_drawn_below_a_growing_limit_until_sizes_differ():
    controller = LinearMemoryController(update_every=2, max_mem_ratio_start=0.2)
    assert controller.ratio(100, 80, 0.5) == pytest.approx(0.1)
    for _ in range(2):
        controller.observe(100.0, 3.0)  # one size alone tells no slope
    assert controller.params == (0, 0)
    assert controller.ratio(100, 80, 0.5) == pytest.approx(0.15)


def test_old_passes_leave_the_fit():
    controller = LinearMemoryController(buffer_size=10, update_every=10)
    for number in range(10):
        controller.observe(float(number), 5.0 * number)
    for number in range(10):
        controller.observe(float(number), 1.0 * number)
    assert controller.params == pytest.approx((1.0, 0.0), abs=1e-9)


def test_a_saved_state_goes_on():
    first, second = LinearMemoryController(update_every=3), LinearMemoryController()
    for number in range(3):
        first.observe(float(number), 2.0 * number + 1)
    second.load_state_dict(first.state_dict())
    assert second.params == first.params and second.max_ratio == first.max_ratio


@pytest.mark.parametrize(("ratio", "blocks", "share"), [(1.0, 1, 1.0), (0.5, 3, 0.5), (0.1, 4, 0.25)])
def test_ratios_become_whole_blocks(ratio, blocks, share):
    network = decoder()
    assert keep_share([network], ratio) == share
    assert network.recomputed_blocks == blocks


def test_blocks_that_are_computed_again_change_no_gradient():
    batch = drawn_batch(8)
    gradients = []
    for blocks in (0, 3):
        network = decoder()
        network.recomputed_blocks = blocks
        calls = []
        network.blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        network.features(SparseTensor(batch.feats, batch.coords)).feats.square().sum().backward()
        assert len(calls) == (2 if blocks else 1)
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_only_networks_of_elastic_names_are_controlled():
    objective = torch.nn.ModuleDict({"a": decoder(), "b": decoder("SLatRadianceFieldDecoder")})
    assert elastic_networks(objective) == [objective["a"]]
    config = NamedConfig("LinearMemoryController", {"target_ratio": 0.75})
    assert build_elastic(config, objective, torch.device("cpu")).controller.target_ratio == 0.75
    plain = torch.nn.ModuleDict({"b": objective["b"]})
    assert build_elastic(config, plain, torch.device("cpu")) is None
    assert build_elastic(None, objective, torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("Guess", {}, "trainer.elastic: .*Guess"),
        ("LinearMemoryController", {"ratio": 1}, "unknown key 'ratio'"),
        ("LinearMemoryController", {"target_ratio": 2}, "target_ratio: expected"),
    ],
)
def test_wrong_settings_are_refused(name, args, message):
    objective = torch.nn.ModuleDict({"a": decoder()})
    with pytest.raises(ConfigError, match=message):
        build_elastic(NamedConfig(name, args), objective, torch.device("cpu"))


def test_on_a_cpu_everything_is_kept():
    network = decoder()
    memory = ElasticMemory([network], LinearMemoryController(), torch.device("cpu"))
    with memory.watch(drawn_batch(8), 0):
        assert network.recomputed_blocks == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_tells_what_passes_take():
    device, batch = torch.device("cuda"), drawn_batch(8).to(torch.device("cuda"))
    network = decoder().to(device)
    memory = ElasticMemory([network], LinearMemoryController(update_every=1), device)
    with memory.watch(batch, 0):
        assert network.recomputed_blocks >= 1
        network.features(SparseTensor(batch.feats, batch.coords)).feats.sum().backward()
    assert memory.controller._seen[0, 1] > 0
