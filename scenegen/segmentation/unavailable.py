"""The one error of segmenters and detectors that cannot be used."""

from __future__ import annotations

from trellis_modules.checkpoint import CheckpointError


class SegmenterUnavailable(CheckpointError):
    """A package or a file is missing or damaged; the message is one line."""
