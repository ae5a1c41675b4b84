"""Attention kernels chosen by measurement, and the kernel for Hopper GPUs against the formula."""

import json

import pytest
import torch

from trellis_modules.attention.backends import BACKENDS, measured, torch_sdpa


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """Two kernels with known times instead of a GPU's; calls are noted."""
    calls = []

    def kernel(name):
        def run(q, k, v):
            calls.append(name)
            return torch_sdpa.run(q, k, v)

        return run

    found = {"sdpa": kernel("sdpa"), "quick": kernel("quick")}
    times = {"sdpa": 1.0, "quick": 0.5}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "_kernels", lambda: found)
    monkeypatch.setattr(measured, "_milliseconds", lambda call: times[(call(), calls.pop())[1]])
    monkeypatch.setattr(measured, "_FEWEST_OPERATIONS", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    measured._choices.cache_clear()
    yield times, calls, tmp_path / "scenegen" / "attention.json"
    measured._choices.cache_clear()


def qkv(length=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, length, 2, 8, generator=generator) for _ in range(3)]


def test_the_fastest_kernel_is_taken_and_remembered_for_later_processes(kernels):
    times, calls, path = kernels
    measured.run(*qkv())
    measured.run(*qkv())
    assert calls == ["quick", "quick"]
    (chosen,) = json.loads(path.read_text()).values()
    assert list(chosen.values()) == ["quick"]
    times["quick"] = 2.0
    measured._choices.cache_clear()  # as in a new process
    measured.run(*qkv())
    measured.run(*qkv(length=5))
    assert calls[2:] == ["quick", "sdpa"]


def test_a_kernel_that_is_hardly_faster_is_not_taken(kernels):
    times, calls, _ = kernels
    times["quick"] = 0.99
    measured.run(*qkv())
    assert calls == ["sdpa"]


def test_a_kernel_that_refuses_the_sizes_is_not_taken(kernels, monkeypatch):
    times, calls, _ = kernels

    def refuses(call):
        call()
        if (name := calls.pop()) == "quick":
            raise RuntimeError("no kernel for this size")
        return times[name]

    monkeypatch.setattr(measured, "_milliseconds", refuses)
    measured.run(*qkv())
    assert calls == ["sdpa"]


@pytest.mark.parametrize("content", ["{", "[]", '{"a GPU": 3}', "nothing"])
def test_a_damaged_file_is_measured_anew(kernels, content):
    _, calls, path = kernels
    path.parent.mkdir()
    path.write_text(content)
    measured.run(*qkv())
    assert calls == ["quick"] and "quick" in path.read_text()


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(kernels, monkeypatch, tmp_path):
    _, calls, _ = kernels
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    measured.run(*qkv())
    assert calls == ["quick"]


def test_nothing_is_measured_while_a_pass_is_recorded_or_differentiated(kernels, monkeypatch):
    _, calls, path = kernels
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    measured.run(*qkv())
    assert calls == ["sdpa"] and not path.exists()
    measured.run(*(part.requires_grad_() for part in qkv())).sum().backward()
    assert calls == ["sdpa"]


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="needs an NVIDIA GPU of the Hopper generation",
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "queries", "keys"),
    [(1, 128, 128), (1, 4101, 4101), (2, 300, 500), (3, 129, 1), (4, 700, 6870), (2, 1, 257)],
)
def test_the_hopper_kernel_matches_the_formula(dtype, batch, queries, keys):
    run = BACKENDS["gluon_hopper"].load()
    generator = torch.Generator("cuda").manual_seed(0)
    draw = torch.randn(batch, max(queries, keys), 3, 4, 64, device="cuda", generator=generator).to(dtype)
    q, k, v = draw.unbind(2)
    if queries != keys:  # the tokens of batch elements must follow each other
        q, k, v = q[:, :queries].contiguous(), k[:, :keys].contiguous(), v[:, :keys].contiguous()
    with torch.no_grad():
        result = run(q, k, v)
    exact = torch_sdpa.run(*(part.double() for part in (q, k, v)))
    assert result.isfinite().all()
    error = (result.double() - exact).norm() / exact.norm()
    assert error < 2 * torch.finfo(dtype).eps
