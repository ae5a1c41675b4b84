"""The demo as a server: its HTTP interface, who may reach what, and what is left when somebody goes."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import trimesh
from PIL import Image

from examples import demo_client
from scenegen.demo.jobs import Job
from scenegen.demo.listening import Address
from scenegen.demo.options import DemoOptions
from scenegen.demo.server import DemoServer, DemoUnavailable
from scenegen.inputs.label_image import write_labels
from tests.page_client import PageClient, PageError, needs_demo

pytestmark = needs_demo
REASON = "gradio is not installed (extra demo)"
httpx = pytest.importorskip("httpx", reason=REASON)
gradio_client = pytest.importorskip("gradio_client", reason=REASON)

SIZE = (64, 48)
BOXES = [[4, 8, 28, 40], [34, 8, 60, 40]]
PICTURE = ["--picture", "room.png", "--labels", "labels.png"]


@pytest.fixture(scope="module")
def server(shared_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    options = DemoOptions(
        str(shared_checkpoint), max_upload_mb=1, folder=folder / "sessions", debug_dumps=folder / "dumps"
    )
    with DemoServer(options, Address(), folder, quiet=True) as made:
        yield made


@pytest.fixture
def files(tmp_path):
    """A photo of two blocks, their boxes, and their labels."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    labels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(BOXES, start=1):
        pixels[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = (80 * number, 30, 200)
        labels[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = number
    Image.fromarray(pixels).save(tmp_path / "room.png")
    write_labels(labels, tmp_path / "labels.png")
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    return tmp_path


@pytest.fixture
def client(server):
    return gradio_client.Client(server.url, verbose=False)


@pytest.mark.parametrize("objects", [("--boxes", "boxes.json"), ("--labels", "labels.png")])
def test_the_example_client_makes_a_scene(server, files, objects, capsys):
    flag, name = objects
    call = [
        "--url",
        server.url,
        "--picture",
        files / "room.png",
        flag,
        files / name,
        "--output",
        files / "made",
    ]
    settings = ["--settings", '{"seed": 3, "refine": true}', "--formats", "glb,obj"]
    assert demo_client.main([*map(str, call), *settings]) == 0
    scene = trimesh.load(files / "made" / "scene.glb")
    assert {"obj_0", "obj_1"} <= set(scene.graph.nodes_geometry)
    assert {"scene.obj", "poses.json", "labels_1.png", "scene.zip"} <= {
        path.name for path in (files / "made").iterdir()
    }
    record = json.loads((files / "made" / "poses.json").read_text())
    assert record["scene_id"] == "room", "a scene is called as its picture"
    assert record["settings"]["seed"] == 3 and "refinement" in record["settings"]
    assert "done files" in capsys.readouterr().out


def test_what_goes_in_is_kept_only_where_asked(server, files):
    """This server has a folder for dumps: each is an input of inference.py."""
    dumps = server.service.options.debug_dumps
    before = set(dumps.iterdir()) if dumps.is_dir() else set()
    call = [
        "--url",
        server.url,
        "--picture",
        files / "room.png",
        "--labels",
        files / "labels.png",
        "--output",
        files,
    ]
    assert demo_client.main([*map(str, call)]) == 0
    (dump,) = set(dumps.iterdir()) - before
    names = {"scene.jpg", "masked_scene.png", "0.png", "0_mask.png", "1.png", "1_mask.png"}
    assert {path.name for path in dump.iterdir()} == names


BAD_CALLS = {
    "no picture": (["--picture", "none.png", "--boxes", "boxes.json"], 2, "none.png: expected a picture"),
    "no boxes": (["--picture", "room.png", "--boxes", "none.json"], 2, "none.json: expected a list of boxes"),
    "no json": (["--picture", "room.png", "--boxes", "room.png"], 2, "room.png: .*write a list of boxes"),
    "no list": (["--picture", "room.png", "--boxes", "number.json"], 2, "expected a list of boxes .*got int"),
    "settings": ([*PICTURE, "--settings", "{seed: 1}"], 2, r"--settings: expected JSON such as .*'\{seed: 1"),
    "settings list": ([*PICTURE, "--settings", "[1]"], 2, "--settings: expected a JSON object"),
    "a space": ([*PICTURE, "--url", "someone/demo"], 2, "--url: expected http://... or https://"),
    "nobody there": ([*PICTURE, "--url", "http://127.0.0.1:9"], 1, "127.0.0.1:9: expected a demo, got none"),
    "a wrong format": ([*PICTURE, "--formats", "exe"], 1, "format 'exe': expected one of glb"),
    "a file as folder": ([*PICTURE, "--output", "room.png"], 1, "room.png: expected a folder to write to"),
}


@pytest.mark.parametrize(("call", "status", "words"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_the_example_client_says_what_is_wrong_in_one_line(
    server, files, monkeypatch, capsys, call, status, words
):
    monkeypatch.chdir(files)
    (files / "number.json").write_text("3")
    call = call if "--url" in call else ["--url", server.url, *call]
    try:
        found = demo_client.main(call)
    except SystemExit as end:
        found = end.code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert found == status and re.search(words, line)


def test_a_picture_that_is_added_meanwhile_is_not_lost(server, client, files):
    release = threading.Event()
    server.service.queue.submit(Job(lambda job, device: release.wait(60)))
    labels = gradio_client.handle_file(files / "labels.png")
    client.predict(picture_of(files), labels, api_name="/add")
    scene = client.submit({"seed": 1}, api_name="/generate")
    assert client.predict(picture_of(files), labels, api_name="/add")["pictures"] == 2
    release.set()
    assert scene.result()["state"] == "done"
    assert client.predict(picture_of(files), labels, api_name="/add")["pictures"] == 2


def test_downloads_at_once_have_their_own_files(client, files):
    client.predict(picture_of(files), gradio_client.handle_file(files / "labels.png"), api_name="/add")
    scene = client.submit({"seed": 1}, api_name="/generate").result()
    jobs = [client.submit(["glb", "poses"], api_name="/download") for _ in range(3)]
    for job in jobs:
        names = [Path(path) for path in job.result(timeout=60)]
        assert [path.name for path in names] == ["scene.glb", "poses.json", "labels_1.png", "scene.zip"]
        assert all(path.stat().st_size > 100 for path in names)
        assert names[0].read_bytes() == Path(scene["glb"]).read_bytes(), "the file of the scene itself"


def test_an_upload_that_is_gone_has_to_be_sent_again(server, files):
    tab = PageClient(server.url)
    file = tab.upload(files / "room.png")
    Path(file["path"]).unlink()
    with pytest.raises(PageError, match="^room.png: expected an uploaded file.*upload it again"):
        tab.call("segment", file, [{"box": BOXES[0]}], False)
    tab.close()


def test_segmenting_tells_names_and_sizes(client, files):
    objects = [{"box": BOXES[0], "name": "chair"}, {"box": BOXES[1], "negative": [[36, 10]]}]
    found = client.predict(picture_of(files), objects, api_name="/segment")
    assert [item["name"] for item in found["objects"]] == ["chair", ""]
    assert all(item["pixels"] > 300 for item in found["objects"])
    assert client.predict(api_name="/cancel") == {"cancelled": False}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda c, f: c.predict(gradio_client.handle_file(f / "boxes.json"), [], api_name="/segment"),
            "expected a JPEG, PNG or other common image",
        ),
        (
            lambda c, f: c.predict(picture_of(f), [], api_name="/segment"),
            "found none; draw boxes",
        ),
        (
            lambda c, f: c.predict(picture_of(f), [{"bax": 1}], api_name="/segment"),
            "object 0: unknown key 'bax'",
        ),
        (
            lambda c, f: c.predict(picture_of(f), [{"box": [1, 2]}], api_name="/segment"),
            "object 0: expected four numbers",
        ),
        (
            lambda c, f: c.predict(picture_of(f), [{"box": [0.1, 0.2, 0.5, 1]}], api_name="/segment"),
            "object 0: expected pixels, got shares of the picture from 0 to 1 .* width and height, 64 and 48",
        ),
        (
            lambda c, f: c.predict(picture_of(f), [{"positive": [[0.4, 0.5]]}], api_name="/segment"),
            "object 0: positive: expected pixels, got shares of the picture",
        ),
        (lambda c, f: c.predict({}, api_name="/generate"), "Expected a picture in the cache, found none"),
        (lambda c, f: c.predict({"preset": "best"}, api_name="/generate"), "preset: expected one of fast"),
        (lambda c, f: c.predict({"stepz": 3}, api_name="/generate"), "known: seed, order"),
        (lambda c, f: c.predict(["glb"], api_name="/download"), "Expected a scene to download, found none"),
    ],
)
def test_callers_get_one_line(client, files, call, words):
    with pytest.raises(gradio_client.exceptions.AppError, match=words) as caught:
        call(client, files)
    assert "\n" not in str(caught.value)


def test_files_that_were_not_uploaded_are_not_opened(server, files):
    tab = PageClient(server.url)
    for name in ("segment", "add"):
        for path in (
            "/etc/hostname",
            str(files / "room.png"),
            str(server.service.sessions.root / ".." / "x.png"),
        ):
            body = {
                "data": [{"path": path}, [] if name == "segment" else {"path": path}],
                "session_hash": tab.session_hash,
            }
            answer = tab.http.post(f"/gradio_api/run/{name}", json=body)
            assert (
                answer.status_code == 500 and "was uploaded to this server" in answer.text or answer.is_error
            )
            assert "root:" not in answer.text
    tab.close()


def picture_of(files: Path) -> Any:
    return gradio_client.handle_file(files / "room.png")


def make_scene(url: str, files: Path, seed: int) -> tuple[Any, str]:
    """A visitor with a scene, and the address of its file."""
    client = gradio_client.Client(url, verbose=False)
    client.predict(
        picture_of(files),
        gradio_client.handle_file(files / "labels.png"),
        api_name="/add",
    )
    answer = client.submit({"seed": seed}, api_name="/generate").result()
    return client, answer["glb"]


def test_two_visitors_never_reach_each_others_files(server, files):
    ours, theirs = PageClient(server.url), PageClient(server.url)
    sessions = [server.service.sessions.get(tab.session_hash) for tab in (ours, theirs)]
    secret = sessions[1].folder / "scene-0" / "scene.glb"
    secret.parent.mkdir()
    secret.write_bytes(b"theirs")
    get = ours.http.get
    assert get(f"/gradio_api/file={secret}").content == b"theirs", "whoever knows the folder's name owns it"
    root, mine = server.service.sessions.root, sessions[0].folder
    guesses = [
        root, f"{root}/", mine, f"{mine}/..", f"{root}/*/scene-0/scene.glb", f"{mine}/../scene-0/scene.glb",
        f"{root}/{theirs.session_hash}/scene-0/scene.glb", f"{root}/{sessions[1].folder.name[:63]}/x",
        f"{mine}/../../../../../etc/passwd", "/etc/passwd", "/proc/self/environ", f"{mine}/%2e%2e/scene-0",
        Path(__file__), server.service.options.debug_dumps, "http://127.0.0.1:1/x", "file:///etc/passwd",
    ]  # fmt: skip
    for guess in guesses:
        for path in (str(guess), quote(str(guess))):
            answer = get(f"/gradio_api/file={path}")
            assert (
                answer.status_code >= 400
                and b"theirs" not in answer.content
                and b"root:" not in answer.content
            ), path
    server.service.sessions.drop(theirs.session_hash)
    assert get(f"/gradio_api/file={secret}").status_code >= 400, "an ended session has no files"


def test_a_closed_tab_ends_its_session(server):
    tab = PageClient(server.url)
    folder = server.service.sessions.get(tab.session_hash).folder
    with httpx.stream("GET", f"{server.url}gradio_api/heartbeat/{tab.session_hash}") as heart:
        next(heart.iter_raw())
        assert folder.exists()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not folder.exists()


def test_uploads_above_the_limit_are_refused(server, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(1_500_000))
    answer = httpx.post(
        f"{server.url}gradio_api/upload", files={"files": (tmp_path / "large.png").open("rb")}
    )
    assert answer.status_code == 413


def test_passwords_guard_page_files_and_interface(shared_checkpoint, tmp_path, files):
    options = DemoOptions(str(shared_checkpoint), folder=tmp_path / "made")
    address = Address(passwords={"ann": "secret: with colon", "bob": "other"})
    with DemoServer(options, address, tmp_path, quiet=True) as server:
        session = server.service.sessions.get("word", "ann")
        (session.folder / "own.txt").write_text("hers")
        stranger = httpx.Client(base_url=server.url)
        paths = ("/config", f"/gradio_api/file={session.folder / 'own.txt'}", "/gradio_api/info")
        assert [stranger.get(path).status_code for path in paths] == [401] * 3
        wrong = stranger.post("/login", data={"username": "ann", "password": "secret"})
        assert wrong.status_code == 400
        with pytest.raises(ValueError, match="401|[Cc]redentials"):
            gradio_client.Client(server.url, verbose=False)
        ann = gradio_client.Client(server.url, auth=("ann", "secret: with colon"), verbose=False)
        assert ann.predict(api_name="/cancel") == {"cancelled": False}
        bob = PageClient(server.url, ("bob", "other"))
        bob.session_hash = "word"
        bob.call("new_image")
        assert server.service.sessions.get("word", "bob").folder != session.folder


def test_nothing_is_left_of_a_server_that_was_stopped(shared_checkpoint, tmp_path, files):
    with DemoServer(
        DemoOptions(str(shared_checkpoint), folder=tmp_path / "made"), Address(), tmp_path, quiet=True
    ) as server:
        make_scene(server.url, files, 1)
        assert any((tmp_path / "made").iterdir())
    assert not any((tmp_path / "made").iterdir())
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_a_port_that_is_taken_is_said(server, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = replace(server.service.options, folder=tmp_path)
        with pytest.raises(
            DemoUnavailable,
            match=f"listen at 127.0.0.1, port {port}, .*Address already in use.*another --port",
        ):
            DemoServer(options, Address(port=port), tmp_path, quiet=True)
    assert not any(tmp_path.glob("sessions-*"))


def test_a_link_that_gradio_does_not_give_is_said(server, tmp_path, monkeypatch, capsys):
    from gradio import networking

    def refuse(**options):
        raise OSError("no way to gradio's servers")

    monkeypatch.setattr(networking, "setup_tunnel", refuse)
    options = replace(server.service.options, folder=tmp_path)
    with pytest.raises(DemoUnavailable, match="^--share: expected a public link.*got none") as caught:
        DemoServer(options, Address(share=True), tmp_path)
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""
    assert not any(tmp_path.glob("sessions-*"))


@pytest.mark.parametrize("host", ["256.1.1.1", "nowhere.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_said(server, tmp_path, host):
    options = replace(server.service.options, folder=tmp_path)
    with pytest.raises(DemoUnavailable, match=f"expected to listen at {host}.*--host") as caught:
        DemoServer(options, Address(host, 7999), tmp_path, quiet=True)
    assert "GRADIO" not in str(caught.value)


def test_the_page_is_not_reachable_from_other_machines(server, caplog):
    caplog.set_level(logging.WARNING)
    port = int(server.url.rstrip("/").rpartition(":")[2])
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2).close()
