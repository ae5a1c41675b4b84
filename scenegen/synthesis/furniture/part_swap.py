"""New training shapes from two real ones: the lower part of one model under the upper part of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo, normalise
from trellis_modules.representations.mesh.triangle_arrays import weld

# Where a class is cut: at a height above the floor in metres (low, high), where furniture of the class has a
# seat or a mattress, or at a share of the height, where it has legs or a stem below the rest.
_CUT_METRES = {"Chair": (0.44, 0.52), "Sofa": (0.38, 0.48), "Bed": (0.35, 0.55)}
_CUT_SHARES = {
    "Table": (0.82, 0.92),
    "Cabinet/Shelf/Desk": (0.3, 0.7),
    "Pier/Stool": (0.7, 0.85),
    "Lighting": (0.4, 0.6),
}
SWAPPED_CLASSES = tuple(sorted({**_CUT_METRES, **_CUT_SHARES}))
_MAX_STRETCH = 1.7
_MIN_PART_FACES = 8
_WELD_TOLERANCE = 1e-5


def can_swap(lower: ModelInfo, upper: ModelInfo) -> bool:
    """Whether two models may be combined: same class, split and tier, sides that differ by less than 1.7."""
    same_kind = (lower.super_category, lower.split, lower.tier) == (
        upper.super_category,
        upper.split,
        upper.tier,
    )
    ratios = np.divide(lower.size_m, upper.size_m)
    is_alike = bool(np.all((ratios < _MAX_STRETCH) & (ratios > 1 / _MAX_STRETCH)))
    return same_kind and is_alike and lower.id != upper.id and lower.super_category in SWAPPED_CLASSES


def swap_parts(
    lower: tuple[FurnitureMesh, ModelInfo], upper: tuple[FurnitureMesh, ModelInfo], rng: np.random.Generator
) -> tuple[FurnitureMesh, ModelInfo] | None:
    """Put what `upper` has above a cut onto what `lower` has below it.

    The upper model is stretched to the lower one's width and depth; both are cut at the height that is usual
    for the class.

    Args:
        lower: mesh and record of the model that gives the legs, base or pot.
        upper: mesh and record of the model that gives the rest.
        rng: chooses the height of the cut.

    Returns:
        Mesh and record with the id "swap/<lower>+<upper>@<height>", or None when a part is almost empty.

    Raises:
        ValueError: the two may not be combined, see `can_swap`.
    """
    (lower_mesh, lower_info), (upper_mesh, upper_info) = lower, upper
    if not can_swap(lower_info, upper_info):
        raise ValueError(
            f"swap_parts: {lower_info.id} ({lower_info.super_category}, {lower_info.split}) and "
            f"{upper_info.id} ({upper_info.super_category}, {upper_info.split}) do not fit; ask can_swap"
        )
    cut, share = _cut_heights(lower_info, upper_info, rng)
    base = _standing(lower_mesh, lower_info.size_m)
    width, _, depth = lower_info.size_m
    # Above the cut the upper model keeps its own height, so that a high back stays high.
    rest = _standing(upper_mesh, (width, upper_info.size_m[1], depth))
    below, below_colours = _below(base[lower_mesh.faces], lower_mesh.face_colours, cut)
    mirrored, above_colours = _below(-rest[upper_mesh.faces], upper_mesh.face_colours, -share)
    if min(len(below), len(mirrored)) < _MIN_PART_FACES:
        return None
    triangles = np.concatenate([below, (0, cut - share, 0) - mirrored])
    vertices, size_m = normalise(triangles.reshape(-1, 3))
    vertices, faces, kept = weld(vertices, np.arange(len(vertices)).reshape(-1, 3), _WELD_TOLERANCE)
    colours = np.concatenate([below_colours, above_colours])[kept]
    info = ModelInfo(
        id=f"swap/{lower_info.id}+{upper_info.id}@{cut:.3f}",
        name=f"{lower_info.name} under {upper_info.name}",
        super_category=lower_info.super_category,
        tier=lower_info.tier,
        split=lower_info.split,
        size_m=tuple(float(side) for side in size_m),
        symmetry=_common_symmetry(lower_info.symmetry, upper_info.symmetry),
        licence=" and ".join(sorted({lower_info.licence, upper_info.licence})),
        creator=" and ".join(sorted({lower_info.creator, upper_info.creator})),
    )
    return FurnitureMesh(vertices, faces, colours), info


def random_swaps(
    models: Sequence[tuple[FurnitureMesh, ModelInfo]], count: int, rng: np.random.Generator
) -> list[tuple[FurnitureMesh, ModelInfo]]:
    """Up to `count` swaps of random compatible pairs of `models`; fewer when there are too few pairs."""
    pairs = [
        (lower, upper)
        for lower in range(len(models))
        for upper in range(len(models))
        if can_swap(models[lower][1], models[upper][1])
    ]
    swaps = (
        swap_parts(models[pairs[i][0]], models[pairs[i][1]], rng) for i in rng.permutation(len(pairs))[:count]
    )
    return [swap for swap in swaps if swap is not None]


def _cut_heights(lower: ModelInfo, upper: ModelInfo, rng: np.random.Generator) -> tuple[float, float]:
    """Height of the cut in metres above the floor in the lower and in the upper model."""
    if lower.super_category in _CUT_METRES:
        cut = rng.uniform(*_CUT_METRES[lower.super_category])
        return min(cut, 0.8 * lower.size_m[1]), min(cut, 0.8 * upper.size_m[1])
    share = rng.uniform(*_CUT_SHARES[lower.super_category])
    return share * lower.size_m[1], share * upper.size_m[1]


def _standing(mesh: FurnitureMesh, size_m: Sequence[float]) -> np.ndarray:
    """Vertices in metres, stretched to `size_m`, standing on y = 0 and centred in x and z."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    scaled = (mesh.vertices - (low + high) / 2) / np.maximum(high - low, 1e-9) * size_m
    return scaled + (0, size_m[1] / 2, 0)


def _below(triangles: np.ndarray, colours: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Clip triangles (F, 3, 3) to y <= height; the colours (F, 3) go along."""
    inside = triangles[..., 1] <= height  # (F, 3)
    count = inside.sum(axis=1)
    pieces, owners = [triangles[count == 3]], [np.flatnonzero(count == 3)]
    for inside_corners in (1, 2):
        chosen = np.flatnonzero(count == inside_corners)
        # Turn the corners so that the one that is alone on its side comes first; the winding stays.
        alone = np.argmax(inside[chosen] == (inside_corners == 1), axis=1)
        order = (alone[:, None] + np.arange(3)) % 3
        first, second, third = np.moveaxis(
            np.take_along_axis(triangles[chosen], order[..., None], axis=1), 1, 0
        )
        to_second, to_third = _crossing(first, second, height), _crossing(first, third, height)
        if inside_corners == 1:
            pieces.append(np.stack([first, to_second, to_third], axis=1))
            owners.append(chosen)
        else:
            pieces.append(np.stack([to_second, second, third], axis=1))
            pieces.append(np.stack([to_second, third, to_third], axis=1))
            owners += [chosen, chosen]
    return np.concatenate(pieces), colours[np.concatenate(owners)]


def _crossing(start: np.ndarray, end: np.ndarray, height: float) -> np.ndarray:
    """Points (N, 3) where the edges from start to end pass y = height."""
    share = (height - start[:, 1:2]) / (end[:, 1:2] - start[:, 1:2])
    return start + share * (end - start)


def _common_symmetry(first: int, second: int) -> int:
    """Order of the turns that leave both parts alike (0 stands for any turn)."""
    return int(np.gcd(first, second))
