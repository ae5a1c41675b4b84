"""The paper's protocol: files as they are, and what it leaves out."""

import numpy as np
import pytest
import trimesh

from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.paper import LeftOut, compare_as_paper
from scenegen.evaluation.settings import EvaluationSettings, PaperSettings

NONE = AlignmentSettings("none")
STILL = EvaluationSettings(4000, paper=PaperSettings(NONE, NONE))
SEEDS = ((1,), (1,), (2,))


@pytest.fixture
def write(tmp_path):
    def write(name, *meshes):
        scene = trimesh.Scene()
        for index, mesh in enumerate(meshes):
            scene.add_geometry(mesh, node_name=f"obj_{index}", geom_name=f"mesh_{index}")
        path = tmp_path / f"{name}.glb"
        scene.export(path)
        return path

    return write


def box(sides=(1, 1, 1), place=(0, 0, 0)):
    mesh = trimesh.creation.box(sides)
    mesh.apply_translation(place)
    return mesh


def test_equal_files_have_distance_0_and_overlap_1(write):
    truth = write("truth", box(), box(place=(2, 0, 0)))
    found = compare_as_paper(truth, truth, EvaluationSettings(500, paper=STILL.paper), SEEDS)
    assert found.scene["scene_cd"] == 0 and found.scene["scene_fscore"] == pytest.approx(1)
    for figures in found.objects:
        assert figures["iou_bbox"] == pytest.approx(1, abs=1e-6) and figures["object_cd"] == 0


def test_known_shift_gives_the_distance_and_overlap_of_the_formulas(write):
    # A wide thin sheet that is lifted by 0.2: every nearest point is straight above or below.
    sheet, lifted = box((4, 0.001, 4)), box((4, 0.001, 4), (0, 0.2, 0))
    shift = compare_as_paper(write("a", sheet), write("b", lifted), STILL, SEEDS)
    assert shift.scene["scene_cd"] == pytest.approx(2 * 0.2**2, rel=0.02)
    assert shift.scene["scene_cd_1"] == pytest.approx(0.2**2, rel=0.02)
    assert shift.scene["scene_fscore"] == 0, "all points are farther than 0.1"
    side = compare_as_paper(write("c", box()), write("d", box(place=(0.25, 0, 0))), STILL, SEEDS)
    # Boxes are those of the drawn points, which almost fill the true ones.
    assert side.objects[0]["iou_bbox"] == pytest.approx(0.75 / 1.25, abs=2e-3)


def test_known_scale_gives_the_distance_and_overlap_of_the_formulas(write):
    small, large = (trimesh.creation.icosphere(4, radius) for radius in (1.0, 1.2))
    found = compare_as_paper(write("a", large), write("b", small), STILL, SEEDS)
    assert found.scene["scene_cd"] == pytest.approx(2 * 0.2**2, rel=0.03)
    assert found.objects[0]["iou_bbox"] == pytest.approx(1 / 1.2**3, rel=5e-3)
    assert found.objects[0]["object_cd"] < 1e-6, "every axis is normalised by itself"


def test_proportions_of_an_object_do_not_count(write):
    found = compare_as_paper(write("a", box()), write("b", box((1, 0.1, 3))), STILL, SEEDS)
    assert found.objects[0]["object_cd"] < 0.01


def test_objects_are_paired_by_their_order_whatever_their_names(tmp_path, write):
    scene = trimesh.Scene()
    for index, place in ((1, 2.0), (0, 0.0)):  # the node of obj_1 comes first
        scene.add_geometry(box(place=(place, 0, 0)), node_name=f"obj_{index}", geom_name=f"m{index}")
    scene.export(tmp_path / "turned.glb")
    truth = write("truth", box(), box(place=(2, 0, 0)))
    found = compare_as_paper(truth, tmp_path / "turned.glb", STILL, SEEDS)
    assert [figures["iou_bbox"] for figures in found.objects] == [0, 0]


def test_other_number_of_objects_leaves_the_scene_out(write):
    truth = write("truth", box(), box(place=(2, 0, 0)))
    for meshes in ([box()], [box(), box(), box()]):
        with pytest.raises(LeftOut, match="expected 2 mesh nodes"):
            compare_as_paper(truth, write("prediction", *meshes), STILL, SEEDS)


def test_unreadable_prediction_leaves_the_scene_out(tmp_path, write):
    (tmp_path / "bad.glb").write_bytes(b"glTF")
    with pytest.raises(LeftOut, match="bad.glb"):
        compare_as_paper(write("truth", box()), tmp_path / "bad.glb", STILL, SEEDS)


def test_mesh_without_area_leaves_the_scene_out(write):
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)
    with pytest.raises(LeftOut, match="has no area"):
        compare_as_paper(write("truth", box()), write("flat", flat), STILL, SEEDS)


@pytest.mark.parametrize("mode", ["filterreg", "icp", "cpd"])
def test_each_aligner_is_run_once_and_taken_as_it_is(write, mode):
    truth = write("truth", box((1, 0.5, 0.7)), box((0.4, 1, 0.3), (1.2, 0.2, 0.4)))
    moved = write("moved", box((1, 0.5, 0.7), (0.1, 0, 0)), box((0.4, 1, 0.3), (1.3, 0.2, 0.4)))
    aligner = AlignmentSettings(mode)
    settings = EvaluationSettings(400, paper=PaperSettings(aligner, aligner))
    found = compare_as_paper(truth, moved, settings, SEEDS)
    assert found.alignment.method == mode
    assert (found.alignment.transform.scale == 1) == (mode != "cpd")
    assert np.abs(found.alignment.transform.apply(np.array([0.1, 0, 0]))).max() < 0.05
    assert found.scene["scene_cd"] < 0.01


def test_levels_leave_out_the_other_figures(write):
    truth = write("truth", box())
    one = compare_as_paper(
        truth, truth, EvaluationSettings(50, paper=PaperSettings(NONE, NONE, ("object",))), SEEDS
    )
    assert not one.scene and one.alignment is None and "iou_bbox" not in one.objects[0]
    two = compare_as_paper(
        truth, truth, EvaluationSettings(50, paper=PaperSettings(NONE, NONE, ("scene",))), SEEDS
    )
    assert "object_cd" not in two.objects[0] and two.scene


def test_search_is_not_the_paper_s():
    with pytest.raises(ValueError, match="'best'"):
        PaperSettings(AlignmentSettings("best"))
