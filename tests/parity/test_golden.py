"""Our networks and algorithms against the stored tensors of the reference implementation."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.parity.golden import FAMILIES, GoldenCase, evaluate_input

for _module in (
    "networks",
    "vggt",
    "sampling",
    "scene",
    "representations",
    "sparse",
    "octrees",
    "data",
    "training",
):
    importlib.import_module(f"tests.parity.families.{_module}")


def test_golden_case(golden_path: Path) -> None:
    case = GoldenCase.load(golden_path)
    if case.family not in FAMILIES:
        pytest.fail(f"{golden_path.name}: unknown family {case.family!r}; known: {sorted(FAMILIES)}")
    problems = case.compare(FAMILIES[case.family](case))
    assert not problems, f"{case.name}: {len(problems)} tensors differ\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "expression, shape, low, high",
    [
        ("make_input('a', (2, 3))", (2, 3), -6, 6),
        ("make_uniform('a',(4,),0.25,0.5)  (times)", (4,), 0.25, 0.5),
        ("make_uniform('a', (5, 2))", (5, 2), 0, 1),
        ("(make_uniform('a', (50,)) < 0.2).astype(float32)", (50,), 0, 1),
        ("uint8(make_uniform('a',(9,3))*255)", (9, 3), 0, 255),
        ("0.5*label:a/b [3, 1]", (3, 1), -6, 6),
    ],
)
def test_input_expressions(expression: str, shape: tuple[int, ...], low: float, high: float) -> None:
    value = evaluate_input(expression)
    assert tuple(value.shape) == shape
    assert low <= value.float().min() and value.float().max() <= high


def test_case_of_an_unknown_family_fails(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps({"family": "Telepathy", "tolerance": {"atol": 1}}))
    save_file({"out": torch.zeros(1)}, tmp_path / "new.safetensors")
    with pytest.raises(pytest.fail.Exception, match=r"new.json: unknown family 'Telepathy'; known: \[.*VGGT"):
        test_golden_case(tmp_path / "new.json")


def test_unreadable_expression_is_named() -> None:
    with pytest.raises(ValueError, match="arange"):
        evaluate_input("arange(3)")


def test_case_reports_missing_and_different_tensors() -> None:
    case = GoldenCase(
        "toy",
        {"family": "toy", "tolerance": {"rtol": 0, "atol": 0.1, "grad": {"atol": 1}}},
        {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(1), "grad.w": torch.zeros(1)},
    )
    case.skip("c", "an input")
    problems = case.compare({"a": torch.tensor([0.0, 0.2]), "grad.w": torch.tensor([0.5])})
    assert [problem.split(":")[0] for problem in problems] == ["a", "b"]
