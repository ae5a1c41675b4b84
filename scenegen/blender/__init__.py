"""Blender as a separate program, and the scripts that run inside it."""
