"""Batches and data preparation on an S3 server of this machine, also where it answers badly."""

from __future__ import annotations

from pathlib import Path

import pytest

import inference
from dataset_toolkits import build_metadata, download, encode_ss_latent, render, voxelize
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreError, StoreUrl
from tests.asset_models import write_models
from tests.e2e.test_interruptions import content as local_content
from tests.s3_server import SECRET, content, disturbing_proxy, environment, make_bucket, s3_server

pytest.importorskip("moto", reason="needs the packages moto[server] and s3fs")
pytest.importorskip("s3fs", reason="needs the package s3fs: bash setup.sh --stores")
pytestmark = pytest.mark.slow

BUCKET = "bucket"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))
    with s3_server() as address:
        make_bucket(address, BUCKET)
        use(address, monkeypatch)
        yield address


def use(address: str, monkeypatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in environment(address).items():
        monkeypatch.setenv(name, value)


def left_here(tmp_path: Path) -> list[Path]:
    found = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    return [path for path in found if path.suffix not in (".csv", ".txt", ".jsonl")]


def put(folder: Path, url: str) -> None:
    store = Store(StoreUrl.parse(url))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.deliver(folder, path.relative_to(folder).as_posix())


def test_scenes_in_a_bucket_are_those_of_the_disk(server, tmp_path, shared_checkpoint, write_scene, capsys):
    for name in ("attic", "bath"):
        write_scene(tmp_path / "in" / name, 2)
    put(tmp_path / "in", f"s3://{BUCKET}/in")
    put(shared_checkpoint, f"s3://{BUCKET}/toy")
    made = ["--formats", "glb,poses", "--device", "cpu"]
    disk = [
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
        "--checkpoint",
        str(shared_checkpoint),
    ]
    assert inference.main([*disk, *made]) == 0
    stored = [
        "--input",
        f"s3://{BUCKET}/in",
        "--output",
        f"s3://{BUCKET}/out",
        "--checkpoint",
        f"s3://{BUCKET}/toy",
    ]
    assert inference.main([*stored, *made]) == 0
    (tmp_path / "copy").mkdir()
    Store(StoreUrl.parse(f"s3://{BUCKET}/out")).fetch("", tmp_path / "copy")
    assert local_content(tmp_path / "copy") == local_content(tmp_path / "out")
    capsys.readouterr()
    assert inference.main([*stored, *made]) == 0
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out
    assert [
        path for path in left_here(tmp_path) if "ckpts" not in path.parts and path.name != "pipeline.json"
    ] == []


def test_the_asset_road_in_a_bucket_is_that_of_the_disk(server, tmp_path, capsys):
    models, root = tmp_path / "models", tmp_path / "root"
    models.mkdir()
    write_models(models)
    source = ["--source", str(models)]
    drawn = ["--engine", "EMBREE", "--resolution", "32", "--num-views", "2"]
    url = f"s3://{BUCKET}/root"
    for place in (str(root), url):
        shared = ["folder", "--output-dir", place]
        for main, arguments in ((download.main, source), (render.main, drawn), (voxelize.main, [])):
            assert build_metadata.main([*shared, *source]) == 0
            assert main([*shared, *arguments]) == 0
        assert build_metadata.main(shared) == 0
    in_bucket = content(server, BUCKET, "root/")
    on_disk = {name: path for name, path in local_content(root).items() if not name.startswith(".cache")}
    merged = "merged_records/"
    assert {k for k in in_bucket if merged not in k} == {k for k in on_disk if merged not in k}
    assert all(in_bucket[name] == on_disk[name] for name in on_disk if merged not in name)
    assert left_here(tmp_path) == [] or all("raw" in path.parts for path in left_here(tmp_path))
    assert encode_ss_latent.main(["--output-dir", url, "--enc-pretrained", str(tmp_path / "none")]) == 1


def test_answers_that_fail_are_asked_for_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("scenegen.stores.store._FIRST_WAIT", 0.01)
    faults = ["500", "cut", None, "slow", "500", None, "cut", "500", None]

    def disturb(method: str, path: str) -> str | None:
        return faults.pop(0) if faults else None

    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "big").write_bytes(bytes(range(256)) * 4096)
    with disturbing_proxy(server, disturb) as address:
        use(address, monkeypatch)
        store = Store(StoreUrl.parse(f"s3://{BUCKET}/x"))
        while faults:
            store.deliver(tmp_path / "here", "big")
            store.fetch("big", tmp_path / "there")
            assert (tmp_path / "there" / "big").read_bytes() == (tmp_path / "here" / "big").read_bytes()


def test_a_listing_goes_page_by_page_and_names_each_folder_once(server, tmp_path):
    import boto3

    client = boto3.client("s3")
    for number in range(1003):
        client.put_object(Bucket=BUCKET, Key=f"many/{number:04d}/scene.jpg")
    client.put_object(Bucket=BUCKET, Key="many/0001/")  # the marker that some programs make of a folder
    client.put_object(Bucket=BUCKET, Key="many/0001")  # and a file of the same name
    names = [name for name, _ in Store(StoreUrl.parse(f"s3://{BUCKET}/many")).entries()]
    assert names == [f"{number:04d}" for number in range(1003)]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://no-such-bucket/x", "The specified bucket does not exist"),
        (f"s3://{BUCKET}/nothing", "expected files or folders, found nothing; correct the URL"),
    ],
)
def test_buckets_that_are_not_there_are_one_line(server, tmp_path, url, expected, caplog):
    assert inference.main(["--input", url, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert expected in caplog.messages[-1] and "\n" not in caplog.messages[-1]


def test_a_bucket_that_may_not_be_written_is_one_line_without_secrets(server, tmp_path, monkeypatch):
    def refuse(method: str, path: str) -> str | None:
        return "403" if method == "PUT" else None

    (tmp_path / "1.txt").write_text("one")
    with disturbing_proxy(server, refuse) as address:
        use(address, monkeypatch)
        with pytest.raises(
            StoreError, match="1.txt: expected a store that can be used, got .*what the account may do"
        ) as told:
            Store(StoreUrl.parse(f"s3://{BUCKET}/refused")).deliver(tmp_path, "1.txt")
    assert SECRET not in str(told.value) and content(server, BUCKET, "refused/") == {}
