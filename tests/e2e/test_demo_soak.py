"""A hundred visitors of the demo."""

import pytest

from benchmarks.demo_http_soak import soak_over_http
from benchmarks.demo_soak import soak
from tests.page_client import needs_demo


@pytest.mark.slow
def test_a_hundred_scenes_leave_nothing_behind(tmp_path, shared_checkpoint):
    figures = soak(str(shared_checkpoint), tmp_path, jobs=100, cancelled=20, dropped=10)
    print(figures)
    assert figures["faults"] == [] and figures["files_left"] == 0
    assert figures["made"] >= 70 and figures["made"] + figures["cancelled"] == 90
    assert figures["growth_mib"] < 100


def test_a_few_visitors(tmp_path, shared_checkpoint):
    figures = soak(str(shared_checkpoint), tmp_path, jobs=12, cancelled=4, dropped=2)
    assert figures["faults"] == [] and figures["files_left"] == 0
    assert figures["made"] >= 6 and figures["made"] + figures["cancelled"] == 10


@needs_demo
@pytest.mark.slow
def test_a_hundred_scenes_over_http_leave_nothing_behind(tmp_path, shared_checkpoint):
    figures = soak_over_http(str(shared_checkpoint), tmp_path, jobs=100, cancelled=20, dropped=10)
    print(figures)
    assert figures["faults"] == [] and figures["files_left"] == 0
    assert figures["made"] >= 70 and figures["made"] + figures["cancelled"] == 90
    assert figures["dropped"] == 10 and figures["growth_mib"] < 100
