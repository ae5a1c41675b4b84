"""Random but plausible sRGB colours of woods, paints, metals and fabrics."""

from __future__ import annotations

import colorsys

import numpy as np

Colour = tuple[float, float, float]


def _from_hsv(rng: np.random.Generator, hue: tuple, saturation: tuple, value: tuple) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value)
    )
    return red * 255, green * 255, blue * 255


def wood(rng: np.random.Generator) -> Colour:
    """From pale birch to dark walnut."""
    return _from_hsv(rng, (0.03, 0.11), (0.3, 0.7), (0.2, 0.85))


def paint(rng: np.random.Generator) -> Colour:
    """White or grey lacquer half of the time, otherwise any colour."""
    kind = rng.random()
    if kind < 0.4:
        return _from_hsv(rng, (0, 1), (0.0, 0.06), (0.75, 1.0))
    if kind < 0.6:
        return _from_hsv(rng, (0, 1), (0.0, 0.1), (0.08, 0.6))
    return _from_hsv(rng, (0, 1), (0.15, 0.8), (0.3, 0.95))


def metal(rng: np.random.Generator) -> Colour:
    """Chrome, steel, black steel, or brass."""
    if rng.random() < 0.12:
        return _from_hsv(rng, (0.1, 0.13), (0.4, 0.7), (0.5, 0.8))
    return _from_hsv(rng, (0.5, 0.7), (0.0, 0.06), (0.08, 0.85))


def fabric(rng: np.random.Generator) -> Colour:
    """Upholstery: mostly muted, at times vivid, or leather brown and black."""
    kind = rng.random()
    if kind < 0.2:
        return _from_hsv(rng, (0.02, 0.08), (0.4, 0.8), (0.12, 0.6))
    if kind < 0.6:
        return _from_hsv(rng, (0, 1), (0.0, 0.25), (0.15, 0.95))
    return _from_hsv(rng, (0, 1), (0.3, 0.9), (0.3, 0.9))


def board(rng: np.random.Generator) -> Colour:
    """Surface of case furniture: wood or paint."""
    return wood(rng) if rng.random() < 0.6 else paint(rng)


def leg_material(rng: np.random.Generator) -> Colour:
    """Wood or metal."""
    return wood(rng) if rng.random() < 0.55 else metal(rng)


def leaf(rng: np.random.Generator) -> Colour:
    """Green of plants."""
    return _from_hsv(rng, (0.2, 0.4), (0.4, 0.9), (0.2, 0.65))


def varied(rng: np.random.Generator, colour: Colour, amount: float = 0.1) -> Colour:
    """A neighbouring shade: brightness changed by up to `amount`."""
    factor = 1 + rng.uniform(-amount, amount)
    return tuple(float(np.clip(channel * factor, 0, 255)) for channel in colour)
