"""Checkpoints by path or repository name, through huggingface_hub against a hub on this machine."""

import json
import sys

import pytest

from scenegen.hub import HubError, fetch_reference, resolve_checkpoint
from scenegen.hub.repository import split_repository
from tests.hub_server import COMMIT

DESCRIPTION = {
    "args": {
        "models": {"a": "ckpts/flow", "b": "owner/other/ckpts/decoder"},
        "image_cond_model": "dinov2_vitl14_reg",
        "vggt_model": "ckpts/vggt",
    }
}


@pytest.fixture
def files(hub):
    """A published checkpoint with a file that nothing names."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
    hub.files = {
        "owner/scene/pipeline.json": json.dumps(DESCRIPTION).encode(),
        "owner/scene/ckpts/flow.json": b"{}",
        "owner/scene/ckpts/flow.safetensors": b"flow",
        "owner/scene/ckpts/vggt.json": b"{}",
        "owner/scene/ckpts/vggt.safetensors": b"vggt",
        "owner/scene/ckpts/unused.safetensors": b"unused",
        "owner/scene/danger.pt": b"pickle",
        "owner/other/ckpts/decoder.json": b"{}",
        "owner/other/ckpts/decoder.safetensors": b"decoder",
        "facebook/VGGT-1B/config.json": b"{}",
        "facebook/VGGT-1B/model.safetensors": b"vggt",
    }
    return hub.files


@pytest.fixture
def resolve(hub, files, tmp_path):
    def call(name, revision=None, **keywords):
        return resolve_checkpoint(name, revision, tmp_path / "cache", endpoint=hub.endpoint, **keywords)

    return call


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_local_folder_is_taken_as_it_is_even_when_it_looks_like_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "scene").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert resolve_checkpoint("owner/scene").samefile(tmp_path / "owner" / "scene")


def test_repository_gives_what_its_description_names(resolve):
    folder = resolve("owner/scene")
    assert tree(folder) == [
        "ckpts/flow.json",
        "ckpts/flow.safetensors",
        "ckpts/vggt.json",
        "ckpts/vggt.safetensors",
        "pipeline.json",
    ]
    assert COMMIT in str(folder)


def test_checkpoint_in_a_folder_of_a_repository(resolve, files):
    for name in list(files):
        files[name.replace("owner/scene/", "owner/scene/small/")] = files.pop(name)
    assert tree(resolve("owner/scene/small"))[-1] == "pipeline.json"


def test_cache_serves_without_the_network(resolve, hub):
    first = resolve("owner/scene")
    hub.requests.clear()
    assert resolve("owner/scene", local_files_only=True) == first
    assert hub.requests == []


def test_references_to_other_repositories(hub, files, tmp_path):
    keywords = {"cache_dir": tmp_path / "cache", "endpoint": hub.endpoint}
    stem = fetch_reference("owner/other/ckpts/decoder", **keywords)
    assert stem.with_name("decoder.safetensors").read_bytes() == b"decoder"
    for reference in ("checkpoints/VGGT-1B", "facebook/VGGT-1B"):
        assert tree(fetch_reference(reference, **keywords)) == ["config.json", "model.safetensors"]
    for reference in ("dinov2_vitl14_reg", "ckpts/flow", "/a/b/c", "checkpoints/a/b"):
        assert fetch_reference(reference, **keywords) is None


def test_network_that_was_downloaded_before_is_not_fetched_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "dinov2_vitl14_reg").mkdir(parents=True)
    assert fetch_reference("dinov2_vitl14_reg").samefile("checkpoints/dinov2_vitl14_reg")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", ("owner/name", "")),
        ("owner/name-1.0/sub/folder", ("owner/name-1.0", "sub/folder")),
        *[(text, None) for text in ("name", "/owner/name", "./owner/name", "owner/../name", "owner//name", "",
                                    "checkpoints/scenegen", "~/owner", "owner/na me", "owner\\name/x")],
    ],
)  # fmt: skip
def test_what_can_be_a_repository(text, expected):
    assert split_repository(text) == expected


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("owner/unknown", None, "expected a public repository or permission to read it.*needs no download"),
        ("owner/scene", "v9", "no such revision 'v9'; check the revision"),
        ("owner/other", None, "pipeline.json: expected the file in the repository, found none"),
    ],
)
def test_faults_of_the_hub_are_one_line(resolve, name, revision, expected):
    with pytest.raises(HubError, match=expected) as error:
        resolve(name, revision)
    assert "\n" not in str(error.value)


def test_description_that_is_none_is_named(resolve, files):
    files["owner/scene/pipeline.json"] = b"[]"
    with pytest.raises(HubError, match="expected args.models with a stem for each role"):
        resolve("owner/scene")


def test_neither_cache_nor_network(resolve):
    with pytest.raises(HubError, match="expected it in the cache or a hub that answers, found neither"):
        resolve("owner/scene", local_files_only=True)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"bash setup.sh --hub"):
        resolve_checkpoint("owner/scene")


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(HubError, match="expected a checkpoint folder, got a file"):
        resolve_checkpoint(tmp_path / "x")
