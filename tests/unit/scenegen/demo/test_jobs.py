"""The queue: order, one job a device, cancelling, and what a failing job leaves behind."""

from __future__ import annotations

import threading

import pytest
import torch

from scenegen.demo.jobs import Busy, Job, JobQueue
from scenegen.inputs.image_files import SceneInputError
from scenegen.pipelines.progress import Progress

CPU = torch.device("cpu")
SECONDS = 20  # far more than anything here takes


@pytest.fixture
def queue():
    made = JobQueue([CPU], max_waiting=5)
    yield made
    made.close()


@pytest.fixture
def gate(queue):
    """A job that runs until its event is set."""
    running, release = threading.Event(), threading.Event()

    def hold(job, device):
        running.set()
        assert release.wait(SECONDS)

    job = queue.submit(Job(hold))
    assert running.wait(SECONDS)
    yield job, release
    release.set()


def test_jobs_run_one_after_the_other_in_their_order(queue, gate):
    done = []
    jobs = [queue.submit(Job(lambda job, device, name=name: done.append((name, device)))) for name in "abc"]
    assert [queue.place(job) for job in jobs] == [1, 2, 3] and jobs[0].state == "waiting"
    gate[1].set()
    assert all(job.wait(SECONDS) for job in jobs)
    assert done == [("a", CPU), ("b", CPU), ("c", CPU)]
    assert [job.state for job in jobs] == ["done"] * 3 and queue.place(jobs[0]) == 0


def test_short_work_goes_before_all_that_wait(queue, gate):
    done = []
    late = queue.submit(Job(lambda job, device: done.append("scene")))
    queue.submit(Job(lambda job, device: done.append("masks")), first=True)
    gate[1].set()
    assert late.wait(SECONDS) and done == ["masks", "scene"]


def test_every_device_has_a_job_of_its_own():
    queue = JobQueue([CPU, torch.device("meta")], max_waiting=2)
    both = threading.Barrier(2, timeout=SECONDS)
    seen = []

    def meet(job, device):
        both.wait()
        seen.append(device.type)

    jobs = [queue.submit(Job(meet)) for _ in range(2)]
    assert all(job.wait(SECONDS) and job.state == "done" for job in jobs)
    assert sorted(seen) == ["cpu", "meta"]
    queue.close()


def test_a_waiting_job_is_cancelled_at_once_and_the_next_moves_up(queue, gate):
    ran = []
    first, second = (queue.submit(Job(lambda job, device, n=n: ran.append(n))) for n in (1, 2))
    queue.cancel(first)
    assert first.is_finished and first.state == "cancelled" and queue.place(second) == 1
    gate[1].set()
    assert second.wait(SECONDS) and ran == [2]


def test_a_running_job_is_asked_to_stop_when_it_reports(queue):
    started = threading.Event()

    def work(job, device):
        started.set()
        for done in range(10**9):
            job.report(Progress("structure", done, 10**9))

    job = queue.submit(Job(work))
    assert started.wait(SECONDS)
    queue.cancel(job)
    assert job.wait(SECONDS) and job.state == "cancelled" and job.error is None
    assert job.progress.stage == "structure" and job.work is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SceneInputError("photo: expected this, got that; do it"), "photo: expected this, got that; do it"),
        (torch.OutOfMemoryError("CUDA out of memory"), "fit into the memory of cpu.*--low-vram"),
        (RuntimeError("kernel\nwith a long tail"), r"RuntimeError: kernel\); the log"),
        (OSError(28, "No space left on device"), "the disk refuses .*No space left"),
    ],
)
def test_a_failing_job_says_why_in_one_line_and_the_next_one_runs(queue, error, words):
    def fail(job, device):
        raise error

    failed, after = queue.submit(Job(fail)), queue.submit(Job(lambda job, device: None))
    assert failed.wait(SECONDS) and after.wait(SECONDS) and after.state == "done"
    assert failed.state == "failed" and "\n" not in failed.error
    with pytest.raises(RuntimeError, match=words):
        raise RuntimeError(failed.error)


def test_a_full_queue_refuses_and_a_closed_one_too(queue, gate):
    for _ in range(5):
        queue.submit(Job(lambda job, device: None))
    with pytest.raises(Busy, match="at most 5 scenes to wait.*try again in some minutes"):
        queue.submit(Job(lambda job, device: None))
    gate[1].set()
    queue.close()
    with pytest.raises(Busy, match="being stopped"):
        queue.submit(Job(lambda job, device: None))


@pytest.mark.parametrize("error", [TypeError("a float"), KeyError("x"), IndexError(3), AssertionError()])
def test_whatever_a_scene_does_the_next_one_is_made(queue, error):
    def stumble(job, device):
        raise error

    first = queue.submit(Job(stumble))
    second = queue.submit(Job(lambda job, device: None))
    assert first.wait(SECONDS) and second.wait(SECONDS)
    assert (first.state, second.state) == ("failed", "done") and type(error).__name__ in first.error
