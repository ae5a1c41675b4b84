"""Flows of single objects: what they are shown, what is dropped, and that they learn."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from scenegen.datasets.batch import LatentBatch, SparseLatentBatch
from scenegen.models.registry import build_model
from scenegen.trainers.objectives import conditions as conditions_module
from scenegen.trainers.objectives.asset_flow import DenseFlowObjective, SparseFlowObjective
from scenegen.trainers.objectives.conditions import (
    AssetFlowSettings,
    GuidedFlowSettings,
    ImageFlowSettings,
    TextFlowSettings,
)
from tests.toy_experiments import Words
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import ConfigError, NamedConfig

WIDTH, SIZE, COUNT = 32, 28, 3
DENSE = {"name": "SparseStructureFlowModel", "args": {
    "resolution": 4, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
    "num_blocks": 1, "num_heads": 2, "patch_size": 1}}  # fmt: skip
SPARSE = {"name": "SLatFlowModel", "args": {
    "resolution": 8, "in_channels": 4, "out_channels": 4, "model_channels": WIDTH, "cond_channels": WIDTH,
    "num_blocks": 1, "num_heads": 2, "patch_size": 1, "num_io_res_blocks": 0,
    "io_block_channels": []}}  # fmt: skip
ENCODER = {"name": "VisionTransformer", "args": {
    "img_size": SIZE, "embed_dim": WIDTH, "depth": 1, "num_heads": 2, "num_register_tokens": 4}}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Reference of a toy image encoder."""
    torch.manual_seed(0)
    stem = tmp_path_factory.mktemp("encoder") / "encoder"
    save_checkpoint(build_model(ENCODER), stem)
    return str(stem)


def conditions(kind, generator):
    if kind == "text":
        return {"captions": ("a", "red", "chair")}
    if kind == "tokens":
        return {"cond_tokens": torch.randn(COUNT, 7, WIDTH, generator=generator)}
    return {"image": torch.rand(COUNT, 3, SIZE, SIZE, generator=generator)} if kind == "image" else {}


def dense_batch(kind=None):
    generator = torch.Generator().manual_seed(0)
    return LatentBatch(torch.randn(COUNT, 4, 4, 4, 4, generator=generator), **conditions(kind, generator))


def sparse_batch(kind=None):
    generator = torch.Generator().manual_seed(0)
    coords = torch.cat(
        [
            torch.nn.functional.pad(
                torch.randperm(512, generator=generator)[: 10 * (n + 1), None]
                // torch.tensor([64, 8, 1])
                % 8,
                (1, 0),
                value=n,
            )
            for n in range(COUNT)
        ]
    ).int()
    return SparseLatentBatch(
        coords, torch.randn(len(coords), 4, generator=generator), **conditions(kind, generator)
    )


@pytest.fixture(autouse=True)
def toy_text_encoder(monkeypatch):
    monkeypatch.setattr(conditions_module, "load_text_encoder", lambda reference: Words())


def settings_of(kind, encoder, **options):
    if kind == "text":
        return TextFlowSettings(**options)
    if kind == "image":
        return ImageFlowSettings(image_cond_model=encoder, **options)
    return (GuidedFlowSettings if kind == "tokens" else AssetFlowSettings)(**options)


class Seen(nn.Module):
    """Keeps the condition that a network was given."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, x_t, t, cond):
        self.cond, self.t = cond, t
        return self.network(x_t, t, cond)


def build(dense, kind, encoder, **options):
    torch.manual_seed(0)
    objective = DenseFlowObjective if dense else SparseFlowObjective
    network = Seen(build_model(DENSE if dense else SPARSE))
    return objective(network, settings_of(kind, encoder, **options))


@pytest.mark.parametrize("kind", [None, "tokens", "image", "text"])
@pytest.mark.parametrize("dense", [True, False])
def test_a_flow_learns_from_every_kind_of_condition(dense, kind, encoder):
    objective = build(dense, kind, encoder)
    batch = dense_batch(kind) if dense else sparse_batch(kind)
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in objective.denoiser.parameters()}
    optimizer = torch.optim.Adam(trained, 3e-3)
    history = []
    for _ in range(30):
        loss, logs = objective(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.8 * history[0] and logs["mse"] == pytest.approx(history[-1])
    tokens = {None: 1, "tokens": 7, "image": 9, "text": 5}[kind]
    assert objective.denoiser.cond.shape == (COUNT, tokens, WIDTH)


@pytest.mark.parametrize("dense", [True, False])
def test_dropped_conditions_are_zeros(dense, encoder):
    batch = dense_batch("tokens") if dense else sparse_batch("tokens")
    for share, shown in ((0.0, True), (1.0, False)):
        objective = build(dense, "tokens", encoder, p_uncond=share)
        objective(batch, torch.Generator().manual_seed(0))
        assert objective.denoiser.cond.flatten(1).any(1).tolist() == [shown] * COUNT


@pytest.mark.parametrize("dense", [True, False])
def test_a_dropped_caption_is_the_empty_one(dense, encoder):
    batch = dense_batch("text") if dense else sparse_batch("text")
    for share, lengths in ((0.0, [1, 3, 5]), (1.0, [0, 0, 0])):
        objective = build(dense, "text", encoder, p_uncond=share)
        objective(batch, torch.Generator().manual_seed(0))
        assert objective.denoiser.cond[:, 0, 0].tolist() == lengths


def test_batches_with_other_captions_do_not_fit_into_each_other():
    batch = dense_batch("text")
    assert batch.shapes() == dense_batch("text").shapes()
    assert batch.shapes() != replace(batch, captions=("a", "b", "c")).shapes()


@pytest.mark.parametrize("dense", [True, False])
def test_errors_by_time_average_to_the_error_of_all_objects(dense, encoder):
    schedule = NamedConfig("uniform")
    objective = build(dense, None, encoder, t_schedule=schedule)
    batch = dense_batch() if dense else sparse_batch()
    _, logs = objective(batch, torch.Generator().manual_seed(0))
    times = objective.denoiser.t / 1000
    bins = {name: float(value) for name, value in logs.items() if name.startswith("bin_")}
    assert len(bins) == 10
    filled = {f"bin_{int(t * 10)}/mse" for t in times.tolist()}
    assert {name for name, value in bins.items() if value == value} == filled
    if dense and len(filled) == COUNT:
        assert sum(bins[name] for name in filled) / COUNT == pytest.approx(float(logs["mse"]), rel=1e-5)


@pytest.mark.parametrize("kind", ["tokens", "image", "text"])
def test_data_without_the_condition_is_refused(kind, encoder):
    objective = build(True, kind, encoder)
    with pytest.raises(ConfigError, match="dataset: expected a .* of each object|dataset: expected ready"):
        objective(dense_batch(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (NamedConfig("cosine"), "t_schedule: name: expected one of .*uniform.*, got 'cosine'"),
        (NamedConfig("logitNormal", {"std": 0}), "t_schedule: .*std must be positive"),
        (NamedConfig("logitNormal", {"sigma": 1}), "t_schedule: unknown key 'sigma'"),
    ],
)
def test_wrong_schedules_are_refused(schedule, message):
    with pytest.raises(ConfigError, match=message):
        AssetFlowSettings(t_schedule=schedule)
