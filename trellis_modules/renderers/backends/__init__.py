"""Kernels of the renderers; see ``trellis_modules.backends`` for how they are found and loaded.

A backend defines ``run``. For meshes ``run(vertices, faces, cameras)`` returns the face at every pixel
centre, (V, H, W) int64, -1 where nothing is hit; all else follows from it in ``mesh_renderer``. For Gaussians
``run(gaussian, cameras, kernel_size)`` and for octrees ``run(octree, cameras, samples)`` return
:class:`BlendedViews`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trellis_modules.backends import Backend, BackendRegistry


class BlendedViews(NamedTuple):
    """Volumes blended front to back over nothing, in V pictures."""

    colour: Tensor  # (V, H, W, 3), times alpha
    depth: Tensor  # (V, H, W), camera z times alpha
    alpha: Tensor  # (V, H, W)
    percent_depth: Tensor | None = None  # (V, H, W), camera z where half of the light is gone, else 0


class RaySamples(NamedTuple):
    """Where the rays of V pictures evaluate a radiance field.

    Without offsets a ray has ``count`` samples in each leaf, spread evenly over its way through it. With
    offsets the samples of a leaf lie on the comb of the released renderer: at distances (k + offset) * h from
    the eye, k integer and h = edge / (2 D) for vectors of D values.
    """

    count: int
    offsets: Tensor | None = None  # (V, H, W) in [0, 1)

    def view(self, number: int) -> RaySamples:
        """Those of one picture."""
        return self if self.offsets is None else self._replace(offsets=self.offsets[number : number + 1])


# nvdiffrast and diffoctreerast come last because their licences exclude commercial use: behind backends that
# take everything they are chosen by name only.

MESH_BACKENDS = BackendRegistry(
    "mesh rasterisation",
    "SCENEGEN_MESH_RASTERIZER",
    {
        backend.name: backend
        for backend in (
            Backend("embree", f"{__name__}.embree", "embreex", ("cpu",)),
            Backend("torch", f"{__name__}.torch_rasterizer", "torch"),
            Backend("nvdiffrast", f"{__name__}.nvdiffrast", "nvdiffrast", ("cuda",), (torch.float32,)),
        )
    },
)

GAUSSIAN_BACKENDS = BackendRegistry(
    "Gaussian rasterisation",
    "SCENEGEN_GAUSSIAN_RASTERIZER",
    {
        backend.name: backend
        for backend in (
            Backend("gsplat", f"{__name__}.gsplat", "gsplat", ("cuda",), (torch.float32,)),
            Backend("torch", f"{__name__}.torch_gaussian", "torch"),
        )
    },
)

OCTREE_BACKENDS = BackendRegistry(
    "octree rendering",
    "SCENEGEN_OCTREE_RENDERER",
    {
        backend.name: backend
        for backend in (
            Backend("triton", f"{__name__}.triton_octree", "triton", ("cuda",), (torch.float32,), (7, 0)),
            Backend("torch", f"{__name__}.torch_octree", "torch"),
            Backend(
                "diffoctreerast", f"{__name__}.diffoctreerast", "diffoctreerast", ("cuda",), (torch.float32,)
            ),
        )
    },
)
