"""Checkpoints from the hub and back: finding, fetching, checking, converting, publishing."""

from scenegen.hub.digest import file_sha256
from scenegen.hub.publish import push_to_hub, save_pretrained
from scenegen.hub.releases import HubError, missing_checkpoint, missing_weights
from scenegen.hub.repository import fetch_reference, resolve_checkpoint

__all__ = [
    "HubError",
    "fetch_reference",
    "file_sha256",
    "missing_checkpoint",
    "missing_weights",
    "push_to_hub",
    "resolve_checkpoint",
    "save_pretrained",
]
