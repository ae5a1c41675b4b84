"""Making some objects of a finished scene anew while all others stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scenegen.geometry import compose_poses, identity_pose, sanitize_pose
from scenegen.pipelines.drafts import ObjectDraft
from scenegen.pipelines.result import GeneratedObject, SceneResult, with_overlaps
from scenegen.pipelines.sampling import HeldAssets, StructureSample
from scenegen.pipelines.settings import SEEDS, RunSettings
from scenegen.pipelines.state import SceneState

EDITS = "edits"
"""Key of `SceneResult.settings` under which every change of a scene is noted."""

_COVERED = 0.5  # of the smaller of two masks: above it they show the same thing


class EditError(ValueError):
    """A change of a scene that cannot be made; the message is one line, and nothing was changed."""


@dataclass(frozen=True)
class KnownScene:
    """A scene of which some objects are to be made.

    Attributes:
        result: the scene before.
        state: what the scene is made from afterwards; it may have more objects than the scene before.
        made: numbers of the objects that are made.
        lock_pose: objects that were there keep their poses.
    """

    result: SceneResult
    state: SceneState
    made: frozenset[int]
    lock_pose: bool = False

    @property
    def order(self) -> list[int]:
        """For each row of the networks, its place in the caller's order."""
        return [self.state.object_ids.index(number) for number in self.state.order]

    @property
    def rows(self) -> list[int]:
        """The networks' rows of the objects that are made."""
        return [row for row, number in enumerate(self.state.order) if number in self.made]

    def next_settings(self) -> RunSettings:
        """The settings of the scene with the next seed."""
        seed = self.state.seed + 1
        return replace(self.state.settings, seed=seed if seed in SEEDS else 0)

    def held(self) -> HeldAssets:
        """The other objects, as the sampler holds them."""
        found = {item.object_id: item for item in self.result.objects}
        latents = {
            row: found[number].latents.structure
            for row, number in enumerate(self.state.order)
            if number not in self.made and _is_known(found[number])
        }
        shape = next(item.latents.structure.shape for item in found.values() if item.latents is not None)
        rows = [latents.get(row, torch.zeros(shape)) for row in range(len(self.state.order))]
        return HeldAssets(torch.stack(rows), tuple(latents))

    def placed(self, sample: StructureSample) -> StructureSample:
        """Samples of the objects that are made, with their poses in the frame of the scene."""
        if sample.positions is None:
            return sample
        before = {item.object_id: item.pose for item in self.result.objects}
        frame = before[self.state.order[0]].to(sample.positions)
        poses = _in_frame(sample.positions, frame)
        if self.lock_pose:
            numbers = [self.state.order[row] for row in self.rows] * (len(poses) // len(self.rows))
            kept = [before.get(number, pose.cpu()) for number, pose in zip(numbers, poses, strict=True)]
            poses = torch.stack(kept).to(poses)
        return replace(sample, positions=poses)

    def told_in_frame(self, poses: Tensor | None) -> Tensor | None:
        """Poses (T, B, 8) that the networks told of all objects, in the frame of the scene; None stays None.

        Of those that stay they are what they are.
        """
        if poses is None:
            return None
        before = {item.object_id: item.pose for item in self.result.objects}
        frame = before[self.state.order[0]].to(poses)
        found = _in_frame(poses, frame).clone()
        for row, number in enumerate(self.state.order):
            if number not in self.made:
                found[:, row] = before[number].to(poses)
        return found

    def joined(self, drafts: Sequence[ObjectDraft]) -> list[ObjectDraft]:
        """All objects in the networks' order: drafts of those that are made, and the others as they are."""
        found = {item.object_id: item for item in self.result.objects}
        made = iter(drafts)
        return [
            next(made) if number in self.made else ObjectDraft.of(found[number])
            for number in self.state.order
        ]

    def finished(self, made: Mapping[int, GeneratedObject], record: Mapping[str, object]) -> SceneResult:
        """The scene afterwards.

        Args:
            made: the objects that were made, by their numbers.
            record: what made them.
        """
        names = {item.object_id: item.name for item in self.result.objects}
        numbers = [*self.result.object_ids, *(n for n in self.state.object_ids if n not in names)]
        kept = {item.object_id: with_own_settings(item, self.result) for item in self.result.objects}
        new = {
            number: replace(item, name=names.get(number, ""), settings=dict(record))
            for number, item in made.items()
        }
        return replace(
            self.result, objects=tuple((kept | new)[number] for number in numbers), state=self.state
        )


def plan_reroll(
    result: SceneResult,
    objects: Collection[int],
    networks: str,
    *,
    masks: Mapping[int, np.ndarray] | None = None,
    lock_pose: bool = False,
) -> KnownScene:
    """Check what is asked for.

    Args:
        result: a scene with its state.
        objects: numbers of those that are made anew.
        networks: digest of the networks at hand.
        masks: (H, W) bool, of some of the objects in place of their own; those of numbers that the scene
            lacks are added to it.
        lock_pose: see `KnownScene`.

    Raises:
        EditError: there is no state, or one of other networks, an object does not exist, or a mask cannot be
            used.
    """
    state = state_of(result, networks)
    masks = dict(masks or {})
    check_objects(result, [number for number in objects if number not in masks])
    made = frozenset((*objects, *masks))
    if not made:
        raise EditError("expected at least one object, got none; name some")
    if masks:
        _check_masks(state, masks, made)
        state = state.with_masks(masks)
    return KnownScene(result, state, made, lock_pose)


def state_of(result: SceneResult, networks: str) -> SceneState:
    """The state of a scene.

    Raises:
        EditError: there is none, or it is of other networks than those with this digest.
    """
    if result.state is None or not any(item.latents is not None for item in result.objects):
        raise EditError("expected a scene with its state, got one without; make it again with --keep-state")
    if result.state.networks != networks:
        raise EditError(
            f"expected the checkpoint that made the scene (networks {result.state.networks[:12]}), "
            f"got another (networks {networks[:12]}); pass that one as --checkpoint, or make the scene again"
        )
    return result.state


def check_objects(result: SceneResult, numbers: Collection[int]) -> None:
    """Make sure that objects exist.

    Raises:
        EditError: one does not.
    """
    for number in numbers:
        if number not in result.object_ids:
            known = ", ".join(item.node for item in result.objects)
            raise EditError(f"expected one of the objects {known}, got obj_{number}; choose one")


def remove_objects(result: SceneResult, numbers: Collection[int]) -> SceneResult:
    """A scene without some objects; the others stay as they are.

    Raises:
        EditError: an object does not exist, or is the query, in whose frame the others stand.
    """
    check_objects(result, numbers)
    query = result.query_id if result.state is None else result.state.order[0]
    for number in (query, result.query_id):
        if number in numbers:
            raise EditError(
                f"expected an object that the others do not depend on, got obj_{number}, in whose "
                "frame they stand; re-roll it, give it another mask, or make the scene again without it"
            )
    kept = tuple(with_own_settings(item, result) for item in result.objects if item.object_id not in numbers)
    state = None if result.state is None else result.state.without(list(numbers))
    return with_new_overlaps(replace(with_edit(result, "remove", numbers), objects=kept, state=state))


def with_edit(result: SceneResult, kind: str, numbers: Collection[int], **notes: object) -> SceneResult:
    """A scene whose record tells of one more change."""
    edit = {"kind": kind, "objects": sorted(numbers), **notes}
    return replace(result, settings={**result.settings, EDITS: [*edits_of(result), edit]})


def with_new_overlaps(result: SceneResult) -> SceneResult:
    """A scene that was changed, with how well its objects cover their masks now."""
    if result.state is None:
        return with_overlaps(result, None)
    masks = dict(zip(result.state.object_ids, result.state.views[0].masks, strict=True))
    return with_overlaps(result, [masks[number] for number in result.object_ids])


def edits_of(result: SceneResult) -> list[object]:
    """The changes that a scene went through since it was made."""
    edits = result.settings.get(EDITS, [])
    return list(edits) if isinstance(edits, list) else []


def with_own_settings(item: GeneratedObject, result: SceneResult) -> GeneratedObject:
    """An object that keeps what made it, whatever becomes of the scene's settings."""
    if item.settings is not None:
        return item
    return replace(item, settings={key: value for key, value in result.settings.items() if key != EDITS})


def _is_known(item: GeneratedObject) -> bool:
    return item.latents is not None and bool(item.latents.structure.isfinite().all())


def _in_frame(poses: Tensor, frame: Tensor) -> Tensor:
    """Poses (N, 8) of the network's query frame in the frame in which that query has the pose ``frame``."""
    frame = sanitize_pose(frame)
    if torch.equal(frame, identity_pose(1)[0].to(frame)):
        return poses
    return compose_poses(frame, sanitize_pose(poses))


def _check_masks(state: SceneState, masks: Mapping[int, np.ndarray], made: Collection[int]) -> None:
    if len(state.views) > 1:
        raise EditError(
            f"expected a scene of one photo for another mask, got one of {len(state.views)}; make "
            "the scene again with all masks"
        )
    photo = state.views[0].photo
    given = dict(zip(state.object_ids, state.views[0].masks, strict=True))
    locked = {number: mask for number, mask in given.items() if number not in made}
    for number, mask in masks.items():
        if mask.shape != (photo.height, photo.width) or not mask.any():
            raise EditError(
                f"obj_{number}: expected a mask of {photo.width}x{photo.height} like the photo with pixels "
                f"above 0, got {mask.shape[1]}x{mask.shape[0]} with {int(mask.sum())} such pixels; redraw it"
            )
        for other, there in locked.items():
            if (mask & there).sum() > _COVERED * min(mask.sum(), there.sum()):
                raise EditError(
                    f"obj_{number}: expected a mask beside the objects that stay, got one over obj_{other}; "
                    f"redraw it, or name obj_{other} as the object"
                )
