"""Confidence from end to end: signs of sampled scenes, what they are worth, and what people are told."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import confidence
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli import infer
from scenegen.confidence.calibration import CAMERA_QUESTION, OBJECT_QUESTIONS

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments) -> int:
    return confidence.main([str(argument) for argument in arguments])


@pytest.fixture
def records(tmp_path, checkpoint) -> Path:
    """What a toy model's samples of a bundled scene show, and scenes made up of it."""
    path = tmp_path / "records.jsonl"
    common = ["--root", ROOT / "assets", "--set", "test", "--checkpoint", checkpoint, "--output", path]
    assert call("collect", *common, "--candidates", 2, "--limit", 1) == 0
    (line,) = path.read_text().splitlines()
    assert call("collect", *common, "--candidates", 2, "--limit", 1) == 0
    assert path.read_text().splitlines() == [line], "a scene that is there is not sampled again"
    rng, lines = np.random.default_rng(0), []
    for number in range(24):
        record = copy.deepcopy(json.loads(line))
        record["scene"] = f"scene_{number:02d}"
        for sample in record["samples"]:
            for errors in sample["errors"]:
                errors |= {
                    "turn_deg": rng.uniform(0, 30),
                    "place": rng.uniform(0, 0.5),
                    "fscore": rng.random(),
                }
            for signs, errors in zip(sample["signs"], sample["errors"], strict=True):
                signs["turn_told"] = errors["turn_deg"] / 10 + rng.normal(0, 0.1)
            sample["camera_errors"]["direction_deg"] = rng.uniform(0, 30)
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_signs_are_collected_learnt_and_told(records, checkpoint, tmp_path, write_scene, capsys):
    signs = json.loads(records.read_text().splitlines()[0])["samples"][0]["signs"]
    assert {"overlap", "turn_told", "turn_spread", "undecided", "half_turn"} <= signs[1].keys()
    assert call("fit", "--records", records, "--checkpoint", checkpoint) == 0
    calibration = PipelineConfig.load(checkpoint).structure_flow().confidence
    assert calibration.scenes == 24 and calibration.single.keys() == {*OBJECT_QUESTIONS, CAMERA_QUESTION}
    assert calibration.several["turn"].weights["turn_told"] < 0
    assert "turn_spread" not in calibration.single["turn"].weights

    assert (
        call("report", "--records", records, "--checkpoint", checkpoint, "--output", tmp_path / "report") == 0
    )
    assert "| turn | several |" in capsys.readouterr().out
    assert Image.open(tmp_path / "report" / "reliability.png").size == (960, 480)

    arguments = ["--input", write_scene(tmp_path / "room", 2), "--output", tmp_path / "out"]
    arguments += ["--checkpoint", checkpoint, "--candidates", 2, "--formats", "poses"]
    assert infer.main([str(argument) for argument in arguments]) == 0
    record = json.loads((tmp_path / "out" / "room" / "poses.json").read_text())
    query, target = sorted((each["confidence"] for each in record["objects"]), key=len)
    assert query.keys() == {"shape"} and target.keys() == {"shape", "turn", "place"}
    assert all(0 <= value <= 1 for value in target.values())
    assert record["settings"]["candidates"] == 2
    assert set(record["settings"]["chosen_seeds"].values()) <= {42, 43}
    doubtful = sum(min(each["confidence"].values()) < 0.5 for each in record["objects"])
    told = f"room: {doubtful} of 2 objects doubtful: obj_" in capsys.readouterr().out
    assert told == (doubtful > 0)


def test_a_calibration_of_other_weights_is_left_out(records, checkpoint, caplog):
    assert call("fit", "--records", records, "--checkpoint", checkpoint) == 0
    content = json.loads((checkpoint / "pipeline.json").read_text())
    content["args"]["confidence"]["flow_sha256"] = "0" * 64
    (checkpoint / "pipeline.json").write_text(json.dumps(content))
    config = PipelineConfig.load(checkpoint)
    assert config.structure_flow().confidence is None
    assert "confidence: was learnt for other weights of the structure flow; it has no effect" in caplog.text
    assert call("fit", "--records", records, "--checkpoint", checkpoint) == 0
    lines = [json.loads(line) | {"flow": "0" * 64} for line in records.read_text().splitlines()]
    records.write_text("\n".join(map(json.dumps, lines)))
    assert call("fit", "--records", records, "--checkpoint", checkpoint) == 1


def test_more_candidates_than_memory_are_one_line(checkpoint, tmp_path, write_scene, monkeypatch, capsys):
    monkeypatch.setattr("scenegen.pipelines.memory.free_bytes", lambda device: 80 << 20)
    arguments = ["--input", write_scene(tmp_path / "room", 2), "--output", tmp_path / "out", "--json"]
    arguments += ["--checkpoint", checkpoint, "--candidates", 64]
    assert infer.main([str(argument) for argument in arguments]) == 1
    (scene,) = json.loads(capsys.readouterr().out)["scenes"]
    assert (
        "expected as many as fit into the 0.1 GiB of memory" in scene["error"]
        and "or fewer" in scene["error"]
    )
    assert not (tmp_path / "out" / "room").exists()
