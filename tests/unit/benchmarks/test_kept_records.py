"""Records of measurements that a second run goes on from."""

import pytest

from benchmarks.kept_records import append_record, measure_missing, read_records


def test_what_is_kept_is_not_measured_again(tmp_path):
    path, asked = tmp_path / "new" / "records.jsonl", []

    def measure(name):
        asked.append(name)
        return {"scene": name, "value": len(asked)}

    first = measure_missing(path, ["a", "b"], measure)
    again = measure_missing(path, ["b", "c"], measure)
    assert asked == ["a", "b", "c"] and again == [*first, {"scene": "c", "value": 3}] == read_records(path)


def test_a_run_that_ends_keeps_what_it_measured(tmp_path):
    path = tmp_path / "records.jsonl"
    assert read_records(path) == []
    append_record(path, {"scene": "a"})

    def measure(name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_missing(path, ["a", "b"], measure)
    assert read_records(path) == [{"scene": "a"}]
