"""Renderers: pictures of meshes on any device. The rasteriser behind them is chosen in ``backends``."""

from trellis_modules.renderers.mesh_renderer import render_snapshot

__all__ = ["render_snapshot"]
