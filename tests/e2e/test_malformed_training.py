"""Experiments, packs and saved states that training cannot use: status 1 and one line."""

from __future__ import annotations

import pytest

from scenegen.trainers.experiment import load_experiment
from tests.e2e.malformed import Case, assert_one_line
from trellis_modules.config import ConfigError

CASES: dict[str, Case] = {
    "experiment missing": Case(
        lambda i: load_experiment(i.root / "no.json"), "no.json: no such configuration file", ConfigError
    ),
    "experiment without objective": Case(
        lambda i: ((i.root / "e.json").write_text("{}"), load_experiment(i.root / "e.json")),
        "e.json: missing key 'objective'",
        ConfigError,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_malformed_training_gives_one_line(inputs, name):
    assert_one_line(CASES[name], inputs)
