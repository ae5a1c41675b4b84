"""What comes with a checkout and not with an installed package: the small model and the example scenes."""

from __future__ import annotations

from pathlib import Path

EXAMPLE_SCENES = "assets/masked_images_test"

_CHECKOUT = Path(__file__).resolve().parents[2]  # site-packages, where the package is installed from a wheel


def bundled(name: str) -> str:
    """Where something of the checkout is: below the working folder, else beside the package.

    The second holds after ``pip install --editable``, so that the command works from any folder.

    Args:
        name: path below the checkout, for example ``checkpoints/scenegen-small``.

    Returns:
        A path; ``name`` itself where there is nothing at either place.
    """
    beside = _CHECKOUT / name
    return str(beside) if beside.exists() and not Path(name).exists() else name
