"""Pictures of a sphere on a floor in front of a wall, against what geometry says."""

import math

import numpy as np
import pytest
import torch
import trimesh

from scenegen.synthesis.pictures.shading import CameraBatch, render_scenes
from scenegen.synthesis.shapes.shape_bank import Triangles
from trellis_modules.renderers.cameras import project

SIZE = 96
RADIUS = 0.5
EYE = (0.0, 0.8, 4.0)
SUN = np.array([1.0, 1.2, 0.4]) / np.linalg.norm([1.0, 1.2, 0.4])
AMBIENT, SUN_STRENGTH = 0.4, 0.5
FLOOR, WALL, RED = (0.6, 0.5, 0.4), (0.7, 0.8, 0.9), (0.9, 0.1, 0.1)
WALL_Z = -2.0


@pytest.fixture(scope="module")
def sphere():
    """(F, 3, 3) triangles of a sphere that touches the floor at the origin."""
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=RADIUS)
    return torch.as_tensor(np.array(mesh.triangles), dtype=torch.float32) + torch.tensor([0, RADIUS, 0])


def triangles(*objects):
    """Objects (F, 3, 3) side by side as red triangles."""
    owner = torch.arange(len(objects)).repeat_interleave(torch.tensor([len(corners) for corners in objects]))
    return Triangles(torch.cat(objects), owner, torch.tensor(RED).expand(len(owner), 3))


def level_view(count):
    """Cameras that look along -z, so that camera depth is 4 - z."""
    eye = torch.tensor([EYE]).expand(count, 3)
    return CameraBatch.look(eye, eye - torch.tensor([0.0, 0.0, 1.0]), torch.full((count,), 50.0))


def room(count, with_wall=True):
    return {
        "sun_direction": torch.tensor(SUN, dtype=torch.float32).expand(count, 3),
        "sun": torch.full((count,), SUN_STRENGTH),
        "ambient": torch.full((count,), AMBIENT),
        "floor_colour": torch.tensor(FLOOR).expand(count, 3),
        "wall_colour": torch.tensor(WALL).expand(count, 3),
        "wall_point": torch.tensor([0.0, 0.0, WALL_Z]).expand(count, 1, 3),
        "wall_normal": torch.tensor([0.0, 0.0, float(with_wall)]).expand(count, 1, 3),
        "ceiling": torch.full((count,), torch.inf),
        "low": torch.tensor([-2 * RADIUS, 0.0, -2 * RADIUS]).expand(count, 3),
        "high": torch.tensor([2 * RADIUS, 2 * RADIUS, 2 * RADIUS]).expand(count, 3),
    }


def pixel_of(point):
    """Index (picture 0, row, column) of the pixel that sees a world point."""
    view = level_view(1)
    x, y, _ = project(torch.tensor([[point]], dtype=torch.float32), view.extrinsics, view.focal, SIZE)[0, 0]
    return 0, int(y), int(x)


@pytest.fixture(scope="module")
def picture(sphere):
    return render_scenes(triangles(sphere), 1, level_view(1), room(1), SIZE)


def test_sphere_has_its_number_and_its_depth(picture):
    pixel = pixel_of((0.0, RADIUS, 0.0))
    assert picture.object[pixel] == 0
    point = picture.points[pixel]
    assert torch.dist(point, torch.tensor([0, RADIUS, 0])) == pytest.approx(RADIUS, abs=0.01)
    assert picture.depth[pixel] == pytest.approx(EYE[2] - float(point[2]), abs=0.02)
    # A ball at distance d covers the directions within asin(r / d) of its centre.
    distance = math.dist(EYE, (0, RADIUS, 0))
    focal = 0.5 / math.tan(math.radians(25)) * SIZE
    expected = math.pi * (focal * math.tan(math.asin(RADIUS / distance))) ** 2
    assert (picture.object == 0).sum() == pytest.approx(expected, rel=0.04)
    assert picture.object.min() == -1


def test_floor_and_wall_lie_where_they_are(picture):
    row, column = SIZE - 5, 4
    fall = ((row + 0.5) / SIZE - 0.5) * 2 * math.tan(math.radians(25))  # below the axis, a unit of depth
    assert picture.depth[0, row, column] == pytest.approx(EYE[1] / fall, rel=1e-4)
    assert picture.points[0, row, column, 1] == pytest.approx(0, abs=1e-4)
    assert picture.depth[0, 3, 3] == pytest.approx(EYE[2] - WALL_Z, rel=1e-5)
    assert picture.points[0, 3, 3, 2] == pytest.approx(WALL_Z, abs=1e-4)


def test_shadow_lies_away_from_the_sun_and_lacks_its_light(picture):
    shift = SUN * RADIUS / SUN[1]  # along the sun's rays from the centre down to the floor
    shadow = pixel_of((-shift[0] * 1.6, 0.0, -shift[2] * 1.6))
    lit = pixel_of((shift[0] * 1.6, 0.0, -shift[2] * 1.6))
    assert picture.object[shadow] == picture.object[lit] == -1
    torch.testing.assert_close(picture.colour[shadow], torch.tensor(FLOOR) * AMBIENT)
    light = AMBIENT + SUN_STRENGTH * float(SUN[1])
    torch.testing.assert_close(picture.colour[lit], torch.tensor(FLOOR) * light)


def test_nothing_is_seen_above_the_horizon_without_a_wall(sphere):
    picture = render_scenes(triangles(sphere), 1, level_view(1), room(1, with_wall=False), SIZE)
    assert torch.isinf(picture.depth[0, 3, 3]) and picture.object[0, 3, 3] == -1
    torch.testing.assert_close(picture.points[0, 3, 3], torch.tensor(EYE))
    torch.testing.assert_close(picture.colour[0, 3, 3], torch.tensor(WALL) * AMBIENT)
    assert picture.colour.isfinite().all()


def test_scenes_of_a_batch_do_not_mix(sphere, picture):
    left, right = sphere - torch.tensor([1.0, 0, 0]), sphere + torch.tensor([1.0, 0, 0])
    far = sphere + torch.tensor([0, 0, -1.0])
    both = render_scenes(triangles(left, right, sphere, far), 2, level_view(2), room(2), SIZE)
    assert both.object[0].unique().tolist() == [-1, 0, 1]
    assert both.object[1].unique().tolist() == [-1, 2]  # the far ball hides behind the near one
    covered = both.object[1] == 2
    assert torch.equal(covered, picture.object[0] == 0)
    torch.testing.assert_close(both.depth[1], picture.depth[0])


def test_what_stands_behind_the_wall_is_not_seen(sphere):
    behind = sphere + torch.tensor([0, 0, WALL_Z - 1.0])
    hidden = render_scenes(triangles(behind), 1, level_view(1), room(1), SIZE)
    assert (hidden.object == -1).all()
    bare = render_scenes(triangles(behind), 1, level_view(1), room(1, with_wall=False), SIZE)
    assert (bare.object == 0).any()
