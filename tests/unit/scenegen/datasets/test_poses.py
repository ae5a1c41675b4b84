"""Training poses of annotated photos: the published formulas, the box centre, and both encodings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.poses import EULER, asset_order, camera_poses, encode_poses, training_poses
from scenegen.datasets.tables import MetadataError
from scenegen.geometry import place_yup


def scene(count: int, seed: int = 0) -> list[SceneRow]:
    rng = np.random.default_rng(seed)
    return [
        SceneRow(
            scene_id="0000001",
            translation=tuple(rng.normal(size=3).tolist()),
            rotation=tuple(rng.uniform(-180, 180, 3).tolist()),
            scale=float(rng.uniform(0.5, 3)),
            instance_id=number,
            center=tuple(rng.normal(size=3).tolist()),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("query", [0, 1, 2])
def test_poses_follow_the_published_formulas(query: int) -> None:
    rows = scene(3)
    order = [query, *(index for index in range(3) if index != query)]
    turned = Rotation.from_euler("xyz", rows[query].rotation, degrees=True).inv()
    for pose, index in zip(training_poses(rows, order).numpy(), order):
        row, reference = rows[index], rows[query]
        position = (
            np.array(row.translation) / reference.scale - np.array(reference.translation) / reference.scale
        )
        rotation = (turned * Rotation.from_euler("xyz", row.rotation, degrees=True)).as_quat()[[3, 0, 1, 2]]
        np.testing.assert_allclose(pose[:3], turned.apply(position), atol=1e-12)
        np.testing.assert_allclose(pose[3:7] * np.sign(pose[3:7] @ rotation), rotation, atol=1e-12)
        np.testing.assert_allclose(pose[7], row.scale / reference.scale)


def test_the_query_has_the_identity_in_both_encodings() -> None:
    rows = scene(4)
    assert training_poses(rows, [2, 0])[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert training_poses(rows, [2, 0], encoding=EULER)[0].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_angles_are_those_of_the_quaternions() -> None:
    poses = training_poses(scene(5), range(5))
    angles = encode_poses(poses, EULER)
    assert angles.shape == (5, 7)
    again = camera_poses(angles[:, :3].numpy(), angles[:, 3:6].numpy(), angles[:, 6].numpy())
    torch.testing.assert_close(again, poses)


def test_centred_poses_put_the_points_of_the_file_where_the_annotation_does() -> None:
    """A point of the file lands at R p + t; its pose places the centred unit box to the same place."""
    rows = scene(3)
    point = np.array([0.3, -0.2, 0.7])
    poses = camera_poses(
        *(
            np.array([getattr(row, name) for row in rows])
            for name in ("translation", "rotation", "scale", "center")
        )
    )
    for row, pose in zip(rows, poses):
        expected = Rotation.from_euler("xyz", row.rotation, degrees=True).apply(point) + row.translation
        unit = torch.from_numpy((point - row.center) / row.scale)[None]
        np.testing.assert_allclose(place_yup(unit, pose)[0].numpy(), expected, atol=1e-12)


def test_order_has_the_query_first_and_is_cut() -> None:
    draws = [asset_order(6, 4, 3, torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert all(order[0] == 4 and len(set(order)) == 3 for order in draws)
    assert {index for order in draws for index in order} == set(range(6))
    assert asset_order(2, 1, 7, torch.Generator()) == [1, 0]


def test_bad_rows_and_arguments_are_named() -> None:
    rows = [*scene(1), SceneRow("0000001", instance_id=1)]
    with pytest.raises(MetadataError, match="object 1 has no pose"):
        training_poses(rows, [0, 1])
    rows[1] = SceneRow("0000001", translation=(0, 0, 0), rotation=(0, 0, 0), scale=1, instance_id=1)
    with pytest.raises(MetadataError, match="object 1 has no center"):
        training_poses(rows, [0, 1], centred=True)
    with pytest.raises(ValueError, match="expected one of absT_quatR_S"):
        training_poses(rows, [0], encoding="matrix")
    with pytest.raises(IndexError, match="from 0 to 1, got 2"):
        asset_order(2, 2, 7, torch.Generator())
