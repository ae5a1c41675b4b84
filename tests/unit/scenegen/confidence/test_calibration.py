"""Chances from signs: what is refused, what is told, and what fitting finds in cases that are known."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.confidence.calibration import (
    Calibration,
    Judgement,
    ObjectConfidence,
    doubt,
    doubts_line,
)
from scenegen.confidence.fitting import calibration_error, fit_judgement
from trellis_modules.config import ConfigError, build, to_json

EVEN = Judgement(0.0, {"overlap": 1.0}, (-1.0, 1.0), (0.2, 0.8))


def _calibration() -> Calibration:
    judgements = {question: EVEN for question in ("shape", "turn", "place", "camera")}
    return Calibration("a" * 64, 10, judgements, judgements)


def test_chances_rise_with_the_score_and_stay_at_the_ends():
    assert EVEN.chance({"overlap": 0.0}) == pytest.approx(0.5)
    assert EVEN.chance({"overlap": 9.0}) == 0.8 and EVEN.chance({}) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chances": (0.8, 0.2)}, "rising"), ({"chances": (0.2, 1.2)}, r"in \[0, 1\]"),
        ({"scores": (1.0,)}, "as many"), ({"bias": float("nan")}, "finite"),
        ({"scores": (), "chances": ()}, "as many"),
    ],
)  # fmt: skip
def test_a_judgement_that_is_none_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Judgement(**({"bias": 0.0, "weights": {}, "scores": (0.0, 1.0), "chances": (0.0, 1.0)} | change))


def test_a_calibration_comes_back_from_its_json():
    found = build(Calibration, to_json(_calibration()), "pipeline.json")
    assert found == _calibration()
    with pytest.raises(ConfigError, match="expected an entry for 'camera'"):
        content = to_json(_calibration())
        del content["single"]["camera"]
        build(Calibration, content, "pipeline.json")


def test_the_query_is_asked_for_its_shape_alone():
    confidence = _calibration().judge([{"overlap": 0.5}, {"overlap": -1.0}], {"overlap": 1.0}, is_single=True)
    query, target = confidence.objects
    assert query.known.keys() == {"shape"} and target.known.keys() == {"shape", "turn", "place"}
    assert confidence.camera == 0.8 and target.mean == pytest.approx(0.2)


def test_doubts_are_told_in_one_line():
    sure, turned = ObjectConfidence(0.9, 0.8, 0.9), ObjectConfidence(0.9, 0.2, 0.4)
    assert doubt("obj_1", sure) is None and doubt("obj_1", None) is None
    line = doubts_line({"obj_0": ObjectConfidence(0.9), "obj_1": sure, "obj_3": turned})
    assert line == "1 of 3 objects doubtful: obj_3 may face the other way"
    assert doubts_line({"obj_0": sure}) is None


def _cases(count: int, seed: int) -> tuple[list[dict[str, float]], np.ndarray, list[str]]:
    """Cases whose chance depends on one sign, beside one that says nothing and one that never changes."""
    rng = np.random.default_rng(seed)
    told, noise = rng.uniform(-3, 3, count), rng.normal(size=count)
    right = rng.random(count) < 1 / (1 + np.exp(-2 * told))
    signs = [{"told": a, "noise": b, "same": 1.0} for a, b in zip(told, noise, strict=True)]
    return signs, right, [f"scene {index // 4}" for index in range(count)]


def test_fitting_finds_what_a_sign_is_worth():
    judgement = fit_judgement(*_cases(1200, 0))
    assert judgement.weights["told"] > 1 and abs(judgement.weights["noise"]) < 0.3
    assert judgement.weights["same"] == 0
    signs, right, _ = _cases(1200, 1)
    chances = np.array([judgement.chance(each) for each in signs])
    assert calibration_error(chances, right.astype(float)) < 0.05
    assert right[chances > 0.8].mean() > 0.8


def test_fitting_needs_enough_scenes_and_both_answers():
    signs, right, scenes = _cases(40, 0)
    with pytest.raises(ValueError, match="at least 8 scenes"):
        fit_judgement(signs, right, ["one"] * 40)
    with pytest.raises(ValueError, match="both answers"):
        fit_judgement(signs, [True] * 40, scenes)


def test_calibration_error_of_known_cases():
    answers = np.array([0.0, 1.0] * 50)
    assert calibration_error(np.full(100, 0.5), answers, bins=5) == pytest.approx(0.0)
    assert calibration_error(np.full(100, 0.9), answers, bins=5) == pytest.approx(0.4)
