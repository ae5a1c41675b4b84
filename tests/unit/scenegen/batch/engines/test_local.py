"""The local engine: order, deaths, messages and back-pressure; the stream of tasks is that of Ray too."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenegen.batch.engines.journal import Journal
from scenegen.batch.engines.local import LocalEngine
from scenegen.batch.engines.tasks import EngineError, Task, WorkerNeeds
from scenegen.cli.engine_options import add_engine_arguments, engine_of, run_tasks
from tests.engine_works import Deeds

ROOT = Path(__file__).resolve().parents[5]


def run(engine, work, **deeds):
    return {record.id: record for record in engine.run((Task(*deed) for deed in deeds.items()), work)}


def test_in_this_process_tasks_come_one_after_the_other(tmp_path, caplog):
    records = run(LocalEngine(), Deeds(tmp_path), a="", b="skip", c="fail", d="warn")
    assert [record.status for record in records.values()] == ["done", "skipped", "failed", "done"]
    assert records["a"].value == os.getpid() and records["a"].host and records["a"].device == "cpu"
    assert records["c"].error == "c: failed"
    assert caplog.messages == ["d: warned"] and records["d"].messages == ()


def test_the_work_is_not_opened_where_there_is_nothing_to_do(tmp_path):
    assert run(LocalEngine(), Deeds(tmp_path, fault=ValueError("opened"))) == {}
    assert run(LocalEngine(2), Deeds(tmp_path, fault=ValueError("opened"))) == {}


def test_workers_that_die_cost_the_task_that_kills_them_and_no_other(tmp_path):
    work = Deeds(tmp_path)
    deeds = {f"t{number}": "" for number in range(8)} | {
        "once": "die-once",
        "always": "die",
        "warned": "warn",
    }
    records = run(LocalEngine(2), work, **deeds)
    assert records.keys() == deeds.keys()
    assert {name for name, record in records.items() if record.status == "failed"} == {"always"}
    assert records["always"].error == (
        "always: its worker process was killed, as a rule for lack of memory; "
        "counted as failed after 2 attempts"
    )
    assert (records["once"].attempts, records["always"].attempts) == (2, 2)
    assert work.times("always") == 2
    assert records["warned"].messages == (("scenegen.inputs.engine_works", 30, "warned: warned"),)
    assert os.getpid() not in {record.value for record in records.values()}


def test_threads_share_this_process(tmp_path):
    deeds = {str(number): "" for number in range(20)}
    records = run(LocalEngine(3, in_threads=True), Deeds(tmp_path), **deeds)
    assert records.keys() == deeds.keys()
    assert {record.value for record in records.values()} == {os.getpid()}
    with pytest.raises(ValueError, match="a: raised"):
        run(LocalEngine(2, in_threads=True), Deeds(tmp_path), a="raise", b="")


def test_faults_of_the_work_end_the_run_as_in_one_process(tmp_path):
    for engine in (LocalEngine(), LocalEngine(1, is_apart=True)):
        with pytest.raises(OSError, match="no weights"):
            run(engine, Deeds(tmp_path, fault=OSError("no weights")), a="")
        with pytest.raises(ValueError, match="a: raised"):
            run(engine, Deeds(tmp_path), a="raise", b="")


def test_workers_that_cannot_begin_are_not_started_forever(tmp_path):
    with pytest.raises(EngineError, match="workers end before they begin"):
        run(LocalEngine(1, WorkerNeeds(max_retries=0), is_apart=True), DeadAtOnce(tmp_path), a="")


class DeadAtOnce(Deeds):
    def open(self):
        os.abort()


def test_tasks_are_taken_as_workers_become_free(tmp_path):
    taken = []

    def tasks():
        for number in range(1000):
            taken.append(number)
            yield Task(str(number))

    records = LocalEngine(2).run(tasks(), Deeds(tmp_path))
    for _ in range(5):
        next(records)
    assert len(taken) <= 5 + 2 * 2
    records.close()
    assert len(list(tmp_path.iterdir())) <= 5 + 2 * 2


def test_gpus_and_threads_are_those_of_the_place(monkeypatch):
    from scenegen.batch.engines.local import _environment

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    quarters = [_environment(WorkerNeeds(1, 0.25), place)["CUDA_VISIBLE_DEVICES"] for place in range(8)]
    assert quarters == ["4"] * 4 + ["5"] * 4
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert _environment(WorkerNeeds(3, 2), 1) == {
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "3"),
        "CUDA_VISIBLE_DEVICES": "2,3",
    }


def test_workers_end_with_a_caller_that_is_killed(tmp_path):
    program = (
        "from pathlib import Path\n"
        "from scenegen.batch.engines.local import LocalEngine\n"
        "from scenegen.batch.engines.tasks import Task\n"
        "from tests.engine_works import Deeds\n"
        "if __name__ == '__main__':\n"
        f"    tasks = [Task('a'), Task('b', 'sleep 60')]\n"
        f"    for record in LocalEngine(1, is_apart=True).run(tasks, Deeds(Path({str(tmp_path)!r}))):\n"
        "        print(record.value, flush=True)\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as driver:
        worker = int(driver.stdout.readline())
        driver.kill()
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}")


def test_a_journal_keeps_whole_lines_and_has_one_writer(tmp_path):
    path = tmp_path / "out" / "tasks.jsonl"
    path.parent.mkdir()
    path.write_text('{"id": "ha')
    (record,) = LocalEngine().run([Task("a", "fail")], Deeds(tmp_path))
    with Journal(path) as journal:
        journal.add(record)
        with pytest.raises(EngineError, match="another run writes these records"):
            Journal(path)
    half, line = path.read_text().splitlines()
    kept = json.loads(line)
    assert half == '{"id": "ha' and kept["error"] == "a: failed" and kept["attempts"] == 1
    assert kept.keys() == {"id", "status", "host", "device", "seconds", "attempts", "error", "time"}


def test_a_journal_that_is_there_is_kept_and_held_by_one_run(tmp_path):
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    options = parser.parse_args([])
    work, journal = Deeds(tmp_path), tmp_path / "tasks.jsonl"

    def made() -> list[str]:
        records = run_tasks(engine_of(options), [Task("a"), Task("b")], work, options, journal, what="task")
        return [record.id for record in records]

    assert made() == ["a", "b"] and not journal.exists()
    journal.touch()
    assert made() == ["a", "b"] and len(journal.read_text().splitlines()) == 2
    with Journal(journal), pytest.raises(EngineError, match="another run writes these records"):
        made()
