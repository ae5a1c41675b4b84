"""Stage times and peaks."""

import torch

from scenegen.pipelines.memory import PROCESS, StageMeter, repeatable_kernels


def test_stages_add_up_in_order_of_work():
    meter = StageMeter(torch.device("cpu"))
    for name in ("a", "b", "a"):
        with meter.stage(name):
            torch.zeros(10)
    assert list(meter.seconds) == ["a", "b"] and all(seconds > 0 for seconds in meter.seconds.values())
    assert meter.peak_bytes.keys() == {PROCESS} and meter.peak_bytes[PROCESS] > 1 << 20


def test_kernels_on_a_cpu_are_left_alone():
    with repeatable_kernels(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
