"""The floor and the walls of pictures that were painted from known rooms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scenegen.photo.room import NOTHING, RoomPlanes, eye_of
from scenegen.photo.room_fit import between_objects, fit_room
from scenegen.photo.room_parts import MAX_TEXELS, room_parts
from tests.unit.scenegen.photo.painted_rooms import BOX, COLOURS, camera, painted, rays

ROOMS = {
    "behind": (10.0, (np.inf, np.inf, 4.6, np.inf)),
    "corner": (-20.0, (np.inf, np.inf, 4.2, 2.6)),
    "left, turned": (80.0, (np.inf, 4.2, np.inf, np.inf)),
    "three": (15.0, (np.inf, 2.2, 4.6, 2.2)),
}


@pytest.mark.parametrize("name", ROOMS)
def test_the_walls_of_a_painted_room_are_found(name):
    view = camera()
    turn_deg, distances = ROOMS[name]
    room = RoomPlanes(eye_of(view), 0.0, np.deg2rad(turn_deg), distances)
    photo, mask, planes = painted(room, view)
    free = between_objects(mask[None])
    found = fit_room(photo, free, view, 0.0, BOX)
    assert np.isfinite(found.room.distances).sum() == len(np.unique(planes[planes > 0]))
    ours, way = found.room.meet(rays(view))
    _, true_way = room.meet(rays(view))
    near = np.isclose(way, true_way, rtol=0.06) | (ours == NOTHING) & ~np.isfinite(true_way)
    assert near[free.ravel()].mean() > 0.97
    assert found.unexplained < 0.05


def test_a_picture_of_one_colour_has_no_walls():
    view = camera(elevation_deg=60.0)
    room = RoomPlanes(eye_of(view), 0.0, 0.0)
    photo, mask, _ = painted(room, view)
    assert not np.isfinite(fit_room(photo, between_objects(mask[None]), view, 0.0, BOX).room.distances).any()


def test_no_wall_stands_before_what_the_objects_hide_of_it():
    view = camera()
    photo, mask, _ = painted(RoomPlanes(eye_of(view), 0.0, 0.0, (np.inf, np.inf, 2.0, np.inf)), view)
    found = fit_room(photo, between_objects(mask[None]), view, 0.0, BOX).room
    reach = ((BOX - found.eye) @ found.directions.T).max(axis=0)
    assert (np.asarray(found.distances) >= reach - 0.1).all()


def test_without_a_view_of_a_floor_there_is_no_room():
    view = camera()
    photo, mask, _ = painted(RoomPlanes(eye_of(view), 0.0, 0.0), view)
    assert fit_room(photo, between_objects(mask[None]), view, 9.0, BOX) is None
    assert fit_room(photo, np.zeros_like(mask), view, 0.0, BOX) is None


def test_parts_have_the_photos_colours_where_it_shows_them_and_their_mean_elsewhere():
    view = camera()
    room = RoomPlanes(eye_of(view), 0.0, np.deg2rad(-20.0), (np.inf, np.inf, 4.2, 2.6))
    photo, mask, _ = painted(room, view)
    photo[mask] = (255, 0, 0)
    free = between_objects(mask[None])
    parts = room_parts(room, photo, free, view, BOX)
    assert [part.node for part in parts] == ["room_floor", "room_wall_0", "room_wall_1"]
    for part, plane in zip(parts, (0, 3, 4)):
        assert 0.05 < part.seen < 1 and max(part.picture.shape) == MAX_TEXELS
        share = part.picture / np.maximum(COLOURS[plane], 1)  # 0.8 to 1, where the picture gets darker
        near = ((share > 0.77) & (share < 1.03)).all(axis=2)
        assert near.mean() > 0.97
        values, counts = np.unique(part.picture.reshape(-1, 3), axis=0, return_counts=True)
        assert counts.max() >= (1 - part.seen) * part.picture[..., 0].size * 0.99
        assert np.ptp(part.picture[..., 0]) > 10  # the photo's shading, not one colour


def test_parts_bound_the_objects_and_face_inwards():
    view = camera()
    room = RoomPlanes(eye_of(view), 0.0, np.deg2rad(-20.0), (np.inf, np.inf, 4.2, 2.6))
    photo, mask, _ = painted(room, view)
    floor, *walls = room_parts(room, photo, between_objects(mask[None]), view, BOX)
    inside = np.array([0.0, 0.3, 0.0])
    for part in (floor, *walls):
        mesh = part.mesh()
        assert (mesh.face_normals @ (inside - mesh.vertices[0]) > 0).all()
    assert np.allclose(floor.corners[:, 1], 0)
    for wall, direction, distance in zip(walls, room.directions[2:], room.distances[2:]):
        assert np.allclose((wall.corners - room.eye) @ direction, distance)
        assert np.allclose(np.sort(wall.corners[:, 1])[:2], 0) and wall.corners[:, 1].max() >= 0.6
    plan = floor.corners[:, [0, 2]]
    for start, end in zip(plan, np.roll(plan, -1, axis=0)):
        edge = end - start
        assert (edge[1] * (BOX[:, 0] - start[0]) - edge[0] * (BOX[:, 2] - start[1]) > 0).all()


def test_a_part_moves_with_its_scene():
    view = camera()
    room = RoomPlanes(eye_of(view), 0.0, 0.3)
    photo, mask, _ = painted(room, view)
    (floor,) = room_parts(room, photo, between_objects(mask[None]), view, BOX)
    transform = np.eye(4)
    transform[:3, :3] = 2 * Rotation.from_euler("y", 30, degrees=True).as_matrix()
    transform[:3, 3] = (1, 2, 3)
    assert np.allclose(floor.moved(transform).corners[:, 1], 2)
