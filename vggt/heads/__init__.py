"""Prediction heads: camera, dense maps, point tracks."""
