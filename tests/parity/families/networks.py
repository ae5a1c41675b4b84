"""Families of the object-level and scene networks."""
