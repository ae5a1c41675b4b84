"""Golden cases: expected tensors of a reference implementation and how to compute ours.

A case is a pair ``NAME.json`` (what to build and feed) and ``NAME.safetensors`` (what must come out).
Each *family* of cases has one function, registered with :func:`family`, that turns a
:class:`GoldenCase` into our tensors under the names of the ``.safetensors`` file; the runner in
``test_golden.py`` compares every stored tensor.  A folder with unseen cases of known families therefore
runs without new code: ``pytest tests/parity --golden-dir DIR``.

    @family("MyClass")
    def my_class(case: GoldenCase) -> dict[str, Tensor]:
        module = case.fill(MyClass(**case.config)).eval()
        return {"out": module(case.input("x"))}
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.fill_weights import fill_module, make_input, make_integers, make_uniform

__all__ = [
    "FAMILIES",
    "GoldenCase",
    "default_golden_dir",
    "evaluate_input",
    "family",
    "fill_module",
    "make_input",
    "make_integers",
    "make_uniform",
]

FamilyFunction = Callable[["GoldenCase"], dict[str, Tensor]]
FAMILIES: dict[str, FamilyFunction] = {}

_GENERATORS = {"make_input": make_input, "make_uniform": make_uniform, "make_integers": make_integers}
_CALL = re.compile(r"(make_input|make_uniform|make_integers)\(('[^']*'\s*,\s*\([^()]*\)[^()]*)\)")
_THRESHOLD = re.compile(rf"^\s*\(\s*{_CALL.pattern}\s*<\s*([0-9.eE+-]+)\s*\)\s*\.astype\(float32\)")
_UINT8 = re.compile(rf"^\s*uint8\(\s*{_CALL.pattern}\s*\*\s*255\s*\)")
_LABEL = re.compile(r"^\s*(?:([0-9.]+)\s*\*\s*)?label:(\S+)\s*(\[[0-9,\s]*\])")
_INDEX_RANGE = re.compile(r"\bi\s*=\s*(\d+)\.\.(\d+)")


def default_golden_dir() -> Path:
    """The folder of cases that is part of the repository."""
    return Path(__file__).resolve().parent.parent / "data" / "golden"


def family(*names: str) -> Callable[[FamilyFunction], FamilyFunction]:
    """Register a function as the one that computes the cases of the named families.

    Raises:
        ValueError: a family is registered twice.
    """

    def register(function: FamilyFunction) -> FamilyFunction:
        for name in names:
            if name in FAMILIES:
                raise ValueError(
                    f"golden family {name!r} is registered twice: "
                    f"{FAMILIES[name].__module__} and {function.__module__}"
                )
            FAMILIES[name] = function
        return function

    return register


def evaluate_input(expression: str) -> Tensor:
    """Build the tensor that an input expression of a case file describes.

    Understood: ``make_input('L', (shape))``, ``make_uniform('L', (shape)[, low, high])``,
    ``make_integers('L', (shape), low, high)``, ``(make_uniform(...) < T).astype(float32)``,
    ``uint8(make_uniform(...)*255)`` and ``[factor*]label:L [shape]``; prose after the expression is ignored.

    Raises:
        ValueError: the expression has none of these forms.
    """
    if match := _THRESHOLD.match(expression):
        return (_generate(match[1], match[2]) < float(match[3])).float()
    if match := _UINT8.match(expression):
        return (_generate(match[1], match[2]) * 255).to(torch.uint8)
    if match := _CALL.match(expression.strip()):
        return _generate(match[1], match[2])
    if match := _LABEL.match(expression):
        return torch.from_numpy(make_input(match[2], ast.literal_eval(match[3]))) * float(match[1] or 1)
    raise ValueError(
        f"golden input: cannot evaluate {expression!r}; extend evaluate_input or build it in the family"
    )


def _generate(generator: str, arguments: str) -> Tensor:
    label, shape, *bounds = ast.literal_eval(f"({arguments},)")
    return torch.from_numpy(np.ascontiguousarray(_GENERATORS[generator](label, shape, *bounds)))


@dataclass
class GoldenCase:
    """One case: the parsed JSON and the stored tensors."""

    name: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    skipped: dict[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=default_golden_dir)

    @classmethod
    def load(cls, json_path: Path) -> GoldenCase:
        """Read ``NAME.json`` and the ``NAME.safetensors`` beside it."""
        meta = json.loads(json_path.read_text())
        tensors = load_file(json_path.with_suffix(".safetensors"))
        return cls(json_path.stem, meta, tensors, folder=json_path.parent)

    @property
    def family(self) -> str:
        """The name that selects the family function."""
        return self.meta["family"]

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments; empty when the case needs none."""
        return self.meta.get("config", {})

    @property
    def salt(self) -> str:
        """The salt for ``fill_module``."""
        return self.meta.get("weights", {}).get("salt", "")

    def fill(self, module: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
        """Fill a module with the case's deterministic weights and return it."""
        return fill_module(module, self.salt, prefix)

    def input(self, key: str) -> Any:
        """One input: a tensor (evaluated or stored), or the plain JSON value when it is no string."""
        value = self.meta["inputs"][key]
        if not isinstance(value, str):
            return value
        return self.tensors[key] if value.startswith("stored") else evaluate_input(value)

    def input_list(self, key: str) -> list[Tensor]:
        """Inputs written as one expression with ``{i}`` in the label and ``i=FIRST..LAST`` after it."""
        value = self.meta["inputs"][key]
        if not (bounds := _INDEX_RANGE.search(value)):
            raise ValueError(f"{self.name}: input {key!r} names no range i=FIRST..LAST: {value!r}")
        return [
            evaluate_input(value.replace("{i}", str(i))) for i in range(int(bounds[1]), int(bounds[2]) + 1)
        ]

    def tensors_of(self, name: str) -> dict[str, Tensor]:
        """The stored tensors of another case of the same folder, which this one starts from."""
        return load_file(self.folder / f"{name}.safetensors")

    def skip(self, tensor: str, reason: str) -> None:
        """Declare that a stored tensor is not compared, with the reason."""
        self.skipped[tensor] = reason

    def tolerance(self, tensor: str) -> dict[str, float]:
        """``rtol`` and ``atol`` for a tensor: its own entry, the ``grad`` entry, or the case's."""
        declared = self.meta["tolerance"]
        if not isinstance(declared, dict):
            return {"rtol": 0.0, "atol": 0.0}
        kind = "grad" if tensor.startswith("grad.") else tensor.rsplit(".", 1)[-1]
        override = declared.get(tensor, declared.get(kind))
        merged = {**declared, **override} if isinstance(override, dict) else declared
        return {"rtol": float(merged.get("rtol", 0.0)), "atol": float(merged.get("atol", 0.0))}

    def compare(self, computed: dict[str, Tensor]) -> list[str]:
        """One line for every stored tensor that is missing or differs; empty when the case holds."""
        problems = []
        for name, expected in self.tensors.items():
            if name in self.skipped:
                continue
            if name not in computed:
                problems.append(f"{name}: not computed and not skipped")
                continue
            if problem := self._difference(name, computed[name], expected):
                problems.append(problem)
        return problems

    def _difference(self, name: str, actual: Tensor, expected: Tensor) -> str | None:
        if tuple(actual.shape) != tuple(expected.shape):
            return f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        try:
            torch.testing.assert_close(
                actual.detach().cpu().double(), expected.double(), equal_nan=True, **self.tolerance(name)
            )
        except AssertionError as error:
            return f"{name}: {error}"
        return None
