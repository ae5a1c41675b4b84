"""What a run of the evaluation is told: protocols, points, thresholds, aligners."""

from __future__ import annotations

from dataclasses import dataclass, field

from scenegen.evaluation.alignment import AlignmentSettings

PAPER, CORRECTED = "paper", "corrected"

PROTOCOLS = (PAPER, CORRECTED)
"""In the order of the report."""

LEVELS = ("scene", "object")


@dataclass(frozen=True)
class PaperSettings:
    """The choices that the paper's protocol leaves.

    Attributes:
        scene, objects: how scenes, and objects alone, are aligned; taken as it is.
        levels: of what figures are measured; the boxes of objects belong to the scene.
    """

    scene: AlignmentSettings = AlignmentSettings("filterreg")
    objects: AlignmentSettings = AlignmentSettings("filterreg")
    levels: tuple[str, ...] = LEVELS

    def __post_init__(self) -> None:
        if not self.levels or set(self.levels) - set(LEVELS):
            raise ValueError(f"levels must be some of {', '.join(LEVELS)}, got {self.levels!r}")
        for aligner in (self.scene, self.objects):
            if aligner.mode == "best":
                raise ValueError("the paper's protocol takes one alignment as it is, got 'best'")


@dataclass(frozen=True)
class AppearanceSettings:
    """What pictures and their figures depend on beside the files.

    Attributes:
        weights: SHA-256 by network, None for those that are not here.
        with_photo: whether predictions are compared with the photos too.
        renderer: what draws.
        samples: its rays along each edge of a pixel, or in Blender its paths a pixel.
        empty: why figures have no values, by their names.
    """

    weights: dict[str, str | None]
    with_photo: bool
    renderer: str = "embree"
    samples: int = 2
    empty: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that changes figures.

    Attributes:
        num_points: surface points drawn on each object.
        fscore_threshold: distance, in units in which a scene's longest side is 1.96, under which a point
            counts as found.
        alignment: how the corrected protocol aligns scenes and objects.
        with_poses: whether pose files are compared; a prediction without one then counts as worst.
        protocols: some of `PROTOCOLS`.
        paper: the choices that the paper's protocol leaves.
        appearance: how pictures are compared; None leaves them out.
        physics: whether scenes are simulated; their figures belong to the corrected protocol.
    """

    num_points: int = 10240
    fscore_threshold: float = 0.1
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    with_poses: bool = True
    protocols: tuple[str, ...] = PROTOCOLS
    paper: PaperSettings = PaperSettings()
    appearance: AppearanceSettings | None = None
    physics: bool = False

    def __post_init__(self) -> None:
        if self.physics and CORRECTED not in self.protocols:
            raise ValueError("physics belongs to the corrected protocol, which is not asked for")
        if self.num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {self.num_points}")
        if not self.fscore_threshold > 0:
            raise ValueError(f"fscore_threshold must be positive, got {self.fscore_threshold}")
        if not self.protocols or set(self.protocols) - set(PROTOCOLS):
            raise ValueError(f"protocols must be some of {', '.join(PROTOCOLS)}, got {self.protocols!r}")
