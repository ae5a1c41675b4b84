"""Which device and precision are taken, and when a precision is slow."""

import pytest
import torch

from trellis_modules import devices

CPU, GPU, APPLE = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, GPU), (False, True, APPLE), (False, False, CPU)]
)
def test_nvidia_comes_before_apple_before_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.best_device() == expected


def test_precision_is_float32_on_a_cpu_only():
    assert devices.default_dtype(CPU) is torch.float32
    assert devices.default_dtype(GPU) is devices.default_dtype(APPLE) is torch.float16


def test_device_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X1")
    assert devices.device_text(torch.device("cuda:1"), torch.float16) == "NVIDIA X1 (cuda:1), float16"
    threads = torch.get_num_threads()
    expected = f"CPU with {threads} thread{'s' if threads > 1 else ''}, float32"
    assert devices.device_text(CPU, torch.float32) == expected


@pytest.mark.parametrize(
    ("flags", "device", "dtype", "slow"),
    [
        ("fpu sse avx512_bf16", CPU, torch.float16, True),
        ("fpu sse avx512_bf16", CPU, torch.bfloat16, True),
        ("fpu amx_bf16 amx_tile", CPU, torch.bfloat16, False),
        ("fpu", CPU, torch.float32, False),
        ("fpu", GPU, torch.float16, False),
        (None, CPU, torch.float16, True),
    ],
)
def test_16_bits_are_slow_on_a_cpu_without_matrix_units(monkeypatch, tmp_path, flags, device, dtype, slow):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")
    assert devices.is_slow(device, dtype) is slow
