"""Pictures that are painted from known rooms."""

import numpy as np

from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.photo.room import NOTHING, rays_of

WIDTH, HEIGHT = 160, 120
COLOURS = np.array([(150, 120, 90), (200, 200, 190), (90, 110, 160), (170, 190, 160), (80, 90, 80)], np.uint8)
OPEN = np.array((20, 20, 40), np.uint8)
BOX = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (0.0, 0.6) for z in (-0.4, 0.4)])


def camera(azimuth_deg=15.0, elevation_deg=22.0, away=3.0):
    rotation = rotation_of(np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg))
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation
    extrinsics[:3, 3] = rotation @ [0, -0.3, 0] + [0, 0, away]
    return PhotoCamera(extrinsics, 0.9, HEIGHT / WIDTH)


def rays(view):
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return rays_of(view, np.stack([x - WIDTH / 2, y - HEIGHT / 2], axis=-1).reshape(-1, 2) / WIDTH)


def painted(room, view):
    """The picture of a room that is darker to the right, with a red box, and the box's mask."""
    planes = room.meet(rays(view))[0].reshape(HEIGHT, WIDTH)
    photo = np.where((planes == NOTHING)[..., None], OPEN, COLOURS[planes.clip(0)])
    photo = (photo * np.linspace(1.0, 0.8, WIDTH)[None, :, None]).astype(np.uint8)
    corners = view.project(BOX)[0] * WIDTH + [WIDTH / 2, HEIGHT / 2]
    (left, top), (right, bottom) = corners.min(axis=0).astype(int), corners.max(axis=0).astype(int)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    photo[mask] = (200, 30, 30)
    return photo, mask, planes
