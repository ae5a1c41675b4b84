import json
import random

import pytest

from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.records import RecordStore, RunHeader, dump_json, merge_records, records_path
from tests.evaluation_records import evaluated_record

IDS = ["a", "b", "c", "d"]
HEADER = RunHeader({"points": 5}, {"name": "list", "ids": IDS}, {"truth": "t"})


def record(scene_id, value=1.0):
    return evaluated_record(scene_id, {"corrected": {"scene_cd": value, "render_psnr": float("inf")}})


def fill(path, ids, header=HEADER):
    with RecordStore(path, header) as store:
        for scene_id in ids:
            store.add(f"key of {scene_id}", record(scene_id))


def test_parts_of_ranks_join_in_the_order_of_the_list(tmp_path):
    output = tmp_path / "r.json"
    fill(records_path(output, 0), ["a", "c"])
    fill(
        records_path(output, 1), ["b", "d"], RunHeader(HEADER.settings, HEADER.scenes, {"truth": "elsewhere"})
    )
    header, records = merge_records(output)
    assert [entry["id"] for entry in records] == IDS and header.settings == HEADER.settings
    assert records[0] == record("a"), "an infinite figure comes back"


def test_unfinished_other_and_absent_parts_are_told(tmp_path):
    output = tmp_path / "r.json"
    with pytest.raises(EvaluationError, match="found none"):
        merge_records(output)
    fill(records_path(output, 0), ["a", "c"])
    with pytest.raises(EvaluationError, match="2 are missing, the first is 'b'"):
        merge_records(output)
    fill(records_path(output, 1), ["b", "d"], RunHeader({"points": 6}, HEADER.scenes))
    with pytest.raises(EvaluationError, match="expected the settings and scenes"):
        merge_records(output)


def test_records_of_an_earlier_run_are_entered_into_the_new_one(tmp_path):
    output = tmp_path / "r.json"
    fill(records_path(output), ["a", "b"], RunHeader({"points": 5}, {"name": "list", "ids": ["a", "b"]}))
    with RecordStore(records_path(output), HEADER) as store:
        assert store.resume("key of a") == record("a") and store.resume("key of x") is None
        for scene_id in "bcd":
            if store.resume(f"key of {scene_id}") is None:
                store.add(f"key of {scene_id}", record(scene_id))
    assert [entry["id"] for entry in merge_records(output)[1]] == IDS


def test_a_kill_at_any_point_loses_only_the_record_that_was_being_written(tmp_path):
    path = tmp_path / "whole.records.jsonl"
    fill(path, IDS)
    content, rng = path.read_bytes(), random.Random(0)
    for point in [rng.randrange(1, len(content)) for _ in range(10)]:
        output = tmp_path / f"{point}.json"
        records_path(output).write_bytes(content[:point])
        with RecordStore(records_path(output), HEADER) as store:
            for scene_id in IDS:
                if store.resume(f"key of {scene_id}") is None:
                    store.add(f"key of {scene_id}", record(scene_id))
        assert merge_records(output)[1] == [record(scene_id) for scene_id in IDS]


def test_second_run_on_one_output_is_refused(tmp_path):
    path = tmp_path / "r.records.jsonl"
    with RecordStore(path, HEADER):
        with pytest.raises(EvaluationError, match="another run writes these records"):
            RecordStore(path, HEADER)
    with RecordStore(path, HEADER):
        pass


def test_record_of_a_killed_worker_is_tried_again(tmp_path):
    path = tmp_path / "r.records.jsonl"
    with RecordStore(path, HEADER) as store:
        store.add("key", record("a") | {"killed": True})
    with RecordStore(path, HEADER) as store:
        assert store.get("key") is None


def test_infinite_figures_are_written_as_any_reader_takes_them():
    text = dump_json({"psnr": float("inf"), "others": [1.5, None]})
    assert json.loads(text) == {"psnr": "inf", "others": [1.5, None]}
    with pytest.raises(ValueError):
        dump_json({"figure": float("nan")})
