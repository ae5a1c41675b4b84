"""Numbers as USD writes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def matrix_text(transform: np.ndarray) -> str:
    """A matrix (4, 4) for column vectors as USD writes it: for row vectors."""
    return tuples_text(np.asarray(transform).T, "{:.9g}")


def tuples_text(rows: Iterable[Iterable[float]], number: str = "{:.6g}") -> str:
    """Rows of numbers as ``(a, b, c), (d, e, f)``."""
    return ", ".join("(" + ", ".join(number.format(value) for value in row) + ")" for row in rows)
