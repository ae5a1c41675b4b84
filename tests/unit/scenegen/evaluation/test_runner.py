import json
import logging
import os
import signal

import pytest

from scenegen.batch.engines.local import LocalEngine
from scenegen.evaluation import runner
from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.records import RecordStore
from scenegen.evaluation.runner import EvaluationWork, iterate_records, plan_evaluation
from scenegen.evaluation.scene_list import canonical_sha256
from scenegen.evaluation.settings import EvaluationSettings

run = LocalEngine().run
SETTINGS = EvaluationSettings(100, alignment=AlignmentSettings("none"))


@pytest.fixture
def folders(tmp_path, write_scene):
    prediction, truth = tmp_path / "prediction", tmp_path / "truth"
    for scene_id in ("s1", "s2", "s10"):
        write_scene(truth, scene_id, 2)
        write_scene(prediction, scene_id, 2)
    return prediction, truth


def test_plan_is_in_natural_order_and_limited(folders):
    assert [pair.scene_id for pair in plan_evaluation(*folders, SETTINGS).pairs] == ["s1", "s2", "s10"]
    assert [pair.scene_id for pair in plan_evaluation(*folders, SETTINGS, limit=2).pairs] == ["s1", "s2"]


def test_poses_are_compared_when_any_prediction_has_them(folders):
    prediction, truth = folders
    (prediction / "s1.json").unlink()
    assert plan_evaluation(prediction, truth, SETTINGS).settings.with_poses
    for path in prediction.glob("*.json"):
        path.unlink()
    assert not plan_evaluation(prediction, truth, SETTINGS).settings.with_poses


def test_unknown_predictions_are_told_and_left_out(folders, write_scene, caplog):
    write_scene(folders[0], "other", 1)
    with caplog.at_level(logging.WARNING):
        assert len(plan_evaluation(*folders, SETTINGS).pairs) == 3
    assert "'other'" in caplog.text


def test_empty_truth_is_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="empty"):
        plan_evaluation(folders[0], tmp_path / "empty", SETTINGS)


def test_resume_takes_finished_scenes_and_redoes_changed_and_broken_ones(
    folders, tmp_path, write_scene, monkeypatch
):
    path = tmp_path / "r.records.jsonl"
    plan = plan_evaluation(*folders, SETTINGS)
    first = {record["id"]: record for record in iterate_records(plan, RecordStore(path), run)}
    lines = path.read_text().splitlines()
    kept = [json.loads(line)["record"]["id"] for line in lines[:2]]
    path.write_text("\n".join([*lines[:2], lines[2][:50]]) + "\n")
    write_scene(folders[0], kept[0], 1)
    records = list(iterate_records(plan, RecordStore(path), run))
    # Finished records come first, as they were, down to the seconds they took.
    assert records[0] == first[kept[1]]
    redone = {record["id"]: record for record in records[1:]}
    assert redone.keys() == first.keys() - {kept[1]} and redone[kept[0]]["n_prediction"] == 1
    assert len(list(iterate_records(plan, RecordStore(path), run))) == 3


def test_fault_of_the_truth_ends_the_run(folders):
    (folders[1] / "s2.glb").write_bytes(b"glTF")
    with pytest.raises(GlbError, match="s2.glb"):
        list(iterate_records(plan_evaluation(*folders, SETTINGS), RecordStore(None), run))


class KilledOnS2(EvaluationWork):
    """Stands in for a worker that the system kills for lack of memory."""

    def compare(self, pair):
        if pair.scene_id == "s2":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compare(pair)


def test_a_killed_worker_costs_its_scene_only(folders, monkeypatch, caplog):
    monkeypatch.setattr(runner, "EvaluationWork", KilledOnS2)
    plan = plan_evaluation(*folders, SETTINGS)
    engine = LocalEngine(2)
    records = {record["id"]: record for record in iterate_records(plan, RecordStore(None), engine.run)}
    assert {name: record["status"] for name, record in records.items()} == {
        "s1": "evaluated",
        "s2": "failed",
        "s10": "evaluated",
    }
    assert records["s2"]["protocols"]["corrected"]["penalties"]["scene_fscore"] == 0
    assert "s2: its worker process was killed" in caplog.text


def test_listed_scenes_that_the_truth_lacks_are_told(folders, tmp_path):
    ids = ["s1", "s77"]
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"scenes": ids, "sha256": canonical_sha256(ids)}))
    with pytest.raises(EvaluationError, match="1 of 2 are missing, the first is 's77'"):
        plan_evaluation(*folders, SETTINGS, scene_list=path)
