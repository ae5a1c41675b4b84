"""Sessions: folders of their own, and nothing of them left when they end."""

from __future__ import annotations

import os
import time

import pytest

from scenegen.demo.jobs import Job
from scenegen.demo.session import SessionStore


@pytest.fixture
def cancelled():
    return []


@pytest.fixture
def store(tmp_path, cancelled):
    def cancel(job):
        cancelled.append(job)
        job._finish("cancelled")

    return SessionStore(tmp_path, hours=1, cancel=cancel)


def test_a_key_leads_to_its_session_and_to_no_other(store):
    first, second = store.get("one"), store.get("two")
    assert store.get("one") is first and first is not second and first.folder != second.folder
    assert store.get("one", "ann") is not first, "the same word of somebody else is another session"
    assert len(first.folder.name) == 64 and first.folder.is_dir()


def test_an_ended_session_leaves_no_file_and_its_job_is_cancelled(store, cancelled):
    session = store.get("one")
    session.new_file("look", ".jpg").write_bytes(b"x")
    session.job = Job(lambda job, device: None)
    store.drop("one")
    assert cancelled == [session.job] and not session.folder.exists() and len(store) == 0
    store.drop("one")  # nothing to do
    assert store.get("one") is not session


def test_old_sessions_end_but_not_while_their_scene_is_made(store, cancelled):
    old, busy, new = (store.get(key) for key in ("old", "busy", "new"))
    old.last_use = busy.last_use = time.monotonic() - 3601
    busy.job = Job(lambda job, device: None)
    store.sweep()
    assert not old.folder.exists() and busy.folder.exists() and new.folder.exists() and not cancelled


def test_uploads_that_no_session_took_are_deleted_after_a_while(store, tmp_path):
    session = store.get("one")
    upload = tmp_path / "a1b2" / "photo.jpg"
    upload.parent.mkdir()
    upload.write_bytes(b"x")
    (tmp_path / "link").symlink_to(session.folder)
    store.sweep()
    assert upload.exists(), "it may be on its way"
    store.sweep(stray_seconds=-1)
    assert [path.name for path in tmp_path.iterdir()] == [session.folder.name]


def test_files_of_one_kind_replace_each_other(store):
    session = store.get("one")
    paths = []
    for number in range(4):
        paths.append(session.new_file("look", ".glb", keep_last=2))
        paths[-1].write_bytes(b"x")
        os.utime(paths[-1], ns=(number, number))
    assert len({path.name for path in paths}) == 4, "a browser must not show an old file under a new name"
    assert [path.exists() for path in paths] == [False, True, True, True]
    for count in (5, 6):  # fewer than are kept: none is deleted
        made = [session.new_file("pair", ".jpg", keep_last=9) for _ in range(count)]
        for path in made:
            path.write_bytes(b"x")
        assert all(path.exists() for path in made)


def test_folders_replace_each_other_when_they_are_filled(store):
    session = store.get("one")
    with session.making_folder("files", keep_last=1) as slow:
        with session.making_folder("files", keep_last=1) as quick:
            (quick / "a").write_bytes(b"x")
        assert quick.is_dir() and slow.is_dir(), "one that is being filled is not deleted by another"
        with session.making_folder("scene", keep_last=1) as scene:
            pass
    assert slow.is_dir() and not quick.exists() and scene.is_dir()
    with pytest.raises(OSError), session.making_folder("files", keep_last=1) as failed:
        (failed / "half").write_bytes(b"x")
        raise OSError("full")
    assert slow.is_dir() and not failed.exists()


def test_all_sessions_end_with_the_server(store, tmp_path):
    store.get("one"), store.get("two")
    store.close()
    assert not list(tmp_path.iterdir()) and len(store) == 0
