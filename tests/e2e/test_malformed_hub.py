"""What a hub sends, or lacks, gives one line."""

from __future__ import annotations

import json
import shutil

import pytest

from scenegen.hub import push_to_hub, resolve_checkpoint
from scenegen.hub.downloads import Download, Source, plan_release
from scenegen.hub.lock import LOCK_FILE, LockEntry, load_lock
from scenegen.hub.releases import Release, ReleaseFile
from tests.e2e.malformed import Case, Inputs, assert_one_line, hub_case

DESCRIPTION = "owner/toy/pipeline.json"
MANY_STEMS = {f"role{number}": f"ckpts/{number}" for number in range(100_000)}


def described(models: dict[str, str]) -> bytes:
    """A description with these networks."""
    return json.dumps({"name": "SceneGenImageToScenePipeline", "args": {"models": models}}).encode()


def plan(inputs: Inputs, description: bytes) -> list[Download]:
    """Ask for a release whose description is this."""
    inputs.hub.files[DESCRIPTION] = description
    release = Release("toy", "toy", repo="owner/toy", pipelines=("pipeline.json",))
    source = Source(inputs.root, inputs.hub.endpoint)
    return plan_release("toy", release, LockEntry(), source)[0]


def plan_files(inputs: Inputs, name: str, size: int) -> None:
    """Ask for a file that the server says is so large."""
    inputs.hub.files[f"owner/toy/{name}"] = b"x"
    inputs.hub.announced_sizes[f"owner/toy/{name}"] = size
    release = Release("toy", "toy", repo="owner/toy", files={name: ReleaseFile()})
    plan_release("toy", release, LockEntry(), Source(inputs.root, inputs.hub.endpoint))


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
    "hundred thousand stems in a repository": hub_case(
        "pipeline.json: models: expected at most 64 networks, got 100000",
        lambda i: i.fetch("owner/toy", change={"owner/toy/pipeline.json": described(MANY_STEMS)}),
    ),
    # the command that downloads
    "hundred thousand stems in a release": hub_case(
        "pipeline.json: models: expected at most 64 networks, got 100000",
        lambda i: plan(i, described(MANY_STEMS)),
    ),
    "description of 5 MB": hub_case(
        "pipeline.json: expected at most 4194304 bytes, got more",
        lambda i: plan(i, b" " * 5_000_000 + b"{}"),
    ),
    "description without end": hub_case(
        "expected at most 4194304 bytes, got more",
        lambda i: (i.hub.endless.add(DESCRIPTION), plan(i, b"[" * 9999)),
    ),
    "stem outside the folder": hub_case(
        "expected stems inside the repository, got '../../etc/passwd'",
        lambda i: plan(i, described({"sparse_structure_decoder": "../../etc/passwd"})),
    ),
    "absolute stem": hub_case(
        "expected stems inside the repository, got '/etc/passwd'",
        lambda i: plan(i, described({"sparse_structure_decoder": "/etc/passwd"})),
    ),
    "stem of 4000 characters": hub_case(
        "expected a stem of 1 to 1024 printable characters",
        lambda i: plan(i, described({"sparse_structure_decoder": "n" * 4000})),
    ),
    "stem of two lines": hub_case(
        "expected a stem of 1 to 1024 printable characters, got 'a\\r\\nHost: x'",
        lambda i: plan(i, described({"sparse_structure_decoder": "a\r\nHost: x"})),
    ),
    "weights of a petabyte": hub_case(
        "weights.safetensors: expected at most 68.7 GB, the server announces 1000000.0 GB",
        lambda i: plan_files(i, "weights.safetensors", 10**15),
    ),
    "lock with a digest that is none": hub_case(
        "expected 64 hexadecimal digits",
        lambda i: (
            (i.root / LOCK_FILE).write_text('{"a": {"files": {"b": {"sha256": "0"}}}}'),
            load_lock(i.root),
        ),
    ),
    "lock in a named pipe": hub_case(
        "expected a file, got a named pipe; correct the file or delete it",
        lambda i: (i.pipe(i.root / LOCK_FILE), load_lock(i.root)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_hub_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)


def test_stems_in_any_script_are_fetched(inputs):
    models = {"sparse_structure_decoder": "ckpts/d\u00e9codeur \u6a21\u578b #1?"}
    for suffix in (".json", ".safetensors"):
        inputs.hub.files[f"owner/toy/{models['sparse_structure_decoder']}{suffix}"] = b"content"
    names = [item.name for item in plan(inputs, described(models))]
    assert names == [
        "pipeline.json",
        *(models["sparse_structure_decoder"] + s for s in (".json", ".safetensors")),
    ]
