"""Surfaces prepared by processes against those prepared here: the same bytes."""

import os
import time

import numpy as np
import pytest
import torch
import trimesh

from scenegen.pipelines import surface_queue
from scenegen.pipelines.surface_queue import WORKERS_VARIABLE, SurfaceQueue, WorkerPool
from scenegen.pipelines.texturing import TextureSettings, texture_mesh
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult

CPU = torch.device("cpu")
SETTINGS = TextureSettings(size=64, simplify=0.5)


@pytest.fixture(scope="module")
def shared_pool():
    pool = WorkerPool()
    yield pool
    pool.close()


@pytest.fixture
def pool(monkeypatch, shared_pool):
    """Processes, whatever the number of threads of this test."""
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    return shared_pool


def ball(radius=0.4):
    shape = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    vertices = torch.from_numpy(shape.vertices).float()
    colours = (vertices + 0.5).repeat(1, 2)
    return MeshExtractResult(vertices, torch.from_numpy(shape.faces).long(), colours, 64)


def queue_of(pool, check=lambda: None):
    return SurfaceQueue(pool.ready(SETTINGS, 2), SETTINGS, False, check)


def test_objects_are_the_same_bytes(pool):
    meshes, queue = {0: ball(), 1: ball(0.3)}, queue_of(pool)
    for row, mesh in meshes.items():
        queue.begin(row, mesh, None)
    for row, mesh in meshes.items():
        textured = texture_mesh(mesh, None, SETTINGS, CPU, surface=queue.take(row))
        plain = texture_mesh(mesh, None, SETTINGS, CPU)
        assert np.array_equal(textured.vertices, plain.vertices)
        assert np.array_equal(textured.visual.uv, plain.visual.uv)
        assert textured.visual.material.baseColorTexture.tobytes() == (
            plain.visual.material.baseColorTexture.tobytes()
        )


def test_a_mesh_that_cannot_be_textured_is_refused_as_it_is_here(pool):
    mesh, queue = ball(radius=3.0), queue_of(pool)
    queue.begin(0, mesh, None)
    with pytest.raises(ValueError, match="expected an object in the cube"):
        queue.take(0)


def test_a_lost_process_costs_its_time_only(pool, caplog):
    queue, workers = queue_of(pool), pool.ready(SETTINGS, 2)
    for _ in range(2):
        workers.submit(os._exit, 1).exception()
    queue.begin(0, ball(), None)
    time.sleep(0.2)  # until a process would have begun
    assert len(queue.take(0).faces) and "the mesh is cleaned and unwrapped here" in caplog.text
    assert pool.ready(SETTINGS, 2).submit(os.getpid).result() != os.getpid()


def test_what_no_process_has_begun_is_done_here(pool):
    queue, pieces = queue_of(pool), []
    busy = [pool.ready(SETTINGS, 2).submit(time.sleep, 0.5) for _ in range(2)]
    queue.begin(0, ball(), None)
    assert len(queue.take(0, pieces.append).faces)
    assert pieces == [1, 2]
    for call in busy:
        call.result()


def test_waiting_ends_when_the_caller_wants_to_stop(pool):
    def stop():
        raise InterruptedError

    queue = queue_of(pool, stop)
    for _ in range(2):
        pool.ready(SETTINGS, 2).submit(time.sleep, 0.2)
    queue.begin(0, ball(), None)
    with pytest.raises(InterruptedError):
        queue.take(0)
    queue.cancel()


def test_processes_are_kept_and_started_only_where_they_help(monkeypatch, pool):
    assert pool.ready(SETTINGS, 2) is pool.ready(SETTINGS, 5)
    assert pool.ready(SETTINGS, 1) is None
    assert pool.ready(None, 4) is None
    assert pool.ready(TextureSettings(surface="released"), 4) is None
    monkeypatch.setenv(WORKERS_VARIABLE, "0")
    assert pool.ready(SETTINGS, 4) is None
    monkeypatch.setenv(WORKERS_VARIABLE, "many")
    with pytest.raises(ValueError, match="SCENEGEN_WORKERS: expected auto or a number, got 'many'"):
        pool.ready(SETTINGS, 4)
    monkeypatch.delenv(WORKERS_VARIABLE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert WorkerPool().ready(SETTINGS, 4) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    own = WorkerPool()
    assert own.ready(SETTINGS, 4).count == 1
    own.close()


def test_a_forked_process_starts_its_own(monkeypatch, pool):
    first = pool.ready(SETTINGS, 2)
    monkeypatch.setattr(surface_queue.os, "getpid", lambda: -1)
    assert pool.ready(SETTINGS, 2) is not first
    monkeypatch.undo()
    first.close()
