"""The table of training on several GPUs: what is measured is kept, what is not there stays open."""

import json

import pytest

from benchmarks import scaling


def row(gpus, parallel, seconds, objects=4):
    return {
        "gpus": gpus, "parallel": parallel, "objects": objects, "seconds_per_step": seconds,
        "memory_gib": 40.0, "data_wait": 0.01, "device": "a GPU",
    }  # fmt: skip


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Function (arguments) -> exit status, and which runs were measured; two devices are there."""
    runs = []

    def measure(options, size, parallel):
        runs.append((size, parallel))
        return None if parallel == "fsdp2" else row(size, parallel, 0.5 + 0.1 * size)

    for name in ("write_frozen", "write_root"):
        monkeypatch.setattr(scaling, name, lambda *arguments: {})
    monkeypatch.setattr(scaling, "measure", measure)
    monkeypatch.setattr(scaling.torch.cuda, "device_count", lambda: 2)

    def call(*more):
        runs.clear()
        status = scaling.main(["--output", str(tmp_path), "--device", "cuda", *more])
        return status, list(runs)

    return call


def test_what_is_there_is_measured_once_and_the_rest_is_open(tmp_path, measured, capsys):
    assert measured() == (1, [(1, "alone"), (2, "ddp"), (2, "fsdp2")])
    told = capsys.readouterr().out
    assert "| 2 | ddp | 1.429 | 2.857 | 0.857 | 40.0 | 1.0% |" in told  # 0.6 s of one, 0.7 s of two
    assert "| 4 | open: this machine has 2 | | | | | |" in told and "| 8 | open" in told
    assert measured("--parallel", "ddp") == (0, [])
    kept = [json.loads(line) for line in (tmp_path / scaling.RESULTS).read_text().splitlines()]
    assert [(one["gpus"], one["parallel"]) for one in kept] == [(1, "alone"), (2, "ddp")]


def test_scenes_of_other_sizes_are_rows_of_their_own(measured):
    assert measured("--parallel", "ddp", "--sizes", "1")[1] == [(1, "alone")]
    assert measured("--parallel", "ddp", "--sizes", "1", "--objects", "7")[1] == [(1, "alone")]
