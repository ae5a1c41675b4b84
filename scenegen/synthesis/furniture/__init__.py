"""Furniture models: records, meshes, packs, the fixed split, and the tools that prepare meshes."""
