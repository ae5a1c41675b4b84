"""Occupancy logits to meshes: frames, closed surfaces, specks, simplification."""

import numpy as np
import pytest

from scenegen.pipelines.decoding import occupancy_to_mesh
from trellis_modules.postprocess import report_solid

RESOLUTION = 16


def _grid():
    centres = (np.arange(RESOLUTION) + 0.5) / RESOLUTION - 0.5
    return np.meshgrid(centres, centres, centres, indexing="ij")


def _logits(occupied: np.ndarray, level: float = 8.0) -> np.ndarray:
    return np.where(occupied, level, -level).astype(np.float32)


def _arrays(mesh):
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_box_of_voxels_fills_its_voxels_in_the_y_up_frame():
    x, y, z = _grid()
    occupied = (x > -0.25) & (x < 0.5) & (y > 0) & (y < 0.125) & (z > 0.25)
    mesh = occupancy_to_mesh(_logits(occupied), max_faces=None)
    # z-up (x, y, z) becomes y-up (x, z, -y)
    np.testing.assert_allclose(mesh.bounds, [[-0.25, 0.25, -0.125], [0.5, 0.5, 0.0]], atol=1e-6)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(occupied.mean(), rel=0.1)  # positive: faces look outwards


def test_full_grid_fills_the_unit_cube():
    mesh = occupancy_to_mesh(np.ones((RESOLUTION,) * 3, np.float32))
    assert np.abs(mesh.bounds).max() <= 0.5
    assert mesh.is_watertight and mesh.volume > 0.85


def test_hollow_shell_gets_one_outer_surface():
    x, y, z = _grid()
    radius = np.sqrt(x**2 + y**2 + z**2)
    mesh = occupancy_to_mesh(_logits((radius < 0.45) & (radius > 0.3)), max_faces=None)
    assert mesh.body_count == 1
    assert mesh.volume == pytest.approx((radius < 0.45).mean(), rel=0.05)


@pytest.mark.parametrize(
    ("insist", "width", "is_filled"), [(False, 2, False), (True, 2, True), (True, 24, False)]
)
def test_tears_are_filled_where_solids_are_insisted_on(insist, width, is_filled):
    x, y, z = np.meshgrid(*[(np.arange(64) + 0.5) / 64 - 0.5] * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    opening = (z > 0) & (np.maximum(np.abs(x), np.abs(y)) < width / 128)
    shell = (radius < 0.45) & (radius > 0.38) & ~opening
    mesh = occupancy_to_mesh(_logits(shell), max_faces=None, watertight=insist)
    expected = (radius < 0.45) if is_filled else shell
    assert mesh.is_watertight and mesh.volume == pytest.approx(expected.mean(), rel=0.05)


@pytest.mark.parametrize("max_faces", [None, 300])
def test_voxels_that_touch_make_a_manifold(max_faces):
    occupied = np.random.default_rng(0).random((RESOLUTION,) * 3) < 0.3
    report = report_solid(*_arrays(occupancy_to_mesh(_logits(occupied), max_faces)))
    assert report.watertight and report.volume > 0


def test_certainty_does_not_move_the_surface():
    x, _, _ = _grid()
    sure, unsure = np.full_like(x, -4.0), np.full_like(x, -4.0)
    sure[np.abs(x) < 0.2], unsure[np.abs(x) < 0.2] = 80.0, 4.0
    np.testing.assert_array_equal(occupancy_to_mesh(sure).bounds, occupancy_to_mesh(unsure).bounds)


def test_specks_are_removed_and_real_parts_stay():
    x, y, z = _grid()
    block, part = (np.abs(x) < 0.2) & (z < 0), (np.abs(x) < 0.2) & (z > 0.25)
    speck = (x > 0.4) & (np.abs(y) < 0.05) & (np.abs(z) < 0.05)
    assert 0 < speck.sum() < 0.02 * block.sum()
    assert occupancy_to_mesh(_logits(block | part | speck)).body_count == 2


def test_simplification_keeps_the_shape():
    x, y, z = _grid()
    logits = _logits(np.sqrt(x**2 + y**2 + z**2) < 0.45)
    full, light = occupancy_to_mesh(logits, None), occupancy_to_mesh(logits, 300)
    assert len(light.faces) <= 300 < len(full.faces)
    assert light.volume == pytest.approx(full.volume, rel=0.03)


def test_empty_grid_has_no_mesh():
    assert occupancy_to_mesh(np.full((RESOLUTION,) * 3, -1.0)) is None


def test_input_is_left_unchanged():
    logits = _logits(_grid()[0] > 0, level=50.0)
    before = logits.copy()
    occupancy_to_mesh(logits)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 5), (1, 4, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected logits \(R, R, R\)"):
        occupancy_to_mesh(np.zeros(shape))


def test_logits_that_are_not_finite_are_refused():
    logits = np.zeros((4, 4, 4))
    logits[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="expected finite logits"):
        occupancy_to_mesh(logits)


def test_share_of_faces_is_removed():
    x, y, z = _grid()
    ball = _logits(x**2 + y**2 + z**2 < 0.16)
    whole = len(occupancy_to_mesh(ball, max_faces=None).faces)
    assert len(occupancy_to_mesh(ball, simplify=0.75).faces) == pytest.approx(whole / 4, rel=0.02)
    assert len(occupancy_to_mesh(ball, max_faces=10, simplify=0.0).faces) == whole
