"""The pose term against numbers worked out by hand, and the average that weighs it."""

import pytest
import torch

from scenegen.trainers.objectives.pose_term import PoseTermSettings, PoseWeight, pose_errors, scene_extent

# Two assets besides the query: 2 to its right, and 1 above it at half the size, turned by 90 degrees about y.
POSES = torch.tensor(
    [[[0, 0, 0, 1, 0, 0, 0, 1], [2, 0, 0, 1, 0, 0, 0, 2], [0, 1, 0, 0.5**0.5, 0, 0.5**0.5, 0, 0.5]]]
)  # fmt: skip
COUNTED = torch.tensor([[False, True, True]])
SMOOTH = 0.02


def errors(predicted, counted=COUNTED):
    return {name: float(value) for name, value in pose_errors(predicted, POSES, counted, SMOOTH).items()}


def changed(asset, column, value):
    poses = POSES.clone()
    poses[0, asset, column] += value
    return poses


def test_scene_extent_spans_the_boxes_of_the_assets():
    assert scene_extent(POSES).tolist() == [[[3.5, 2.25, 2.0]]]
    assert scene_extent(torch.zeros(1, 1, 8)).tolist() == [[[pytest.approx(0.01)] * 3]]


def test_true_poses_have_no_error_whatever_the_sign_of_the_quaternion():
    flipped = POSES.clone()
    flipped[..., 3:7] *= -1
    for poses in (POSES, flipped):
        assert errors(poses) == pytest.approx({"translation": 0, "rotation": 0, "scale": 0}, abs=1e-7)


def test_errors_are_in_units_of_the_scene_and_of_the_asset():
    # Beyond the smooth part the error is |difference| - smooth / 2; means are over axes and two assets.
    along_x = errors(changed(1, 0, 0.7))
    expected = (0.7 / 3.5 - SMOOTH / 2) / 3 / 2
    assert along_x == pytest.approx({"translation": expected, "rotation": 0, "scale": 0})
    assert errors(changed(2, 7, 0.25))["scale"] == pytest.approx((0.25 / 0.5 - SMOOTH / 2) / 2)
    assert errors(changed(1, 3, 0.4))["rotation"] == pytest.approx((0.4 - SMOOTH / 2) / 4 / 2)
    small = errors(changed(1, 7, 0.02))["scale"]
    assert small == pytest.approx(0.5 * (0.02 / 2) ** 2 / SMOOTH / 2)


def test_assets_that_are_not_counted_have_no_part():
    for asset in (0, 2):
        poses = changed(asset, slice(None), 3.0)
        assert sum(errors(poses, torch.tensor([[False, True, False]])).values()) < 1e-6
    nothing = errors(POSES + 1, torch.zeros(1, 3, dtype=torch.bool))
    assert nothing == {"translation": 0, "rotation": 0, "scale": 0}


def test_plain_errors_are_those_of_the_released_training():
    """Quaternions and scales as they are: the opposite quaternion of a true pose is wrong."""
    flipped = POSES.clone()
    flipped[..., 3:7] *= -1
    plain = pose_errors(flipped, POSES, COUNTED, SMOOTH, rotations="plain", scales="plain")
    # Both quaternions of unit length are off by twice themselves: |2 q_i| - smooth / 2 where q_i is not 0.
    expected = ((2 - SMOOTH / 2) / 4 + 2 * (2**0.5 - SMOOTH / 2) / 4) / 2
    assert float(plain["rotation"]) == pytest.approx(expected)
    larger = pose_errors(changed(2, 7, 0.25), POSES, COUNTED, SMOOTH, rotations="plain", scales="plain")
    assert float(larger["scale"]) == pytest.approx((0.25 - SMOOTH / 2) / 2)


def test_poses_with_angles_are_compared_too():
    poses = torch.tensor([[0.0, 0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 90, 0, 2]])
    turned = poses.clone()
    turned[1, 4] += 3
    counted = torch.tensor([False, True])
    errors_ = pose_errors(turned, poses, counted, SMOOTH, rotations="plain", scales="plain")
    assert float(errors_["rotation"]) == pytest.approx((3 - SMOOTH / 2) / 3)
    assert errors_["translation"] == errors_["scale"] == 0


def test_gradients_of_true_poses_are_finite():
    poses = POSES.clone().requires_grad_()
    sum(pose_errors(poses, POSES, COUNTED, SMOOTH).values()).backward()
    assert poses.grad.isfinite().all()


def test_the_weight_follows_the_ratio_slowly_within_its_bounds():
    weight = PoseWeight(0.2, 1.0)
    given, ratio = weight(torch.tensor(0.5), torch.tensor(1.0))
    assert float(given) == float(ratio) == pytest.approx(0.5)
    weight.end_step(ratio)
    given, ratio = weight(torch.tensor(2.5), torch.tensor(1.0))
    assert float(given) == pytest.approx(0.99 * 0.5 + 0.01 * 2.5)
    assert float(weight.average) == pytest.approx(0.5), "kept until the end of the step"
    assert float(weight(torch.tensor(0.0), torch.tensor(9.0))[0]) == pytest.approx(0.99 * 0.5)
    assert float(PoseWeight(0.2, 1.0)(torch.tensor(9.0), torch.tensor(0.0))[0]) == 1
    assert float(PoseWeight(0.2, 1.0)(torch.tensor(0.0), torch.tensor(1.0))[0]) == pytest.approx(0.2)


def test_batches_of_one_step_do_not_depend_on_their_order():
    """Processes that share a step out each see the average of the steps before."""
    weight = PoseWeight(0.0, 9.0)
    weight.end_step(torch.tensor(1.0))
    ratios = [weight(torch.tensor(value), torch.tensor(1.0))[1] for value in (2.0, 4.0)]
    weight.end_step(torch.stack(ratios).mean())
    assert float(weight.average) == pytest.approx(0.99 + 0.01 * 3)


def test_a_step_without_poses_changes_nothing_and_states_keep_the_average():
    weight = PoseWeight(0.2, 1.0)
    weight.end_step(torch.tensor(0.7))
    weight.end_step(torch.tensor(float("nan")))
    other = PoseWeight(0.2, 1.0)
    other.load_state_dict(weight.state_dict())
    assert float(other.average) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"smooth_scale": 0.0}, "smooth_scale"),
        ({"position_weight_min_ratio": 2.0}, "position_weight_max_ratio: expected at least 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PoseTermSettings(**wrong)
