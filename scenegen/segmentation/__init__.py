"""Object masks of a photo from boxes, points or text, or found automatically.

SAM 2 and Grounding DINO need the extra ``segment``, GrabCut the extra ``demo`` or ``cutout``.
"""

from scenegen.inputs.boxes import check_boxes
from scenegen.segmentation.automatic import AutomaticSettings
from scenegen.segmentation.loading import load_segmenter
from scenegen.segmentation.masks import find_masks, merge_masks
from scenegen.segmentation.polygon import refine_polygon
from scenegen.segmentation.prompts import ObjectPrompt, prompts_of_boxes, read_prompts
from scenegen.segmentation.sam2 import Sam2Segmenter
from scenegen.segmentation.sam2_weights import DEFAULT_SAM2
from scenegen.segmentation.segmenter import PromptMasks, Segmenter
from scenegen.segmentation.unavailable import SegmenterUnavailable

__all__ = [
    "DEFAULT_SAM2",
    "AutomaticSettings",
    "ObjectPrompt",
    "PromptMasks",
    "Sam2Segmenter",
    "Segmenter",
    "SegmenterUnavailable",
    "check_boxes",
    "find_masks",
    "load_segmenter",
    "merge_masks",
    "prompts_of_boxes",
    "read_prompts",
    "refine_polygon",
]
