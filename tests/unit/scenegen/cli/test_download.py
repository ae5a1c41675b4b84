"""The download command against a hub on this machine."""

import hashlib
import io
import json
import shutil
from collections import namedtuple

import pytest
import torch
from safetensors.torch import load_file

from scenegen.cli import download
from scenegen.hub import downloads
from tests.hub_server import COMMIT, Hub

WEIGHTS = {name: bytes([value]) * (3000 + value) for value, name in enumerate(("flow", "dec", "vggt"))}
DESCRIPTION = {
    "name": "SceneGenImageToScenePipeline",
    "args": {"models": {"a": "ckpts/flow", "b": "ckpts/dec", "c": "owner/other/ckpts/decoder"}},
}
RELEASES = {
    "scenegen": {
        "about": "scene",
        "repo": "owner/scene",
        "folder": "scenegen",
        "pipelines": ["pipeline.json", "scenegen/pipeline.json"],
    },
    "vggt": {
        "about": "one network",
        "repo": "owner/vggt",
        "folder": "VGGT-1B",
        "files": {"config.json": {}, "model.safetensors": {"approximate_size": 3000}},
    },
}
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    files = {
        "owner/scene/pipeline.json": json.dumps(DESCRIPTION).encode(),
        "owner/vggt/config.json": b"{}",
        "owner/vggt/model.safetensors": WEIGHTS["vggt"],
    }
    for name in ("flow", "dec"):
        files[f"owner/scene/ckpts/{name}.json"] = name.encode()
        files[f"owner/scene/ckpts/{name}.safetensors"] = WEIGHTS[name]
    large = {name for name in files if name.endswith(".safetensors")}
    with Hub(files, large).serve() as server:
        yield server


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "releases.json"
    path.write_text(json.dumps(RELEASES))
    return path


@pytest.fixture
def run(hub, manifest, tmp_path):
    """Call the command on tmp_path/out and return its exit status."""

    def call(*arguments, endpoint=hub.endpoint):
        paths = ["--output", tmp_path / "out", "--manifest", manifest, "--endpoint", endpoint]
        return download.main([str(argument) for argument in [*paths, *arguments]])

    return call


@pytest.fixture
def error(caplog):
    """The one error that was logged."""

    def text():
        (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert "\n" not in message
        return message

    return text


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def lock(tmp_path):
    return json.loads((tmp_path / "out" / "downloads.lock.json").read_text())


def test_fetches_what_the_description_names_and_records_it(run, tmp_path):
    assert run() == 0
    assert tree(tmp_path / "out") == [
        "VGGT-1B/config.json",
        "VGGT-1B/model.safetensors",
        "downloads.lock.json",
        "scenegen/ckpts/dec.json",
        "scenegen/ckpts/dec.safetensors",
        "scenegen/ckpts/flow.json",
        "scenegen/ckpts/flow.safetensors",
        "scenegen/pipeline.json",
    ]
    assert (tmp_path / "out/scenegen/ckpts/flow.safetensors").read_bytes() == WEIGHTS["flow"]
    entry = lock(tmp_path)["scenegen"]
    assert entry["revision"] == COMMIT
    digest = hashlib.sha256(WEIGHTS["flow"]).hexdigest()
    assert entry["files"]["ckpts/flow.safetensors"] == {"size": 3000, "sha256": digest}


def test_description_may_lie_in_a_folder_of_the_repository(run, hub, tmp_path):
    moved = {name: name.replace("owner/scene/", "owner/scene/scenegen/") for name in hub.files}
    hub.files = {moved[name]: content for name, content in hub.files.items()}
    hub.large = {moved[name] for name in hub.large}
    assert run("--only", "scenegen") == 0
    assert (tmp_path / "out/scenegen/ckpts/dec.safetensors").read_bytes() == WEIGHTS["dec"]


def test_sizes_are_reported_before_anything_is_fetched(run, capsys, hub):
    hub.large.clear()
    hub.without_length.add("owner/vggt/config.json")
    assert run("--only", "vggt") == 0
    text = capsys.readouterr().out
    assert "model.safetensors  3.0 kB, to fetch, digest not known yet: trusted and recorded" in text
    assert "config.json  size unknown, to fetch" in text
    assert "needed: 3.0 kB, free: " in text


def test_dry_run_lists_names_sizes_and_sources_without_asking(run, tmp_path, capsys, hub):
    assert run("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert hub.requests == [] and not (tmp_path / "out").exists()
    source = f"to fetch, from {hub.endpoint}/owner/vggt/resolve/main/model.safetensors"
    assert any("VGGT-1B/model.safetensors  about 3.0 kB, " + source in line for line in lines)
    assert any(
        "scenegen/pipeline.json and the networks that it names  size unknown" in line for line in lines
    )
    assert lines[-1].startswith("needed: about 3.0 kB, free: ")
    assert run("--only", "vggt") == 0
    capsys.readouterr(), hub.requests.clear()
    assert run("--dry-run", "--only", "vggt") == 0
    assert "model.safetensors  3.0 kB, there, from" in capsys.readouterr().out and hub.requests == []


def test_second_run_fetches_nothing_and_a_damaged_file_again(run, hub, tmp_path):
    assert run("--only", "vggt") == 0
    hub.requests.clear()
    assert run("--only", "vggt") == 0
    assert hub.gets("") == []
    path = tmp_path / "out/VGGT-1B/model.safetensors"
    path.write_bytes(b"x" * len(WEIGHTS["vggt"]))
    assert run("--only", "vggt") == 0
    assert path.read_bytes() == WEIGHTS["vggt"]


def test_later_content_that_differs_from_the_recorded_is_refused(run, hub, tmp_path, error):
    assert run("--only", "vggt") == 0
    path = tmp_path / "out/VGGT-1B/config.json"
    path.unlink()
    hub.files["owner/vggt/config.json"] = b"[]"  # as long as the recorded
    assert run("--only", "vggt") == 1
    assert "config.json: expected sha256 44136fa355b3..., got 4f53cda18c2b..." in error()
    assert not path.exists()


def test_later_size_that_differs_from_the_recorded_is_refused(run, hub, tmp_path, error):
    assert run("--only", "vggt") == 0
    hub.files["owner/vggt/config.json"] = b"{  }"
    assert run("--only", "vggt") == 1
    assert "expected 2 bytes as recorded, the server has 4" in error()
    assert "delete 'vggt' from" in error()


def test_digest_of_the_manifest_is_what_counts(run, manifest, error):
    releases = json.loads(json.dumps(RELEASES))
    releases["vggt"]["files"]["config.json"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(releases))
    assert run("--only", "vggt") == 1
    assert "expected sha256 000000000000" in error()


def test_recorded_commit_is_asked_for_the_next_time(run, hub, tmp_path):
    assert run() == 0
    hub.requests.clear()
    shutil.rmtree(tmp_path / "out" / "scenegen")
    assert run("--only", "scenegen") == 0
    assert {path.split("/resolve/")[1].split("/")[0] for _, path, _ in hub.requests if "resolve" in path} == {
        COMMIT
    }


def test_update_manifest_writes_what_was_recorded(run, manifest, tmp_path):
    assert run("--only", "scenegen", "--update-manifest") == 0
    updated = json.loads(manifest.read_text())
    assert updated["scenegen"]["revision"] == COMMIT
    assert updated["scenegen"]["files"] == lock(tmp_path)["scenegen"]["files"]
    assert updated["vggt"] == RELEASES["vggt"]
    shutil.rmtree(tmp_path / "out")
    assert run("--only", "scenegen") == 0  # reads what it wrote


def test_interrupted_download_continues_in_the_next_run(run, hub, tmp_path, monkeypatch, error):
    monkeypatch.setattr(downloads.fetch, "__kwdefaults__", {**downloads.fetch.__kwdefaults__, "attempts": 1})
    hub.breaks["owner/vggt/model.safetensors"] = [1000]
    assert run("--only", "vggt") == 1
    assert "run the command again, it continues at 1000 bytes" in error()
    assert run("--only", "vggt") == 0
    assert hub.gets("vggt/model.safetensors")[-1] == "bytes=1000-"
    assert (tmp_path / "out/VGGT-1B/model.safetensors").read_bytes() == WEIGHTS["vggt"]


def test_too_little_space_starts_nothing(run, monkeypatch, tmp_path, error):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: DiskUsage(0, 0, 1_000_000))
    assert run() == 2
    assert "expected 67.1 MB of free space, the disk has 1.0 MB; free some" in error()
    assert not (tmp_path / "out").exists()


def test_full_disk_does_not_matter_when_everything_is_there(run, monkeypatch):
    assert run() == 0
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: DiskUsage(0, 0, 0))
    assert run() == 0


def test_one_release_that_fails_does_not_stop_the_others(run, hub, tmp_path, error):
    del hub.files["owner/scene/ckpts/dec.safetensors"]
    assert run() == 1
    assert error().startswith("scenegen: ") and "ckpts/dec.safetensors: expected a published file" in error()
    assert (tmp_path / "out/VGGT-1B/model.safetensors").is_file()


def test_without_an_answer_no_space_is_claimed(run, hub, capsys):
    hub.files.clear()
    assert run("--only", "scenegen") == 1
    assert capsys.readouterr().out == ""


def test_repository_without_a_description_is_named(run, hub, error):
    del hub.files["owner/scene/pipeline.json"]
    assert run("--only", "scenegen") == 1
    assert "the repository has none of pipeline.json, scenegen/pipeline.json" in error()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<html>", "expected JSON, got other text"),
        (b"[]", "expected args.models with a stem for each role"),
        (b'{"args": {"models": {"a": 3}}}', "expected args.models with a stem for each role"),
        (b'{"args": {"models": {"a": "../../x"}}}', "expected stems inside the repository, got '../../x'"),
    ],
)
def test_description_that_is_none_is_refused(run, hub, error, content, expected):
    hub.files["owner/scene/pipeline.json"] = content
    assert run("--only", "scenegen") == 1
    assert f"pipeline.json: {expected}" in error()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "vgt"), "--only: unknown release 'vgt'; known: scenegen, vggt"),
        (("--endpoint", "hub.example"), "--endpoint: expected a URL such as https://huggingface.co"),
    ],
)
def test_bad_argument_starts_nothing(run, hub, error, arguments, message):
    assert run(*arguments) == 2
    assert message in error() and hub.requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": None}, "expected either repo or url"),
        ({"folder": "../x"}, "expected a path inside the folder, got '../x'"),
        ({"files": {"a": {"sha256": "abc"}}}, "sha256: expected 64 hexadecimal digits or null, got 'abc'"),
        ({"files": {"a": {"size": -1}}}, "size: expected a number of bytes or null, got -1"),
        ({"mirror": 1}, "unknown key 'mirror'"),
    ],
)
def test_faulty_manifest_is_named(run, manifest, error, change, message):
    manifest.write_text(json.dumps({"vggt": {**RELEASES["vggt"], **change}}))
    assert run() == 2
    assert "releases.json: vggt" in error() and message in error()


def test_damaged_lock_is_named(run, tmp_path, error):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "downloads.lock.json").write_text("[]")
    assert run() == 2
    assert "downloads.lock.json: expected an object of releases; correct the file or delete it" in error()


def test_pickle_is_converted_beside_itself(run, hub, manifest, tmp_path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(4.0)}, buffer)
    hub.files["plain/net.pth"] = buffer.getvalue()
    files = {"net.pth": {"convert_to": "model.safetensors"}}
    release = {"about": "a pickle", "url": f"{hub.endpoint}/plain", "folder": "net", "files": files}
    manifest.write_text(json.dumps({"net": release}))
    assert run("--no-convert") == 0
    assert tree(tmp_path / "out") == ["downloads.lock.json", "net/net.pth"]
    assert run() == 0
    state = load_file(tmp_path / "out/net/model.safetensors")
    assert state["weight"].tolist() == [0, 1, 2, 3]


def test_token_is_not_sent_to_other_servers(run, hub, manifest, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.files["plain/x.bin"] = b"x"
    plain = {"about": "", "url": f"{hub.endpoint}/plain", "folder": "x", "files": {"x.bin": {}}}
    manifest.write_text(json.dumps({**RELEASES, "plain": plain}))
    assert run() == 0
    assert {path.split("/")[1] for path, _ in hub.tokens} == {"owner"}
