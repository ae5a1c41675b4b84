"""Whether the networks of a checkpoint belong to their roles, to each other and to their pipeline.

This is told from their descriptions, before any of them is built: a network in the wrong place would fail
only when its stage runs, in words that name no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safe_files.networks import check_sizes
from safe_files.regular import UnreadableFile, shown
from scenegen.checkpoints.roles import (
    DECODER_ROLE,
    FEW_STEPS_FLOW_ROLE,
    FLOW_ROLE,
    FLOW_ROLES,
    GEOMETRY_ENCODER_ROLE,
    IMAGE_ENCODER_ROLE,
    SLAT_FLOW_ROLE,
    SLAT_GAUSSIAN_ROLE,
    SLAT_MESH_ROLE,
    SLAT_RADIANCE_FIELD_ROLE,
)
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.conditioning.patch_places import PLACE_CHANNELS
from scenegen.conditioning.scene_conditioner import PATCH_DETAILS
from scenegen.conditioning.scene_light import LIGHT_TONES
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.config import NamedConfig


def _structured(name: str) -> tuple[str, str]:
    """The two published names of a network of structured latents."""
    return name, f"Elastic{name}"


CLASSES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(FLOW_ROLES, ("SparseStructureFlowModel",)),
    DECODER_ROLE: ("SparseStructureDecoder",),
    SLAT_FLOW_ROLE: _structured("SLatFlowModel"),
    SLAT_MESH_ROLE: _structured("SLatMeshDecoder"),
    SLAT_GAUSSIAN_ROLE: _structured("SLatGaussianDecoder"),
    SLAT_RADIANCE_FIELD_ROLE: _structured("SLatRadianceFieldDecoder"),
    IMAGE_ENCODER_ROLE: ("VisionTransformer",),
    GEOMETRY_ENCODER_ROLE: ("VGGT",),
}
"""Role -> names of the networks that can have it."""

_ENCODER_DEFAULTS = {"embed_dim": 1024, "patch_size": 14}  # of both encoders, as published


@dataclass(frozen=True)
class Described:
    """The description of a network.

    Attributes:
        where: the file or the name that gave it, for messages.
        config: class and arguments, as read.
    """

    where: str
    config: NamedConfig


def check_fit(config: PipelineConfig, networks: Mapping[str, Described], where: str) -> None:
    """Check the networks of a checkpoint against their roles and against each other.

    Args:
        config: the description of the checkpoint.
        networks: role -> the network that it names, as far as it is there.
        where: the file of ``config``, for messages.

    Raises:
        CheckpointError: a number is beyond its limit, a network is of another class than its role, or one
            number differs from the one that it must be equal to.
    """
    for found in networks.values():
        try:
            check_sizes(found.config.args)
        except UnreadableFile as error:
            raise CheckpointError(f"{found.where}: {error}") from error
    for role, found in networks.items():
        if role in CLASSES and found.config.name not in CLASSES[role]:
            raise CheckpointError(
                f"{found.where}: expected {CLASSES[role][0]} for the role {role!r}, got "
                f"{shown(found.config.name)}; correct {where}"
            )
    for flow in (networks[role] for role in FLOW_ROLES if role in networks):
        if bool(flow.config.args.get("use_global")) != config.has_scene:
            wanted = "with" if config.has_scene else "without"
            raise CheckpointError(
                f"{flow.where}: expected a network {wanted} use_global for the pipeline {config.name}, got "
                f"the other kind; correct {where}"
            )
    for expectation in _expectations(config, networks, where):
        expectation.check()


@dataclass(frozen=True)
class _Expectation:
    """A number that must be equal to another one; None where a description does not say it."""

    where: str
    name: str
    got: Any
    expected: int | None
    reason: str

    def check(self) -> None:
        is_known = None not in (self.got, self.expected)
        if is_known and self.got != self.expected:
            raise CheckpointError(
                f"{self.where}: {self.name}: expected {self.expected}, {self.reason}, got {self.got}; the "
                "files do not belong together"
            )


def _expectations(
    config: PipelineConfig, networks: Mapping[str, Described], where: str
) -> list[_Expectation]:
    def number(role: str, name: str, default: int | None = None) -> int | None:
        found = networks.get(role)
        value = None if found is None else found.config.args.get(name, default)
        return value if isinstance(value, int) else None

    def expect(role: str, name: str, expected: int | None, reason: str, default: int | None = None) -> None:
        if role in networks:
            got = number(role, name, default)
            expectations.append(_Expectation(networks[role].where, name, got, expected, reason))

    expectations: list[_Expectation] = []
    for flow, latents in (
        *((role, "structures") for role in FLOW_ROLES),
        (SLAT_FLOW_ROLE, "structured latents"),
    ):
        expect(flow, "out_channels", number(flow, "in_channels"), f"as many channels as the {latents} have")
    for name in ("in_channels", "resolution"):  # objects of one flow are held while the other makes more
        expect(FEW_STEPS_FLOW_ROLE, name, number(FLOW_ROLE, name), f"as {FLOW_ROLE} has")
    expect(DECODER_ROLE, "latent_channels", number(FLOW_ROLE, "in_channels"), f"as made by {FLOW_ROLE}")
    channels = number(SLAT_FLOW_ROLE, "in_channels")
    for role in (SLAT_MESH_ROLE, SLAT_GAUSSIAN_ROLE, SLAT_RADIANCE_FIELD_ROLE):
        expect(role, "latent_channels", channels, f"as made by {SLAT_FLOW_ROLE}")
    if config.slat_normalization is not None:
        length = len(config.slat_normalization.mean)
        name, reason = "slat_normalization", f"a mean for each channel of {SLAT_FLOW_ROLE}"
        expectations.append(_Expectation(where, name, length, channels, reason))
    width = number(IMAGE_ENCODER_ROLE, "embed_dim", _ENCODER_DEFAULTS["embed_dim"])
    expect(
        GEOMETRY_ENCODER_ROLE, "embed_dim", width, "as the image encoder has", _ENCODER_DEFAULTS["embed_dim"]
    )
    if width is not None:
        places = PLACE_CHANNELS if config.append_places else 0
        details = PATCH_DETAILS if config.slat_patch_grid else 0
        details += LIGHT_TONES if config.slat_light else 0
        for role in FLOW_ROLES:
            expect(role, "cond_channels", width + places, "the channels of the conditions")
        expect(SLAT_FLOW_ROLE, "cond_channels", width + details, "the channels of the conditions")
    for role in (IMAGE_ENCODER_ROLE, GEOMETRY_ENCODER_ROLE):
        patch = number(role, "patch_size", _ENCODER_DEFAULTS["patch_size"])
        if patch:
            whole, reason = config.image_size // patch * patch, f"a multiple of the patches of {role}"
            expectations.append(_Expectation(where, "image_size", config.image_size, whole, reason))
    return expectations
