"""The search for better places: objects are moved in turn to where they are least in the way of others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scenegen.geometry import ROTATION, SCALE, place_yup
from scenegen.refinement.settings import RefinementSettings
from scenegen.refinement.silhouette import MaskTarget
from scenegen.refinement.solid import Solid, inside_box, scene_box, to_object
from scenegen.refinement.support import Rest, find_floor, find_rests, put_down, stand_upright, surface_height
from trellis_modules.quaternions import quaternion_from_axis_angle, quaternion_multiply

_COMPASS = torch.arange(8) * (math.pi / 4)
_LEVEL_REACH = 0.1  # query sides: how far the surface below an object may go up or down as it moves
_SKIN_VOXELS = 1.5  # above a surface that an object stands on, contact does not count as penetration


class PlacementSearch:
    """Objects on their way to better places.

    A move (3,) is a shift along x and z and a turn about y in radians, relative to the estimate, which rides
    along with the object that it stands on.
    """

    def __init__(
        self,
        solids: Sequence[Solid],
        poses: Tensor,
        query: int,
        targets: Sequence[MaskTarget] | None,
        settings: RefinementSettings,
    ) -> None:
        """Set the objects upright and find what each one stands on.

        Args:
            solids: of N objects.
            poses: (N, 8) estimates in the query frame.
            query: the object that stays where it is.
            targets: per object what of the photo it should cover; None without a photo.
            settings: see `RefinementSettings`.
        """
        self.solids, self.query, self.targets, self.settings = solids, query, targets, settings
        self.estimates = torch.stack(
            [pose if row == query else stand_upright(pose) for row, pose in enumerate(poses)]
        )
        self.floor = find_floor(solids, self.estimates, query)
        self.rests = find_rests(solids, self.estimates, query, self.floor)
        self.moves = torch.zeros(len(solids), 3)
        self.volumes = torch.tensor([solid.volume for solid in solids]) * poses[:, 7] ** 3
        self.unit_moves = torch.tensor(
            [
                settings.typical_shift,
                settings.typical_shift,
                math.radians(settings.typical_turn_deg),
            ]
        )

    def poses(self) -> Tensor:
        """(N, 8) where the objects are now."""
        return torch.cat([self.moved(row, self.moves[row, None]) for row in range(len(self.solids))])

    def moved(self, row: int, moves: Tensor) -> Tensor:
        """Poses (K, 8) of an object after moves (K, 3)."""
        if row == self.query:
            return self.estimates[row].expand(len(moves), 8)
        pose = self.estimates[row].repeat(len(moves), 1)
        turn = quaternion_from_axis_angle(pose.new_tensor([0.0, 1.0, 0.0]), moves[:, 2])
        pose[:, ROTATION] = quaternion_multiply(turn, pose[:, ROTATION])
        pose[:, 0:3:2] += moves[:, :2] + self.carried(row)
        rest = self.rests[row]
        return pose if rest is None else put_down(self.solids[row], pose, rest.height)

    def carried(self, row: int) -> Tensor:
        """Shift (2,) along x and z that an object takes part in because of what it stands on."""
        rest = self.rests[row]
        if rest is None or rest.carrier is None:
            return torch.zeros(2)
        return self.moves[rest.carrier, :2] + self.carried(rest.carrier)

    def refine(self) -> None:
        """Move every object but the query once per round; carriers before what they carry."""
        order = [row for row in self._carriers_first() if row != self.query]
        for softness in self.settings.softness:
            for row in order:
                self._settle(row)
                self.moves[row] = self._best_move(row, softness)
        for row in order:
            self._free(row)

    def _carriers_first(self) -> list[int]:
        def depth(row: int) -> int:
            rest = self.rests[row]
            return 0 if rest is None or rest.carrier is None else 1 + depth(rest.carrier)

        return sorted(range(len(self.solids)), key=lambda row: (depth(row), float(self.volumes[row])))

    def _settle(self, row: int) -> None:
        """Follow the surface of the carrier, which may have moved."""
        rest = self.rests[row]
        if rest is None or rest.carrier is None:
            return
        pose, carrier_pose = (self.moved(each, self.moves[each, None])[0] for each in (row, rest.carrier))
        height = surface_height(
            self.solids[row], pose, self.solids[rest.carrier], carrier_pose, rest.height, _LEVEL_REACH
        )
        if height is not None:
            self.rests[row] = Rest(rest.carrier, height)

    def _best_move(self, row: int, softness: float) -> Tensor:
        """Search from an object's present move, in ever smaller steps; first widely if it is in others."""
        best = self.moves[row]
        doubt, penetration = self._judge(row, best[None], reach=0.0)
        best_cost = float(softness * doubt + penetration)
        searches = [(step, _neighbours(step, self.unit_moves)) for step in self.settings.steps]
        if float(penetration) > self.settings.tolerance:
            searches.insert(0, (max(self.settings.wide_rings), _rings(self.settings.wide_rings)))
        for reach, offsets in searches:
            if best_cost == 0:
                break
            candidates = best + offsets
            candidates = candidates[candidates[:, :2].norm(dim=1) <= self.settings.max_shift]
            if len(candidates) == 0:
                continue
            doubts, penetrations = self._judge(row, torch.cat((best[None], candidates)), reach)
            costs = softness * doubts + penetrations
            winner = int(costs.argmin())
            if winner > 0:
                best, best_cost = candidates[winner - 1], float(costs[winner])
        return best

    def _free(self, row: int) -> None:
        """Take an object out of those that it is still in, to the nearest free place, onto what is there.

        The walls of hollow things, as of a cupboard, have so little volume that being in them hardly counts
        in the search. An object that has left its carrier stands on the floor.
        """
        rest, best = self.rests[row], self.moves[row]
        if rest is None or (self._is_free(row, best) and self._is_carried(row, best)):
            return
        ways = [(rest, best)]
        if rest.carrier is not None:
            down = best.clone()
            down[:2] += self.carried(row)
            ways.append((Rest(None, self.floor), down))
        for radius in self.settings.free_rings:
            found: list[tuple[float, Tensor, Rest]] = []
            for self.rests[row], start in ways:
                found += self._free_places(row, start, radius)
            if found:
                _, self.moves[row], self.rests[row] = min(found, key=lambda each: each[0])
                self._settle(row)
                return
        self.rests[row] = rest

    def _free_places(self, row: int, start: Tensor, radius: float) -> list[tuple[float, Tensor, Rest]]:
        """Doubt, move and rest of the best free place, if there is one, at a distance from a move (3,)."""
        moves = start + _rings((radius,))
        moves = moves[moves[:, :2].norm(dim=1) <= self.settings.max_shift]
        if not len(moves):
            return []
        doubts, penetrations = self._judge(row, torch.cat((start[None], moves)), reach=radius)
        for place in doubts[1:].argsort().tolist():
            is_free = float(penetrations[place + 1]) <= self.settings.free_share
            if is_free and self._is_free(row, moves[place]) and self._is_carried(row, moves[place]):
                return [(float(doubts[place + 1]), moves[place], self.rests[row])]
        return []

    def _is_free(self, row: int, move: Tensor) -> bool:
        """Whether an object is in no other one after a move (3,)."""
        return (
            float(self._penetration(row, self.moved(row, move[None]), reach=0.0)) <= self.settings.free_share
        )

    def _is_carried(self, row: int, move: Tensor) -> bool:
        """Whether, after a move (3,), there is below an object what it stands on."""
        rest = self.rests[row]
        if rest is None or rest.carrier is None:
            return True
        pose = self.moved(row, move[None])[0]
        carrier = self.moved(rest.carrier, self.moves[rest.carrier, None])[0]
        solids = self.solids[row], self.solids[rest.carrier]
        height = surface_height(solids[0], pose, solids[1], carrier, rest.height, _LEVEL_REACH)
        return height is not None

    def _judge(self, row: int, moves: Tensor, reach: float) -> tuple[Tensor, Tensor]:
        """Doubt (K,) about moves (K, 3), from their distance and the mask, and the volume (K,) penetrated."""
        return self._doubt(row, moves), self._penetration(row, self.moved(row, moves), reach)

    def _doubt(self, row: int, moves: Tensor) -> Tensor:
        """Doubt (K,) about moves (K, 3), from their distance and the mask."""
        doubt = (moves / self.unit_moves).square().sum(dim=1)
        if self.targets is not None:
            hidden = 1 - self.targets[row].overlap(self.solids[row], self.moved(row, moves))
            doubt = doubt + self.settings.mask_weight * hidden
        return doubt

    def _penetration(self, row: int, poses: Tensor, reach: float) -> Tensor:
        """Volume (K,) that an object at poses (K, 8) shares with the others, as in `_shared_share`."""
        shares = [
            self._shared_share(row, poses, other, reach)
            for other in range(len(self.solids))
            if other != row and not self._stands_on(other, row)
        ]
        return torch.stack(shares).sum(dim=0) if shares else torch.zeros(len(poses))

    def _stands_on(self, row: int, carrier: int) -> bool:
        rest = self.rests[row]
        return rest is not None and rest.carrier == carrier

    def _shared_share(self, row: int, poses: Tensor, other: int, reach: float) -> Tensor:
        """Volume (K,) shared with one other object, in shares of the smaller of the two.

        Args:
            poses: (K, 8) of the object, the first one in the middle and the others within `reach` of it.
        """
        solid, fixed = self.solids[row], self.solids[other]
        fixed_pose = self.moved(other, self.moves[other, None])[0]
        above = -math.inf
        if self._stands_on(row, other):
            above = self.rests[row].height + _SKIN_VOXELS * fixed.voxel * float(fixed_pose[SCALE])
        margin = 1.5 * reach  # covers a turn of the same step
        own, own_volumes = self._contact(solid, poses[0], scene_box(fixed, fixed_pose), margin, above)
        its, its_volumes = self._contact(fixed, fixed_pose, scene_box(solid, poses[0]), margin, above)
        if len(own) == 0 or len(its) == 0:
            return torch.zeros(len(poses))
        own_fill = fixed.fill_at(to_object(place_yup(own, poses).flatten(0, 1), fixed_pose))
        its_fill = solid.fill_at(to_object(place_yup(its, fixed_pose), poses))
        shared = (own_fill.view(len(poses), -1) @ own_volumes) * poses[:, 7] ** 3
        shared = shared + (its_fill @ its_volumes) * fixed_pose[7] ** 3
        return shared / 2 / torch.minimum(self.volumes[row], self.volumes[other])

    def _contact(
        self, solid: Solid, pose: Tensor, box: tuple[Tensor, Tensor], margin: float, above: float
    ) -> tuple[Tensor, Tensor]:
        """Some points (P, 3) of an object near a box and the volumes (P,) that they stand for."""
        points = solid.points[: self.settings.search_points]
        placed = place_yup(points, pose)
        near = inside_box(placed, box[0] - margin, box[1] + margin) & (placed[:, 1] > above)
        rows = torch.nonzero(near).squeeze(1)
        kept = rows[: self.settings.contact_points]
        share = len(solid.points) / len(points) * len(rows) / max(len(kept), 1)
        return points[kept], solid.volumes[kept] * share


def _rings(radii: Sequence[float]) -> Tensor:
    """Shifts (K, 3) in 16 directions."""
    angles = torch.arange(16) * (math.pi / 8)
    shifts = torch.tensor(radii)[:, None, None] * torch.stack((angles.cos(), angles.sin()), dim=1)
    return torch.nn.functional.pad(shifts.flatten(0, 1), (0, 1))


def _neighbours(step: float, unit_moves: Tensor) -> Tensor:
    """Moves (K, 3) of one step: shifts in 8 directions, and turns."""
    shifts = step * torch.stack((_COMPASS.cos(), _COMPASS.sin()), dim=1)
    turn = torch.zeros(1, 3)
    turn[0, 2] = step * unit_moves[2] / unit_moves[0]
    return torch.cat((torch.nn.functional.pad(shifts, (0, 1)), turn, -turn))
