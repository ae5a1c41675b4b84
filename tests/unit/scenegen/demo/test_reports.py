"""What the demo says about a finished scene."""

from pathlib import Path

import torch
import trimesh

from scenegen.demo.reports import scene_report
from scenegen.demo.session import MadeScene
from scenegen.geometry import identity_pose
from scenegen.pipelines.result import GeneratedObject, SceneResult


def test_refinement_says_what_it_did_to_shapes():
    box = trimesh.creation.box((1, 1, 1))
    nothing = {"pieces_joined": 0, "pieces_dropped": 0, "legs_added": 0, "legs_plain": 0, "steady": True}
    report = {
        "penetration_before": 0.5,
        "penetration_after": 0.25,
        "unit": "cubed longest sides of the query",
        "objects": [
            {"completed": nothing | {"legs_added": 1}},
            {"completed": nothing | {"legs_added": 2, "legs_plain": 1, "pieces_dropped": 4}},
        ],
    }
    objects = tuple(GeneratedObject(k, identity_pose(1)[0], torch.zeros(2, 2, 2), box) for k in range(2))
    result = SceneResult(objects, 0, settings={"seed": 1, "refinement": report})
    told = scene_report(MadeScene(result, Path(), (), (), 1.0))
    assert "from 0.5000 to 0.2500" in told
    assert told.rstrip().endswith("3 missing legs added, 1 plain legs added, 4 loose pieces left out.")
