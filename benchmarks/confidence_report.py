"""Tables and reliability diagrams of `benchmarks.confidence`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scenegen.confidence.calibration import (
    CAMERA_QUESTION,
    OBJECT_QUESTIONS,
    RIGHT_PLACE,
    RIGHT_SHAPE_FSCORE,
    RIGHT_TURN_DEG,
    Calibration,
    SceneConfidence,
)
from scenegen.confidence.fitting import calibration_error
from scenegen.confidence.signs import Signs

Record = dict[str, Any]
"""A scene as ``collect`` notes it."""

_SEVERAL = ("turn_spread", "turn_apart", "place_spread", "size_spread", "shape_spread", "query_shape_spread")
_COVERED = 0.5
_BINS = 8
_PANEL, _MARGIN = 240, 34


def is_right(question: str, errors: dict[str, float]) -> bool:
    """Whether an object, or the camera, is right in one respect."""
    return {
        "shape": lambda: errors["fscore"] >= RIGHT_SHAPE_FSCORE,
        "turn": lambda: errors["turn_deg"] < RIGHT_TURN_DEG,
        "place": lambda: errors["place"] < RIGHT_PLACE,
        CAMERA_QUESTION: lambda: errors["direction_deg"] < RIGHT_TURN_DEG,
    }[question]()


def cases_of(
    records: Sequence[Record], question: str, *, is_single: bool
) -> tuple[list[Signs], list[bool], list[str]]:
    """Signs, answers and scenes of every case of a question; the query has no turn and place."""
    signs, right, scenes = [], [], []
    for record in records:
        for sample in record["samples"]:
            if question == CAMERA_QUESTION:
                found = [(sample["camera_signs"], sample["camera_errors"])]
            else:
                first = 0 if question == "shape" else 1
                found = list(zip(sample["signs"], sample["errors"], strict=True))[first:]
            for own, errors in found:
                signs.append(of_one_sample(own) if is_single else own)
                right.append(is_right(question, errors))
                scenes.append(record["scene"])
    return signs, right, scenes


def of_one_sample(signs: Signs) -> Signs:
    """What would be known without other samples."""
    return {name: value for name, value in signs.items() if name not in _SEVERAL}


def confidence_of(sample: dict[str, Any], calibration: Calibration, *, is_single: bool) -> SceneConfidence:
    """Chances of one sample."""
    objects, camera = sample["signs"], sample["camera_signs"]
    if is_single:
        objects, camera = [of_one_sample(each) for each in objects], of_one_sample(camera)
    return calibration.judge(objects, camera, is_single=is_single)


def write_report(
    records: Sequence[Record], photos: Sequence[Record], calibration: Calibration, folder: Path
) -> str:
    """Write the diagrams and return the tables.

    Args:
        records: of scenes with their truth.
        photos: of scenes without; may be empty.
        calibration: of the model.
        folder: gets ``reliability.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{len(records)} scenes, {len(records[0]['samples'])} samples each; calibrated on "
             f"{calibration.scenes} scenes", ""]  # fmt: skip
    lines += [
        "| question | samples | cases | right | ECE | right in the more confident half |",
        "|---|---|---:|---:|---:|---:|",
    ]
    panels = []
    for is_single in (True, False):
        judged = calibration.single if is_single else calibration.several
        for question in (*OBJECT_QUESTIONS, CAMERA_QUESTION):
            shown = [first_of(record) for record in records] if is_single else records
            signs, right, _ = cases_of(shown, question, is_single=is_single)
            chances = np.array([judged[question].chance(each) for each in signs])
            answers = np.array(right, dtype=np.float64)
            half = answers[np.argsort(-chances, kind="stable")[: len(answers) // 2]]
            count = "one" if is_single else "several"
            lines.append(
                f"| {question} | {count} | {len(answers)} | {answers.mean():.3f} | "
                f"{calibration_error(chances, answers):.3f} | {half.mean():.3f} |"
            )
            panels.append((f"{question}, {count}", chances, answers))
    lines += ["", *choice_lines(records, calibration)]
    if photos:
        chances, covered = photo_cases(photos, calibration)
        panels.append(("place, photos", chances, covered))
        half = covered[np.argsort(-chances, kind="stable")[: len(chances) // 2]]
        lines += [
            "",
            f"{len(photos)} photos, {len(chances)} objects: overlap with their masks of at least a half",
            f"{covered.mean():.3f}, of those with the better chances {half.mean():.3f}",
        ]
    draw_reliability(panels, folder / "reliability.png")
    return "\n".join(lines)


def photo_cases(photos: Sequence[Record], calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Chances of places, and whether the object as it is drawn overlaps its mask by half.

    The query counts by its shape, since it has no place of its own.
    """
    chances, covered = [], []
    for record in photos:
        for sample in record["samples"][:1]:
            judged = confidence_of(sample, calibration, is_single=True)
            for signs, confidence in zip(sample["signs"], judged.objects, strict=True):
                chances.append(confidence.shape if confidence.place is None else confidence.place)
                covered.append(signs["overlap"] >= _COVERED)
    return np.array(chances), np.array(covered, dtype=np.float64)


def first_of(record: Record) -> Record:
    """A scene with its first sample alone."""
    return {**record, "samples": record["samples"][:1]}


def choice_lines(records: Sequence[Record], calibration: Calibration) -> list[str]:
    """What choosing the best sample of each object gains, beside the mean and the best there is."""
    gains = {
        "one sample": [],
        "best by confidence": [],
        "best by the masks alone": [],
        "best by the truth": [],
    }
    for record in records:
        samples = record["samples"]
        overlaps = _table(samples, "errors", "box_iou")  # (N, B)
        judged = [confidence_of(each, calibration, is_single=False) for each in samples]
        merits = np.array([[item.mean for item in each.objects] for each in judged])
        masks = _table(samples, "signs", "overlap")
        gains["one sample"] += overlaps.mean(axis=0).tolist()
        gains["best by confidence"] += _picked(overlaps, merits)
        gains["best by the masks alone"] += _picked(overlaps, masks)
        gains["best by the truth"] += _picked(overlaps, overlaps)
    rows = [f"| {name} | {np.mean(values):.3f} |" for name, values in gains.items()]
    return ["| sample of each object | box IoU in the query's frame |", "|---|---:|", *rows]


def _table(samples: Sequence[dict[str, Any]], part: str, name: str) -> np.ndarray:
    """A sign or an error of N samples of B objects: (N, B)."""
    return np.array([[each[name] for each in sample[part]] for sample in samples])


def _picked(values: np.ndarray, merits: np.ndarray) -> list[float]:
    return values[merits.argmax(axis=0), np.arange(values.shape[1])].tolist()


def draw_reliability(panels: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw, for each question, shares of right answers over chances, in bins of equally many cases.

    Args:
        panels: title, chances (N,) and answers (N,) in {0, 1} of each.
        path: of the PNG.
    """
    columns = len(OBJECT_QUESTIONS) + 1
    rows = -(-len(panels) // columns)
    image = Image.new("RGB", (columns * _PANEL, rows * _PANEL), "white")
    draw = ImageDraw.Draw(image)
    for index, (title, chances, answers) in enumerate(panels):
        left, top = index % columns * _PANEL, index // columns * _PANEL
        _draw_panel(draw, left, top, title, chances, answers)
    image.save(path)


def _draw_panel(
    draw: ImageDraw.ImageDraw, left: int, top: int, title: str, chances: np.ndarray, answers: np.ndarray
) -> None:
    side = _PANEL - 2 * _MARGIN
    x0, y0 = left + _MARGIN, top + _MARGIN

    def place(chance: float, share: float) -> tuple[float, float]:
        return x0 + chance * side, y0 + (1 - share) * side

    draw.rectangle([x0, y0, x0 + side, y0 + side], outline="black")
    draw.line([place(0, 0), place(1, 1)], fill="grey")
    draw.text((x0, top + 6), f"{title}: ECE {calibration_error(chances, answers):.3f}", fill="black")
    draw.text((x0, y0 + side + 4), "0", fill="black")
    draw.text((x0 + side - 60, y0 + side + 4), "chance      1", fill="black")
    draw.text((left + 4, y0 - 4), "right", fill="black")
    order = np.argsort(chances, kind="stable")
    points = [
        place(float(chances[part].mean()), float(answers[part].mean()))
        for part in np.array_split(order, _BINS)
        if len(part)
    ]
    draw.line(points, fill=(200, 60, 30), width=2)
    for x, y in points:
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(200, 60, 30))
