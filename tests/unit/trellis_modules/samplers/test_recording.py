"""Replayed passes against launched ones: the same numbers, for dense and sparse states."""

from types import SimpleNamespace

import pytest
import torch

from trellis_modules.flow_output import FlowOutput
from trellis_modules.models import PreparedContext, build_model
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.recording import RECORDING_VARIABLE, RecordedModel, recorded
from trellis_modules.sparse import SparseTensor

PARAMS = SamplingParams(steps=8, cfg_strength=2.0, cfg_interval=(0.5, 1.0))
SIZES = {
    "in_channels": 2, "out_channels": 2, "model_channels": 48, "cond_channels": 16, "num_blocks": 2,
    "num_heads": 2, "patch_size": 2, "qk_rms_norm": True,
}  # fmt: skip


def flow(name, device, **sizes):
    torch.manual_seed(0)
    model = build_model({"name": name, "args": SIZES | sizes}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = model.to(device).requires_grad_(False)
    model.convert_torso(torch.float16)
    return model


def sample(model, state, wrapped, prepare_times=None):
    generator = torch.Generator().manual_seed(1)
    cond = torch.randn(state.shape[0], 5, 16, generator=generator).to(state.device)
    with torch.no_grad():
        conds = model.precompute_context(cond, 5), model.precompute_context(torch.zeros_like(cond[:, :1]), 1)
    result = FlowEulerSampler().sample(wrapped, state, *conds, PARAMS, prepare_times=prepare_times)
    return result.samples


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestReplays:
    def test_dense_states(self):
        model = flow("SparseStructureFlowModel", "cuda", resolution=8)
        noise = torch.randn(3, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0)).cuda()
        replayed = RecordedModel(model)
        result = sample(model, noise, replayed, model.precompute_times)
        plain = sample(model, noise, model)
        assert [entry.graph is not None for entry in replayed._recordings.values()] == [True, True]
        torch.testing.assert_close(result, plain, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("lengths", [(30, 30), (40, 11)])
    def test_sparse_states(self, lengths):
        model = flow("SLatFlowModel", "cuda", resolution=8, io_block_channels=[16])
        generator = torch.Generator().manual_seed(0)
        rows = [
            torch.cat([torch.full((count, 1), index), torch.cartesian_prod(*[torch.arange(8)] * 3)[
                torch.randperm(512, generator=generator)[:count].sort().values
            ]], dim=1)
            for index, count in enumerate(lengths)
        ]  # fmt: skip
        coords = torch.cat(rows)
        noise = SparseTensor(torch.randn(len(coords), 2, generator=generator).cuda(), coords.cuda())
        result = sample(model, noise, RecordedModel(model), model.precompute_times)
        plain = sample(model, noise, model)
        torch.testing.assert_close(result.feats, plain.feats, rtol=1e-3, atol=1e-3)


def test_a_run_is_recorded_on_a_gpu_where_its_passes_are_many(monkeypatch):
    def model(x_t, t, cond):
        raise AssertionError

    gpu = torch.device("cuda")
    assert isinstance(recorded(model, gpu, 25), RecordedModel)
    assert recorded(model, gpu, 3) is model
    assert recorded(model, torch.device("cpu"), 25) is model
    monkeypatch.setenv(RECORDING_VARIABLE, "off")
    assert recorded(model, gpu, 25) is model
    monkeypatch.setenv(RECORDING_VARIABLE, "yes")
    with pytest.raises(ValueError, match="SCENEGEN_RECORDING: expected auto or off, got 'yes'"):
        recorded(model, gpu, 25)


class _PretendedRecording(RecordedModel):
    """Records on any device by calling the model, and tells which passes were not recorded."""

    def _record(self, recording, x_t, t):
        recording.output = self._model(x_t, t, recording.cond)
        recording.state, recording.time = x_t.clone(), t.clone()
        recording.graph = SimpleNamespace(replay=lambda: None)


def test_a_kind_of_pass_that_the_network_has_had_is_recorded_at_once():
    network, calls = torch.nn.Linear(1, 1), []

    def model(x_t, t, cond):
        calls.append(x_t.shape)
        return FlowOutput(x_t)

    def run(state, cond):
        calls.clear()
        recorded_model = _PretendedRecording(model, network)
        for _ in range(4):
            recorded_model(state, torch.ones(1), cond)
        return len(calls)

    state, cond = torch.zeros(2, 3), PreparedContext((torch.zeros(2, 5),))
    assert run(state, cond) == 2  # one as it is, one that is recorded
    assert run(state + 1, PreparedContext((torch.ones(2, 5),))) == 1
    assert run(state[:1], cond) == 2 and run(state, PreparedContext((torch.zeros(2, 6),))) == 2
    network = torch.nn.Linear(1, 1)
    assert run(state, cond) == 2
