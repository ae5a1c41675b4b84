"""Validation and snapshots: what is measured and drawn of what a flow samples, with toy networks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scenegen.datasets.batch import SceneCaseBatch
from scenegen.geometry import identity_pose, world_pose
from scenegen.trainers.distributed import World
from scenegen.trainers.objective import Objective
from scenegen.trainers.samples import SceneSample, as_used
from scenegen.trainers.snapshots import PictureSize, Snapshots, shown_batch
from scenegen.trainers.validation import Validation, means, pose_figures

EDGE = 4
SIZE = PictureSize(objects=32, scene=48, samples=1)


def scene(count, number=0):
    """A batch whose latents are the batch's number everywhere."""
    centre = torch.tensor([[1.5 * index, 0.0, 0.0] for index in range(count)])
    poses = world_pose(centre, torch.linspace(0, 1, count), torch.linspace(1, 2, count))
    poses[0] = identity_pose(1)
    x_0 = torch.full((count, 1, EDGE, EDGE, EDGE), float(number))
    return SceneCaseBatch(x_0, poses, cond=torch.rand(count, 3, 8, 8), scene_image=torch.rand(3, 8, 8))


class Source:
    """Scenes of given numbers of objects, one after the other."""

    def __init__(self, *counts):
        self.counts, self.asked = counts, []

    def batch(self, step, slot=0, slots=1):
        self.asked.append((step, slot, slots))
        number = step * slots + slot
        return scene(self.counts[number % len(self.counts)], number)


class Moved(Objective):
    """Samples the truth with targets moved, turned and scaled by known amounts."""

    batch_type = SceneCaseBatch
    places_objects = True

    def __init__(self, moved=0.0, turned=0.0, scaled=1.0):
        super().__init__()
        self.moved, self.turned, self.scaled = moved, turned, scaled
        self.network = nn.Dropout()
        self.seen = []

    def forward(self, batch, generator):
        self.seen.append((self.training, torch.is_grad_enabled(), float(torch.rand((), generator=generator))))
        return batch.x_0.mean() + 1, {"mse": batch.x_0.mean(), "bin_0/mse": torch.tensor(math.nan)}

    def samples(self, batch, generator, params):
        poses = batch.positions.clone()
        poses[1:, 0] += self.moved
        angle = torch.full((len(poses) - 1,), self.turned)
        turned = world_pose(poses[1:, :3], torch.linspace(0, 1, len(poses))[1:] + angle, poses[1:, 7])
        poses[1:, 3:7] = turned[:, 3:7]
        poses[1:, 7] *= self.scaled
        return (SceneSample(batch.x_0, batch.x_0, poses, batch.positions, batch.cond, batch.scene_image),)


class Full(nn.Module):
    """A decoder to grids of 8 voxels along each side that are occupied where latents are positive."""

    def forward(self, latents):
        return nn.functional.interpolate(latents, scale_factor=2.0) - 0.5


def test_validation_measures_what_poses_are_off_by_and_averages_the_loss():
    objective = Moved(moved=0.25, turned=math.radians(20), scaled=math.e)
    source = Source(3, 2)
    objective.train()
    figures = Validation(objective, source, 100, World(), batches=2)(7, "step0000007")
    assert figures == pytest.approx(
        {
            "validation": 1.5,  # of losses 1 and 2
            "validation/mse": 0.5,
            "validation/translation_error": 0.25,
            "validation/rotation_error_deg": 20,
            "validation/log_scale_error": 1,
        },
        rel=1e-4,
    )
    assert source.asked == [(0, 0, 1), (1, 0, 1)] and objective.training
    assert [seen[:2] for seen in objective.seen] == [(False, False)] * 2


def test_validation_sees_the_same_noise_every_time():
    objective = Moved()
    validation = Validation(objective, Source(3), 100, World(), batches=2)
    validation(0, "init")
    validation(5, "step0000005")
    noise = [seen[2] for seen in objective.seen]
    assert noise[:2] == noise[2:] and noise[0] != noise[1]


def test_processes_share_the_batches_and_agree_on_the_means():
    """What two processes tell together is what one tells of all batches."""

    class Two(World):
        told = []

        def gather(self, value):
            self.told.append(value)
            return list(self.told)

    source = Source(3, 2, 4, 2)
    whole = Validation(Moved(0.1), source, 1, World(), batches=4)(0, "init")
    Validation(Moved(0.1), source, 1, Two(0, 2), batches=2)(0, "init")
    shared = Validation(Moved(0.1), source, 1, Two(1, 2), batches=2)(0, "init")
    assert shared == pytest.approx(whole)


def test_means_leave_out_what_nothing_told():
    told = [{"a": (3.0, 2), "b": (0.0, 0)}, {"a": (1.0, 2)}]
    assert means(told) == {"a": 1.0}


def test_figures_of_poses_need_a_target_and_take_angles():
    sample = SceneSample(torch.zeros(1), torch.zeros(1), identity_pose(1), identity_pose(1))
    assert pose_figures(()) == pose_figures((sample,)) == {}
    true = torch.tensor([[0.0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 90, 0, 2]])
    turned = true.clone()
    turned[1, 4] = 60
    angles = pose_figures((replace(sample, poses=turned, true_poses=true),))
    assert float(angles["rotation_error_deg"]) == pytest.approx(30, abs=1e-3)
    assert float(angles["translation_error"]) == 0


def test_networks_are_as_they_were_after_they_were_used():
    network = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    network[0].eval()
    with as_used(network):
        assert not network.training and not network(torch.ones(1, 2)).requires_grad
    assert network.training and network[1].training and not network[0].training


@pytest.mark.parametrize(("counts", "shown"), [((2, 3, 4, 5), 4), ((2, 5, 3), 5), ((2,), 2)])
def test_a_scene_of_four_objects_is_shown_where_there_is_one(counts, shown):
    assert len(shown_batch(Source(*counts)).positions) == shown


def picture(folder, name):
    return np.asarray(Image.open(folder / f"{name}_step0000010.jpg")).astype(int)


def test_snapshots_have_the_released_names_and_show_truth_and_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(PictureSize, "on", lambda _device: SIZE)
    source = Source(2, 4)
    take = Snapshots(Moved(moved=3.0), source, Full(), tmp_path, 10, World())
    assert take(10, "step0000010") == {}
    folder = tmp_path / "samples" / "step0000010"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            *(f"{name}_step0000010.jpg" for name in ("image", "sample", "sample_gt", "scene", "scene_gt")),
            *(f"{name}_step0000010.json" for name in ("pos", "pos_gt")),
        ]
    )
    assert picture(folder, "image").shape == (3 * 8, 2 * 8, 3), "four cut-outs and the photo, two a row"
    assert picture(folder, "sample").shape == (2 * 2 * 32, 2 * 2 * 32, 3)
    assert picture(folder, "scene").shape == (2 * 48, 2 * 48, 3)
    assert (picture(folder, "sample") == picture(folder, "sample_gt")).all() and picture(
        folder, "sample"
    ).any()
    assert np.abs(picture(folder, "scene") - picture(folder, "scene_gt")).mean() > 1, "targets were moved"
    poses = [json.loads((folder / f"pos{kind}_step0000010.json").read_text()) for kind in ("", "_gt")]
    assert np.subtract(*poses)[1:, 0] == pytest.approx(3.0, abs=1e-5) and len(poses[0]) == 4
    asked = len(source.asked)
    take(20, "step0000020")
    assert len(source.asked) == asked, "the same scene is shown again"


def test_snapshots_without_a_decoder_show_pictures_and_poses_and_only_the_first_process_writes(tmp_path):
    Snapshots(Moved(), Source(4), None, tmp_path / "first", 1, World())(0, "init")
    names = sorted(path.name for path in (tmp_path / "first" / "samples" / "init").iterdir())
    assert names == ["image_init.jpg", "pos_gt_init.json", "pos_init.json"]
    Snapshots(Moved(), Source(4), None, tmp_path / "second", 1, World(1, 2))(0, "init")
    assert not (tmp_path / "second").exists()


def test_an_objective_without_samples_is_not_shown(tmp_path):
    class Silent(Moved):
        def samples(self, batch, generator, params):
            return ()

    assert Snapshots(Silent(), Source(4), None, tmp_path, 1, World())(0, "init") == {}
    assert not list(tmp_path.iterdir())
