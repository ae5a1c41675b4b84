"""Stages against workers: the most that each can make, and what is sent between stages."""

import pickle

import pytest

from benchmarks.ray_stages import ROOT, fresh, main, most, rate, read
from scenegen.inputs.scene_images import SceneImages


def test_the_longest_stage_or_the_processors_bound_what_can_be_made():
    assert most({"kind": "workers", "cpus": 2, "cpu_s": [10.0]}) == pytest.approx(0.2)
    assert most({"kind": "stages", "cpus": 2, "cpu_s": [1.0, 6.0, 4.0]}) == pytest.approx(1 / 6)
    assert most({"kind": "stages", "cpus": 2, "cpu_s": [4.0, 4.0, 4.0]}) == pytest.approx(1 / 6)


def test_rates_begin_when_every_processor_has_made_one():
    lines = [{"time": time} for time in (100.0, 90.0, 110.0, 120.0)]
    assert rate(lines, 2) == pytest.approx(2 / 20)


def test_scenes_pass_between_stages_as_bytes():
    row = read({"id": "a", "path": str(ROOT / "assets" / "masked_images_test" / "test_0021")})
    (view,) = pickle.loads(row["item"])
    assert isinstance(view, SceneImages) and len(view.masks) == 3 and row["cpu"] == []
    assert pickle.loads(fresh({"a": 1})) == {"a": 1}


def test_an_input_without_scenes_is_one_line(tmp_path, capsys):
    assert main(["--input", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "expected folders with" in capsys.readouterr().err
