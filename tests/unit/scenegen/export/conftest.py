"""Pictures that take a blink."""

import pytest


@pytest.fixture
def small_pictures(monkeypatch) -> None:
    """Pictures of voxels and radiance fields are small."""
    monkeypatch.setattr("scenegen.export.structure.SCENE_SIZE", 256)
    for name in ("structure.OBJECT_SIZE", "radiance_field.SIZE"):
        monkeypatch.setattr(f"scenegen.export.{name}", 32)
