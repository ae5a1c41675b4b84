"""Offline preparation of data sets: furniture meshes, scene layouts, renders and metadata."""
