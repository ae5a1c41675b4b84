"""How near structures are: what counts as near, and that a watcher tells the means of what is visible."""

import pytest
import torch
from torch import nn

from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.trainers.structure_figures import SAMPLING, StructureFigures, structure_figures


def cube(at: int, resolution: int = 64, side: int = 4) -> torch.Tensor:
    grid = torch.zeros(1, 1, resolution, resolution, resolution, dtype=torch.bool)
    grid[..., at : at + side, 20 : 20 + side, 20 : 20 + side] = True
    return grid


def test_the_same_is_perfect_and_something_far_is_nothing():
    found = structure_figures(torch.cat([cube(10), cube(10)]), torch.cat([cube(10), cube(40)]))
    torch.testing.assert_close(found["fscore"], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found["iou"], torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("moved, fscore, iou", [(3, 1.0, 1 / 7), (4, 0.75, 0.0), (6, 0.25, 0.0)])
def test_near_is_below_a_twentieth_of_the_longest_side(moved, fscore, iou):
    # 0.051 of 64 voxels are 3.27: within them lie the layers that are up to three voxels apart
    found = structure_figures(cube(10 + moved), cube(10))
    torch.testing.assert_close(found["fscore"], torch.tensor([fscore]))
    torch.testing.assert_close(found["iou"], torch.tensor([iou]))


def test_half_the_tolerance_is_finer():
    # 0.025 of 64 voxels are 1.6
    found = [structure_figures(cube(10 + moved), cube(10))["fine_fscore"] for moved in (1, 2)]
    torch.testing.assert_close(torch.cat(found), torch.tensor([1.0, 0.75]))


def test_precision_and_recall_both_count():
    whole = cube(10) | cube(40)
    torch.testing.assert_close(structure_figures(whole, cube(10))["fscore"], torch.tensor([2 / 3]))
    torch.testing.assert_close(structure_figures(cube(10), whole)["fscore"], torch.tensor([2 / 3]))


def test_an_empty_structure_scores_nothing():
    empty = torch.zeros_like(cube(0))
    assert structure_figures(empty, cube(0))["fscore"] == 0 == structure_figures(empty, empty)["iou"]


class _Copies(nn.Module):
    """Samples the true latents."""

    def sample_latents(self, batch, generator, params):
        assert params is SAMPLING
        return batch.x_0


class _Decoder(nn.Module):
    def forward(self, latents):
        return torch.where(latents[:, :1] > 0, 1.0, -1.0)


def test_a_watcher_tells_means_over_visible_objects():
    true = torch.cat([cube(10, 32, 2), cube(20, 32, 2), cube(5, 32, 2)])
    latents = true.float()
    latents[1:] = 0.0
    batch = ObjectLatentBatch(
        asset_image=torch.zeros(3, 3, 8, 8), mask_image=torch.zeros(3, 1, 8, 8),
        object_points=torch.zeros(3, 4, 1, 1), visible=torch.tensor([True, True, False]), x_0=latents,
    )  # fmt: skip
    told = StructureFigures(_Copies(), batch, true, _Decoder(), every=5)(5, "step0000005")
    assert told == {"structure/fscore": 0.5, "structure/fine_fscore": 0.5, "structure/iou": 0.5}
