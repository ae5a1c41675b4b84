"""What is said before a cluster is asked; tests with one are in tests/e2e/test_ray_cluster.py."""

import sys
import time
from types import SimpleNamespace

import pytest

import inference
from scenegen.batch.engines.ray_cluster import RayEngine, _check_answers, _RayWorker
from scenegen.batch.engines.tasks import EngineError, Task, WorkerNeeds
from tests.engine_works import Deeds
from trellis_modules.checkpoint import CheckpointError


def test_without_ray_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="expects the package 'ray', .* run bash setup.sh --ray"):
        list(RayEngine().run([Task("a")], Deeds(tmp_path)))


def test_a_batch_without_ray_ends_with_one_line_and_status_2(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in" / "room").mkdir(parents=True)
    for name in ("scene.png", "0_mask.png"):
        (tmp_path / "in" / "room" / name).touch()
    given = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert inference.main([*given, "--engine", "ray"]) == 2
    assert "run bash setup.sh --ray" in caplog.messages[-1] and "\n" not in caplog.messages[-1]


def test_an_address_where_nobody_listens_is_told_at_once():
    start = time.monotonic()
    with pytest.raises(OSError):
        _check_answers("127.0.0.1:9")
    assert time.monotonic() - start < 6


@pytest.mark.parametrize(
    ("workers", "needs", "resources", "expected"),
    [
        (None, WorkerNeeds(2), {"CPU": 8.0}, 4),
        (None, WorkerNeeds(1, 0.25), {"CPU": 64.0, "GPU": 2.0}, 8),
        (3, WorkerNeeds(), {"CPU": 8.0}, 3),
    ],
)
def test_workers_are_as_many_as_there_is_room_for(workers, needs, resources, expected):
    assert RayEngine(workers, needs, "host:1")._count(resources) == expected


@pytest.mark.parametrize(
    ("workers", "needs", "resources"),
    [(5, WorkerNeeds(2), {"CPU": 8.0}), (1, WorkerNeeds(1, 1.0), {"CPU": 8.0}), (None, WorkerNeeds(), {})],
)
def test_a_cluster_without_room_is_refused(workers, needs, resources):
    with pytest.raises(EngineError, match="host:1: expected room for .* give fewer --workers"):
        RayEngine(workers, needs, "host:1")._count(resources)


def test_a_cluster_of_another_version_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\nThis: 2.60.0")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=refuse, __version__="2.60.0"))
    expected = "expected a Ray cluster of version 2.60.0, got: .* Ray: 2.50.0"
    with pytest.raises(EngineError, match=expected) as raised:
        list(RayEngine(address="auto").run([Task("a")], Deeds(tmp_path)))
    assert "\n" not in str(raised.value) and "set RAY_AUTH_MODE=token where it asks" in str(raised.value)


def test_what_a_worker_cannot_load_names_its_host():
    kinds = SimpleNamespace(RayActorError=KeyError, NodeDiedError=KeyError)
    worker = _RayWorker.__new__(_RayWorker)
    worker._ray = SimpleNamespace(exceptions=kinds)
    error = RuntimeError("task failed")
    error.cause, error.ip = CheckpointError("/weights: expected pipeline.json, found none"), "10.0.0.3"
    reason = worker.reason(error)
    assert isinstance(reason, EngineError)
    assert str(reason) == "worker on 10.0.0.3: /weights: expected pipeline.json, found none"
