"""Masks without network weights: GrabCut of OpenCV (extra ``demo`` or ``cutout``).

Colours inside and outside of the box are modelled by mixtures of Gaussians, and the outline is the cheapest
cut between them. The map of a network, where there is one, says where the colours of the object are.

Source: Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004, as in OpenCV.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from scenegen.segmentation.cutout_model import CutoutModel
from scenegen.segmentation.prompts import ObjectPrompt, Point
from scenegen.segmentation.segmenter import PromptMasks, Segmenter
from scenegen.segmentation.unavailable import SegmenterUnavailable

_SIDE = 200  # the longer side of what is cut, in pixels; the time grows faster than its square
_MARGIN = 0.1  # around the box, as share of its sides: where the colours of the background come from
_ROUNDS = 3
_TOO_LITTLE = 0.1  # of the box: what is cut then is no object, and the middle of the box is fixed as one
_MIDDLE = 0.4  # of the box's width and height
_SMALL_PART = 0.05  # of the largest part: smaller ones are noise
_POINT_RADIUS = 0.015  # of the disc that a point fixes, as share of the longer side
_FIRST_GUESS = 0.1  # radius around points that have no box, as share of the longer side
_STANDS_OUT = 0.2
_LEAST_STANDING_OUT = (
    0.3  # of the box: a map with less of it is about another object, and the box alone counts
)
_SEED = 0  # of the first clusters of colours
# Values of OpenCV's masks; named here, so that the module can be read without OpenCV.
_OUTSIDE, _OBJECT, _MAYBE_OUTSIDE, _MAYBE_OBJECT = 0, 1, 2, 3


class GrabCutSegmenter(Segmenter):
    """GrabCut in the boxes of objects, or around points on them."""

    def __init__(self, cutout: CutoutModel | None = None) -> None:
        """Take the network whose map starts the cut; None starts with the box alone.

        Raises:
            SegmenterUnavailable: OpenCV is not installed.
        """
        if importlib.util.find_spec("cv2") is None:
            raise SegmenterUnavailable(
                "masks by GrabCut: expected the package 'opencv-python-headless', which is not installed; "
                "run bash setup.sh --demo, or give SAM 2 (--sam2)"
            )
        self._cutout = cutout

    @property
    def description(self) -> str:
        """What starts the cut."""
        if self._cutout is None:
            return "GrabCut (OpenCV) in the box, without a network"
        return f"GrabCut (OpenCV), started by {self._cutout.description}"

    def find_prompted(self, image: Image.Image, prompts: Sequence[ObjectPrompt]) -> PromptMasks:
        """See `Segmenter.find_prompted`; there are no scores."""
        photo = image.convert("RGB")
        masks = np.zeros((len(prompts), image.height, image.width), bool)
        for mask, prompt in zip(masks, prompts, strict=True):
            region = _region_of(prompt.clipped(*image.size), image.size)
            left, top, right, bottom = region.bounds
            crop = photo.crop(region.bounds)
            is_started = self._cutout is not None and prompt.box is not None
            saliency = self._saliency(crop, region.size) if is_started else None
            small = np.asarray(crop.resize(region.size, Image.Resampling.BOX))
            found = cut_out(small, region.prompt, saliency)
            mask[top:bottom, left:right] = _enlarged(found, (right - left, bottom - top))
        return PromptMasks(masks)

    def _saliency(self, crop: Image.Image, size: tuple[int, int]) -> np.ndarray:
        """The network's map of a crop, which it sees in all its pixels, at the size of the cut."""
        whole = Image.fromarray(self._cutout.saliency(crop))
        return np.asarray(whole.resize(size, Image.Resampling.BOX))


@dataclass(frozen=True)
class _Region:
    """The part of a photo that is cut: its bounds, its size when it is cut, and the prompt in it."""

    bounds: tuple[int, int, int, int]
    size: tuple[int, int]
    prompt: ObjectPrompt


def cut_out(pixels: np.ndarray, prompt: ObjectPrompt, saliency: np.ndarray | None = None) -> np.ndarray:
    """Cut one object out of a small picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        prompt: in pixels of the picture and inside of it. Nothing outside its box is the object, and discs
            around its points stay what they say.
        saliency: (H, W) in [0, 1], what stands out in the box; None begins with all of the box.

    Returns:
        (H, W) bool: the parts that hold a positive point, or else all but specks; it may be empty.
    """
    trimap = start_of(prompt, pixels.shape[:2], saliency)
    mask = _wanted_parts(_cut(pixels, trimap), prompt.positive)
    if prompt.box is None or mask.sum() >= _TOO_LITTLE * (trimap != _OUTSIDE).sum():
        return mask
    # The colours inside are those outside: as a rule the middle of a box lies on the object.
    middle = _ellipse(prompt.box, trimap.shape, _MIDDLE)
    trimap[middle & (trimap == _MAYBE_OBJECT)] = _OBJECT
    return _wanted_parts(_cut(pixels, trimap), prompt.positive)


def _cut(pixels: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """The cheapest cut from a start, see `start_of`, which is left as it is: (H, W) bool."""
    import cv2

    if not np.isin(trimap, (_OUTSIDE, _MAYBE_OUTSIDE)).any():
        return trimap == _OBJECT  # points alone fill a tiny picture
    if not np.isin(trimap, (_OBJECT, _MAYBE_OBJECT)).any():
        return np.zeros(trimap.shape, bool)
    cv2.setRNGSeed(_SEED)
    colours = [np.zeros((1, 65)) for _ in range(2)]  # OpenCV's form of two mixtures of five Gaussians
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    cut, *_ = cv2.grabCut(bgr, trimap.copy(), None, *colours, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (cut == _OBJECT) | (cut == _MAYBE_OBJECT)


def start_of(prompt: ObjectPrompt, shape: tuple[int, int], saliency: np.ndarray | None) -> np.ndarray:
    """What is known before the cut: (H, W) uint8, values of OpenCV's masks."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    side = max(shape)
    if prompt.box is None:
        inside = _discs(prompt.positive, rows, columns, _FIRST_GUESS * side)
        trimap = np.where(inside, _MAYBE_OBJECT, _MAYBE_OUTSIDE).astype(np.uint8)
    else:
        x0, y0, x1, y1 = prompt.box
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        trimap = np.where(inside, _MAYBE_OBJECT, _OUTSIDE).astype(np.uint8)
        if inside.all():  # the colours of the background have to come from somewhere
            border = np.minimum.reduce([rows, columns, shape[0] - rows, shape[1] - columns]) < 1
            trimap[border] = _MAYBE_OUTSIDE
    if saliency is not None and prompt.box is not None:  # without a box, the map is about all objects
        unknown = trimap != _OUTSIDE
        stands_out = unknown & (saliency > _STANDS_OUT)
        if stands_out.sum() >= _LEAST_STANDING_OUT * unknown.sum():
            trimap[unknown] = _MAYBE_OUTSIDE
            trimap[stands_out] = _MAYBE_OBJECT
    trimap[_discs(prompt.positive, rows, columns, _POINT_RADIUS * side)] = _OBJECT
    trimap[_discs(prompt.negative, rows, columns, _POINT_RADIUS * side)] = _OUTSIDE
    return trimap


def _region_of(prompt: ObjectPrompt, size: tuple[int, int]) -> _Region:
    """The box and all positive points, with a margin; all of the photo where there is no box."""
    width, height = size
    bounds = (0, 0, width, height)
    if prompt.box is not None:
        corners = np.array([prompt.box[:2], prompt.box[2:], *prompt.positive])
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        across, down = _MARGIN * (x1 - x0) + 1, _MARGIN * (y1 - y0) + 1
        bounds = (
            int(max(0, x0 - across)), int(max(0, y0 - down)),
            int(np.ceil(min(width, x1 + across))), int(np.ceil(min(height, y1 + down))),
        )  # fmt: skip
    left, top, right, bottom = bounds
    shrink = min(1.0, _SIDE / max(right - left, bottom - top))
    cut_size = max(2, round((right - left) * shrink)), max(2, round((bottom - top) * shrink))
    scale = np.array([cut_size[0] / (right - left), cut_size[1] / (bottom - top)])

    def moved(points: Sequence[Point]) -> tuple[Point, ...]:
        return tuple(tuple((np.array(point) - (left, top)) * scale) for point in points)

    box = None if prompt.box is None else tuple(np.ravel(moved([prompt.box[:2], prompt.box[2:]])).tolist())
    return _Region(bounds, cut_size, ObjectPrompt(box, moved(prompt.positive), moved(prompt.negative)))


def _discs(points: Sequence[Point], rows: np.ndarray, columns: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within a radius, at least the nearest ones, of some points."""
    near = np.zeros(rows.shape, bool)
    for x, y in points:
        near |= np.hypot(columns - x, rows - y) <= max(radius, 0.75)
    return near


def _ellipse(box: Sequence[float], shape: tuple[int, int], share: float) -> np.ndarray:
    """The ellipse around the middle of a box with this share of its width and height: (H, W) bool."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x0, y0, x1, y1 = box
    across, down = (2 * columns - x0 - x1) / (x1 - x0), (2 * rows - y0 - y1) / (y1 - y0)
    return np.hypot(across, down) < share


def _wanted_parts(mask: np.ndarray, points: Sequence[Point]) -> np.ndarray:
    """Parts of a mask that hold points, or else all but specks."""
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count < 2:
        return mask
    last = np.array(mask.shape)[::-1] - 1
    held = {int(parts[y, x]) for x, y in (np.minimum(np.array(point, int), last) for point in points)} - {0}
    if held:
        return np.isin(parts, list(held))
    areas = np.bincount(parts.ravel())[1:]
    return np.isin(parts, 1 + np.flatnonzero(areas >= _SMALL_PART * areas.max()))


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size (width, height), its outline smooth."""
    levels = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(levels) > 127
