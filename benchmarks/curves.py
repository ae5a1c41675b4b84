"""Curves of measured times as a small SVG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 190, 40, 50  # margins
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
_DASHED = "plain"


class Measured(Protocol):
    """A row of a benchmark."""

    what: str
    path: str
    assets: int
    median: float


def draw_curves(rows: Sequence[Measured], title: str) -> str:
    """Seconds over the number of assets, a curve for each part and path; both axes are logarithmic."""
    if not rows:
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"/>'
    assets = sorted({row.assets for row in rows})
    low = 10 ** math.floor(math.log10(min(row.median for row in rows)))
    high = 10 ** math.ceil(math.log10(max(row.median for row in rows)))
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x_of(count: int) -> float:
        span = math.log(assets[-1] / assets[0]) or 1.0
        return _LEFT + (right - _LEFT) * math.log(count / assets[0]) / span

    def y_of(seconds: float) -> float:
        span = math.log(high / low) or 1.0
        return floor - (floor - _TOP) * math.log(seconds / low) / span

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">assets</text>',
        f'<text x="14" y="{_TOP - 8}">seconds</text>',
    ]
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = y_of(10.0**exponent)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**exponent:g}</text>')
    for count in assets:
        parts.append(f'<text x="{x_of(count):.1f}" y="{floor + 18}" text-anchor="middle">{count}</text>')
    names = list(dict.fromkeys(row.what for row in rows))
    for number, key in enumerate(dict.fromkeys((row.what, row.path) for row in rows)):
        points = sorted((row.assets, row.median) for row in rows if (row.what, row.path) == key)
        places = " ".join(f"{x_of(count):.1f},{y_of(seconds):.1f}" for count, seconds in points)
        style = _style(names.index(key[0]), key[1])
        parts.append(f'<polyline points="{places}" fill="none" {style}/>')
        parts += _legend(number, ", ".join(key), style)
    return "\n".join([*parts, "</svg>", ""])


def _style(colour: int, path: str) -> str:
    dashes = ' stroke-dasharray="6 4"' if path == _DASHED else ""
    return f'stroke="{_COLOURS[colour % len(_COLOURS)]}" stroke-width="2"{dashes}'


def _legend(number: int, name: str, style: str) -> list[str]:
    x, y = _WIDTH - _RIGHT + 12, _TOP + 10 + 20 * number
    line = f'<line x1="{x}" x2="{x + 28}" y1="{y}" y2="{y}" {style}/>'
    return [line, f'<text x="{x + 34}" y="{y + 4}">{escape(name)}</text>']
