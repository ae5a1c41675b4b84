"""Paint of the rooms of training scenes: floors, walls, ceilings, carpets, windows and pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.synthesis.pictures.looks import Draws
from scenegen.synthesis.pictures.patterns import SurfaceStyle, surface_colours, waves

_BOARDS = 3  # rectangles on a wall that may be windows, pictures or doors
_ENDLESS_M = 1e3
_SKIRTING_M = 0.09


@dataclass(frozen=True)
class RoomPaint:
    """Paint of S rooms; surface 0 of each is the floor, 1 to W are walls, then ceiling and carpet.

    Attributes:
        painted: (S,) bool, whether the room is other than plain.
        style: of the surfaces, tensors (S, W + 3).
        dado: (S, W + 3), metres up to which a wall has its second colour.
        skirting: (S, W + 3), brightness of its lowest strip; 0 where it has none.
        boards: (S, W + 3, _BOARDS, 12): place and half sides (u, v, width, height), frame width, colour
            of the frame, kind (above 0.5: a window), and the colour of a picture.
        centre: (S, 3) about which u is measured; yaw: (S,) of the floor's pattern.
        carpet: (S, 7): place x, z, half sides, yaw, whether it is round, whether there is one.
    """

    painted: Tensor
    style: SurfaceStyle
    dado: Tensor
    skirting: Tensor
    boards: Tensor
    centre: Tensor
    yaw: Tensor
    carpet: Tensor

    @classmethod
    def draw(cls, scene: dict[str, Tensor], probability: float, generator: torch.Generator) -> RoomPaint:
        """Draw the paint of the scenes of a batch (see `layout_arrays`; with ``low`` and ``high``)."""
        num_scenes, num_walls = scene["wall_normal"].shape[:2]
        draws = Draws(num_scenes, generator)
        surfaces = num_walls + 3
        floor = torch.where(
            draws.happens(0.75, 1), scene["floor_colour"], draws.colours((0.0, 0.5), (0.2, 0.95))
        )
        wall = torch.where(draws.happens(0.5, 1), scene["wall_colour"], draws.colours((0.0, 0.6), (0.3, 1.0)))
        first = wall[:, None].repeat(1, surfaces, 1)
        first[:, 0] = floor
        first[:, -2] = (0.6 + 0.4 * wall) * draws.uniform(1.2, 1.9, 1)  # ceilings are lit from below
        first[:, -1] = draws.colours((0.0, 0.8), (0.1, 1.0))
        yaw = torch.atan2(scene["wall_normal"][:, 0, 0], scene["wall_normal"][:, 0, 2])
        yaw = torch.where(scene["wall_normal"][:, 0].abs().sum(-1) > 0, yaw, scene["yaw"][:, 0])
        is_dado = draws.happens(0.25, 1)
        dado = torch.where(is_dado, draws.uniform(0.5, 1.5, 1), 0.0).repeat(1, surfaces)
        skirting = (draws.uniform(0.3, 1.1, 1) * draws.happens(0.6, 1)).repeat(1, surfaces)
        dado[:, [0, -2, -1]] = 0
        skirting[:, [0, -2, -1]] = 0
        return cls(
            draws.happens(probability),
            _styles(draws, first),
            dado,
            skirting,
            _boards(draws, surfaces),
            (scene["low"] + scene["high"]) / 2,
            yaw + math.pi / 2 * draws.choice(2),
            _carpet(draws, scene),
        )

    def colours(self, points: Tensor, plane: Tensor, normal: Tensor, plain: Tensor) -> Tensor:
        """Colours of floors, walls and ceilings.

        Args:
            points: (S, H, W, 3) in the world.
            plane: (S, H, W) int64, -1 where there is none.
            normal: (S, H, W, 3) of the plane.
            plain: (S, H, W, 3) colours without paint, for rooms that have none.
        """
        u, v = self._places(points, plane, normal)
        plane = torch.where((plane == 0) & self._on_carpet(points), self.style.width.shape[1] - 1, plane)
        scene = torch.arange(len(points), device=points.device)[:, None, None]
        index = scene * self.style.width.shape[1] + plane.clamp(min=0)

        def per_pixel(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[index]

        style = self.style.map(per_pixel)
        colour = surface_colours(u, v, style)
        colour = torch.where((v < per_pixel(self.dado))[..., None], style.second, colour)
        skirting = per_pixel(self.skirting)
        colour = torch.where(((v < _SKIRTING_M) & (skirting > 0))[..., None], skirting[..., None], colour)
        for number in range(_BOARDS):
            board = [per_pixel(part) for part in self.boards[:, :, number].unbind(-1)]
            colour = _with_board(colour, u, v, board)
        shown = (self.painted[:, None, None] & (plane >= 0))[..., None]
        return torch.where(shown, colour, plain)

    def _places(self, points: Tensor, plane: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (S, H, W) on the surface: along and across the floor's pattern, along and up a wall."""
        centre, yaw = self.centre[:, None, None], self.yaw[:, None, None]
        x, y, z = (points - centre * torch.tensor([1.0, 0.0, 1.0], device=points.device)).unbind(-1)
        is_wall = normal[..., 1].abs() < 0.5
        cosine, sine = yaw.cos(), yaw.sin()
        u = torch.where(is_wall, x * normal[..., 2] - z * normal[..., 0], x * cosine - z * sine)
        return u, torch.where(is_wall, y, x * sine + z * cosine)

    def _on_carpet(self, points: Tensor) -> Tensor:
        x, z, half_x, half_z, yaw, is_round, exists = (part[:, None, None] for part in self.carpet.unbind(-1))
        aside, along = points[..., 0] - x, points[..., 2] - z
        across = (aside * yaw.cos() - along * yaw.sin()) / half_x
        ahead = (aside * yaw.sin() + along * yaw.cos()) / half_z
        inside = torch.where(
            is_round > 0.5, across**2 + ahead**2 < 1, torch.maximum(across.abs(), ahead.abs()) < 1
        )
        return inside & (exists > 0.5)


def _styles(draws: Draws, first: Tensor) -> SurfaceStyle:
    """Styles of the surfaces (S, P) with these first colours (S, P, 3)."""
    shape = first.shape[1:2]
    like = draws.happens(0.6, *shape, 1)  # the second colour is a tone of the first one
    second = torch.where(
        like, first * draws.uniform(0.45, 1.5, *shape, 1), draws.colours((0.0, 0.8), (0.05, 1.0), *shape)
    )
    kind = draws.choice(6, *shape)  # 0, 1 plain; 2 planks; 3 tiles; 4 bricks; 5 stripes
    width, height = draws.powers(0.08, 0.9, *shape), draws.powers(0.06, 0.35, *shape)
    height = torch.where(kind == 3, width, height)
    width = torch.where(kind == 2, draws.uniform(0.8, 2.5, *shape), width)
    height = torch.where(kind == 5, _ENDLESS_M, height)
    is_plain = kind < 2
    width, height = torch.where(is_plain, _ENDLESS_M, width), torch.where(is_plain, _ENDLESS_M, height)
    shift = torch.where(kind == 2, 0.37, torch.where(kind == 4, 0.5, 0.0))
    has_joint = ((kind == 2) | (kind == 3) | (kind == 4)) & draws.happens(0.7, *shape)
    checks = ((kind == 3) & draws.happens(0.3, *shape)) | (kind == 5)
    ornament = draws.uniform(0.1, 1.0, *shape) * draws.happens(0.25, *shape)
    return SurfaceStyle(
        first,
        second,
        width,
        height,
        shift,
        torch.where(has_joint, draws.powers(0.002, 0.01, *shape), 0.0),
        draws.uniform(0.4, 1.2, *shape),
        torch.where(is_plain | (kind == 5), 0.0, draws.uniform(0.0, 0.5, *shape)),
        checks.float(),
        ornament,
        draws.powers(3.0, 60.0, *shape),
        torch.where(kind == 2, draws.uniform(0.0, 0.12, *shape), 0.0),
        draws.uniform(0.0, 6.0, *shape),
    )


def _boards(draws: Draws, surfaces: int) -> Tensor:
    """Windows, pictures and doors on the walls (S, surfaces, _BOARDS, 12); floors and ceilings have none."""
    shape = (surfaces, _BOARDS)
    is_window = draws.happens(0.35, *shape)
    width = torch.where(is_window, draws.uniform(0.3, 1.2, *shape), draws.uniform(0.12, 0.5, *shape))
    height = torch.where(is_window, draws.uniform(0.4, 1.2, *shape), draws.uniform(0.12, 0.5, *shape))
    exists = draws.happens(0.45, *shape)
    exists[:, [0, -2, -1]] = False
    middle = torch.where(is_window, 1.4, draws.uniform(1.2, 1.9, *shape))
    numbers = [
        draws.uniform(-2.0, 2.0, *shape),
        middle,
        torch.where(exists, width, -1.0),
        height,
        draws.uniform(0.01, 0.07, *shape),
    ]
    frame = draws.colours((0.0, 0.5), (0.05, 1.1), *shape)
    shown = draws.colours((0.0, 0.9), (0.1, 1.1), *shape)
    return torch.cat([torch.stack([*numbers], -1), frame, is_window[..., None].float(), shown], -1)


def _with_board(colour: Tensor, u: Tensor, v: Tensor, board: list[Tensor]) -> Tensor:
    """The colours (..., 3) of a wall with one rectangle on it."""
    place_u, place_v, half_u, half_v, frame_width, *colours = board
    frame, is_window, shown = torch.stack(colours[:3], -1), colours[3], torch.stack(colours[4:], -1)
    inset = torch.minimum(half_u - (u - place_u).abs(), half_v - (v - place_v).abs())
    field = waves(u, v, 5 + 20 * shown[..., 0], 9 * shown[..., 1])[..., None]
    picture = (shown + 0.5 * field * (1 - 2 * shown.flip(-1))).clamp(0, 1.2)
    sky = (1.3 + 0.3 * shown) * (1 - 0.35 * torch.sigmoid(8 * (0.6 + 0.5 * field[..., 0] - v)))[..., None]
    bar = torch.minimum((u - place_u).abs(), (v - place_v - 0.2).abs()) < 0.02  # of a window
    inside = torch.where((is_window > 0.5)[..., None], torch.where(bar[..., None], frame, sky), picture)
    inside = torch.where((inset < frame_width)[..., None], frame, inside)
    return torch.where((inset > 0)[..., None], inside, colour)


def _carpet(draws: Draws, scene: dict[str, Tensor]) -> Tensor:
    """Carpets (S, 7) under the groups, see `RoomPaint`."""
    low, high = scene["low"], scene["high"]
    spread = 0.35 * (high - low)
    x = (low[:, 0] + high[:, 0]) / 2 + spread[:, 0] * draws.uniform(-0.5, 0.5)
    z = (low[:, 2] + high[:, 2]) / 2 + spread[:, 2] * draws.uniform(-0.5, 0.5)
    half_x, half_z = draws.uniform(0.5, 1.6), draws.uniform(0.4, 1.2)
    is_round = draws.happens(0.3)
    half_z = torch.where(is_round, half_x, half_z)
    exists = draws.happens(0.45)
    yaw = scene["yaw"][:, 0] + draws.uniform(-0.1, 0.1)
    return torch.stack([x, z, half_x, half_z, yaw, is_round.float(), exists.float()], -1)
