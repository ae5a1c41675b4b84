"""Batch sources of training, found by name in `registry`."""
