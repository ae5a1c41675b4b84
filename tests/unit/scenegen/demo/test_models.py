"""The networks of the demo: loaded early, once, and without holding up the search for masks."""

from __future__ import annotations

import threading

import pytest
import torch

from scenegen.demo.models import DemoModels
from scenegen.demo.options import DemoOptions
from scenegen.pipelines.pipeline import SceneGenPipeline
from trellis_modules.checkpoint import CheckpointError

CPU = torch.device("cpu")


def test_the_pipeline_is_loaded_once_while_masks_are_found(monkeypatch):
    loads, release = [], threading.Event()

    def load(*arguments, **options):
        loads.append(arguments)
        assert release.wait(30)
        return "pipeline"

    monkeypatch.setattr(SceneGenPipeline, "from_pretrained", load)
    models = DemoModels(DemoOptions("somewhere"))
    for _ in range(2):
        models.begin_to_load()
    assert "GrabCut" in models.segmenter(CPU).description, "which does not wait for the pipeline"
    release.set()
    models.close()
    assert models.pipeline(CPU) == "pipeline" and len(loads) == 1


def test_what_cannot_be_loaded_early_is_said_at_the_first_scene():
    models = DemoModels(DemoOptions("nowhere"))
    models.close()  # nothing was begun
    models.begin_to_load()
    models.close()
    with pytest.raises(CheckpointError, match="nowhere"):
        models.pipeline(CPU)
