"""What signs are worth: chances that an object is right, learnt from scenes whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scenegen.confidence.signs import Signs

OBJECT_QUESTIONS = ("shape", "turn", "place")
CAMERA_QUESTION = "camera"

RIGHT_SHAPE_FSCORE = 0.6
"""A shape is right where its F-score at 5 % of its longest side, in its own frame, is at least this."""

RIGHT_TURN_DEG = 15.0
"""A turn, or the direction of the camera, is right where it is nearer than this, up to symmetry."""

RIGHT_PLACE = 0.25
"""A place is right where the object's centre is nearer than this, in longest sides of the query."""


@dataclass(frozen=True)
class Judgement:
    """The chance that the answer to one question is yes: a logistic score, mapped by isotonic regression.

    Attributes:
        bias: of the score.
        weights: of the signs in the score.
        scores: rising knots of the map.
        chances: in [0, 1] at these knots, not falling; linear between them and constant beyond.
    """

    bias: float
    weights: dict[str, float]
    scores: tuple[float, ...]
    chances: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = (self.bias, *self.weights.values(), *self.scores, *self.chances)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("confidence: expected finite numbers, got others")
        if not self.scores or len(self.scores) != len(self.chances):
            raise ValueError(
                f"confidence: expected as many chances as scores, got {len(self.chances)}, {len(self.scores)}"
            )
        if list(self.scores) != sorted(self.scores) or list(self.chances) != sorted(self.chances):
            raise ValueError("confidence: expected rising scores and chances, got others")
        if self.chances[0] < 0 or self.chances[-1] > 1:
            raise ValueError("confidence: expected chances in [0, 1], got others")

    def score(self, signs: Signs) -> float:
        """The logistic score; signs that are missing count as 0."""
        return self.bias + sum(weight * signs.get(name, 0.0) for name, weight in self.weights.items())

    def chance(self, signs: Signs) -> float:
        """The chance in [0, 1]."""
        return float(np.interp(self.score(signs), self.scores, self.chances))


@dataclass(frozen=True)
class Calibration:
    """What the signs of scenes of one model are worth.

    Attributes:
        flow_sha256: of the weights of the structure flow that it was learnt for.
        scenes: number of scenes that it was learnt from.
        single: by question, for scenes that were sampled once.
        several: likewise for scenes that were sampled several times, whose agreement is known too.
    """

    flow_sha256: str
    scenes: int
    single: dict[str, Judgement] = field(default_factory=dict)
    several: dict[str, Judgement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, judgements in (("single", self.single), ("several", self.several)):
            if missing := {*OBJECT_QUESTIONS, CAMERA_QUESTION} - judgements.keys():
                raise ValueError(
                    f"confidence: {name}: expected an entry for {sorted(missing)[0]!r}, got none"
                )

    def judge(self, objects: Sequence[Signs], camera: Signs, *, is_single: bool) -> SceneConfidence:
        """Chances for one sample of a scene.

        Args:
            objects: signs of its objects, the query first.
            camera: signs of the camera.
            is_single: whether the scene was sampled once.
        """
        judgements = self.single if is_single else self.several
        chances = []
        for row, signs in enumerate(objects):
            asked = (
                OBJECT_QUESTIONS if row else OBJECT_QUESTIONS[:1]
            )  # the query is where it is by definition
            chances.append(
                ObjectConfidence(**{question: judgements[question].chance(signs) for question in asked})
            )
        return SceneConfidence(tuple(chances), judgements[CAMERA_QUESTION].chance(camera))


@dataclass(frozen=True)
class ObjectConfidence:
    """Chances in [0, 1] that an object is right.

    Attributes:
        shape: see `RIGHT_SHAPE_FSCORE`.
        turn: see `RIGHT_TURN_DEG`; None for the query, whose frame is the scene's.
        place: see `RIGHT_PLACE`; likewise.
    """

    shape: float
    turn: float | None = None
    place: float | None = None

    @property
    def known(self) -> dict[str, float]:
        """The chances that there are, by question."""
        values = {"shape": self.shape, "turn": self.turn, "place": self.place}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def least(self) -> tuple[str, float]:
        """The question with the least chance, and that chance."""
        return min(self.known.items(), key=lambda item: item[1])

    @property
    def mean(self) -> float:
        """The mean of the chances."""
        return float(np.mean(list(self.known.values())))


@dataclass(frozen=True)
class SceneConfidence:
    """Chances of one sample of a scene.

    Attributes:
        objects: in the order of the signs.
        camera: chance that the photo's camera looks from the right direction.
    """

    objects: tuple[ObjectConfidence, ...]
    camera: float

    @property
    def mean(self) -> float:
        """By which samples of one scene are compared."""
        return float(np.mean([item.mean for item in self.objects]))


DOUBTFUL = 0.5
"""A chance below which a person is told."""

_WORDS = {"shape": "may have another shape", "turn": "may face the other way", "place": "may stand elsewhere"}


def doubt(node: str, confidence: ObjectConfidence | None) -> str | None:
    """What is doubtful about an object, in words; None where nothing is."""
    if confidence is None or confidence.least[1] >= DOUBTFUL:
        return None
    return f"{node} {_WORDS[confidence.least[0]]}"


def doubts_line(objects: Mapping[str, ObjectConfidence | None]) -> str | None:
    """One line about the objects of a scene, by their names; None where none is known as doubtful."""
    found = [words for node, each in objects.items() if (words := doubt(node, each))]
    if not found:
        return None
    count = len(objects)
    return f"{len(found)} of {count} object{'s' * (count != 1)} doubtful: {', '.join(found)}"
