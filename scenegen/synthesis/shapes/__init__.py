"""Meshes as tensors on the training device: their variants, voxels, surface fields and colours."""
