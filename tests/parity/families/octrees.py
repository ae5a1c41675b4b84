"""The family of octree pictures: voxels and radiance fields, with their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.parity.golden import GoldenCase, family
from trellis_modules.renderers import Rendering, render_octree
from trellis_modules.renderers.backends.octree_views import harmonics, select_leaves
from trellis_modules.renderers.cameras import eye_positions, to_camera
from trellis_modules.renderers.spherical_harmonics import evaluate_spherical_harmonics
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

_NEAREST_CENTRE = 0.2  # camera depth up to which the original leaves leaves out
_DENSITY_SHIFT = 2.0  # VoxelOctree takes the logarithm of the density and this


@family("octree_rasteriser")
def octree_rasteriser(case: GoldenCase, device: str = "cpu", backend: str = "auto") -> dict[str, Tensor]:
    """Pictures and gradients of a case; the JSON describes the inputs."""
    for name in case.tensors:
        if name.startswith("in."):
            case.skip(name, "an input")
    case.skip("distloss", "a regulariser of training voxels that no released model uses")
    if case.config["scale_modifier"] != 1:
        raise ValueError(f"{case.name}: expected scale_modifier 1, got {case.config['scale_modifier']}")
    trained = "loss_weight" in case.meta["inputs"]
    leaves = {name: value.to(device).requires_grad_(trained) for name, value in _parameters(case).items()}
    octree = (_voxels if case.config["primitive"] == "voxel" else _field)(case, leaves, device)
    views = [
        _draw_view(case, octree, pose, view, backend)
        for view, pose in enumerate(case.tensors["in.extrinsics"].to(device))
    ]
    computed = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    if trained:
        loss = (computed["trained_color"] * case.input("loss_weight").to(device)).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        computed |= {f"grad.{name}": value for name, value in zip(leaves, gradients) if value is not None}
    return computed


def _parameters(case: GoldenCase) -> dict[str, Tensor]:
    """What the case differentiates by: densities, shs or colors_precomp, trivecs."""
    names = ("densities", "shs", "colors_precomp")
    given = {name: case.input(name) for name in names if name in case.meta["inputs"]}
    if case.config.get("colors_precomp") == "equal to in.position":
        given["colors_precomp"] = case.tensors["in.position"].clone()
    if "trivecs_minus_1" in case.meta["inputs"]:
        given["trivecs"] = case.input("trivecs_minus_1") + 1
    return given


def _nodes(case: GoldenCase, device: str) -> OctreeNodes:
    return OctreeNodes(
        case.tensors["in.position"].to(device),
        case.tensors["in.node_depth"].to(device),
        torch.tensor(case.config["aabb"], dtype=torch.float32, device=device),
    )


def _split(shs: Tensor) -> dict[str, Tensor | None]:
    """Harmonic coefficients (..., K, 3) as the fields of a representation."""
    return {"features_dc": shs[..., :1, :], "features_rest": shs[..., 1:, :] if shs.shape[-2] > 1 else None}


def _voxels(case: GoldenCase, leaves: dict[str, Tensor], device: str) -> VoxelOctree:
    hidden = None if case.config.get("solid") else leaves["densities"].log() + _DENSITY_SHIFT
    colours = _split(leaves["shs"]) if "shs" in leaves else {"leaf_colours": leaves["colors_precomp"]}
    return VoxelOctree(_nodes(case, device), hidden_density=hidden, **colours)


def _field(case: GoldenCase, leaves: dict[str, Tensor], device: str) -> Strivec:
    return Strivec(
        _nodes(case, device),
        leaves["trivecs"],
        leaves["densities"],
        used_rank=case.config["used_rank"],
        density_shift=case.config["density_shift"],
        **_split(leaves["shs"]),
    )


def _draw_view(
    case: GoldenCase, octree: VoxelOctree | Strivec, pose: Tensor, view: int, backend: str
) -> dict[str, Tensor]:
    """The pictures of one camera, without the leaves that the original leaves out."""
    centres = to_camera(octree.nodes.xyz, pose)[:, 2]
    octree = select_leaves(octree, centres > _NEAREST_CENTRE)
    jitter = case.tensors.get("in.jitter")

    def draw(shown: VoxelOctree | Strivec) -> Rendering:
        return render_octree(
            shown,
            pose[None],
            case.tensors["in.intrinsics"],
            (case.config["height"], case.config["width"]),
            background=tuple(case.config["background"]),
            offsets=None if jitter is None else jitter[view : view + 1],
            backend=backend,
        )

    picture = draw(octree)
    computed = {"color": picture.colour[0].permute(2, 0, 1), "alpha": picture.alpha[0]}
    if isinstance(octree, Strivec):
        trained = picture
        computed["depth"] = picture.depth[0] * picture.alpha[0]
        computed["percent_depth"] = picture.percent_depth[0]
    else:
        trained = draw(_with_colours(octree, _unclamped_gradient(octree, pose)))
        computed["depth"] = _depth_of_centres(draw, octree, pose, case.config["background"])
    return computed | {"trained_color": trained.colour[0].permute(2, 0, 1)}


def _with_colours(octree: VoxelOctree, colours: Tensor) -> VoxelOctree:
    return VoxelOctree(octree.nodes, hidden_density=octree.hidden_density, leaf_colours=colours)


def _depth_of_centres(draw, octree: VoxelOctree, pose: Tensor, background: list[float]) -> Tensor:
    """The original's depth: that of the leaves' centres, drawn as a colour, not divided by alpha."""
    depth = to_camera(octree.nodes.xyz, pose)[:, 2:].expand(-1, 3)
    picture = draw(_with_colours(octree, depth))
    return picture.colour[0, ..., 0] - (1 - picture.alpha[0]) * background[0]


def _unclamped_gradient(octree: VoxelOctree, pose: Tensor) -> Tensor:
    """Colours whose gradient passes through their clamp, as the original's does and ours does not."""
    if octree.leaf_colours is not None:
        return octree.leaf_colours
    coefficients, degree = harmonics(octree)
    directions = torch.nn.functional.normalize(octree.nodes.xyz - eye_positions(pose), dim=-1)
    colours = 0.5 + evaluate_spherical_harmonics(degree, coefficients.mT, directions)
    return colours + (colours.clamp(0, 1) - colours).detach()
