"""Rows of the renderers' table."""

import pytest
import torch

from benchmarks import renderers
from trellis_modules.backends import BackendUnavailable


def test_a_stage_that_a_backend_refuses_says_why():
    def refuse():
        raise BackendUnavailable("render_octree: backend 'other' does not cut leaves; choose another backend")

    cells = renderers.figures(refuse, torch.device("cpu"), views=2)
    assert cells == "render_octree: backend 'other' does not cut leaves; choose another backend | "


def test_other_errors_end_the_run():
    def fail():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        renderers.figures(fail, torch.device("cpu"), views=2)


def test_times_are_those_of_one_view(monkeypatch):
    monkeypatch.setattr(renderers, "measure", lambda draw, device: (0.5, 3 * 2**20))
    assert renderers.figures(lambda: None, torch.device("cuda"), views=2) == "250.00 | 3"
