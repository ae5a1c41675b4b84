"""Objects on their way through the stages, and what becomes of those that a stage cannot use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import trimesh
from torch import Tensor

from scenegen.geometry import identity_pose, sanitize_pose
from scenegen.pipelines.result import GeneratedObject
from scenegen.pipelines.sampling import StructureSample
from scenegen.pipelines.state import ObjectLatents
from trellis_modules.representations.gaussian import Gaussian
from trellis_modules.representations.strivec import Strivec

MAX_VOXELS = 100_000
"""Structures of the appearance stage are shells of objects; one with more voxels is a decoder gone wrong."""

PRESENT = "the object is there already"
"""Problem of a draft that no stage has to make."""

EMPTY = "the structure decoder left the grid empty"

_CHECK = "check the weights and the precision (dtype float32)"


@dataclass
class ObjectDraft:
    """One object between stages; the attributes are those of `GeneratedObject`.

    ``num_faces`` is the number of triangles that the caller wants, if any. A stage that cannot use an object
    sets ``problem``; the stages after it leave the object out, and likewise one that is there already.
    """

    logits: Tensor
    pose: Tensor
    problem: str | None = None
    mesh: trimesh.Trimesh | None = None
    gaussian: Gaussian | None = None
    radiance_field: Strivec | None = None
    num_faces: int | None = None
    latents: ObjectLatents | None = None

    @classmethod
    def of(cls, item: GeneratedObject) -> ObjectDraft:
        """An object that is there already; no stage makes anything of it."""
        return cls(item.logits, item.pose, PRESENT, item.mesh, latents=item.latents)

    def finished(self, object_id: int) -> GeneratedObject:
        """The object as the caller gets it."""
        return GeneratedObject(
            object_id,
            self.pose,
            self.logits,
            self.mesh,
            self.gaussian,
            self.radiance_field,
            self.problem,
            latents=self.latents,
        )


def draft_objects(
    sample: StructureSample, logits: Tensor, max_voxels: int | None = None
) -> list[ObjectDraft]:
    """Judge the result of the structure stage, object by object.

    Args:
        sample: of B objects.
        logits: (B, R, R, R) float32 on the CPU.
        max_voxels: an object with more of them cannot be used; None allows any number.

    Returns:
        B drafts. An object whose numbers are not finite stands, as an unusable one, at the identity pose.
    """
    latents_finite = sample.latents.flatten(1).isfinite().all(dim=1).tolist()
    poses = identity_pose(len(logits)) if sample.positions is None else sample.positions.float().cpu()
    drafts = []
    for row, finite in enumerate(latents_finite):
        problem = _structure_problem(logits[row], finite, max_voxels)
        latents = ObjectLatents(sample.latents[row].float().cpu())
        if bool(poses[row].isfinite().all()):
            pose = sanitize_pose(poses[row])
        else:
            problem = problem or f"structure sampling: its pose is not finite; {_CHECK}"
            pose = identity_pose(1)[0]
        drafts.append(ObjectDraft(logits[row], pose, problem, latents=latents))
    return drafts


def usable(drafts: Sequence[ObjectDraft]) -> list[int]:
    """Rows of the objects that have no problem so far."""
    return [row for row, draft in enumerate(drafts) if draft.problem is None]


def _structure_problem(logits: Tensor, latents_finite: bool, max_voxels: int | None) -> str | None:
    if not latents_finite:
        return f"structure sampling: its latents are not finite; {_CHECK}"
    if not bool(logits.isfinite().all()):
        return f"structure decoder: its logits are not finite; {_CHECK}"
    voxels = int((logits > 0).sum())
    if voxels == 0:
        return EMPTY
    if max_voxels is not None and voxels > max_voxels:
        return (
            f"structure decoder: expected at most {max_voxels} voxels, got {voxels} of {logits.numel()}; "
            "try another seed or check the weights"
        )
    return None


def latents_problem(feats: Tensor) -> str | None:
    """What is wrong with the structured latents (T, C) of one object, if anything."""
    if bool(torch.isfinite(feats).all()):
        return None
    return f"appearance sampling: its latents are not finite; {_CHECK}"
