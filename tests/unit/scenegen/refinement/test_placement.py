"""Placement refinement on scenes whose right answer is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from scenegen.geometry import place_yup
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.silhouettes import visible_objects
from scenegen.pipelines.result import GeneratedObject, SceneResult, placed_surface, with_overlaps
from scenegen.refinement.completion import completed
from scenegen.refinement.placement import refine_result, refine_scene
from scenegen.refinement.settings import RefinementSettings
from scenegen.refinement.silhouette import mask_targets
from scenegen.refinement.solid import scene_box, solid_of
from tests.furniture_shapes import shell

FAST = RefinementSettings(resolution=32, contact_points=400)
CUBE = trimesh.creation.box((1, 1, 1))
LOGITS = torch.zeros(2, 2, 2)


def pose(x=0.0, y=0.0, z=0.0, scale=1.0) -> torch.Tensor:
    return torch.tensor([x, y, z, 1, 0, 0, 0, scale])


def table() -> trimesh.Trimesh:
    top = trimesh.creation.box((1, 0.08, 1))
    top.apply_translation((0, 0.31, 0))
    legs = [trimesh.creation.box((0.08, 0.62, 0.08)) for _ in range(4)]
    for leg, (x, z) in zip(legs, [(a, b) for a in (-0.46, 0.46) for b in (-0.46, 0.46)]):
        leg.apply_translation((x, -0.04, z))
    return trimesh.util.concatenate([top, *legs])


def test_overlapping_cubes_are_pushed_apart_the_short_way_and_onto_the_floor():
    refined = refine_scene([CUBE, CUBE], torch.stack([pose(), pose(0.85, 0.1, 0.3)]), 0, settings=FAST)
    assert refined.report["penetration_after"] < 0.1 * refined.report["penetration_before"]
    moved = refined.poses[1]
    assert float(moved[0]) == pytest.approx(1.0, abs=0.06)
    assert float(moved[1]) == pytest.approx(0.0, abs=1e-4)
    assert float(moved[2]) == pytest.approx(0.3, abs=0.1)
    torch.testing.assert_close(refined.poses[0], pose())


def test_two_movable_objects_share_the_way_out():
    poses = torch.stack([pose(0, 0, 5), pose(0), pose(0.8)])
    moved = refine_scene([CUBE] * 3, poses, 0, settings=FAST).poses - poses
    assert float(moved[2, 0] - moved[1, 0]) == pytest.approx(0.2, abs=0.06)
    assert moved[2, 0] > 0.04 and moved[1, 0] < -0.04


def test_a_chair_under_a_table_and_a_vase_on_it_stay():
    poses = torch.stack([pose(), pose(0.05, -0.2, 0.1, 0.3), pose(0.2, 0.45, 0, 0.2)])
    refined = refine_scene([table(), CUBE, CUBE], poses, 0, settings=FAST)
    assert [item["stands_on"] for item in refined.report["objects"]] == [None, "floor", 0]
    torch.testing.assert_close(refined.poses, poses, atol=0.03, rtol=0)


def test_a_lamp_stands_on_the_table_and_the_table_on_the_carpet():
    carpet = trimesh.creation.box((1, 0.01, 0.7))
    cabinet = trimesh.creation.box((0.5, 1, 0.5))
    # a carpet of 2.5 query sides on the floor; the table a little lower than it, the lamp sunk into the table
    poses = torch.stack(
        [pose(5), pose(0, -0.5 + 0.0125, 0, 2.5), pose(0, -0.02, 0.1), pose(0.1, 0.42, 0, 0.3)]
    )
    refined = refine_scene([CUBE, carpet, table(), cabinet], poses, 0, settings=FAST)
    assert [item["stands_on"] for item in refined.report["objects"]] == [None, "floor", 1, 2]
    heights = [
        float(scene_box(solid_of(mesh, 32), each)[0][1])
        for mesh, each in zip([table(), cabinet], refined.poses[2:])
    ]
    assert heights == pytest.approx([-0.475, 0.225], abs=0.03)
    assert float(refined.poses[1:, [0, 2]].sub(poses[1:, [0, 2]]).abs().max()) < 0.05


def test_what_stands_on_an_object_moves_with_it():
    poses = torch.stack([pose(0, 0, 0), pose(0.8), pose(0.85, 0.62, 0, 0.2)])
    refined = refine_scene([CUBE] * 3, poses, 0, settings=FAST)
    assert refined.report["objects"][2]["stands_on"] == 1
    moved = refined.poses - poses
    assert float(moved[2, 0]) == pytest.approx(float(moved[1, 0]), abs=0.02) and moved[1, 0] > 0.1
    assert float(refined.poses[2, 1]) == pytest.approx(0.6, abs=0.03)  # let down by 0.02


def test_an_object_stuck_between_thin_walls_gets_out_though_no_small_step_helps():
    walls = [trimesh.creation.box((0.04, 0.6, 1)) for _ in range(5)]
    for wall, x in zip(walls, (-0.48, -0.24, 0, 0.24, 0.48)):
        wall.apply_translation((x, 0, 0))
    board = trimesh.creation.box((1, 0.6, 0.1))
    poses = torch.stack([pose(), pose(0.3, scale=0.9)])
    settings = RefinementSettings(resolution=48)
    report = refine_scene([trimesh.util.concatenate(walls), board], poses, 0, settings=settings).report
    assert report["penetration_before"] > 0.004
    assert report["penetration_after"] < 0.02 * report["penetration_before"]


def test_masks_and_camera_pull_an_object_to_where_it_is_seen():
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(0.3, math.radians(35))
    extrinsics[2, 3] = 4.0
    view = PhotoCamera(extrinsics, focal=1.2, aspect=0.75)
    truth = torch.stack([pose(), pose(0.9, -0.25, 0.6, 0.5)])
    solid = solid_of(CUBE, 32)
    blank = [np.zeros((48, 64), bool)] * 2
    targets = mask_targets(view, blank)
    masks = [targets[0]._silhouettes(place_yup(solid.points, each)[None])[0].numpy() > 0 for each in truth]
    estimate = torch.stack([pose(), pose(0.72, -0.25, 0.75, 0.5)])
    settings = RefinementSettings(resolution=32, contact_points=400, mask_weight=30.0)
    refined = refine_scene([CUBE, CUBE], estimate, 0, view=view, masks=masks, settings=settings)
    assert refined.report["photo_used"]
    error, before = (float((each[1] - truth[1])[:3].norm()) for each in (refined.poses, estimate))
    assert error < 0.35 * before


def test_masks_and_camera_change_no_size():
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[2, 3] = rotation_of(0.3, math.radians(35)), 4.0
    view = PhotoCamera(extrinsics, focal=1.2, aspect=0.75)
    masks = [np.zeros((48, 64), bool) for _ in range(2)]
    masks[0][10:40, 10:40], masks[1][2:46, 30:62] = True, True  # far larger than the second cube is seen
    given = torch.stack([pose(), pose(0.9, -0.25, 0.6, 0.5)])
    refined = refine_scene([CUBE, CUBE], given, 0, view=view, masks=masks, settings=FAST)
    assert refined.report["photo_used"]
    torch.testing.assert_close(refined.poses[:, 7], given[:, 7])


def test_overlaps_are_those_of_where_objects_came_to_stand():
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[2, 3] = rotation_of(0.2, math.radians(30)), 4.0
    camera = PhotoCamera(extrinsics, focal=1.2, aspect=0.75, overlap=0.1, modal_overlap=0.1)
    true = SceneResult(
        (GeneratedObject(4, pose(), LOGITS, CUBE), GeneratedObject(6, pose(1.1), LOGITS, CUBE)), 4, camera
    )
    owner = visible_objects([placed_surface(item) for item in true.objects], [camera], 192)[0]
    masks = [owner == 0, owner == 1]
    moved = replace(true, objects=(true.objects[0], replace(true.objects[1], pose=pose(0.8))))
    before = with_overlaps(moved, masks)
    refined = refine_result(before, masks, FAST)
    assert refined.overlaps[6].modal > before.overlaps[6].modal
    measured = with_overlaps(replace(refined, overlaps={}), masks)
    assert refined.overlaps == measured.overlaps and refined.camera == measured.camera
    assert refined.camera.modal_overlap == np.mean([each.modal for each in refined.overlaps.values()])
    blind = refine_result(before, settings=FAST)  # without masks nothing is known of the new places
    assert blind.overlaps == {} and blind.camera.modal_overlap is None


def test_behind_other_masks_an_object_may_go_on():
    extrinsics = np.eye(4)
    extrinsics[2, 3] = 3.0
    view = PhotoCamera(extrinsics, focal=1.0, aspect=1.0)
    solid, poses = solid_of(CUBE, 32), torch.stack([pose()])
    seen = (
        mask_targets(view, [np.zeros((64, 64), bool)])[0]
        ._silhouettes(place_yup(solid.points, poses))[0]
        .numpy()
        > 0
    )
    left, right = seen.copy(), seen.copy()
    left[:, 32:] = right[:, :32] = False
    alone = mask_targets(view, [left, np.zeros_like(right)])[0]
    hidden = mask_targets(view, [left, right])[0]
    assert float(alone.overlap(solid, poses)) == pytest.approx(0.5, abs=0.05)
    assert float(hidden.overlap(solid, poses)) == pytest.approx(1.0, abs=0.05)


def test_result_keeps_everything_but_poses_and_reports():
    objects = (
        GeneratedObject(3, pose(0.8), LOGITS, CUBE),
        GeneratedObject(5, pose(9), LOGITS, None),
        GeneratedObject(7, pose(), LOGITS, CUBE),
    )
    result = SceneResult(objects, query_id=7, settings={"seed": 1}, timings={"sample": 1.0})
    refined = refine_result(result, settings=FAST)
    assert [item.object_id for item in refined.objects] == [3, 5, 7]
    assert refined.objects[1] is objects[1] and torch.equal(refined.objects[2].pose, pose())
    assert float(refined.objects[0].pose[0]) > 0.95
    report = json.loads(json.dumps(refined.settings))["refinement"]
    assert report["penetration_after"] < 0.2 * report["penetration_before"]
    assert [item["id"] for item in report["objects"]] == [3, 7]
    assert list(refined.timings) == ["sample", "refine"]
    assert refine_result(result, settings=FAST).settings == refined.settings  # no randomness, no times


def test_report_names_carriers_by_their_ids():
    objects = (
        GeneratedObject(4, pose(0, 0.62, 0, 0.2), LOGITS, CUBE),
        GeneratedObject(5, pose(), LOGITS, None),
        GeneratedObject(9, pose(), LOGITS, CUBE),
    )
    report = refine_result(SceneResult(objects, query_id=9), settings=FAST).settings["refinement"]
    assert [(item["id"], item["stands_on"]) for item in report["objects"]] == [(4, 9), (9, None)]


def test_a_scene_whose_query_has_no_surface_keeps_its_poses_and_says_why():
    objects = (GeneratedObject(0, pose(), LOGITS, None), GeneratedObject(1, pose(0.5), LOGITS, CUBE))
    refined = refine_result(SceneResult(objects, query_id=0, settings={"seed": 1}))
    assert refined.objects == objects
    assert refined.settings["seed"] == 1
    assert refined.settings["refinement"]["skipped"].startswith("the query has no surface")


def test_one_object_stays():
    refined = refine_scene([CUBE], pose()[None], 0, settings=FAST)
    torch.testing.assert_close(refined.poses, pose()[None])
    assert refined.report["penetration_before"] == 0


@pytest.mark.parametrize(
    ("poses", "query", "masks", "message"),
    [
        (torch.stack([pose()]), 0, None, "one pose and mask per mesh, got 2 meshes, 1 poses"),
        (torch.stack([pose(), pose()]), 2, None, r"a query in \[0, 2\), got 2"),
        (torch.stack([pose(), pose()]), 0, [np.ones((4, 4), bool)], "2 meshes, 2 poses, 1 masks"),
        (torch.zeros(2, 7), 0, None, "expected poses"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(poses, query, masks, message):
    with pytest.raises(ValueError, match=message):
        refine_scene([CUBE, CUBE], poses, query, masks=masks)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="positive softness"):
        RefinementSettings(softness=())


def test_refinement_completes_what_stands_and_says_so():
    whole, short = table(), table()
    short = trimesh.util.concatenate(short.split()[:-1])  # a leg less
    result = SceneResult(
        (
            GeneratedObject(0, pose(), LOGITS, CUBE),
            GeneratedObject(1, pose(3), LOGITS, short),
            GeneratedObject(2, pose(-3), LOGITS, None, problem="no shape"),
        ),
        0,
    )
    refined = refine_result(result, settings=FAST)
    entries = refined.settings["refinement"]["objects"]
    assert [entry["completed"]["legs_added"] for entry in entries] == [0, 1]
    assert refined.objects[1].mesh.volume == pytest.approx(whole.volume, rel=0.05)
    assert refined.objects[0].mesh is CUBE and refined.objects[2].mesh is None
    json.dumps(refined.settings)
    kept = refine_result(result, settings=replace(FAST, complete=False))
    assert kept.objects[1].mesh is short and "completed" not in kept.settings["refinement"]["objects"][1]


def test_what_is_in_a_thin_wall_comes_out_of_it_and_onto_the_floor():
    shower = shell(1.0, 1.0, 1.0, 0.015)
    poses = torch.stack([pose(), pose(0.5, -0.05, 0.05, 0.9)])
    settings = replace(FAST, softness=(0.1,))  # the way out is doubted more than the volume of a wall counts
    refined = refine_scene([shower, CUBE], poses, 0, settings=settings)
    assert refined.report["penetration_before"] > 0.01 > refined.report["penetration_after"]
    assert refined.report["objects"][1]["stands_on"] == "floor"
    torch.testing.assert_close(refined.poses[1, :2], torch.tensor([0.95, -0.05]), atol=0.08, rtol=0)


def test_what_hangs_gets_no_legs():
    lamp = trimesh.util.concatenate(
        [
            trimesh.creation.icosphere(2, 0.2),
            trimesh.creation.box((0.04, 0.3, 0.04)).apply_translation((0, 0.3, 0)),
        ]
    )
    lamp.vertices -= lamp.bounds.mean(axis=0)
    table_item, lamp_item = (
        GeneratedObject(0, pose(), LOGITS, table()),
        GeneratedObject(1, pose(0, 1.6, 0, 0.5), LOGITS, lamp),
    )
    standing = replace(lamp_item, pose=pose(2.0, -0.22, 0, 0.5))
    found = completed([table_item, lamp_item, standing], 0)
    assert found[1][0].mesh is lamp and not found[1][1]["legs_plain"] and not found[1][1]["levelled"]
    assert found[2][1]["legs_plain"] or found[2][1]["levelled"], "the same one on the floor is completed"
