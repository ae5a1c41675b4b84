"""Stores without a server: URLs, folders and memory, which need the package fsspec alone."""

import errno
import pickle
import socket

import pytest
import trimesh

import evaluate
from scenegen.batch.engines.local import LocalEngine
from scenegen.batch.engines.tasks import EngineError, Task, TaskResult
from scenegen.cli.store_options import path_or_url
from scenegen.stores.kept import WorkWithCopies, kept_copy
from scenegen.stores.mirrored import MirroredWork
from scenegen.stores.root_files import RootFiles
from scenegen.stores.shared_copies import SharedCopies
from scenegen.stores.store import Store, remove_files
from scenegen.stores.urls import StoreError, StoreUrl, place, without_secrets

needs_fsspec = pytest.mark.usefixtures("fsspec")


@pytest.fixture
def fsspec():
    return pytest.importorskip("fsspec", reason="needs the package fsspec: bash setup.sh --stores")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ftp://host/x", r"ftp://: expected one of s3://, gs://, az://, file://, memory://"),
        ("s3:///x", "expected the name of a bucket after s3://, got none"),
        ("s3://key:hidden-one@bucket/x", "expected a URL without credentials, got some in it"),
        ("az://box/x?sig=hidden-one", "expected a URL without credentials, got some in it"),
    ],
)
def test_urls_that_cannot_be_used_are_told_in_one_line_without_secrets(url, expected):
    with pytest.raises(StoreError, match=expected) as told:
        place(url)
    assert "\n" not in str(told.value) and "hidden-one" not in str(told.value)


def test_paths_stay_paths_and_urls_keep_their_slashes(tmp_path):
    assert path_or_url(str(tmp_path)) == tmp_path
    url = path_or_url("s3://bucket/photos/")
    assert str(url) == "s3://bucket/photos" and str(url / "a") == "s3://bucket/photos/a"
    assert pickle.loads(pickle.dumps(url)).mirror == url.mirror != (url / "a").mirror


def test_values_of_credentials_do_not_get_into_lines(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh/12345")
    assert without_secrets("denied for abcdefgh/12345\nat once") == "denied for ... at once"


@needs_fsspec
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_files_come_and_go_whole(scheme, tmp_path):
    base = f"file://{tmp_path}/store" if scheme == "file" else f"memory://{tmp_path.name}"
    store, here = Store(StoreUrl.parse(base)), tmp_path / "here"
    (here / "a").mkdir(parents=True)
    (here / "a" / "1.txt").write_text("one")
    (here / "2.txt").write_text("two")
    with pytest.raises(StoreError, match="found nothing; correct the URL"):
        list(store.entries())
    for name in ("a/1.txt", "2.txt", "2.txt"):
        store.deliver(here, name)
    assert list(store.entries()) == [("2.txt", False), ("a", True)]
    assert store.find("") == {"2.txt": 3, "a/1.txt": 3} and store.find("b") == {}
    assert store.fetch("a", tmp_path / "there") == ["a/1.txt"]
    assert (tmp_path / "there" / "a" / "1.txt").read_text() == "one"
    remove_files(tmp_path / "there", ["a/1.txt"])
    assert list((tmp_path / "there").iterdir()) == []
    store.remove("2.txt")
    store.remove("2.txt")
    assert not store.exists("2.txt") and store.exists("a")


class Cut:
    """A file system whose transfers stop in the middle so many times."""

    def __init__(self, system, times: int) -> None:
        self._system, self._left = system, times

    def __getattr__(self, name):
        return getattr(self._system, name)

    def get_file(self, source, target):
        if self._left:
            self._left -= 1
            with open(target, "wb") as file:
                file.write(b"ha")
            if self._left % 2:
                raise ConnectionResetError("cut in the middle")
            return
        self._system.get_file(source, target)


@needs_fsspec
def test_a_transfer_that_is_cut_is_tried_again_and_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr("scenegen.stores.store._FIRST_WAIT", 0.001)
    here, store = tmp_path / "here", Store(StoreUrl.parse(f"file://{tmp_path}/store"))
    here.mkdir()
    (here / "1.txt").write_text("one and more")
    store.deliver(here, "1.txt")
    store._system = Cut(store._system, 4)
    store.fetch("1.txt", tmp_path / "there")
    assert (tmp_path / "there" / "1.txt").read_text() == "one and more"
    store._system._left = 9
    with pytest.raises(StoreError, match="1.txt: expected a store that can be used, got Connection"):
        store.fetch("1.txt", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


class Copying:
    """A work that writes the content of its input, in capitals, below the local folder of the output."""

    device = "cpu"

    def __init__(self, inputs: StoreUrl, outputs: StoreUrl) -> None:
        self.inputs, self.outputs = inputs.mirror, outputs.mirror

    def open(self):
        def run(task: Task) -> TaskResult:
            target = self.outputs / task.id
            if (target / "poses.json").is_file():
                return TaskResult(is_skipped=True)
            text = (self.inputs / task.inputs[0]).read_text()
            if text == "bad":
                return TaskResult(error=f"{task.id}: bad")
            target.mkdir(parents=True, exist_ok=True)
            for name in ("poses.json", "scene.txt"):
                (target / name).write_text(text.upper())
            return TaskResult()

        return run


@needs_fsspec
def test_a_folder_that_another_process_removes_while_a_file_comes_is_made_again(tmp_path, monkeypatch):
    (tmp_path / "store" / "raw").mkdir(parents=True)
    (tmp_path / "store" / "raw" / "1.txt").write_text("one")
    store, here = Store(StoreUrl.parse(f"file://{tmp_path}/store")), tmp_path / "here"
    get_file, asked = store._system.get_file, []

    def get(source, target):
        asked.append(source)
        if len(asked) == 1:
            remove_files(here, ["raw/2.txt"])  # the last file of the other process
            assert not (here / "raw").exists()
            open(target, "wb")
        get_file(source, target)

    monkeypatch.setattr(store._system, "get_file", get)
    assert store.fetch("raw", here) == ["raw/1.txt"]
    assert (here / "raw" / "1.txt").read_text() == "one" and len(asked) == 2


@needs_fsspec
def test_the_last_of_several_that_use_a_copy_removes_it(tmp_path, monkeypatch):
    (tmp_path / "store" / "raw").mkdir(parents=True)
    (tmp_path / "store" / "raw" / "1.txt").write_text("one")
    store = Store(StoreUrl.parse(f"file://{tmp_path}/store"))
    first, second, third = (SharedCopies(store) for _ in range(3))
    file = store.url.mirror / "raw" / "1.txt"
    assert first.bring(["raw"]).keys() == second.bring(["raw"]).keys() == {"raw/1.txt"}
    first.remove()
    assert file.read_text() == "one"
    second.remove()
    assert not file.exists() and not file.parent.exists()

    fetch, times = store.fetch, []

    def taken_away_once(name, folder):
        found = fetch(name, folder)
        if not times:
            remove_files(folder, found)
        times.append(name)
        return found

    monkeypatch.setattr(store, "fetch", taken_away_once)
    third.bring(["raw"])
    assert file.read_text() == "one" and len(times) == 2


@needs_fsspec
def test_a_work_reads_and_writes_stores_and_leaves_nothing_here(tmp_path):
    source, target = (StoreUrl.parse(f"file://{tmp_path}/{name}") for name in ("in", "out"))
    (tmp_path / "in").mkdir()
    for name, text in (("a", "one"), ("b", "bad")):
        (tmp_path / "in" / name).write_text(text)
    delivered = []
    run = MirroredWork(Copying(source, target), source, target).open()
    run._outputs.deliver, deliver = lambda folder, name: delivered.append(name), run._outputs.deliver
    assert run(Task("a", inputs=("a",), outputs=("a",))).error is None
    assert delivered == ["a/scene.txt", "a/poses.json"], "what tells that all are there comes last"
    run._outputs.deliver = deliver
    results = [run(Task(name, inputs=(name,), outputs=(name,))) for name in ("a", "b", "a")]
    assert [result.error for result in results] == [None, "b: bad", None]
    assert [result.is_skipped for result in results] == [False, False, True]
    assert (tmp_path / "out" / "a" / "scene.txt").read_text() == "ONE"
    assert not (tmp_path / "out" / "b").exists()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@needs_fsspec
def test_copies_that_stay_are_brought_once(tmp_path):
    url = StoreUrl.parse(f"file://{tmp_path}/weights")
    (tmp_path / "weights" / "ckpts").mkdir(parents=True)
    (tmp_path / "weights" / "ckpts" / "flow").write_text("weights")
    folder = kept_copy(url)
    assert (folder / "ckpts" / "flow").read_text() == "weights"
    made = (folder / "ckpts" / "flow").stat().st_mtime_ns
    assert WorkWithCopies(Copying(url, url), (url,)).open() is not None
    assert (folder / "ckpts" / "flow").stat().st_mtime_ns == made
    with pytest.raises(StoreError, match="expected shards, found nothing"):
        kept_copy(url, ["shards"])


@needs_fsspec
def test_scenes_to_compare_may_be_stored(tmp_path, capsys):
    (tmp_path / "prediction").mkdir()
    (tmp_path / "truth").mkdir()
    urls = [f"file://{tmp_path}/{name}" for name in ("prediction", "truth")]
    assert evaluate.main(["--prediction", urls[0], "--truth", urls[1]]) == 2
    trimesh.Scene({"obj_0": trimesh.creation.box()}).export(tmp_path / "truth" / "s.glb")
    (tmp_path / "prediction" / "s.glb").write_bytes((tmp_path / "truth" / "s.glb").read_bytes())
    given = ["--prediction", urls[0], "--truth", urls[1], "--num-points", "50", "--alignment", "none"]
    assert evaluate.main([*given, "--protocol", "corrected"]) == 0
    assert "1 scene" in capsys.readouterr().out


@needs_fsspec
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            PermissionError("The difference between the request time and the server's is too large"),
            "the clock of",
        ),
        (FileNotFoundError("The specified bucket does not exist"), "make the bucket or correct the URL"),
        (PermissionError("Access Denied"), "what the account may do there"),
    ],
    ids=["clock", "bucket", "rights"],
)
def test_what_a_store_refuses_says_what_to_do(tmp_path, error, hint):
    def refuse():
        raise error

    with pytest.raises(StoreError, match=hint):
        Store(StoreUrl.parse(f"file://{tmp_path}"))._tried(refuse, "x")


@needs_fsspec
def test_a_full_disk_of_a_worker_ends_the_run_in_one_line_and_keeps_what_is_finished(tmp_path, monkeypatch):
    urls = StoreUrl.parse(f"file://{tmp_path}/in"), StoreUrl.parse(f"file://{tmp_path}/out")
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / name).write_text(name)
    tasks = [Task(name, inputs=(name,), outputs=(name,)) for name in "abc"]
    work = MirroredWork(Copying(*urls), *urls)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_get", _full_at(urls[0].text, "c", Store._get))
        expected = r"the disk refuses \(\[Errno 28\] .*\); make space there"
        with pytest.raises(EngineError, match=expected) as raised:
            list(LocalEngine().run(tasks, work))
    assert "\n" not in str(raised.value)
    statuses = {record.id: record.status for record in LocalEngine().run(tasks, work)}
    assert statuses == {"a": "skipped", "b": "skipped", "c": "done"}


def _full_at(url, wanted, get):
    def refuse(self, name, size, path):
        if self.url.text == url and name == wanted:
            raise OSError(errno.ENOSPC, "No space left on device")
        get(self, name, size, path)

    return refuse


@needs_fsspec
def test_processes_have_folders_of_their_own_and_those_of_lost_ones_go(tmp_path):
    url = StoreUrl.parse(f"file://{tmp_path}/root")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "model.obj").write_text("model")
    work = url.mirror / ".work"
    lost, others = work / f"{socket.gethostname()}-99999999", work / "another-host-99999999"
    for folder in (lost, others):
        folder.mkdir(parents=True)
    files = RootFiles(url.mirror, url)
    assert not lost.exists() and others.exists()
    with files.here(["model.obj", "none.mtl"], ["made"]):
        assert (files.root / "model.obj").read_text() == "model" and files.root.parent == work
        (files.root / "made").mkdir()
        (files.root / "made" / "a.txt").write_text("a")
    assert not files.root.exists() and (tmp_path / "root" / "made" / "a.txt").read_text() == "a"
    with pytest.raises(ValueError), files.here([], ["made"]):
        (files.root / "made").mkdir(parents=True)
        (files.root / "made" / "b.txt").write_text("b")
        raise ValueError("the block fails")
    assert files.states("made").keys() == {"made/a.txt"} and not files.root.exists()
    assert files.told(f"{files.root}/model.obj: bad") == f"{url}/model.obj: bad"
