"""The automatic filter on a drawn room whose masks are known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scenegen.segmentation import AutomaticSettings
from scenegen.segmentation.automatic import (
    border_share,
    drop_duplicates,
    drop_parts,
    find_objects,
    grid_points,
    stability,
)

SIDE = 64
SURE, UNSURE = 10.0, 0.5


def _box(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


CUSHION = _box(20, 34, 30, 44)
SOFA = _box(8, 30, 48, 54) & ~CUSHION
ARM = _box(8, 30, 14, 54)  # a part of the sofa
TABLE = _box(50, 40, 64, 58)
WALL = _box(0, 0, 64, 28)  # 30 of its 64 rows and columns along the border
SPECK = _box(1, 59, 5, 63)
EVERYTHING = _box(1, 1, 63, 63)
# In the order in which a point picks the first that holds it.
REGIONS = (SPECK, CUSHION, ARM, SOFA, TABLE, WALL, EVERYTHING)


class DrawnRoom:
    """Answers each point with the region there, the next one around it, and everything.

    Attributes:
        quality: of the masks of a region, by its index; 0.9 where not given.
        logit: likewise; how sure the outline is.
    """

    def __init__(self, quality: dict[int, float] | None = None, logit: dict[int, float] | None = None):
        self.quality, self.logit = quality or {}, logit or {}
        self.calls: list[int] = []

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(len(points))
        answers = [self.answer(*(SIDE * point).long().tolist()) for point in points]
        return torch.stack([logits for logits, _ in answers]), torch.tensor([trust for _, trust in answers])

    def answer(self, x: int, y: int) -> tuple[Tensor, list[float]]:
        last = len(REGIONS) - 1
        found = [index for index, region in enumerate(REGIONS) if region[y, x]]
        chosen = (found + [last] * 3)[:3]
        logits = [self.logit.get(k, SURE) * (2.0 * REGIONS[k].float() - 1.0) for k in chosen]
        return torch.stack(logits), [self.quality.get(k, 0.9) for k in chosen]


def _found(room: DrawnRoom, **changes) -> list[int]:
    """Indices of the regions that are found, in order."""
    masks = find_objects(room, replace(AutomaticSettings(), **changes)) > 0
    return [next(k for k, region in enumerate(REGIONS) if torch.equal(region, mask)) for mask in masks]


OBJECTS = [3, 4, 1]  # sofa, table, cushion: the largest first


def test_whole_objects_are_found_once_each_largest_first():
    room = DrawnRoom()
    assert _found(room) == OBJECTS
    assert room.calls == [32] * 8  # 16 x 16 points


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"part_overlap": 1.01}, [3, 4, 2, 1], id="parts stay"),
        pytest.param({"max_border": 1.0}, [5, 3, 4, 1], id="walls stay"),
        pytest.param({"max_border": 1.0, "max_area": 1.0}, [6], id="one mask of everything swallows all"),
        pytest.param({"min_area": 0.0}, [3, 4, 1, 0], id="tiny things stay"),
        pytest.param({"min_area": 0.05}, [3, 4], id="small objects go"),
        pytest.param({"max_objects": 2}, [3, 4], id="few"),
        pytest.param({"min_quality": 0.95}, [], id="nothing is trusted"),
    ],
)
def test_each_rule_decides(changes, found):
    assert _found(DrawnRoom(), **changes) == found


def test_masks_of_little_quality_or_stability_go():
    assert _found(DrawnRoom(quality={3: 0.79})) == [4, 2, 1]  # then the arm is all that is seen of the sofa
    assert _found(DrawnRoom(logit={4: UNSURE})) == [3, 1]


def test_batches_do_not_matter():
    together = find_objects(DrawnRoom(), AutomaticSettings(points_at_once=256))
    assert torch.equal(together, find_objects(DrawnRoom(), AutomaticSettings(points_at_once=7)))


def test_of_two_almost_equal_masks_the_more_trusted_stays():
    masks = torch.stack([_box(0, 0, 20, 20), _box(0, 0, 20, 21), _box(0, 0, 20, 40)])
    quality = torch.tensor([0.8, 0.9, 0.85])
    assert drop_duplicates(masks, quality, 0.7).tolist() == [1, 2]
    assert drop_duplicates(masks, quality, 0.96).tolist() == [1, 2, 0]


def test_what_stands_in_front_is_no_part():
    masks = torch.stack([CUSHION, SOFA, ARM])
    assert drop_parts(masks, 0.8).tolist() == [1, 0]


def test_stability_is_the_overlap_of_two_thresholds():
    logits = torch.full((1, 10, 10), -5.0)
    logits[0, :4] = 3.0
    logits[0, 4] = 0.5
    torch.testing.assert_close(stability(logits, 1.0), torch.tensor([0.8]))
    assert stability(torch.full((1, 4, 4), -5.0), 1.0).tolist() == [0.0]


def test_border_share_counts_corners_once():
    assert border_share(torch.ones(1, 8, 8, dtype=torch.bool)).tolist() == [1.0]
    top = torch.zeros(1, 5, 8, dtype=torch.bool)
    top[:, 0] = True
    torch.testing.assert_close(border_share(top), torch.tensor([8 / 22]))


def test_grid_points_are_centres_of_cells_row_by_row():
    assert grid_points(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="points_per_side must be at least 1, got 0"):
        AutomaticSettings(points_per_side=0)
