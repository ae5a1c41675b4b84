"""What a hub sends, or lacks, gives one line."""

from __future__ import annotations

import shutil

import pytest

from scenegen.hub import push_to_hub, resolve_checkpoint
from tests.e2e.malformed import Case, assert_one_line, hub_case

CASES: dict[str, Case] = {
    "repository unknown": hub_case(
        "owner/unknown: pipeline.json: expected a public repository or permission to read it",
        lambda i: i.fetch("owner/unknown"),
    ),
    "revision unknown": hub_case(
        "owner/toy: pipeline.json: no such revision 'v9'", lambda i: i.fetch("owner/toy", "v9")
    ),
    "repository without description": hub_case(
        "owner/toy: pipeline.json: expected the file in the repository, found none",
        lambda i: i.fetch("owner/toy", change={"owner/toy/pipeline.json": None}),
    ),
    "repository with another description": hub_case(
        "pipeline.json: expected args.models with a stem for each role",
        lambda i: i.fetch("owner/toy", change={"owner/toy/pipeline.json": b"[]"}),
    ),
    "checkpoint path mistyped": hub_case(
        "scenegen-smal/pipeline.json: expected a checkpoint folder with pipeline.json, found none",
        lambda i: resolve_checkpoint("checkpoints/scenegen-smal"),
    ),
    "checkpoint is a file": hub_case(
        "scene.jpg: expected a checkpoint folder, got a file",
        lambda i: resolve_checkpoint(i.scene / "scene.jpg"),
    ),
    "checkpoint not downloaded": hub_case(
        "about 3.7 GB): scenegen download --only scenegen; the bundled",
        lambda i: resolve_checkpoint("checkpoints/scenegen"),
    ),
    "upload of no checkpoint": hub_case(
        "pipeline.json: no such configuration file", lambda i: push_to_hub(i.scene, "owner/mine")
    ),
    "upload of a checkpoint with a pickle": hub_case(
        "a.pt: a pickle is not uploaded",
        lambda i: ((i.checkpoint / "a.pt").write_bytes(b""), push_to_hub(i.checkpoint, "owner/mine")),
    ),
    "upload of altered weights": hub_case(
        "decoder.safetensors: expected the sha256 in pipeline.json, got another",
        lambda i: (
            shutil.copy(i.checkpoint / "ckpts/flow.safetensors", i.checkpoint / "ckpts/decoder.safetensors"),
            push_to_hub(i.checkpoint, "owner/mine"),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_hub_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
