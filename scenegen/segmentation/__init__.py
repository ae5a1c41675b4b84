"""Object masks of a photo from boxes, or found automatically, by SAM 2 (extra ``segment``)."""

from scenegen.inputs.boxes import check_boxes, read_boxes
from scenegen.segmentation.automatic import AutomaticSettings
from scenegen.segmentation.loading import DEFAULT_SAM2, SegmenterUnavailable
from scenegen.segmentation.masks import find_masks
from scenegen.segmentation.segmenter import Segmenter

__all__ = [
    "DEFAULT_SAM2",
    "AutomaticSettings",
    "Segmenter",
    "SegmenterUnavailable",
    "check_boxes",
    "find_masks",
    "read_boxes",
]
