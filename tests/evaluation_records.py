"""Records of evaluated scenes, as `scenegen.evaluation` keeps them, with given figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def evaluated_record(scene_id: str, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The record of a scene of one object, without warnings; ``metrics`` are its figures by protocol."""
    return {
        "id": scene_id,
        "status": "evaluated",
        "error": None,
        "warnings": [],
        "n_truth": 1,
        "n_prediction": 1,
        "n_matched": 1,
        "seconds": 1.0,
        "protocols": {
            protocol: {
                "alignment": None,
                "metrics": dict(figures),
                "penalties": {},
                "left_out": None,
                "objects": [],
            }
            for protocol, figures in metrics.items()
        },
    }
