"""Meshes from signed distances on sparse cubes: dual contouring with learned weights (FlexiCubes)."""
