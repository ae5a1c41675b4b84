"""Figures of annotated poses: tilt, height above the floor, overlap of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.model_boxes import ModelBox
from scenegen.datasets.pose_checks import check_poses

BOX = ModelBox((0.0, 0.5, 0.0), (1.0, 1.0, 2.0))  # stands on its origin
CAMERA = Rotation.from_euler("xyz", [25.0, 40.0, 5.0], degrees=True)


def placed(*places: tuple[float, float, float], yaw: float = 0.0, tilt: float = 0.0) -> list[SceneRow]:
    """Rows of boxes at places of a room (y up, metres), as a tilted camera sees them; the last one tilts."""
    rows = []
    for number, place in enumerate(places):
        lean = tilt if number == len(places) - 1 else 0.0
        turn = CAMERA * Rotation.from_euler("yx", [yaw * number, lean], degrees=True)
        position = CAMERA.apply(place) + [0.3, -0.2, -6.0]
        euler = turn.as_euler("xyz", degrees=True)
        row = SceneRow("s", "m", tuple(position), tuple(euler), 2.0, instance_id=number)
        rows.append(row)
    return rows


def test_boxes_apart_on_one_floor_are_fine():
    check = check_poses(placed((0, 0, 0), (3, 0, 0), (0, 0, 4), yaw=70), [BOX] * 3)
    np.testing.assert_allclose(check.tilt_deg, 0, atol=1e-4)
    np.testing.assert_allclose(check.above_floor, 0, atol=1e-9)
    assert check.tilted == check.raised == check.overlapping == 0


def test_heights_are_in_units_of_the_scene():
    check = check_poses(placed((0, 0, 0), (3, 0.8, 0)), [BOX] * 2)
    assert check.raised == 1 and check.above_floor[0] == 0 and check.above_floor[1] > 0.1


@pytest.mark.parametrize(("tilt", "tilted"), [(3.0, 0), (10.0, 1), (90.0, 1)])
def test_an_object_that_leans_is_tilted(tilt, tilted):
    check = check_poses(placed((0, 0, 0), (3, 0, 0), (6, 0, 0), tilt=tilt), [BOX] * 3)
    assert check.tilted == tilted and check.tilt_deg[2] == pytest.approx(tilt, abs=1e-4)


@pytest.mark.parametrize(("shift", "share"), [(0.0, 1.0), (0.5, 0.5), (0.75, 0.25), (1.01, 0.0)])
def test_overlap_is_the_share_of_the_smaller_box(shift, share):
    small = ModelBox(BOX.center, (1.0, 1.0, 1.0))
    check = check_poses(placed((0, 0, 0), (shift, 0, 0)), [BOX, small])
    assert check.overlap[0, 1] == pytest.approx(share, abs=1e-9)
    assert check.overlapping == (share > 0.1)


def test_the_origin_of_a_file_may_be_anywhere():
    high = ModelBox((5.0, -3.0, 1.0), BOX.size)
    rows = placed((0, 0, 0), (3, 0, 0))
    turn = Rotation.from_euler("xyz", rows[1].rotation, degrees=True)
    moved = np.array(rows[1].translation) + turn.apply(np.array(BOX.center) - high.center)
    other = SceneRow("s", "m", tuple(moved), rows[1].rotation, 2.0, instance_id=1)
    first, second = check_poses(rows, [BOX, BOX]), check_poses([rows[0], other], [BOX, high])
    np.testing.assert_allclose(first.above_floor, second.above_floor, atol=1e-9)
    assert first.overlap == second.overlap
